'abc' like 'a%', 'abc' like '_b_', 'abc' not like 'x%', 'a%c' like 'a\%c', 'abc' like 'a\%c'
'abc' ilike 'A%', 'a_c' like 'a#_c' escape '#', 'abc' like 'a#_c' escape '#', 'a\c' like 'a\c' escape ''
'abc' ~ 'b', 'abc' ~ '^b', 'ABC' ~* 'b', 'abc' !~ 'x', 'abc' !~* 'B'
'abc' ~~ 'a%', 'abc' !~~ 'a%', 'ABC' ~~* 'a%', 'ABC' !~~* 'a%'
'abc' similar to 'a(b|c)c', 'abc' similar to 'a%', 'abc' similar to 'ab', 'abc' not similar to 'x%', 'a.c' similar to 'a.c', 'abc' similar to 'a.c'
'abc' operator(pg_catalog.~) '^a'
'foo' ~ '\yfoo\y', 'a1' ~ '\d', 'ab' ~ '[[:digit:]]'
NULL like 'a', 'a' like NULL
'abc' like any(array['a%', 'x%']), 'abc' like all(array['a%', 'x%']), 'abc' ilike any(array['A%'])
'line1' || chr(10) || 'line2' ~ 'line1.line2'
d like 'a%' from t order by id
d like '%' || 'an' || '%' from t order by id
ch like 'ab%' from t order by id
