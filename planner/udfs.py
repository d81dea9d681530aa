"""Functions that DuckDB runs in Python, over whole Arrow columns: what no macro can do.

Each is a pure function of its arguments, NULL in gives NULL out (DuckDB sees to it), and any
thread may run it. They are slow beside DuckDB's own (0.3 to 2 M rows/s): jsonb's normal form,
to_char and its kin, formats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from cluster.errors import DqeError
from planner.macros import OVER_UDFS_SQL
from planner.semantics import json_edits, number_templates, text_functions
from planner.semantics.patterns import similar_to_regex, unescape_unicode
from planner.semantics.text_json import normal_form, pretty_form
from planner.semantics.time_reading import parse_time
from planner.semantics.time_writing import time_to_char

Scalar = Callable[..., object]


def _columnwise(function: Scalar, result: pa.DataType) -> Callable[..., pa.Array]:
    """The function over Arrow arrays; equal arguments in a batch are computed once."""

    def apply(*columns: pa.Array) -> pa.Array:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        known: dict[tuple[object, ...], object] = {}
        values = []
        for row in rows:
            hashable = not any(isinstance(value, list) for value in row)
            if hashable and row in known:
                values.append(known[row])
                continue
            value = None if any(v is None for v in row) else _called(function, row)
            if hashable:
                known[row] = value
            values.append(value)
        return pa.array(values, type=result)

    return apply


def _called(function: Scalar, row: tuple[object, ...]) -> object:
    """The function's value; its errors with their SQLSTATE in front, as our macros raise them."""
    try:
        return function(*row)
    except DqeError as error:
        raise ValueError(f"[{error.sqlstate}] {error.message}") from error


def _with_arity(apply: Callable[..., pa.Array], count: int) -> Callable[..., pa.Array]:
    """DuckDB counts a function's parameters, so each arity has a signature of its own."""
    match count:
        case 1:
            return lambda a: apply(a)
        case 2:
            return lambda a, b: apply(a, b)
        case 3:
            return lambda a, b, c: apply(a, b, c)
        case 4:
            return lambda a, b, c, d: apply(a, b, c, d)
    raise AssertionError(f"no function has {count} arguments")


def _define(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    function: Scalar,
    arguments: Sequence[str],
    result: str,
    arrow: pa.DataType,
) -> None:
    create: Any = connection.create_function
    create(
        name,
        _with_arity(_columnwise(function, arrow), len(arguments)),
        list(arguments),
        result,
        type="arrow",
        null_handling="special",
    )


def _compiled(pattern: str, flags: str) -> re.Pattern[str]:
    options = re.DOTALL if "n" not in flags else re.MULTILINE
    if "i" in flags:
        options |= re.IGNORECASE
    return re.compile(pattern, options)


def _groups(match: re.Match[str]) -> list[str | None]:
    return list(match.groups()) if match.re.groups else [match.group()]


def regexp_match(text: str, pattern: str, flags: str) -> list[str | None] | None:
    """The groups of the first match, or the match itself; None without one."""
    match = _compiled(pattern, flags).search(text)
    return None if match is None else _groups(match)


def regexp_matches(text: str, pattern: str, flags: str) -> list[list[str | None]]:
    """The same for the first match, or with flag `g` for all."""
    matches = _compiled(pattern, flags).finditer(text)
    found = [_groups(match) for match in matches]
    return found if "g" in flags else found[:1]


def _jsonb_set3(value: str, path: Sequence[str], new: str) -> str:
    return json_edits.set_path(value, path, new, True)


def _jsonb_insert3(value: str, path: Sequence[str], new: str) -> str:
    return json_edits.insert_path(value, path, new, False)


_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())
_PATH = ("VARCHAR", "VARCHAR[]")
FUNCTIONS: tuple[tuple[str, Scalar, tuple[str, ...], str, pa.DataType], ...] = (
    ("pg_jsonb_text", normal_form, ("VARCHAR",), "VARCHAR", _TEXT),
    ("pg_regexp_match3", regexp_match, ("VARCHAR",) * 3, "VARCHAR[]", _TEXTS),
    ("pg_regexp_matches3", regexp_matches, ("VARCHAR",) * 3, "VARCHAR[][]", pa.list_(_TEXTS)),
    ("pg_jsonb_contains", json_edits.contains, ("VARCHAR",) * 2, "BOOLEAN", pa.bool_()),
    ("pg_jsonb_concat", json_edits.concat, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_jsonb_delete_key", json_edits.delete_key, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_jsonb_delete_keys", json_edits.delete_keys, _PATH, "VARCHAR", _TEXT),
    ("pg_jsonb_delete_index", json_edits.delete_index, ("VARCHAR", "INTEGER"), "VARCHAR", _TEXT),
    ("pg_jsonb_delete_path", json_edits.delete_path, _PATH, "VARCHAR", _TEXT),
    ("pg_jsonb_set3", _jsonb_set3, (*_PATH, "VARCHAR"), "VARCHAR", _TEXT),
    ("pg_jsonb_set", json_edits.set_path, (*_PATH, "VARCHAR", "BOOLEAN"), "VARCHAR", _TEXT),
    ("pg_jsonb_insert3", _jsonb_insert3, (*_PATH, "VARCHAR"), "VARCHAR", _TEXT),
    ("pg_jsonb_insert", json_edits.insert_path, (*_PATH, "VARCHAR", "BOOLEAN"), "VARCHAR", _TEXT),
    ("pg_jsonb_strip_nulls", json_edits.strip_nulls, ("VARCHAR",), "VARCHAR", _TEXT),
    ("pg_jsonb_pretty", pretty_form, ("VARCHAR",), "VARCHAR", _TEXT),
    ("pg_json_at_path", json_edits.at_path, _PATH, "VARCHAR", _TEXT),
    ("pg_to_char_numeric", number_templates.number_to_char, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_to_char_time", time_to_char, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_to_number_text", number_templates.to_number, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_parse_time_text", parse_time, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_format", text_functions.format_text, ("VARCHAR", "VARCHAR[]"), "VARCHAR", _TEXT),
    ("pg_similar_pattern", similar_to_regex, ("VARCHAR",) * 2, "VARCHAR", _TEXT),
    ("pg_unistr", unescape_unicode, ("VARCHAR",), "VARCHAR", _TEXT),
    ("pg_array_items", text_functions.array_items, ("VARCHAR",), "VARCHAR[]", _TEXTS),
    ("pg_json_row", text_functions.json_row, ("VARCHAR",), "VARCHAR", _TEXT),
)


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the functions known to the connection's whole instance; a second call is harmless."""
    have = {
        name
        for (name,) in connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_name LIKE 'pg_%'"
        ).fetchall()
    }
    for name, function, arguments, result, arrow in FUNCTIONS:
        if name not in have:
            _define(connection, name, function, arguments, result, arrow)
    for statement in OVER_UDFS_SQL:
        connection.execute(statement)
