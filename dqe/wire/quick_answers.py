"""Answers of a few plain values as one piece of bytes, without Arrow.

For a short statement (`backend.QuickStatements`) the session gives plain values
(`storage.row_values`) instead of a batch. What the client gets for them, RowDescription or NoData,
DataRows and CommandComplete, is made here by an encoder a column, chosen once and kept with the
statement's plan.

The bytes are those that `rows.encode_rows` and `messages` make of the same row
(tests/wire/test_quick_answers.py). Types whose text depends on settings, or takes more than a
call, have no encoder here: their statements go the usual way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from uuid import UUID

from dqe.wire import messages
from dqe.wire.backend import QuickAnswered, QuickPlan
from dqe.wire.messages import FieldDescription
from executor.formatting.numbers import float_text
from planner.plan import ResultColumn
from storage.types import Kind, type_length_bytes, type_modifier, type_oid

Encode: TypeAlias = Callable[[Any], bytes]
Encoders: TypeAlias = tuple[Encode, ...]

_LENGTH = struct.Struct(">i")
_ROW_HEADER = struct.Struct(">ciH")
_ONE_HEADER = struct.Struct(">ciHi")
_NULL = _LENGTH.pack(-1)
# Tags are few: those of a row or so.
_complete = lru_cache(maxsize=256)(messages.command_complete)


class QuickAnswer:
    """How the rows of one statement are written in certain formats; `shown` is what goes before
    them in the simple protocol, `description` what Describe gets."""

    __slots__ = ("_encoders", "description", "shown")

    def __init__(
        self, columns: tuple[ResultColumn, ...] | None, formats: Sequence[int], encoders: Encoders
    ) -> None:
        self.shown = b"" if columns is None else row_description(columns, formats)
        self.description = self.shown or messages.NO_DATA
        self._encoders = encoders

    def body(self, answered: QuickAnswered) -> bytes:
        """DataRows and CommandComplete."""
        rows, complete = answered.rows, _complete(answered.tag)
        if not rows:
            return complete
        if len(rows) == 1:
            return self._row(rows[0]) + complete
        return b"".join([*map(self._row, rows), complete])

    def _row(self, row: Sequence[Any]) -> bytes:
        encoders = self._encoders
        if len(encoders) == 1 and row[0] is not None:
            value = encoders[0](row[0])
            return _ONE_HEADER.pack(b"D", 10 + len(value), 1, len(value)) + value
        pieces = [b""]
        size = 6 + 4 * len(encoders)
        for value, encode in zip(row, encoders, strict=True):
            if value is None:
                pieces.append(_NULL)
            else:
                encoded = encode(value)
                size += len(encoded)
                pieces.append(_LENGTH.pack(len(encoded)))
                pieces.append(encoded)
        pieces[0] = _ROW_HEADER.pack(b"D", size, len(encoders))
        return b"".join(pieces)


def quick_answer(plan: QuickPlan, formats: tuple[int, ...]) -> QuickAnswer | None:
    """How to answer in these formats (none given: text); None where the types do not allow it."""
    try:
        found: QuickAnswer | None = plan.kept[formats]
    except KeyError:
        found = plan.kept[formats] = _made(plan.columns, formats)
    return found


def _made(columns: tuple[ResultColumn, ...] | None, formats: tuple[int, ...]) -> QuickAnswer | None:
    if columns is None:
        return QuickAnswer(None, (), ())
    spread = formats or (0,) * len(columns)
    encoders = tuple(
        (_BINARY if wanted else _TEXT).get(column.type.kind)
        for column, wanted in zip(columns, spread, strict=True)
    )
    known = tuple(encode for encode in encoders if encode is not None)
    return QuickAnswer(columns, spread, known) if len(known) == len(columns) else None


def row_description(columns: Sequence[ResultColumn], formats: Sequence[int]) -> bytes:
    """The RowDescription of result columns in the formats asked for."""
    return messages.row_description(
        [
            FieldDescription(
                c.name, type_oid(c.type), type_length_bytes(c.type), type_modifier(c.type), f
            )
            for c, f in zip(columns, formats, strict=True)
        ]
    )


def _text_of_integer(value: int) -> bytes:
    return b"%d" % value


_STRINGS = (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME)
_INTEGERS = {
    Kind.INT2: struct.Struct(">h").pack,
    Kind.INT4: struct.Struct(">i").pack,
    Kind.INT8: struct.Struct(">q").pack,
}
_ALIKE: dict[Kind, Encode] = dict.fromkeys(_STRINGS, str.encode)
_TEXT: dict[Kind, Encode] = {
    **_ALIKE,
    **dict.fromkeys(_INTEGERS, _text_of_integer),
    Kind.JSON: str.encode,
    Kind.BOOL: lambda value: b"t" if value else b"f",
    Kind.FLOAT8: lambda value: float_text(value).encode(),
    Kind.NUMERIC: lambda value: format(value, "f").encode(),
    Kind.UUID: lambda value: str(UUID(int=value)).encode(),
}
_BINARY: dict[Kind, Encode] = {
    **_ALIKE,
    **_INTEGERS,
    Kind.BOOL: lambda value: b"\x01" if value else b"\x00",
    Kind.UUID: lambda value: value.to_bytes(16, "big"),
}
