"""Arrow batches as DataRow messages, by whole columns.

A DataRow is a header and, for each column, a big-endian length and the value's bytes. Arrow's
`binary_join_element_wise` interleaves the columns in one pass, so a batch of any width costs a
few kernel calls a column; the joined array's data buffer is the wire's bytes as they stand.
A batch of a few rows goes value by value (`few_rows`), which costs less there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dqe.wire.binary_values import binary_column
from dqe.wire.few_rows import FEW_ROWS, encode_few
from executor.formatting.text import TextSettings, text_column
from storage.types import SqlType

_HEADER_BYTES = 7
# Kept well below 2 GiB, the reach of the 32-bit offsets in the joined array.
MAX_SLICE_BYTES = 256 << 20


def encode_rows(
    batch: pa.RecordBatch,
    types: Sequence[SqlType],
    formats: Sequence[int],
    settings: TextSettings,
) -> list[bytes | memoryview]:
    """The DataRows of a batch. `formats` has 0 (text) or 1 (binary) for every column."""
    count = batch.num_rows
    if count == 0:
        return []
    if count <= FEW_ROWS:
        return [encode_few(batch, types, formats, settings)]
    if batch.nbytes > MAX_SLICE_BYTES and count > 1:
        half = count // 2
        return encode_rows(batch.slice(0, half), types, formats, settings) + encode_rows(
            batch.slice(half), types, formats, settings
        )
    return [encode_columns(batch, types, formats, settings)]


def encode_columns(
    batch: pa.RecordBatch,
    types: Sequence[SqlType],
    formats: Sequence[int],
    settings: TextSettings,
) -> memoryview:
    """The DataRows of a batch of one row or more, by whole columns."""
    values = [
        binary_column(column, sql_type)
        if wanted
        else pc.cast(text_column(column, sql_type, settings), pa.binary())
        for column, sql_type, wanted in zip(batch.columns, types, formats, strict=True)
    ]
    return _joined(values, batch.num_rows)


def encode_copy_data(rows: pa.BinaryArray) -> memoryview:
    """A CopyData message for each element."""
    headers = np.empty(len(rows), np.dtype([("type", "u1"), ("size", ">i4")]))
    headers["type"] = ord("d")
    headers["size"] = _lengths(rows) + 4
    framed = pc.binary_join_element_wise(_fixed_binary(headers.view(np.uint8), 5), rows, b"")
    offsets = np.frombuffer(framed.buffers()[1], np.int32)
    return memoryview(framed.buffers()[2])[offsets[0] : offsets[len(rows)]]


def _joined(values: list[pa.BinaryArray], count: int) -> memoryview:
    lengths = [_lengths(v) for v in values]
    sizes = np.full(count, 6, np.int64)
    for length in lengths:
        sizes += 4 + np.maximum(length, 0)
    pieces: list[pa.Array] = [_row_headers(sizes, len(values))]
    for value, length in zip(values, lengths, strict=True):
        pieces.append(_fixed_binary(length.astype(">i4").view(np.uint8), 4))
        pieces.append(pc.fill_null(value, b"") if value.null_count else value)
    rows = pc.binary_join_element_wise(*pieces, b"")
    offsets = np.frombuffer(rows.buffers()[1], np.int32)
    return memoryview(rows.buffers()[2])[offsets[0] : offsets[count]]


def _lengths(value: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """Bytes of every value, -1 for NULL."""
    lengths = pc.binary_length(value)
    if value.null_count:
        lengths = pc.fill_null(lengths, -1)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int32)


def _row_headers(sizes: npt.NDArray[np.int64], columns: int) -> pa.BinaryArray:
    headers = np.empty(len(sizes), np.dtype([("type", "u1"), ("size", ">i4"), ("columns", ">i2")]))
    headers["type"] = ord("D")
    headers["size"] = sizes
    headers["columns"] = columns
    return _fixed_binary(headers.view(np.uint8), _HEADER_BYTES)


def _fixed_binary(data: npt.NDArray[np.uint8], width: int) -> pa.BinaryArray:
    count = len(data) // width
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
