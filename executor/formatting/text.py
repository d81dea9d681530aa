"""Any Arrow column as PostgreSQL's text, for the wire, COPY TO and casts on output.

The Arrow type decides how a value is read and the SQL type what it means: a decimal of a bare
numeric loses its trailing zeros, a list of uuid writes uuids. A column that is already text
goes out as it stands, whatever its SQL type: that is how exact numeric quotients arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from executor.formatting import hexadecimal, nested, numbers, times
from storage.types import ANY, Kind, SqlType


@dataclass(frozen=True, slots=True)
class TextSettings:
    """The session settings that change output."""

    time_zone: str = "UTC"
    interval_style: str = "postgres"
    bytea_output: str = "hex"


DEFAULT_SETTINGS = TextSettings()


def text_columns(
    batch: pa.RecordBatch, types: Sequence[SqlType], settings: TextSettings = DEFAULT_SETTINGS
) -> list[pa.StringArray]:
    """Every column of the batch as a string array of the same length, NULLs kept."""
    return [text_column(c, t, settings) for c, t in zip(batch.columns, types, strict=True)]


def text_column(
    column: pa.Array, sql_type: SqlType, settings: TextSettings = DEFAULT_SETTINGS
) -> pa.StringArray:
    """One column as text; `sql_type` ANY goes by the Arrow type alone."""
    arrow = column.type
    if pa.types.is_string(arrow):
        return column
    if isinstance(arrow, pa.ExtensionType | pa.BaseExtensionType):
        return _extension(column)
    if pa.types.is_dictionary(arrow):
        return text_column(column.dictionary_decode(), sql_type, settings)
    if pa.types.is_decimal(arrow):
        trim = sql_type.kind is Kind.NUMERIC and numbers.is_bare_numeric(arrow, sql_type.precision)
        return numbers.decimals_as_text(column, trim=trim)
    if pa.types.is_floating(arrow):
        return numbers.floats_as_text(column)
    if pa.types.is_boolean(arrow):
        return pc.if_else(column, "t", "f")
    if pa.types.is_temporal(arrow):
        return _temporal(column, settings)
    if pa.types.is_nested(arrow):
        return _nested(column, sql_type, settings)
    if pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow):
        if settings.bytea_output == "escape":
            return hexadecimal.bytes_as_escape(column)
        return hexadecimal.bytes_as_hex(column)
    return pc.cast(column, pa.string())


def _extension(column: pa.Array) -> pa.StringArray:
    name = str(column.type)
    storage = column.storage
    if isinstance(column.type, pa.UuidType):
        return hexadecimal.uuids_as_text(storage)
    if isinstance(column.type, pa.Bool8Type):
        return pc.if_else(pc.not_equal(storage, 0), "t", "f")
    if "hugeint" in name:
        return numbers.hugeints_as_text(storage)
    return text_column(storage, ANY)


def _temporal(column: pa.Array, settings: TextSettings) -> pa.StringArray:
    arrow = column.type
    if pa.types.is_date32(arrow):
        return times.dates_as_text(column)
    if pa.types.is_date64(arrow):
        return times.dates_as_text(column.cast(pa.date32()))
    if pa.types.is_timestamp(arrow):
        micros = column.cast(pa.timestamp("us", arrow.tz), safe=False)
        if arrow.tz is None:
            return times.timestamps_as_text(micros)
        return times.timestamptz_as_text(micros, settings.time_zone)
    if pa.types.is_time(arrow):
        return times.times_as_text(column.cast(pa.time64("us"), safe=False))
    if pa.types.is_interval(arrow):
        return times.intervals_as_text(column, settings.interval_style)
    return pc.cast(column, pa.string())


def _nested(column: pa.Array, sql_type: SqlType, settings: TextSettings) -> pa.StringArray:
    if pa.types.is_struct(column.type):
        formatters = [
            lambda field: text_column(field, ANY, settings) for _ in range(column.type.num_fields)
        ]
        return nested.structs_as_text(column, formatters)
    if pa.types.is_map(column.type):
        column = column.cast(pa.list_(column.type.field(0).type))
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    element = sql_type.element or ANY
    return nested.lists_as_text(column, lambda c: text_column(c, element, settings))
