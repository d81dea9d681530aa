select id, row_number() over (order by a, id), rank() over (order by a), dense_rank() over (order by a) from t order by id
select id, sum(a) over (partition by bo order by id), avg(a) over (partition by bo), count(*) over () from t order by id
select id, sum(c) over (order by id rows between 1 preceding and current row), sum(a) over (order by id rows between unbounded preceding and unbounded following) from t order by id
select id, lag(a) over (order by id), lead(a, 2) over (order by id), lag(a, 1, 0) over (order by id), first_value(d) over (order by id), last_value(d) over (order by id), nth_value(d, 2) over (order by id) from t order by id
select id, ntile(2) over (order by id), percent_rank() over (order by id), cume_dist() over (order by id) from t order by id
select id, sum(a) over w, max(a) over w from t window w as (partition by bo order by id) order by id
select id, sum(a) over (order by a range between 5 preceding and 5 following) from t order by id
select a, sum(count(*)) over (order by a) from t group by a order by a
select id, rank() over (order by a desc nulls last, id) from t order by id
select id, array_agg(id) over (order by id) from t order by id
select id, count(*) filter (where a > 0) over (order by id) from t order by id
select id, sum(a) over (order by id groups between 1 preceding and current row) from t order by id
select id, avg(c) over (order by id rows 1 preceding), sum(n) over (order by id) from t where id < 4 order by id
select id, count(*) over (order by e range between interval '2 days' preceding and interval '1 month' following) from t where e is not null order by id
select id, count(*) over (order by ts range between '1 day' preceding and 2 * interval '12 hours' following) from t order by id
select id, sum(a) over (order by id rows between 1 preceding and 1 following exclude current row) from t order by id
select id, count(*) over (order by a groups between 1 preceding and 1 following exclude group) from t order by id
select id, count(*) over (order by a range between '1' preceding and '20' following exclude ties), count(*) over (order by a rows 2 preceding exclude no others) from t order by id
