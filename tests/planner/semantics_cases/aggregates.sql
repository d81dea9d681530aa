select count(*), count(a), count(distinct a), sum(a), avg(a), min(a), max(a) from t
select sum(b), avg(b), sum(s), avg(s), sum(c), avg(c), sum(n), avg(n), sum(f), avg(f) from t where id < 4
select min(d), max(d), min(e), max(e), min(ts), max(tz), min(ch), max(v), min(iv), max(iv), min(ti) from t
select bool_and(bo), bool_or(bo), every(a > 0) from t
select bit_and(a), bit_or(a), bit_xor(a) from t where a > 0
select string_agg(d, ',' order by d), string_agg(d, '-' order by id desc), string_agg(distinct d, ',' order by d) from t
select array_agg(a order by id), array_agg(distinct a order by a), array_agg(d order by d desc) from t
select stddev(a), stddev_pop(a), variance(a), var_pop(a), stddev(f), var_samp(c) from t where id < 4
select corr(a, c), covar_pop(a, c), covar_samp(a, c), regr_slope(a, c), regr_count(a, c), regr_intercept(a, c) from t
select percentile_cont(0.5) within group (order by a), percentile_disc(0.5) within group (order by a), percentile_disc(0.5) within group (order by d) from t
select percentile_cont(0.25) within group (order by f desc) from t where id < 4
select percentile_cont(array[0.25, 0.75]) within group (order by a) from t
select mode() within group (order by a) from t
select sum(distinct a), avg(distinct a), count(distinct d) from t
select sum(a) filter (where id > 1), avg(a) filter (where id > 1), array_agg(a order by id) filter (where id < 3) from t
select any_value(a) from t where id = 1
select sum(iv), avg(iv) from t
select jsonb_agg(j order by id) from t where id in (1, 4)
select json_object_agg(id, d order by id) from t where id < 3
select jsonb_object_agg(d, a) from t where d is not null
select count(*) from (select distinct a, bo from t) x
select a, avg(c), sum(c) from t group by a order by a
select avg(a), avg(a)::int, round(avg(a), 2), avg(a) + 1, avg(c) * 2 from t
select max(length(d)), min(upper(d)) from t
select sum(case when a > 0 then 1 else 0 end), sum(a * c), sum(a::bigint * 2) from t
select avg(x) from (values (1::smallint), (2)) v(x)
select avg(x), sum(x) from (values (1.5::float4), (2)) v(x)
select sum(x) from (values (9223372036854775807), (1)) v(x)
select count(*) filter (where a > 100), sum(a) filter (where a > 100) from t
select min(u), max(u) from (values ('a'), ('b')) v(u)
select string_agg(a::text, ',' order by a desc nulls last) from t
select array_agg(row_number) from (select row_number() over (order by id) from t) x
