select * from t order by id
select t.*, u.name from t join u on t.a = u.a order by t.id, u.id
select * from t natural join u order by 1
select * from t join u using (a) order by t.id, u.id
select a, t.id, u.id from t full join u using (a) order by 1, 2, 3
select t.id, u.id from t left join u on t.a = u.a and u.id > 1 order by 1, 2
select t.id, u.id from t right join u on t.a = u.a order by 2, 1
select count(*) from t cross join u
select count(*) from t, u where t.a = u.a
select x.id, y.id from t x, u y full join (values (1), (9)) z(k) on y.id = z.k where x.id = 1 order by 2, z.k
select * from (select id, a + 1 as b from t) s where b > 5 order by 1
select id from t where a = (select max(a) from t) order by id
select id, (select count(*) from u where u.a = t.a) from t order by id
select id from t where exists (select 1 from u where u.a = t.a) order by id
select id from t where a in (select a from u) order by id
select id from t where a not in (select a from u where a is not null) order by id
with x as (select id, a from t), y(k, l) as (select * from x where a > 0) select k, l from y order by k
with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select n from r order by n
with recursive r as (select 1 as n, 'a' as s union all select n + 1, s || 'a' from r where n < 3) select * from r order by n
select 1 union select 2 union all select 2 order by 1
select 1 as x union all select 2.5 order by x
select 'a' union select NULL order by 1
select id from t intersect select id from u where id > 2 order by 1
select id from t except select 1 order by 1 desc
(select id from t order by id desc limit 2) union all (select id from u order by id limit 1) order by 1
values (1, 'a'), (2, 'b') order by 1 desc
select * from (values (1, NULL), (2, 'x')) v(a, b) order by a
select column1, column2 from (values (1, 2.5), (2, 3)) v order by 1
select * from generate_series(1, 3) g order by g
select * from generate_series(1, 10, 3) as g(n) order by n
select * from generate_series(1.0, 2.0, 0.5) g order by 1
select g from generate_series(timestamp '2024-01-01', timestamp '2024-01-03', interval '1 day') g order by g
select g from generate_series(date '2024-01-01', date '2024-01-02', '1 day') g order by g
select * from unnest(array[1, 2], array['a', 'b', 'c']) as u(x, y) order by x nulls last
select * from unnest(array['a', 'b']) with ordinality as u(v, n) order by n
select t.id, x from t, unnest(t.arr) as x order by t.id, x nulls last
select t.id, x.v from t left join lateral (select max(u.id) as v from u where u.a = t.a) x on true order by t.id
select t.id, x.n from t cross join lateral generate_series(1, t.s) as x(n) order by 1, 2
select * from jsonb_each('{"a": 1, "b": "x"}') order by key
select * from jsonb_each_text('{"a": 1, "b": "x"}') order by key
select value from jsonb_array_elements('[1, 2]') order by value::text
select * from regexp_split_to_table('a,b,c', ',') as s order by s
select (regexp_matches('a1b2', '[a-z](\d)', 'g'))[1] order by 1
select distinct a from t order by a
select distinct on (a) a, id from t order by a, id desc
select distinct a, bo from t order by 1, 2
select id from t order by a, id
select id from t order by a desc, id desc
select id from t order by a nulls first, id
select id from t order by a desc nulls last, id
select id from t order by id limit 2 offset 1
select id from t order by id fetch first 2 rows only
select id, a from t order by a fetch first 2 rows with ties
select id from t order by id offset 2
select id as x, a from t order by x desc
select id + 1 as a from t order by a
select a as b, b as a from t order by a
select -id as id from t order by id
select t.id from t order by t.a + t.id nulls first
select count(*), a from t group by a order by a
select count(*), a + 1 as k from t group by k order by k
select count(*), a from t group by 2 order by 2
select a, sum(c) from t group by a having sum(c) > 0 order by a
select id, d, c from t group by id order by id
select a, bo, count(*) from t group by grouping sets ((a), (bo), ()) order by 1, 2, 3
select 1 from t group by grouping sets ((), (), ())
select 1 from t where false group by grouping sets ((), ()), grouping sets ((), ())
select count(*) from t group by grouping sets ((), ()) having count(*) > 2
select a, bo, count(*), grouping(a), grouping(bo) from t group by rollup (a, bo) order by 1, 2, 3, 4, 5
select a, bo, count(*) from t group by cube (a, bo) order by 1, 2, 3
select extract(year from e) as y, count(*) from t group by y order by y
select substr(d, 1, 1), count(*) from t group by substr(d, 1, 1) order by 1
select to_char(e, 'YYYY'), sum(a) from t group by to_char(e, 'YYYY') order by 1
select c / 3, avg(a) from t group by c order by c
select 1 where false
select from t where id = 1
select id, row_number() over (order by id) from t order by id
select s.* from (select 1 as a, 2 as b) s
select (s).a, (s).b from (select 1 as a, 2 as b) s
select count(s) from (select 1 as a) s
select u.name as "Name", u.amount * 2 from u order by 1
select case when a > 5 then 'big' else 'small' end as size, count(*) from t group by 1 order by 1
select * from (t join u on t.id = u.id) as j(x) order by 1
select x.id from (t x join u y on x.id = y.id) order by 1
select t.id from t where (t.a, t.id) in (select a, id from u) order by 1
select t.id from t where t.a > any (select a from u where a is not null) order by 1
select max(id) filter (where a > 0), count(*) filter (where bo) from t
select coalesce(max(a), 0) from t where false
select sum(a) from t where false
select a, count(*) from t where a is not null group by a having count(*) > 1
select upper(d) as d from t order by d
select * from u where amount > 1.5 order by id
select amount, amount / 3, round(amount, 1), amount * amount from u order by id
select avg(amount), sum(amount), min(amount), max(amount) from u
select id, lead(id) over (order by id) - id as gap from t order by 1
select t1.id from t t1 where not exists (select * from t t2 where t2.id > t1.id) order by 1
select * from (select id, rank() over (order by a) as r from t) x where r <= 2 order by id
select public.t.id from public.t order by 1
select id from public.t as q where q.id < 3 order by q.id
select a, b from (select 1 as a, 2 as b union all select 3, 4) x order by a desc
select case when count(*) > 2 then 'many' end from t
select sum(a) / count(*), sum(a) * 1.0 / count(*) from t
select sum(a + 1) + 1, sum(c) * 2, 100.0 * sum(c) / sum(a) from t
select count(distinct a), count(a), count(*) from t
select ch, v, d from t order by ch, v, id
select ch || v from t order by id
select distinct ch from t order by ch
select ch, count(*) from t group by ch order by ch
select id from t where ch = 'ab' order by id
select string_agg(ch, ',') from t where id = 1
select n, n * 2, n + c, n / 3, -n, round(n, 2), n::int from t where id in (1, 2, 4) order by id
select sum(n), avg(n), sum(b), avg(b), avg(f), sum(f) from t where id in (1, 2)
select null as x union all select 1 order by x
select t from (select 1 as x, 'a' as y) t
select array_agg(x order by x desc) from generate_series(1, 3) x
select x, y from generate_series(1, 2) x, generate_series(1, x) y order by 1, 2
select pg_typeof(x) from (select 1.5 as x) q
select id, d from t where d ilike '%AN%' or d ~ '^a' order by id
select coalesce(d, 'none'), nullif(a, 10), greatest(a, id) from t order by id
select count(v), count(u), count(distinct v) from u left join u v on v.id = u.id + 2
select u.id, v is null, v is not null, (v).name, v.id, v::text, coalesce(v::text, 'none') from u left join u v on v.id = u.id + 2 order by u.id
select u.id, jsonb_agg(v), to_jsonb(v), row_to_json(v) from u left join (select id, a from u) v on v.id = u.id + 2 group by u.id, v order by u.id
select count(u), count(t) from u full join t on t.id = u.id + 2
select count(v), v.tableoid is null from t left join (u v join u w on v.id = w.id and w.id > 2) on v.id = t.id group by 2 order by 2
