'{"a": 1, "b": [1, 2]}'::jsonb, '{"b": 1,   "a": 2, "a": 3}'::jsonb, '[1, 2.50, 1e3, "x", null, true]'::jsonb, '{"a":1}'::json
'{"a": {"b": 1}}'::jsonb -> 'a', '{"a": {"b": 1}}'::jsonb -> 'a' -> 'b', '{"a": "x"}'::jsonb ->> 'a', '[1, 2]'::jsonb -> 0, '[1, 2]'::jsonb -> -1, '[1, 2]'::jsonb ->> 1, '{"a": null}'::jsonb ->> 'a', '{"a": null}'::jsonb -> 'a', '{"a": 1}'::jsonb -> 'x'
'{"a": {"b": [1, 2]}}'::jsonb #> '{a,b,1}', '{"a": {"b": [1, 2]}}'::jsonb #>> '{a,b}', '{"a.b": 1}'::jsonb -> 'a.b', '{"$.a": 1}'::jsonb -> '$.a', '{"a": 1}'::json -> 'a', '{"a": {"b":2}}'::json -> 'a', '{"a": {"b":2}}'::jsonb ->> 'a'
'{"a": 1, "b": 2}'::jsonb @> '{"a": 1}', '[1, 2, 3]'::jsonb @> '[1, 3]', '{"a": [1, 2]}'::jsonb @> '{"a": [1]}', '{"a": 1}'::jsonb <@ '{"a": 1, "b": 2}', '[1]'::jsonb @> '1'
'{"a": 1}'::jsonb ? 'a', '["a", "b"]'::jsonb ? 'b', '{"a": 1}'::jsonb ?| array['x', 'a'], '{"a": 1}'::jsonb ?& array['x', 'a']
'{"a": 1}'::jsonb || '{"b": 2}', '[1]'::jsonb || '[2]', '[1]'::jsonb || '2', '{"a": 1, "b": 2}'::jsonb - 'a', '["a", "b"]'::jsonb - 'a', '[1, 2, 3]'::jsonb - 1, '{"a": {"b": 1}}'::jsonb #- '{a,b}', '{"a": 1, "b": 2}'::jsonb - array['a', 'b']
jsonb_set('{"a": 1}', '{b}', '2'), jsonb_set('{"a": [1, 2]}', '{a,0}', '9'), jsonb_set('{"a": 1}', '{b}', '2', false), jsonb_insert('{"a": [0, 1]}', '{a,1}', '"x"')
json_build_object('a', 1, 'b', 'x'), jsonb_build_object('a', 1, 'b', array[1, 2]), json_build_array(1, 'a', NULL, true), jsonb_build_array(1, 2.50, date '2024-01-01')
to_json('x'::text), to_jsonb(1), to_jsonb(array[1, 2]), to_json(1.50), to_jsonb(timestamp '2024-01-01 10:00'), to_json(true), to_jsonb(NULL::int)
jsonb_typeof('{"a": 1}'), jsonb_typeof('[1]'), jsonb_typeof('"x"'), jsonb_typeof('1.5'), jsonb_typeof('true'), jsonb_typeof('null'), json_typeof('1')
jsonb_array_length('[1, 2, 3]'), json_array_length('[]'), jsonb_strip_nulls('{"a": null, "b": 1}'), jsonb_pretty('{"a": [1, 2]}')
jsonb_extract_path('{"a": {"b": 1}}', 'a', 'b'), jsonb_extract_path_text('{"a": {"b": "x"}}', 'a', 'b')
('{"a": 5}'::jsonb -> 'a')::int, ('{"a": 1.5}'::jsonb ->> 'a')::numeric + 1, ('{"a": true}'::jsonb -> 'a')::bool, '"x"'::jsonb::text, '{"b":1,"a":2}'::jsonb::text, '1.50'::jsonb::numeric
j, j -> 'a', j ->> 'a', j -> 'a' -> 2, j #>> '{a,2}', j ? 'a', j @> '{"a": 1}', j -> 1, j ->> 1, j::text from t order by id
j -> 'a' is null, j ->> 'a' is null, jsonb_typeof(j), j || '{"z": 1}'::jsonb from t where jsonb_typeof(j) = 'object' order by id
jsonb_object_keys('{"a": 1, "b": 2}')
jsonb_array_elements('[1, "x"]'), json_array_elements_text('["a", "b"]')
'{"a": 1}' is json, 'x' is json, '[1]' is json array, '{}' is json object
row_to_json(row(1, 'a')), array_to_json(array[1, 2])
jsonb_agg(a order by id) from t
json_agg(a order by id) from t
jsonb_object_agg(id, a) from t where a is not null
'{"a": 1}'::jsonb = '{"a":1}'::jsonb, '{"a": 1, "b": 2}'::jsonb = '{"b": 2, "a": 1}'
to_jsonb(t), row_to_json(t) from t order by id
to_jsonb(array[1.50, null]), to_json(array['NaN'::float8, 1.5]), array_to_json(array[timestamp '2024-01-01 10:00', null]), to_json(array['a"b', null]), to_json(array['ab'::char(4)]), to_jsonb('{}'::float8[]), to_json(array[date '2024-02-29'])
to_jsonb(row('Infinity'::float8, 1.50, 'x'::char(3), null, array[1.5])), row_to_json(row(timestamptz '2024-01-01 10:00+00', interval '1 day', '\x01'::bytea, '{"a": [1]}'::jsonb))
jsonb_agg(x) from (select id, f, ts, j, ta from t where id in (1, 4)) x group by id order by id
-- A jsonb scalar is shown as an array of one element, a json scalar is not.
'1'::jsonb -> 0, '"a"'::jsonb ->> -1, 'null'::jsonb -> 0, '1'::jsonb -> 1, '{"a": 1}'::jsonb -> 0, '[5]'::jsonb -> 0, '1'::json -> 0, '"a"'::json ->> 0
