"""bytea and uuid as hexadecimal text, by one look-up table over the whole buffer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PAIRS = np.frombuffer("".join(f"{b:02x}" for b in range(256)).encode(), np.uint8).reshape(256, 2)
_UUID_DASHES_AFTER_BYTES = (4, 6, 8, 10)


def bytes_as_hex(column: pa.Array) -> pa.StringArray:
    """A binary column as `\\x...`, PostgreSQL's `bytea_output = hex`."""
    binary = pc.cast(column, pa.binary())
    offsets = _offsets(binary)
    data = np.frombuffer(binary.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    doubled = ((offsets - offsets[0]) * 2).astype(np.int32)
    digits = pa.StringArray.from_buffers(
        len(binary), pa.py_buffer(doubled), pa.py_buffer(_PAIRS[data].reshape(-1).copy())
    )
    texts = pc.binary_join_element_wise(pa.scalar("\\x"), digits, "")
    return pc.if_else(pc.is_valid(binary), texts, pa.scalar(None, pa.string()))


def bytes_as_escape(column: pa.Array) -> pa.StringArray:
    """A binary column as PostgreSQL's `bytea_output = escape`."""
    return pa.array([None if v is None else _escape(v) for v in column.to_pylist()], pa.string())


def _escape(value: bytes) -> str:
    return "".join(
        "\\\\" if b == 0x5C else chr(b) if 0x20 <= b <= 0x7E else f"\\{b:03o}" for b in value
    )


def uuids_as_text(column: pa.Array) -> pa.StringArray:
    """A column of 16-byte values as 8-4-4-4-12 hexadecimal digits."""
    count = len(column)
    start = column.offset * 16
    raw = np.frombuffer(column.buffers()[1] or b"", np.uint8)[start : start + count * 16]
    digits = _PAIRS[raw].reshape(count, 32)
    pieces = []
    begin = 0
    dash = np.full((count, 1), ord("-"), np.uint8)
    for end in _UUID_DASHES_AFTER_BYTES:
        pieces += [digits[:, begin * 2 : end * 2], dash]
        begin = end
    text = np.ascontiguousarray(np.concatenate([*pieces, digits[:, begin * 2 :]], axis=1))
    offsets = np.arange(0, (count + 1) * 36, 36, dtype=np.int32)
    texts = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))
    return pc.if_else(pc.is_valid(column), texts, pa.scalar(None, pa.string()))


def _offsets(binary: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    buffer = binary.buffers()[1]
    whole = np.frombuffer(buffer, np.int32) if buffer is not None else np.zeros(1, np.int32)
    return whole[binary.offset : binary.offset + len(binary) + 1]
