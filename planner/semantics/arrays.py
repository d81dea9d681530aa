"""Functions and operators on arrays, which DuckDB holds as lists of one dimension."""

from __future__ import annotations

from sqlglot import exp

from planner.functions import Call, Catalogue
from planner.semantics import build
from planner.semantics.rules import define, table
from storage.types import BOOL, TEXT

_TABLE = """
array_length(anyarray, int4) -> int4 = pg_array_length
array_lower(anyarray, int4) -> int4 = pg_array_lower
array_upper(anyarray, int4) -> int4 = pg_array_length
array_ndims(anyarray) -> int4 = pg_array_ndims
array_dims(anyarray) -> text = pg_array_dims
cardinality(anyarray) -> int4 = :len
array_append(anycompatiblearray, anycompatible) -> anycompatiblearray = pg_append
array_prepend(anycompatible, anycompatiblearray) -> anycompatiblearray = pg_prepend
array_cat(anycompatiblearray, anycompatiblearray) -> anycompatiblearray = pg_concat_arrays
array_position(anycompatiblearray, anycompatible) -> int4 = :pg_array_position
array_positions(anycompatiblearray, anycompatible) -> int4[] = pg_array_positions
array_remove(anycompatiblearray, anycompatible) -> anycompatiblearray = pg_array_remove
array_replace(anycompatiblearray, anycompatible, anycompatible) -> anycompatiblearray = \
pg_array_replace
array_fill(anyelement, int4[]) -> anyarray = pg_array_fill
array_reverse(anyarray) -> anyarray = list_reverse
array_sort(anyarray) -> anyarray = pg_array_sort
trim_array(anyarray, int4) -> anyarray = pg_trim_array
@>(anyarray, anyarray) -> bool = pg_contains_all
&&(anyarray, anyarray) -> bool = pg_overlap_any
||(anycompatiblearray, anycompatiblearray) -> anycompatiblearray = pg_concat_arrays
||(anycompatiblearray, anycompatible) -> anycompatiblearray = pg_append
||(anycompatible, anycompatiblearray) -> anycompatiblearray = pg_prepend
"""


def _contained(call: Call) -> exp.Expr:
    left, right = call.arguments
    return build.call("pg_contains_all", right, left, type=BOOL)


def _joined(call: Call) -> exp.Expr:
    """array_to_string: elements in their own text form."""
    array, delimiter, *missing = call.arguments
    array = call.casts.element_texts(array)
    name = "pg_array_join" if missing else "pg_join_texts"
    return build.call(name, array, delimiter, *missing, type=TEXT)


def register(catalogue: Catalogue) -> None:
    """Functions and operators on arrays."""
    table(catalogue, _TABLE)
    define(catalogue, "<@(anyarray, anyarray) -> bool", _contained)
    define(catalogue, "array_to_string(anyarray, text) -> text", _joined)
    define(catalogue, "array_to_string(anyarray, text, text) -> text", _joined)
