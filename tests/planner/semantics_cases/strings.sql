'a' || 'b', 'a' || NULL, 'a' || 1, 1 || 'a', 'x' || 1.5 || true
lower('ABC'), upper('abc'), initcap('hello wORLD foo-bar')
length('héllo'), char_length('abc'), octet_length('héllo'), bit_length('abc')
substr('hello', 2), substr('hello', 2, 3), substr('hello', -1, 3), substr('hello', 0), substr('hello', 0, 2)
substring('hello' from 2 for 3), substring('hello' from 2), substring('hello' for 2), substring('hello', 2)
substring('Thomas' from '...$'), substring('foobar' from 'o(.)b'), substring('foo' from 'x')
left('hello', 2), left('hello', -2), right('hello', 2), right('hello', -2), left('abc', 0)
lpad('hi', 5), lpad('hi', 5, 'xy'), lpad('hello', 2), rpad('hi', 5, 'xy'), rpad('hi', 4) || '|'
trim('  a  ') || '|', ltrim('  a') , rtrim('a  ') || '|', btrim('xxaxx', 'x'), ltrim('xya', 'xy'), rtrim('axy', 'xy')
trim(both 'x' from 'xxaxx'), trim(leading 'x' from 'xxa'), trim(trailing 'x' from 'axx'), trim(from ' a ')
repeat('ab', 3), repeat('ab', 0), repeat('ab', -1)
replace('hello', 'l', 'L'), replace('abc', '', 'x')
reverse('abc'), translate('12345', '143', 'ax')
strpos('hello', 'l'), position('l' in 'hello'), position('z' in 'hello'), strpos('abc', '')
split_part('a,b,c', ',', 2), split_part('a,b,c', ',', -1), split_part('a,b', ',', 5)
starts_with('hello', 'he'), 'hello' ^@ 'he'
ascii('A'), ascii(''), ascii('é'), chr(65), chr(233)
md5('hello'), md5('')
concat('a', NULL, 1, true), concat_ws(',', 'a', NULL, 'b', 2)
overlay('Txxxxas' placing 'hom' from 2 for 4), overlay('abcdef' placing 'X' from 3)
quote_ident('foo'), quote_ident('Foo bar'), quote_literal('it''s'), quote_nullable(NULL), quote_literal('a\b')
format('Hello %s, %1$s', 'World'), format('%I = %L', 'Col', 'it''s'), format('%%'), format('%5s|%-5s|', 'a', 'b')
encode('\x01ff'::bytea, 'hex'), encode('abc'::bytea, 'base64'), decode('01ff', 'hex')
'\x41'::bytea, length('\x4142'::bytea), '\x41'::bytea || '\x42'::bytea
sha256('abc'::bytea)
E'a\nb', E'tab\there', $$dollar 'quoted'$$, 'it''s'
U&'\0041\0042'
'abc' < 'abd', 'a' < 'B', 'Z' < 'a'
'abc'::varchar(2), 'abc'::char(5) || '|', 'ab  '::char(5) = 'ab', length('ab  '::char(5))
'ab'::char(5), cast('toolong' as varchar(3))
'x'::char(3) || 'y'
regexp_replace('hello', 'l', 'L'), regexp_replace('hello', 'l', 'L', 'g'), regexp_replace('Hello', 'h', 'x', 'i')
regexp_replace('foobarbaz', 'b(..)', 'X\1Y', 'g'), regexp_replace('abc', '(b)', '<\&>')
regexp_match('foobarbequebaz', 'bar.*que'), regexp_match('foobarbequebaz', '(bar)(beque)'), regexp_match('abc', 'x')
regexp_split_to_array('a1b2c', '\d'), string_to_array('a,b,c', ','), string_to_array('a,b,c', ',', 'b'), string_to_array('abc', NULL)
regexp_count('abcabc', 'b'), regexp_like('Hello', 'hello', 'i'), regexp_substr('foobar', 'o+'), regexp_instr('foobar', 'b')
array_to_string(array['a', NULL, 'b'], ','), array_to_string(array[1, NULL, 3], ',', '*')
to_hex(16) || 'x', 1::text || 'a', true::text
string_to_array('', ','), string_to_array(NULL, ',')
text 'abc' || varchar 'def'
convert_from('\x616263'::bytea, 'UTF8'), convert_to('abc', 'UTF8')
get_byte('\x0102'::bytea, 1)
substring('\x01020304'::bytea from 2 for 2)
parse_ident('Foo.Bar')
to_bin(5), to_oct(8)
'a' = 'a ', 'a'::char(3) = 'a  '::char(5)
'abc' collate "C" < 'b'
unistr('\0041')
normalize('a')
