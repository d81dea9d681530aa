"""Arrays and rows as PostgreSQL's literals (manual 8.15.6 and 8.16.6), by the column."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

_ARRAY_NEEDS_QUOTES = r'[{},"\\\s]|^$'
_ROW_NEEDS_QUOTES = r'[(),"\\\s]|^$'

Formatter = Callable[[pa.Array], pa.StringArray]


def lists_as_text(column: pa.Array, format_elements: Formatter) -> pa.StringArray:
    """A list column as `{a,b,NULL}`; `format_elements` writes the innermost elements."""
    nested = _is_list(column.type.value_type)
    elements = column.flatten()
    if nested:
        texts = lists_as_text(elements, format_elements)
    else:
        texts = _quoted_elements(format_elements(elements))
    texts = pc.fill_null(texts, "NULL")
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    joined = pc.binary_join(_relisted(texts, lengths), ",")
    braced = pc.binary_join_element_wise("{", joined, "}", "")
    return pc.if_else(pc.is_valid(column), braced, pa.scalar(None, pa.string()))


def structs_as_text(column: pa.Array, formatters: list[Formatter]) -> pa.StringArray:
    """A struct column as `(a,"b c",)`; NULL fields are empty."""
    fields = [
        pc.fill_null(_quoted_fields(write(field)), "")
        for write, field in zip(formatters, column.flatten(), strict=True)
    ]
    separated: list[object] = ["("]
    for index, field in enumerate(fields):
        separated += [",", field] if index else [field]
    texts = pc.binary_join_element_wise(*separated, ")", "")
    return pc.if_else(pc.is_valid(column), texts, pa.scalar(None, pa.string()))


def _quoted_elements(texts: pa.StringArray) -> pa.StringArray:
    odd = pc.or_(
        pc.match_substring_regex(texts, _ARRAY_NEEDS_QUOTES),
        pc.equal(pc.utf8_lower(texts), "null"),
    )
    return pc.if_else(odd, _with_backslashes(texts), texts)


def _quoted_fields(texts: pa.StringArray) -> pa.StringArray:
    odd = pc.match_substring_regex(texts, _ROW_NEEDS_QUOTES)
    doubled = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '""')
    return pc.if_else(odd, pc.binary_join_element_wise('"', doubled, '"', ""), texts)


def _with_backslashes(texts: pa.StringArray) -> pa.StringArray:
    escaped = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    return pc.binary_join_element_wise('"', escaped, '"', "")


def _relisted(texts: pa.StringArray, lengths: pa.Array) -> pa.Array:
    ends = pc.cumulative_sum(pc.cast(lengths, pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, texts)


def _is_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow))
