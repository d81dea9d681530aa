(array[1, 2, 3])[1], (array[1, 2, 3])[5], (array[1, 2, 3])[0], (array[1, 2, 3])[-1], (array[1, 2, 3])[2:3], (array[1, 2, 3])[:2], (array[1, 2, 3])[2:]
array[1, 2] || array[3], array[1] || 2, 1 || array[2], array[1, 2] || NULL::int[], array_append(array[1], 2), array_prepend(1, array[2]), array_cat(array[1], array[2])
array_length(array[1, 2], 1), array_length(array[]::int[], 1), cardinality(array[1, 2]), array_upper(array[1, 2], 1), array_lower(array[1], 1), array_ndims(array[1]), array_dims(array[1, 2])
array_position(array['a', 'b'], 'b'), array_position(array[1, 2], 5), array_positions(array[1, 2, 1], 1), array_remove(array[1, 2, 1], 1), array_replace(array[1, 2], 1, 9)
array[1, 2] @> array[1], array[1] <@ array[1, 2], array[1, 2] && array[2, 3], array[1, 2] && array[3], array[1] @> array[]::int[]
array[1, 2] = array[1, 2], array[1, 2] < array[1, 3], array[1, 2] <> array[2, 1]
array_fill(7, array[3]), trim_array(array[1, 2, 3], 1)
array(select 1 union all select 2), array(select a from t where a > 0 order by id)
arr, arr[1], arr || 4, cardinality(arr), 1 = any(arr), ta, ta[1] from t order by id
arr @> array[1], arr && array[3], array_to_string(arr, '-'), array_length(arr, 1) from t order by id
array[1, NULL, 3], array[NULL]::int[], '{}'::text[]
array[1, 2]::text, '{1,2}'::text[]::int[], array['1', '2']::int[], array[true, false]::text, arr::text from t order by id
array['a,b', 'c"d', 'e\f', '', 'NULL', 'x y']
array_agg(a order by id) from t
unnest(array[1, 2]), unnest(array['a', 'b', 'c'])
generate_series(1, 3), generate_series(5, 1, -2)
array_sort(array[3, 1, 2]), array_reverse(array[1, 2])
array[1, 2, 3], array['a', 'b'], array[]::int[], '{1,2}'::int[], '{"a b",NULL,c}'::text[]
array[date '2024-01-01'], array[1.5::float8]
string_to_array('1,2,3', ',')::int[], array_to_string(array[true, false], ',')
2 = any((array[1.6, 2.4])::int[]), 1.6 = any((array[1.6, 2.4])::int[]), 2 <> all((array[1.6])::int[]), 2 > all((array[1.6, 0.5])::int[])
1 = any('{}'::int[]), 1 = all('{}'::int[]), 1 = any(null::int[]), 1 = any(array[null, 2]), 1 <> all(array[null, 2]), 1 < any(array[null, 2])
