select 1, 'a', a, t.a, a + 1, a as "X", count(*), sum(a) over (), lower(d), a::text, 'x'::text from t group by a, d
select case when true then 1 end, case when true then 1 else a end, coalesce(a, 1), nullif(a, 1), greatest(a, 1) from t
select extract(year from e), substring(d, 1), position('a' in d), trim(d), overlay(d placing 'x' from 1), current_date, now() from t
select (select 1), (select a from t limit 1), exists(select 1), array[1], array(select 1), row(1, 2), -a, not true, a is null from t
select * from t join u using (a)
select date '2024-01-01', interval '1 day', true, null, 1.5, '1'::numeric(5,2), arr[1], j -> 'a' from t
select s.x from (select 1 as x) s
select column1 from (values (1)) v
select * from generate_series(1, 2)
select * from generate_series(1, 2) as g
select * from generate_series(1, 2) as g(n)
