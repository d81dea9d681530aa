"""json and jsonb: operators and functions.

Both are DuckDB's JSON. A path or key is always handed over as a JSON path or pointer that
quotes it, for DuckDB reads some texts (`$.a`, `/a`) as paths of its own. What changes a value
(`||`, `-`, jsonb_set) runs in Python over the parsed value.
"""

from __future__ import annotations

from sqlglot import exp

from planner.bound import type_of
from planner.functions import Call, Catalogue, Emit
from planner.semantics import build
from planner.semantics.json_texts import to_json
from planner.semantics.rules import define, natural
from planner.types import Coercion
from storage.types import JSON, JSONB, TEXT, Kind, SqlType, array_of


def _field(call: Call) -> exp.Expr:
    return build.call("pg_json_field", *call.arguments, type=call.type)


def _scalar_text(node: exp.Expr, source: SqlType) -> exp.Expr:
    name = "pg_jsonb_scalar_text" if source.kind is Kind.JSONB else "pg_json_scalar_text"
    return build.call(name, node, type=TEXT)


def _text_of(name: str) -> Emit:
    """`->>` and its like: the value found, as text."""

    def emit(call: Call) -> exp.Expr:
        source = type_of(call.arguments[0])
        found = build.call(name, *call.arguments, type=source)
        return _scalar_text(found, source)

    return emit


def _path(call: Call) -> exp.Expr:
    return build.call("pg_json_path", *call.arguments, type=call.type)


def _path_variadic(text: bool) -> Emit:
    def emit(call: Call) -> exp.Expr:
        value, *keys = call.arguments
        source = type_of(value)
        steps = build.cast_as(exp.Array(expressions=keys), array_of(TEXT))
        found = build.call("pg_json_path", value, steps, type=source)
        return _scalar_text(found, source) if text else found

    return emit


def _edited(name: str) -> Emit:
    """A function of jsonb texts that gives a jsonb text in normal form."""

    def emit(call: Call) -> exp.Expr:
        arguments = [
            build.cast_as(a, TEXT) if type_of(a).kind is Kind.JSONB else a for a in call.arguments
        ]
        return build.cast_as(build.call(name, *arguments, type=TEXT), JSONB)

    return emit


def _tested(name: str) -> Emit:
    def emit(call: Call) -> exp.Expr:
        arguments = [
            build.cast_as(a, TEXT) if type_of(a).kind is Kind.JSONB else a for a in call.arguments
        ]
        return build.call(name, *arguments, type=call.type)

    return emit


def _flipped(emit: Emit) -> Emit:
    def flipped(call: Call) -> exp.Expr:
        return emit(Call(call.arguments[::-1], call.type, call.casts))

    return flipped


def _to_json(result: SqlType) -> Emit:
    def emit(call: Call) -> exp.Expr:
        value = call.arguments[0]
        written = _as_json(to_json(value, call.casts), result)
        if isinstance(value, (exp.Tuple, exp.Struct)):
            return written
        present = build.negation(build.is_null(value.copy()))
        return build.typed(exp.Case(ifs=[exp.If(this=present, true=written)]), result)

    return emit


def _as_json(written: exp.Expr, result: SqlType) -> exp.Expr:
    if result == JSONB:
        return build.call("pg_jsonb", written, type=JSONB)
    return build.cast_as(written, JSON)


def _build_object(result: SqlType) -> Emit:
    def emit(call: Call) -> exp.Expr:
        pairs: list[exp.Expr] = []
        arguments = list(call.arguments)
        for key, value in zip(arguments[::2], arguments[1::2], strict=False):
            name = call.casts.coerce(key, TEXT, Coercion.EXPLICIT)
            pairs.append(build.call("pg_json_pair", name, to_json(value, call.casts), type=TEXT))
        return _as_json(_wrapped("{", pairs, "}"), result)

    return emit


def _build_array(result: SqlType) -> Emit:
    def emit(call: Call) -> exp.Expr:
        items = [to_json(value, call.casts) for value in call.arguments]
        return _as_json(_wrapped("[", items, "]"), result)

    return emit


