"""DataRows of a batch of a few rows, value by value.

Arrow's kernels cost tens of microseconds a call, whatever the length: half a millisecond for
one row. For the answers of point queries the plain types are written by hand here; a column of
any other type goes through the whole-column functions and is taken apart after.

Beside `rows.encode_rows`, which gives the same bytes for any batch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from dqe.wire.binary_values import binary_column
from executor.formatting.text import TextSettings, text_column
from storage.types import Kind, SqlType

# From here on whole columns cost less.
FEW_ROWS = 16

Values: TypeAlias = Sequence[bytes | None]
_Encode: TypeAlias = Callable[[Any], bytes]
_Encoders: TypeAlias = dict[tuple[Kind, pa.DataType], _Encode]

_ROW_HEADER = struct.Struct(">ciH")
_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)
_TRUE, _FALSE = b"\x01", b"\x00"


def encode_few(
    batch: pa.RecordBatch,
    types: Sequence[SqlType],
    formats: Sequence[int],
    settings: TextSettings,
) -> bytes:
    """The DataRows of the batch, one after the other; see `rows.encode_rows`."""
    columns = [
        _values(column, sql_type, bool(wanted), settings)
        for column, sql_type, wanted in zip(batch.columns, types, formats, strict=True)
    ]
    if not columns:
        count: int = batch.num_rows
        return _ROW_HEADER.pack(b"D", 6, 0) * count
    return b"".join([_data_row(values) for values in zip(*columns, strict=True)])


def _values(column: pa.Array, sql_type: SqlType, binary: bool, settings: TextSettings) -> Values:
    encode = (_BINARY if binary else _TEXT).get((sql_type.kind, column.type))
    if encode is not None:
        return [None if value is None else encode(value) for value in column.to_pylist()]
    if binary:
        encoded: list[bytes | None] = binary_column(column, sql_type).to_pylist()
        return encoded
    texts: list[bytes | None] = pc.cast(
        text_column(column, sql_type, settings), pa.binary()
    ).to_pylist()
    return texts


def _data_row(values: tuple[bytes | None, ...]) -> bytes:
    pieces = [b""]
    size = 6 + 4 * len(values)
    for value in values:
        if value is None:
            pieces.append(_NULL)
        else:
            size += len(value)
            pieces.append(_LENGTH.pack(len(value)))
            pieces.append(value)
    pieces[0] = _ROW_HEADER.pack(b"D", size, len(values))
    return b"".join(pieces)


def _text_of_integer(value: int) -> bytes:
    return str(value).encode()


_INTEGERS = (
    (Kind.INT2, pa.int16(), struct.Struct(">h").pack),
    (Kind.INT4, pa.int32(), struct.Struct(">i").pack),
    (Kind.INT8, pa.int64(), struct.Struct(">q").pack),
    (Kind.OID, pa.uint32(), struct.Struct(">I").pack),
)
_STRINGS = (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME)
_ALIKE: _Encoders = {(kind, pa.string()): str.encode for kind in _STRINGS}
_TEXT: _Encoders = {
    **_ALIKE,
    **{(kind, arrow): _text_of_integer for kind, arrow, _ in _INTEGERS},
    (Kind.BOOL, pa.bool_()): lambda value: b"t" if value else b"f",
}
_BINARY: _Encoders = {
    **_ALIKE,
    **{(kind, arrow): pack for kind, arrow, pack in _INTEGERS},
    (Kind.BOOL, pa.bool_()): lambda value: _TRUE if value else _FALSE,
}
