"""The JSON text of values: what to_json, json_agg and their like write.

A row's fields and an array's elements are written one by one by the rules of their own types, as
PostgreSQL does: DuckDB's to_json knows no infinity, and has forms of its own for times and
decimals. It serves where only DuckDB knows the type.
"""

from __future__ import annotations

from sqlglot import exp

from planner.bound import type_of
from planner.semantics import build, records
from planner.semantics.casts import Casts, padded
from storage.types import TEXT, Kind, array_of

# Elements that DuckDB's to_json writes as PostgreSQL does.
_ALIKE = frozenset({Kind.INT2, Kind.INT4, Kind.INT8, Kind.BOOL, Kind.TEXT, Kind.VARCHAR, Kind.ANY})


def to_json(node: exp.Expr, casts: Casts) -> exp.Expr:
    """The JSON text of any value, `null` for NULL."""
    return build.call("coalesce", _written(node, casts), build.text("null"), type=TEXT)


def _written(node: exp.Expr, casts: Casts) -> exp.Expr:
    match type_of(node).kind:
        case Kind.JSON | Kind.JSONB:
            return build.cast_as(node, TEXT)
        case Kind.INT2 | Kind.INT4 | Kind.INT8 | Kind.BOOL | Kind.NUMERIC:
            return casts.to_text(node)
        case Kind.FLOAT4 | Kind.FLOAT8:
            return build.call("pg_json_float", casts.to_text(node), type=TEXT)
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return build.call("pg_json_timestamp", casts.to_text(node), type=TEXT)
        case Kind.RECORD:
            return _row(node, casts)
        case Kind.ARRAY:
            return _array(node, casts)
        case Kind.ANY:
            return build.call("pg_json_spaced", node, type=TEXT)
    return build.call("pg_json_string", casts.to_text(padded(node)), type=TEXT)


def _row(node: exp.Expr, casts: Casts) -> exp.Expr:
    """`{"a":1,"b":null}`; the fields of a row without names are f1, f2, ..."""
    row = records.written_row(node)
    if row is None:
        return build.call("pg_json_spaced", node, type=TEXT)
    parts: list[exp.Expr] = []
    for place, each in enumerate(row.expressions, 1):
        is_named = isinstance(each, exp.PropertyEQ)
        name = build.text(each.this.name if is_named else f"f{place}")
        parts += [build.text("," if parts else "{"), build.call("pg_json_string", name, type=TEXT)]
        parts += [build.text(":"), to_json((each.expression if is_named else each).copy(), casts)]
    text = build.call("concat", *parts, build.text("}" if parts else "{}"), type=TEXT)
    if row is node:
        return text
    return build.case([(build.negation(build.is_null(node.copy())), text)], None)


def _array(node: exp.Expr, casts: Casts) -> exp.Expr:
    element = type_of(node).element
    if element is None or element.kind in _ALIKE:
        return build.call("pg_json_spaced", node, type=TEXT)
    variable = build.identifier("pg_json_element")
    written = to_json(build.typed(variable.copy(), element), casts)
    each = exp.Lambda(this=written, expressions=[variable])
    texts = build.call("list_transform", node, each, type=array_of(TEXT))
    joined = build.call("array_to_string", texts, build.text(","), type=TEXT)
    return build.call("pg_brackets", joined, type=TEXT)
