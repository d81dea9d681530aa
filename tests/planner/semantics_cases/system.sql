current_schema(), current_schemas(false), current_user = session_user, current_database()
pg_typeof(1), pg_typeof('a'::text), pg_typeof(1.5), pg_typeof(now()), pg_typeof(array[1]), pg_typeof(NULL), pg_typeof(current_date)
format_type(23, -1), format_type(1043, 14), format_type(1700, 655366), format_type(1007, NULL), format_type(25, NULL)
pg_table_is_visible('pg_class'::regclass), 'pg_class'::regclass::oid, 'pg_type'::regclass::text, 'int4'::regtype, 'integer'::regtype::oid, 1259::regclass
pg_encoding_to_char(6), current_setting('server_encoding'), has_table_privilege('t', 'select'), obj_description(1, 'pg_class')
pg_get_userbyid(10) is not null, pg_size_pretty(1024::bigint), pg_size_pretty(1048576000::bigint)
