select zz from t
select t.zz from t
select x.a from t
select * from nosuch
select * from no.such
select nosuch(1)
select lower(1, 2)
select upper(5)
select 'a' + 1
select 'a'::int
select '1.5'::int
select 'x'::bool
select '2024-13-01'::date
select 'nonsense'::date
select 'x'::uuid
select '{1,2'::int[]
select '{bad'::jsonb
select 'x'::interval
select 1 / 0
select 1.0 / 0
select 1.0::float8 / 0
select 1 % 0
select a / 0 from t
select f / 0 from t where id = 1
select c / 0 from t where id = 1
select 2147483647 + 1
select 9223372036854775807 + 1
select 100000::smallint
select 3000000000::int
select 1000::numeric(4,2)
select a, count(*) from t
select d from t group by a
select sum(sum(a)) from t
select * from t where sum(a) > 1
select * from t group by count(*)
select id from t, u
select * from t, t
select a from t join u using (zz)
select 1 union select 1, 2
select 1 union select 'a'
select date '2024-01-01' union select 1
select true + 1
select 1 = 'a'
select 1 = true
select date '2024-01-01' = 1
select case when 1 then 2 end
select case when true then 1 else date '2024-01-01' end
select coalesce(1, date '2024-01-01')
select * from t where a
select not 1
select 1 and true
select (select 1, 2)
select (select a from t)
select 1 in (select 1, 2)
select row_number() from t
select * from t where row_number() over () = 1
select sum(a) over w from t
select max(a) over (order by sum(b)) from t
select distinct a from t order by b
select distinct on (a) a from t order by b
select a from t order by 5
select a from t group by 5
select id from t limit -1
select id from t offset -1
select array[1, 'a'::text]
select 1::nosuchtype
select date '2024-01-01' + date '2024-01-01'
select 'abc' like 'a' escape 'xx'
select substr('abc', 1, -1)
select sqrt(-1)
select ln(0)
select power(0, -1)
select to_date('xx', 'YYYY')
select extract(nosuch from date '2024-01-01')
select date_trunc('nosuch', timestamp '2024-01-01')
select generate_series(1, 10, 0)
select * from generate_series(1, 2) where generate_series(1, 2) > 1
select timestamp '2024-01-01' at time zone 'nosuch'
select 1::date
select now()::int
select '1'::jsonb + 1
select json '{"a": 1}' = json '{"a": 1}'
select min(j) from t
select count(*) filter (where 1) from t
select lower(distinct d) from t
select a from t having a > 1
select t.* from u
select (values (1), (2))
values (1), (2, 3)
select * from (values (1, 2)) v(a, b, c)
select $0
select 1 where 5
with x as (select 1), x as (select 2) select * from x
select v::int from (values ('1'), ('a')) x(v)
select v::date from (values ('2024-01-01'), ('a')) x(v)
select v::varchar(2)::int from (values ('12'), ('xyz')) x(v)
select d::int from t where id = 1
select 'a' || row_number() from t
select chr(0)
select split_part('a', ',', 0)
select array_length(1, 1)
select 'a'::regclass
select current_setting('no.such')
select 1 order by 2
select 1 as x union select 2 order by y
select upper(*) from t
select count() from t
select 0 ^ -1
select '5 apples' + 1
select greatest(1, date '2024-01-01')
select sum(id) over (order by id rows -1 preceding) from t
select sum(id) over (order by id rows between 1 preceding and -1 following) from t
select sum(id) over (order by id rows null preceding) from t
select sum(id) over (range 1 preceding) from t
select sum(id) over (order by id, a range 1 preceding) from t
select sum(id) over (partition by a groups between unbounded preceding and current row) from t
select sum(id) over (order by id rows between current row and 1 preceding) from t
select sum(id) over (order by id rows between 1 following and current row) from t
select sum(id) over (order by id rows 1 following) from t
select sum(id) over (order by id rows between unbounded following and current row) from t
select sum(id) over (order by id rows between current row and unbounded preceding) from t
select sum(id) over (w order by id desc) from t window w as (order by id)
select sum(id) over (w partition by a) from t window w as (order by id)
select sum(id) over (w rows 2 preceding) from t window w as (order by id rows 1 preceding)
select sum(id) over (nosuch order by id) from t
select nth_value(id, 0) over (order by id) from t
select ntile(0) over (order by id) from t
select count(*) filter (where a) from t
select 1 is true
