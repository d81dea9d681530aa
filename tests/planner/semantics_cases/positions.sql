select zz from t
select t.zz from t
select id, x.a from t
select * from nosuch
select 1 from t where foo = 1
select nosuch(1)
select d, count(*) from t group by a
select lower(1, 2) from t
select * from t group by count(*)
select id from t join u on t.id = u.id
select 1 as x union select 2 order by y
select 'x'::int
select a from t order by 5
select sum(sum(a)) from t
