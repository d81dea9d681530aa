1 = 1, 1 <> 2, 1 != 1, 1 < 2, 2 <= 2, 3 >= 4
NULL = NULL, NULL is null, 1 is not null, NULL is distinct from NULL, 1 is distinct from NULL, 1 is not distinct from 1
true and NULL, false and NULL, true or NULL, not NULL, NULL is unknown, true is not true, NULL is true, false is false
1 in (1, 2), 3 not in (1, 2), 1 in (2, NULL), NULL in (1), 'a' in ('a', 'b'), 1.5 in (1, 1.5)
2 between 1 and 3, 2 not between 1 and 3, 2 between symmetric 3 and 1, 'b' between 'a' and 'c'
(1, 2) = (1, 2), (1, 2) < (1, 3), (1, 2) <> (1, 3), (1, NULL) = (1, 2), (1, NULL) = (2, NULL), row(1, 2) = (1, 2), (2, 1) > (1, NULL)
(1, NULL) is null, (NULL, NULL) is null, (1, 2) is not null, (1, NULL) is not null
case when true then 1 else 2 end, case 1 when 1 then 'a' when 2 then 'b' end, case when false then 1 end, case when NULL then 1 else 2.5 end
case a when 10 then 'ten' else d end from t order by id
1 = any(array[1, 2]), 3 = any(array[1, 2]), 3 = any(array[1, NULL]), 1 <> all(array[2, 3]), 1 < all(array[2, 3]), 1 = any('{1,2}'), 1 = any(NULL::int[]), 5 > any(array[]::int[]), 5 > all(array[]::int[])
a = any(arr), 3 = any(arr), 1 < all(arr), a <> all(arr) from t order by id
a in (10, 20), a not in (10), c in (12.5, 1), d in ('apple', 'x') from t order by id
a is null, a is not null, bo is true, bo is not true, bo is unknown from t order by id
a = c, a < f, b > c, s = a, n > f from t order by id
e = '2024-02-29', e > '2024-01-01'::date, ts >= '2024-01-01', tz < '2024-02-29 14:00+00' from t order by id
ch = 'ab', ch = 'ab   ', ch = d, ch > 'aa', length(ch), ch || '|' from t order by id
v = 'abc', v <> d, upper(v) = 'ABC' from t order by id
bo, not bo, bo = true, bo and a > 0, 't'::bool, 'off'::boolean, 'yes'::bool, bo::int, 1::bool from t order by id
u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', u < 'b0000000-0000-0000-0000-000000000000'::uuid from t order by id
by = '\x01ff', by < '\x02', length(by), encode(by, 'hex') from t order by id
1 < 2 and 2 < 3 or false, not (1 = 2) and true
a = 10 is true from t order by id
greatest('a', 'b'), least(date '2024-01-01', date '2023-01-01')
exists(select 1), exists(select 1 where false), not exists(select 1 where false)
1 in (select 1), 3 in (select 1 union select 2), 1 not in (select NULL::int), 1 = any(select 1), 2 > all(select 1), 2 > all(select 1 where false)
(select 1), (select max(a) from t), (select a from t where id = 3)
(1, 2) in (select 1, 2), (1, 2) in ((1, 2), (3, 4)), row(1, 'a') = row(1, 'a')
'NaN'::float8 = 'NaN'::float8, 'NaN'::float8 > 1e308
1.0 = 1, '1' = 1, 1 = '1'
