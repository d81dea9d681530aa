"""What a statement does with one row, as a leader is told it: plain data, compiled and kept.

A `RowProgram` says in row code (`storage.row_closures`) which columns get which values, whether the
row is meant at all, and what must hold of it afterwards. It is the same for all executions of
a statement, so a leader compiles its bytes once; keys and parameters come beside it.

A new row that breaks NOT NULL or CHECK raises `NotByRow`: the statement then goes the usual way,
which says what is wrong with it in PostgreSQL's words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from storage.row_closures import NotByRow, row_function
from storage.row_tables import RowTables, StoredRow

PROGRAMS_KEPT = 1024

# What becomes of a row: itself for one that is left alone, None for one that goes.
RowChange = Callable[[StoredRow | None], StoredRow | None]


class RowProgram(msgspec.Struct, frozen=True, array_like=True):
    """`where` selects the row; it goes (`deletes`), or columns at places get values: `sets` over
    the old row, then `generated` over the new one. `not_null` and `checks` are of the new row.

    With `proposes` a new row comes along, and goes in where there is none; in expressions it
    stands behind the old one. With `only_locks` a row that is meant stays as it is. `parameters`
    are the kinds of the values' types.
    """

    deletes: bool = False
    proposes: bool = False
    where: Any = None
    sets: tuple[tuple[int, Any], ...] = ()
    generated: tuple[tuple[int, Any], ...] = ()
    not_null: tuple[int, ...] = ()
    checks: tuple[Any, ...] = ()
    parameters: tuple[str, ...] = ()
    only_locks: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RowProgram)


def encode_program(program: RowProgram) -> bytes:
    """The program's bytes, equal for equal programs."""
    return _encoder.encode(program)


@lru_cache(maxsize=PROGRAMS_KEPT)
def compiled(data: bytes) -> CompiledProgram:
    """The program of these bytes, compiled."""
    return CompiledProgram(_decoder.decode(data))


# Values on their way, in what msgpack has.


def pack_values(values: Sequence[Any]) -> tuple[Any, ...]:
    """Plain values of parameters for a message."""
    return tuple(map(_packed, values))


def _packed(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, pa.MonthDayNano):
        return tuple(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


_UNPACKED: dict[str, Callable[[Any], Any]] = {
    "numeric": Decimal,
    "uuid": int,
    "interval": lambda parts: pa.MonthDayNano(list(parts)),
}


class CompiledProgram:
    """See the module."""

    def __init__(self, program: RowProgram) -> None:
        self._program = program
        self._where = None if program.where is None else row_function(program.where)
        self._sets = [(place, row_function(code)) for place, code in program.sets]
        self._generated = [(place, row_function(code)) for place, code in program.generated]
        self._checks = [row_function(code) for code in program.checks]
        # The first value is the transaction's start.
        self._unpacked = [
            (place, _UNPACKED[kind])
            for place, kind in enumerate(program.parameters, 1)
            if kind in _UNPACKED
        ]

    @property
    def proposes(self) -> bool:
        """Whether a new row comes along, which may be there already."""
        return self._program.proposes

    @property
    def updates(self) -> bool:
        """Whether columns of rows that are there get values."""
        return bool(self._sets)

    @property
    def only_locks(self) -> bool:
        """Whether rows are locked and shown, and nothing becomes of them."""
        return self._program.only_locks

    def means(self, tables: RowTables, values: Sequence[Any], row: StoredRow) -> bool:
        """Whether the row meets the conditions."""
        return self._where is None or self._where(tables.decode_row(row), values) is True

    def values(self, packed: Sequence[Any]) -> Sequence[Any]:
        """The parameters' plain values again."""
        if not self._unpacked:
            return packed
        values = list(packed)
        for place, unpack in self._unpacked:
            if values[place] is not None:
                values[place] = unpack(values[place])
        return values

    def change(
        self, tables: RowTables, values: Sequence[Any], proposed: StoredRow | None = None
    ) -> RowChange:
        """What it makes of a row, with these parameters; None where one that would only be
        locked is not meant."""

        def of(current: StoredRow | None) -> StoredRow | None:
            if current is None:
                return proposed
            row: Sequence[Any] = tables.decode_row(current)
            known = row
            if proposed is not None:
                known = (*row, *tables.decode_row(proposed))
            if self._where is not None and self._where(known, values) is not True:
                return None if self._program.only_locks else current
            if self._program.only_locks:
                return current
            if self._program.deletes:
                return None
            if self._program.proposes and not self._sets:
                return current  # DO NOTHING
            return self._changed(tables, current, row, known, values)

        return of

    def _changed(
        self,
        tables: RowTables,
        current: StoredRow,
        row: Sequence[Any],
        known: Sequence[Any],
        values: Sequence[Any],
    ) -> StoredRow:
        stored, new = list(current), list(row)
        for place, function in self._sets:
            new[place] = function(known, values)
            stored[place] = stored_value(tables, place, new[place])
        for place, function in self._generated:
            new[place] = function(new, values)
            stored[place] = stored_value(tables, place, new[place])
        self.check(new, values)
        return tuple(stored)

    def complete(self, new: list[Any], values: Sequence[Any]) -> None:
        """Gives a new row, as plain values, its generated columns, and checks it."""
        for place, function in self._generated:
            new[place] = function(new, values)
        self.check(new, values)

    def check(self, new: Sequence[Any], values: Sequence[Any]) -> None:
        """Raises `NotByRow` where the row must not be."""
        if any(new[place] is None for place in self._program.not_null):
            raise NotByRow("a NULL where none may be")
        if any(check(new, values) is False for check in self._checks):
            raise NotByRow("a check that fails")


def stored_value(tables: RowTables, place: int, value: Any) -> Any:
    """A plain value as the column at that place has it."""
    if value is None:
        return None
    try:
        return tables.encodings[place].encode(value)
    except ValueError as error:
        raise NotByRow(str(error)) from error
