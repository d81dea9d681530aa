"""Functions that return rows: each gives a DuckDB list, one element a row, that is unnested.

A function with several output columns gives one list of structs, whose fields become columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from planner.bound import type_of
from planner.functions import Call, Catalogue, Role
from planner.semantics import build, literals
from planner.semantics.rules import define
from storage.types import (
    ANY,
    BOOL,
    INT4,
    JSON,
    JSONB,
    NUMERIC,
    REGCLASS,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    Kind,
    SqlType,
    array_of,
)


@dataclass(frozen=True, slots=True)
class RowSet:
    """The list, and the columns of its elements (one without field name for scalars)."""

    elements: exp.Expr
    columns: tuple[tuple[str, SqlType], ...]
    is_scalar: bool = True


Rule = Callable[[Call], exp.Expr]


def _series(call: Call) -> exp.Expr:
    """generate_series over numbers, timestamps and dates."""
    first = type_of(call.arguments[0])
    arguments = list(call.arguments)
    if first.kind is Kind.NUMERIC:
        if len(arguments) == 2:
            arguments.append(build.integer(1))
        held = [build.cast_as(a, NUMERIC) for a in arguments]
        return build.call("pg_series_numeric", *held, type=array_of(NUMERIC))
    if first.kind is Kind.TIMESTAMPTZ:
        local = [call.casts.in_zone(a, TIMESTAMP) for a in arguments[:2]]
        series = build.call("generate_series", *local, arguments[2], type=array_of(TIMESTAMP))
        variable = build.typed(build.identifier("moment"), TIMESTAMP)
        back = call.casts.in_zone(variable, TIMESTAMPTZ)
        function = exp.Lambda(this=back, expressions=[build.identifier("moment")])
        return build.call("list_transform", series, function, type=array_of(TIMESTAMPTZ))
    name = (
        "generate_series"
        if literals.constant_of(arguments[-1]) or len(arguments) < 3
        else "pg_series"
    )
    series = build.call(name, *arguments, type=array_of(first))
    if first.kind in (Kind.INT2, Kind.INT4):
        return build.cast_as(series, array_of(INT4))
    return series


def _unnest(call: Call) -> exp.Expr:
    return call.arguments[0]


def _named(name: str, element: SqlType) -> Rule:
    def emit(call: Call) -> exp.Expr:
        return build.call(name, *call.arguments, type=array_of(element))

    return emit


def _no_rows(_call: Call) -> exp.Expr:
    """Nothing here is a partition with a relation of its own."""
    return build.list_of([], array_of(REGCLASS))


_SETS: tuple[tuple[str, Rule], ...] = (
    ("generate_series(int4, int4) -> int4", _series),
    ("generate_series(int4, int4, int4) -> int4", _series),
    ("generate_series(int8, int8) -> int8", _series),
    ("generate_series(int8, int8, int8) -> int8", _series),
    ("generate_series(numeric, numeric) -> numeric", _series),
    ("generate_series(numeric, numeric, numeric) -> numeric", _series),
    ("generate_series(timestamp, timestamp, interval) -> timestamp", _series),
    ("generate_series(timestamptz, timestamptz, interval) -> timestamptz", _series),
    ("unnest(anyarray) -> anyelement", _unnest),
    ("generate_subscripts(anyarray, int4) -> int4", _named("pg_subscripts", INT4)),
    ("regexp_split_to_table(text, text) -> text", _named("regexp_split_to_array", TEXT)),
    ("regexp_matches(text, text) -> text[]", _named("pg_regexp_matches", array_of(TEXT))),
    ("regexp_matches(text, text, text) -> text[]", _named("pg_regexp_matches3", array_of(TEXT))),
    ("string_to_table(text, text) -> text", _named("pg_string_to_array", TEXT)),
    ("json_array_elements(json) -> json", _named("pg_json_elements", JSON)),
    ("jsonb_array_elements(jsonb) -> jsonb", _named("pg_json_elements", JSONB)),
    ("json_array_elements_text(json) -> text", _named("pg_json_elements_text", TEXT)),
    ("jsonb_array_elements_text(jsonb) -> text", _named("pg_json_elements_text", TEXT)),
    ("json_object_keys(json) -> text", _named("json_keys", TEXT)),
    ("jsonb_object_keys(jsonb) -> text", _named("pg_jsonb_keys", TEXT)),
    ("pg_partition_ancestors(oid) -> oid", _no_rows),
    ("pg_options_to_table(text[]) -> any", _named("pg_options", ANY)),
    ("pg_partition_tree(oid) -> any", _named("pg_partition_tree", ANY)),
    ("json_each(json) -> any", _named("pg_json_each", ANY)),
    ("jsonb_each(jsonb) -> any", _named("pg_jsonb_each", ANY)),
    ("json_each_text(json) -> any", _named("pg_json_each_text", ANY)),
    ("jsonb_each_text(jsonb) -> any", _named("pg_jsonb_each_text", ANY)),
)
# Output columns where they are not one column named as the function.
_COLUMNS: dict[str, tuple[tuple[str, SqlType], ...]] = {
    "json_array_elements": (("value", JSON),),
    "jsonb_array_elements": (("value", JSONB),),
    "json_array_elements_text": (("value", TEXT),),
    "jsonb_array_elements_text": (("value", TEXT),),
    "pg_options_to_table": (("option_name", TEXT), ("option_value", TEXT)),
    "pg_partition_tree": (
        ("relid", REGCLASS),
        ("parentrelid", REGCLASS),
        ("isleaf", BOOL),
        ("level", INT4),
    ),
    "json_each": (("key", TEXT), ("value", JSON)),
    "jsonb_each": (("key", TEXT), ("value", JSONB)),
    "json_each_text": (("key", TEXT), ("value", TEXT)),
    "jsonb_each_text": (("key", TEXT), ("value", TEXT)),
}


def row_set(name: str, elements: exp.Expr) -> RowSet:
    """The rows a bound call of a set function gives."""
    columns = _COLUMNS.get(name)
    if columns is not None:
        return RowSet(elements, columns, is_scalar=len(columns) == 1)
    element = type_of(elements).element or ANY
    return RowSet(elements, ((name, element),))


def register(catalogue: Catalogue) -> None:
    """Functions that return rows."""
    for text, rule in _SETS:
        define(catalogue, text, rule, Role.SET)
