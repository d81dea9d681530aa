"""Functions and operators on text and bytea."""

from __future__ import annotations

from sqlglot import exp

from planner.functions import Call, Catalogue, Emit
from planner.semantics import build, patterns
from planner.semantics.rules import define, natural, operator_node, table
from planner.types import Coercion
from storage.types import TEXT

_TABLE = """
lower(text) -> text
upper(text) -> text
initcap(text) -> text = pg_initcap
length(text) -> int4 = :length
length(bytea) -> int4 = :octet_length
char_length(text) -> int4 = :length
character_length(text) -> int4 = :length
octet_length(text) -> int4 = :pg_octet_length
octet_length(bytea) -> int4 = :octet_length
bit_length(text) -> int4 = :pg_bit_length
bit_length(bytea) -> int4 = :pg_bit_length_bytes
substr(text, int4) -> text = pg_substr
substr(text, int4, int4) -> text = pg_substr3
substring(text, int4) -> text = pg_substr
substring(text, int4, int4) -> text = pg_substr3
substring(text, text) -> text = pg_substring_pattern
substring(bytea, int4) -> bytea = pg_bytea_substr
substring(bytea, int4, int4) -> bytea = pg_bytea_substr3
substr(bytea, int4) -> bytea = pg_bytea_substr
substr(bytea, int4, int4) -> bytea = pg_bytea_substr3
left(text, int4) -> text
right(text, int4) -> text
lpad(text, int4) -> text = pg_lpad
lpad(text, int4, text) -> text = pg_lpad3
rpad(text, int4) -> text = pg_rpad
rpad(text, int4, text) -> text = pg_rpad3
ltrim(text) -> text = pg_ltrim
ltrim(text, text) -> text
rtrim(text) -> text = pg_rtrim
rtrim(text, text) -> text
btrim(text) -> text = pg_btrim
btrim(text, text) -> text = trim
repeat(text, int4) -> text = pg_repeat
replace(text, text, text) -> text = pg_replace
reverse(text) -> text
translate(text, text, text) -> text
strpos(text, text) -> int4 = :strpos
position(text, text) -> int4 = :pg_position
split_part(text, text, int4) -> text = pg_split_part
starts_with(text, text) -> bool
ascii(text) -> int4 = :pg_ascii
chr(int4) -> text = pg_chr
md5(text) -> text
md5(bytea) -> text
sha256(bytea) -> bytea = pg_sha256
encode(bytea, text) -> text = pg_encode
decode(text, text) -> bytea = pg_decode
quote_ident(text) -> text = pg_quote_ident
quote_literal(text) -> text = pg_quote_literal
quote_nullable(text) -> text = pg_quote_nullable
overlay(text, text, int4) -> text = pg_overlay
overlay(text, text, int4, int4) -> text = pg_overlay4
regexp_replace(text, text, text) -> text = pg_regexp_replace
regexp_replace(text, text, text, text) -> text = pg_regexp_replace4
regexp_count(text, text) -> int4 = pg_regexp_count
regexp_count(text, text, int4) -> int4 = pg_regexp_count3
regexp_count(text, text, int4, text) -> int4 = pg_regexp_count4
regexp_instr(text, text) -> int4 = pg_regexp_instr
regexp_like(text, text) -> bool = pg_regexp_like
regexp_like(text, text, text) -> bool = pg_regexp_like3
regexp_substr(text, text) -> text = pg_regexp_substr
regexp_match(text, text) -> text[] = pg_regexp_match
regexp_match(text, text, text) -> text[] = pg_regexp_match3
regexp_split_to_array(text, text) -> text[] = regexp_split_to_array
string_to_array(text, text) -> text[] = pg_string_to_array
string_to_array(text, text, text) -> text[] = pg_string_to_array3
unistr(text) -> text = pg_unistr
normalize(text) -> text = nfc_normalize
to_ascii(text) -> text = strip_accents
convert_from(bytea, text) -> text = pg_convert_from
convert_to(text, text) -> bytea = pg_convert_to
get_byte(bytea, int4) -> int4 = pg_get_byte
parse_ident(text) -> text[] = pg_parse_ident
"""


def concatenation(left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """`||` of two texts."""
    return build.typed(
        exp.DPipe(this=_piped(left), expression=build.operand(right), safe=True), TEXT
    )


def _piped(node: exp.Expr) -> exp.Expr:
    return node if isinstance(node, exp.DPipe) else build.operand(node)


def _concat(call: Call) -> exp.Expr:
    parts = [call.casts.inner_text(a) for a in call.arguments]
    return build.call("concat", *parts, type=TEXT)


def _concat_ws(call: Call) -> exp.Expr:
    parts = [call.casts.inner_text(a) for a in call.arguments]
    return build.call("concat_ws", *parts, type=TEXT)


def _format(call: Call) -> exp.Expr:
    template, *arguments = call.arguments
    texts = [call.casts.inner_text(a) for a in arguments]
    values = build.cast_as(exp.Array(expressions=texts), TEXT, "VARCHAR[]")
    return build.call("pg_format", template, values, type=TEXT)


def _join_any(call: Call) -> exp.Expr:
    """text || anything and anything || text."""
    left, right = (call.casts.coerce(a, TEXT, Coercion.EXPLICIT) for a in call.arguments)
    return concatenation(left, right)


def _quote_any(name: str) -> object:
    def emit(call: Call) -> exp.Expr:
        return build.call(name, call.casts.to_text(call.arguments[0]), type=TEXT)

    return emit


def _like_call(operator: str) -> Emit:
    """The function behind LIKE."""

    def emit(call: Call) -> exp.Expr:
        left, right = call.arguments
        return patterns.match(operator, left, right, None, call.casts)

    return emit


def register(catalogue: Catalogue) -> None:
    """Functions and operators on text."""
    table(catalogue, _TABLE)
    define(catalogue, "like(text, text) -> bool", _like_call("~~"))
    define(catalogue, "notlike(text, text) -> bool", _like_call("!~~"))
    define(catalogue, "concat(any...) -> text", _concat)
    define(catalogue, "concat_ws(text, any...) -> text", _concat_ws)
    define(catalogue, "format(text, any...) -> text", _format)
    for name in ("quote_literal", "quote_nullable"):
        define(catalogue, f"{name}(anyelement) -> text", _quote_any(f"pg_{name}"))
    for pair in ("text, text", "text, any", "any, text"):
        define(catalogue, f"||({pair}) -> text", _join_any)
    define(catalogue, "||(bytea, bytea) -> bytea", operator_node(exp.DPipe))
    define(catalogue, "^@(text, text) -> bool", natural("starts_with"))
