date '2024-01-31' + 1, date '2024-03-01' - 1, 1 + date '2024-01-01', date '2024-03-01' - date '2024-02-01'
date '2024-01-31' + interval '1 month', date '2024-03-31' - interval '1 month'
timestamp '2024-01-01 10:00' + interval '90 minutes', timestamp '2024-01-02' - timestamp '2024-01-01 12:00'
timestamp '2024-03-01' - timestamp '2023-01-15 10:00'
timestamptz '2024-01-01 10:00+02', timestamptz '2024-01-01 10:00', timestamptz '2024-01-01 10:00 Europe/Berlin'
timestamp '2024-01-01 10:00' at time zone 'Europe/Berlin', timestamptz '2024-01-01 10:00+00' at time zone 'America/New_York'
timestamp '2024-07-01 10:00' at time zone 'UTC' at time zone 'Asia/Tokyo', timestamptz '2024-01-01 10:00+00' at time zone '+02', timestamptz '2024-01-01 10:00+00' at time zone interval '3 hours'
interval '1 day', interval '1 year 2 months', interval '-1 day 2 hours', interval '1.5 days', interval '90' minute, interval '1-2' year to month, interval '2 weeks'
interval '1 day' + interval '2 hours', interval '1 day' * 2, interval '1 day' / 2, 1.5 * interval '1 month', interval '1 hour' * 0.5, -interval '1 day', interval '1 month' / 3
interval 'P1Y2M3DT4H5M6S', interval '1 day ago', interval '@ 1 minute', interval '10:20:30.5', interval '-00:00:01'
interval '1 year 2 mons 3 days 04:05:06.789'::text, interval '0'::text, interval '-1 mons 5 days -00:00:01'::text
justify_days(interval '35 days'), justify_hours(interval '27 hours'), justify_interval(interval '1 mon -1 hour')
extract(year from date '2024-02-29'), extract(month from timestamp '2024-02-29 01:02:03.5'), extract(epoch from timestamp '2024-02-29 01:02:03.5'), extract(dow from date '2024-02-25'), extract(isodow from date '2024-02-25')
extract(doy from date '2024-12-31'), extract(week from date '2024-01-01'), extract(quarter from date '2024-05-01'), extract(century from date '2024-01-01'), extract(decade from date '2024-01-01'), extract(millennium from date '2024-01-01'), extract(isoyear from date '2021-01-01')
extract(second from timestamp '2024-02-29 01:02:03.5'), extract(milliseconds from timestamp '2024-02-29 01:02:03.5'), extract(microseconds from timestamp '2024-02-29 01:02:03.5'), extract(hour from time '10:11:12'), extract(minute from interval '1:02:03')
extract(epoch from interval '1 day 02:00'), extract(day from interval '3 days 4 hours'), extract(year from interval '14 months'), extract(month from interval '14 months'), extract(epoch from date '2024-01-01')
extract(timezone from timestamptz '2024-01-01 00:00+00'), extract(julian from date '2024-01-01')
date_part('year', date '2024-02-29'), date_part('epoch', timestamptz '2024-01-01 00:00+00')
date_trunc('month', timestamp '2024-02-29 10:11:12'), date_trunc('day', timestamptz '2024-02-29 10:11:12+00'), date_trunc('year', date '2024-02-29'), date_trunc('week', timestamp '2024-02-29'), date_trunc('hour', interval '1 day 2:30'), date_trunc('quarter', date '2024-05-06'), date_trunc('century', timestamp '2024-05-06'), date_trunc('decade', timestamp '2024-05-06')
date_trunc('day', timestamptz '2024-02-29 23:30+00', 'Europe/Berlin')
age(timestamp '2024-03-01', timestamp '2023-01-15'), age(date '2024-03-01', date '2024-02-01'), age(timestamp '2001-04-10', timestamp '1957-06-13')
make_date(2024, 2, 29), make_time(10, 11, 12.5), make_timestamp(2024, 2, 29, 10, 11, 12.5), make_interval(days => 10, hours => 2), make_interval(1, 2, 3)
to_timestamp(1700000000), to_timestamp(0.5)
date_bin('15 minutes', timestamp '2024-02-11 15:44:17', timestamp '2001-01-01')
(date '2024-01-01', date '2024-01-10') overlaps (date '2024-01-05', date '2024-02-01'), (date '2024-01-01', interval '5 days') overlaps (date '2024-01-06', interval '1 day')
isfinite(date '2024-01-01'), isfinite(date 'infinity'), isfinite(interval '1 day')
date 'January 8, 1999', date '1/8/1999', date '19990108', date '8-Jan-1999', date 'Jan 8 99', timestamp '1999-01-08 04:05:06 PM', timestamp '1999-01-08T04:05:06'
time '10:00' + interval '1 hour', time '23:00' + interval '2 hours', time '10:00' - time '08:30', time '04:05 PM'
date '2024-01-01' + time '10:00', timestamp '2024-01-01 10:00'::date, timestamp '2024-01-01 10:00'::time, timestamptz '2024-01-01 10:00+00'::date
date '2024-01-01' = timestamp '2024-01-01 00:00', date '2024-01-01' < timestamptz '2024-01-01 00:01+00', timestamp '2024-01-01' between date '2023-12-31' and date '2024-01-01'
interval '1 month' = interval '30 days', interval '1 day' > interval '23 hours'
date '0001-01-01', date '9999-12-31', timestamp '2024-01-01 00:00:00.000001', timestamp '2024-01-01 23:59:59.999999'
'2024-02-29'::date::text, '2024-02-29 10:00:00.5'::timestamp::text, '2024-02-29 10:00+00'::timestamptz::text, '10:00'::time::text
'epoch'::timestamp, 'infinity'::timestamp > now()
current_date = now()::date, now() = current_timestamp, localtimestamp = now()::timestamp
timezone('UTC', timestamp '2024-01-01'), e + 1, e - 1 from t order by id
e + interval '1 month', ts + iv, ts - iv, tz + interval '1 day' from t order by id
ts - timestamp '2024-01-01', e - date '2024-01-01', tz - timestamptz '2024-01-01 00:00+00' from t order by id
iv * 2, iv / 2, iv + iv, -iv from t order by id
iv::text from t order by id
extract(epoch from ts), extract(second from ti), extract(hour from tz), extract(epoch from iv), extract(day from iv) from t order by id
date_trunc('month', e), date_trunc('hour', ts), date_trunc('day', tz) from t order by id
age(ts, timestamp '2020-05-06 07:08:09'), age(timestamp '2020-05-06 07:08:09', ts) from t order by id
to_char(interval '15h 2m 12s', 'HH24:MI:SS'), to_char(timestamp '2024-02-29 13:14:15', 'HH12:MI AM')
'2024-01-01' < date '2024-01-02', timestamp '2024-01-01' - '1 hour'::interval, interval '1 month' + date '2024-01-31'
date '2024-01-01'::text, timestamp '2024-01-01 10:00'::date, date '2024-02-01'::timestamp