def _wrapped(opening: str, items: list[exp.Expr], closing: str) -> exp.Expr:
    joined = build.call("concat_ws", build.text(", "), *items, type=TEXT)
    inner: exp.Expr = joined if items else build.text("")
    return build.call("concat", build.text(opening), inner, build.text(closing), type=TEXT)


def register(catalogue: Catalogue) -> None:
    """Functions and operators on json and jsonb."""
    for kind, sql_type in (("json", JSON), ("jsonb", JSONB)):
        _register_access(catalogue, kind)
        define(catalogue, f"{kind}_build_object(any...) -> {kind}", _build_object(sql_type))
        define(catalogue, f"{kind}_build_array(any...) -> {kind}", _build_array(sql_type))
        define(catalogue, f"to_{kind}(any) -> {kind}", _to_json(sql_type))
        define(catalogue, f"{kind}_typeof({kind}) -> text", natural("pg_json_kind"))
        define(catalogue, f"{kind}_array_length({kind}) -> int4", natural("pg_jsonb_array_length"))
    define(catalogue, "row_to_json(any) -> json", _to_json(JSON))
    define(catalogue, "array_to_json(anyarray) -> json", _to_json(JSON))
    _register_jsonb(catalogue)


def _register_access(catalogue: Catalogue, kind: str) -> None:
    define(catalogue, f"->({kind}, text) -> {kind}", _field)
    define(catalogue, f"->({kind}, int4) -> {kind}", natural(f"pg_{kind}_index"))
    define(catalogue, f"->>({kind}, text) -> text", _text_of("pg_json_field"))
    define(catalogue, f"->>({kind}, int4) -> text", _text_of(f"pg_{kind}_index"))
    define(catalogue, f"#>({kind}, text[]) -> {kind}", _path)
    define(catalogue, f"#>>({kind}, text[]) -> text", _text_of("pg_json_path"))
    define(catalogue, f"{kind}_extract_path({kind}, text...) -> {kind}", _path_variadic(False))
    define(catalogue, f"{kind}_extract_path_text({kind}, text...) -> text", _path_variadic(True))


def _register_jsonb(catalogue: Catalogue) -> None:
    contains = _tested("pg_jsonb_contains")
    define(catalogue, "@>(jsonb, jsonb) -> bool", contains)
    define(catalogue, "<@(jsonb, jsonb) -> bool", _flipped(contains))
    for operator, name in (("?", "pg_jsonb_has"), ("jsonb_exists", "pg_jsonb_has")):
        define(catalogue, f"{operator}(jsonb, text) -> bool", natural(name))
    define(catalogue, "?|(jsonb, text[]) -> bool", natural("pg_jsonb_has_any"))
    define(catalogue, "?&(jsonb, text[]) -> bool", natural("pg_jsonb_has_all"))
    define(catalogue, "||(jsonb, jsonb) -> jsonb", _edited("pg_jsonb_concat"))
    define(catalogue, "-(jsonb, text) -> jsonb", _edited("pg_jsonb_delete_key"))
    define(catalogue, "-(jsonb, text[]) -> jsonb", _edited("pg_jsonb_delete_keys"))
    define(catalogue, "-(jsonb, int4) -> jsonb", _edited("pg_jsonb_delete_index"))
    define(catalogue, "#-(jsonb, text[]) -> jsonb", _edited("pg_jsonb_delete_path"))
    define(catalogue, "jsonb_set(jsonb, text[], jsonb) -> jsonb", _edited("pg_jsonb_set3"))
    define(catalogue, "jsonb_set(jsonb, text[], jsonb, bool) -> jsonb", _edited("pg_jsonb_set"))
    define(catalogue, "jsonb_insert(jsonb, text[], jsonb) -> jsonb", _edited("pg_jsonb_insert3"))
    define(
        catalogue, "jsonb_insert(jsonb, text[], jsonb, bool) -> jsonb", _edited("pg_jsonb_insert")
    )
    define(catalogue, "jsonb_strip_nulls(jsonb) -> jsonb", _edited("pg_jsonb_strip_nulls"))
    define(catalogue, "jsonb_pretty(jsonb) -> text", _tested("pg_jsonb_pretty"))
