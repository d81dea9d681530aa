'12'::int, ' 12 '::int, '1.5'::numeric, '1.50'::numeric(5,1), '1e2'::float8, 'true'::bool, 'x'::text, '2024-01-01'::date
1::text, 1.50::text, 1.5::float8::text, true::text, date '2024-01-01'::text, NULL::int, 'a'::varchar
1.9::int, -1.5::int, '7'::bigint, 3::smallint, 65::int2::text, 1::numeric(5,2), 1.239::numeric(5,2)
cast(1 as text), cast('1' as int) + 1, 1::float4, 1::float8, 16777217::float4
v::int from (values ('1'), ('22'), (' 3 ')) x(v)
v::numeric, v::float8 from (values ('1.5'), ('22'), ('-0.25')) x(v)
v::bool from (values ('t'), ('no'), ('1')) x(v)
v::date, v::timestamp from (values ('2024-01-01'), ('1999-12-31')) x(v)
v::jsonb -> 'a' from (values ('{"a": 1}'), ('{"b":2}')) x(v)
d::varchar(3), v::text || 'x', ch::text || '|', a::text, c::text, n::text, f::text, e::text, ts::text, tz::text, bo::text, u::text, ti::text from t order by id
a::float8, a::numeric, c::int, f::numeric, n::numeric(20,3), s::int, a::bigint from t where f < 1000 or f is null order by id
by::text, arr::text, j::text, ta::text from t order by id
int4(1.7), text(5), float8('1.5'), date('2024-01-01')
'a'::name, 'abc'::"char", 'abc'::bpchar
'2024-01-01 10:00'::timestamp::date, '10:00'::time::interval, interval '10:00'::time, '1 day'::interval
'abc'::char(2), 'abc'::varchar(10)
ts::date, ts::time, tz::date, e::timestamp, e::timestamptz, tz::timestamp, ts::timestamptz from t order by id
