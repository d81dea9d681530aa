1 + 1
7 / 2, -7 / 2, 7 / -2
7 % 3, -7 % 3, mod(-7, 3)
7.0 / 2, 1 / 3.0, 10.0 / 3, 1000000 / 3.0
2 ^ 3, 2.0 ^ 3, 2 ^ 0.5
1.5 * 2.25, 1.5 + 2.25, 1.5 - 2.25
(1.5 / 7) * 7
1e10, 1.5e3, 0.000001
5000000000, 5000000000 + 1
-5, - -5, +5
2147483647 + 1::bigint
'5' + 1, 1 + '5'
'1.5' + 1.5
1::float8 / 3
1::float4 / 3
0.1::float8 + 0.2::float8
round(2.5), round(3.5), round(-2.5), round(0.5)
round(2.5::float8), round(3.5::float8), round(-2.5::float8)
round(2.567, 2), round(2.5, 3), round(1234.5, -2)
trunc(2.567, 2), trunc(-2.5), trunc(1234.5, -2)
trunc(2.5::float8), trunc(-2.5::float8)
ceil(1.2), ceil(-1.2), floor(1.2), floor(-1.2), ceiling(1.5::float8)
abs(-5), abs(-5.5), abs(-5.5::float8), sign(-5), sign(5.5), sign(0.0)
sqrt(2), sqrt(2::float8), cbrt(27), |/ 16, ||/ 27
exp(1), exp(1.0::float8), ln(10), ln(10::float8), log(100), log(2, 64), log10(1000)
power(2, 10), power(2.0, 10), power(2.5, 2)
pi(), degrees(pi()), radians(180)
sin(0.5), cos(0.5), tan(0.5), asin(0.5), acos(0.5), atan(0.5), atan2(1, 2)
div(7, 2), div(-7.5, 2)
gcd(12, 18), lcm(4, 6)
factorial(5)
width_bucket(5.35, 0.024, 10.06, 5), width_bucket(0, 1, 10, 4), width_bucket(11, 1, 10, 4)
to_hex(255), to_hex(-1), to_hex(10::bigint)
5 & 3, 5 | 3, 5 # 3, ~5, 1 << 4, 256 >> 4
greatest(1, 2, NULL), least(1, 2.5, NULL), greatest(NULL, NULL)
nullif(1, 1), nullif(1, 2), coalesce(NULL, 2, 3)
12345678901234567890
12345678901234567890.123 + 1
9999999999999999 * 9999.99
0.05 * 0.05 * 0.05
123456789.123456789 * 987654321.987654321
1.10, 1.100
-1.5::int, 1.5::int, 2.5::int, 2.5::float8::int, 3.5::float8::int
1.005::numeric(5,2), 1.5::numeric(3,0)
1::numeric, 1::numeric / 3
10::numeric(10,2) / 4
100 * 1.0 / 7
sign(-0.5::float8)
scale(1.50)
1.0 = 1.00, 1 = 1.0, 1 < 1.5, 2.5 > 2
'NaN'::float8, 'Infinity'::float8, '-Infinity'::float8
1e20::float8, 1e15::float8, 123456789012345.6::float8, 1e-7::float8, 1e16::float8
float8 '1.5', int '7', numeric '1.50'
0.1::float8::numeric, 1e6::float8::numeric, 123.456::float4::numeric
3::int2 + 4::int2, 3::int2 * 40000
1 + 2 * 3 - 4 / 2, (1 + 2) * 3
2 - (3 - 4), 12 / (4 / 2)
- (2 ^ 2), (-2) ^ 2
mod(7.5, 2), mod(10::bigint, 3)
1::bigint * 1::bigint, 4000000000 * 2
pg_typeof(1 + 1.5), pg_typeof(sum(1)), pg_typeof(avg(1)), pg_typeof(1::int2 + 1), pg_typeof(7 / 2.0)
pg_typeof(count(*)), pg_typeof(round(1.5)), pg_typeof(extract(year from date '2024-01-01'))
pg_typeof(1::real * 2), pg_typeof(2 ^ 2), pg_typeof('a'), pg_typeof('a' || 'b'), pg_typeof(now() - now())
trim_scale(1.500)
sinh(1.0), cosh(1.0), tanh(1.0)
sind(30), cosd(60), tand(45)
0.1 + 0.2, 1.1 * 3
5.0 / 2.0, 5 / 2.0, 5.00 / 3
0x1F
2 & 3, (5::bigint) | 2, 1::int2 << 3, -1 << 2, -8 >> 1, 1 << 31
