"""One run of a statement over single rows: its parameters to keys and rows, to requests, to a tag.

    Write        what is kept of a statement: its functions, ready for any parameters
    WriteRun     one execution: the parts that its keys are in, a request to each one's leader
    Changed      the command tag, and what RETURNING or SELECT ... FOR UPDATE shows

See `executor.point_writes`. `NotByRow` anywhere here means: nothing of it stays, the usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from catalog.bounds import NO_PART, ordinal_for, ordinals_by
from catalog.model import Table
from catalog.tablet_requests import ChangeRows, RowsChanged
from cluster.errors import DqeError
from executor.found_rows import RowFinder
from executor.point_references import KeyKeeper
from executor.row_spread import RowSpread
from executor.services import ExecutorServices
from executor.session_transaction import SessionTransaction
from executor.transaction_driver import Transaction
from executor.write_settings import WriteSettings
from planner.binder.sequence_calls import session_token
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.point_writes import NewRows, PointWrite
from planner.row_expressions import Code, NotByRow, RowFunction, row_function, row_values
from planner.semantics.environment import Environment
from storage import row_programs
from storage.index_reads import IndexScan
from storage.row_programs import pack_values, stored_value
from storage.row_tables import StoredKey, StoredRow
from storage.stored_changes import size_bytes
from storage.types import Kind

# Transactions of less are not measured where one statement is all of them.
LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024

# Types whose plain values say where a row lies.
_PLAINLY_PLACED = frozenset({Kind.INT2, Kind.INT4, Kind.INT8, Kind.TEXT, Kind.VARCHAR})


class Changed(NamedTuple):
    """What a statement did; `rows` as plain values (`storage.row_values`), char(n) with its
    padding, None where it has none to show."""

    tag: str
    rows: list[list[Any]] | None


class Write:
    """A statement and its functions. `is_shape`: its parameters are literals of many texts."""

    def __init__(self, point: PointWrite, *, is_shape: bool = False) -> None:
        self.point = point
        self.is_shape = is_shape
        self.columns: tuple[ResultColumn, ...] | None = point.columns
        # What a layer above keeps with it.
        self.kept: dict[Hashable, Any] = {}
        self.keys = [[row_function(code) for code in key] for key in point.keys]
        self.finder: RowFinder | None = None
        if point.rows is not None:
            self.finder = RowFinder(point.table, point.tables, point.rows)
        self.returning = [row_function(code) for code in point.returning]
        # Whether RETURNING cannot fail, so that the statement may have committed by then.
        self.shows_plainly = all(code[0] == "column" for code in point.returning)
        self.pads = [
            (place, column.type.length)
            for place, column in enumerate(point.columns or ())
            if column.type.kind is Kind.BPCHAR and column.type.length is not None
        ]
        table, names = point.table, point.tables.names
        self.partition = [names.index(f"c{c}") for c in table.partition_columns]
        # The partition columns among those of the key, for statements that name one.
        self.partition_of_key = [
            table.key.index(c) for c in table.partition_columns if c in table.key
        ]
        self.ordinal_of = _ordinals(table)
        self.keeper = None
        if point.references or point.referred:
            self.keeper = KeyKeeper(point.tables, point.references, point.referred)
        new = point.new
        self.rows = [] if new is None else [_functions(row) for row in new.rows]
        self.spread = None
        if table.hidden_row_id and table.partition_columns == table.key:
            self.spread = RowSpread([part.fragments[0].tablet_id for part in table.parts])
        self.completes = None if new is None else row_programs.compiled(new.program)


def _functions(row: Sequence[Code | None]) -> list[RowFunction | None]:
    return [None if code is None else row_function(code) for code in row]


def _ordinals(table: Table) -> Callable[[Sequence[object]], int]:
    kinds = {table.column(column_id).type.kind for column_id in table.partition_columns}
    if not kinds or not kinds <= _PLAINLY_PLACED:
        return lambda values: ordinal_for(table, values)
    quick = ordinals_by(table)
    return lambda values: ordinal_for(table, values) if None in values else quick(values)


@dataclass(slots=True)
class _Piece:
    """What of a statement goes to one tablet."""

    tablet_id: int
    fragment_id: int
    keys: list[StoredKey]
    rows: list[StoredRow]
    # How the rows are found there that are not told by keys.
    scan: IndexScan | None = None


class WriteRun:
    """See the module; `transaction` is the session's, where it has one."""

    def __init__(
        self,
        services: ExecutorServices,
        write: Write,
        context: PlannerContext,
        transaction: SessionTransaction | None,
        settings: WriteSettings,
    ) -> None:
        self._services = services
        self._write = write
        self._point = write.point
        self._context = context
        self._transaction = transaction
        self._settings = settings

    async def changed(self, given: Sequence[Datum]) -> Changed:
        """Runs it; `NotByRow` where it is to go the usual way."""
        try:
            values = row_values(self._point.parameters, given, Environment(self._context))
            pieces = await self._pieces(values)
        except DqeError as error:
            raise NotByRow(error.message) from error
        if not pieces:
            return self._answer([])
        packed = pack_values(values)
        if self._point.command == "SELECT" and self._transaction is None:
            raise NotByRow("locks that end with their statement")
        if self._transaction is not None:
            return await self._in_block(self._transaction, pieces, packed)
        ends = self._write.shows_plainly and self._write.keeper is None
        if len(pieces) == 1 and ends and self._is_small(pieces[0]):
            return await self._by_itself(pieces[0], packed)
        return await self._on_several(pieces, packed)

    async def give_up(self) -> None:
        """Takes back what was done so far."""
        if self._transaction is not None:
            await self._transaction.undo_statement()

    # -- rows and where they are

    async def _pieces(self, values: Sequence[object]) -> list[_Piece]:
        if self._point.new is None:
            return self._pieces_found(values)
        tables = self._point.tables
        rows = await self._new_rows(self._point.new, values)
        keyed = []
        for row in rows:
            stored = tuple(stored_value(tables, place, v) for place, v in enumerate(row))
            keyed.append((tables.key_of(stored), row, stored))
        if self._point.updates_conflicts and len({key for key, _, _ in keyed}) < len(keyed):
            raise NotByRow("a row that would be changed twice")
        return self._placed(keyed)

    def _pieces_found(self, values: Sequence[object]) -> list[_Piece]:
        if self._write.finder is None:
            return self._pieces_of_keys(values)
        found = self._write.finder.find(values)
        places = () if found is None else found.fragments
        scan = None if found is None else found.scan
        return [_Piece(each.tablet_id, each.id, [], [], scan) for each in places]

    def _pieces_of_keys(self, values: Sequence[object]) -> list[_Piece]:
        """The keys asked for, each once; several in their order, as are the tablets, so that
        statements do not lock rows crosswise."""
        write, found = self._write, dict[int, _Piece]()
        for functions in write.keys:
            plain = [function((), values) for function in functions]
            if None in plain:
                continue
            try:
                key = self._point.tables.encode_key(plain)
            except ValueError:  # no row can have it
                continue
            ordinal = write.ordinal_of([plain[place] for place in write.partition_of_key])
            if ordinal == NO_PART:
                continue
            if ordinal in found:
                found[ordinal].keys.append(key)
            else:
                found[ordinal] = self._piece(ordinal, [key])
        if len(write.keys) > 1:
            for piece in found.values():
                piece.keys = sorted(set(piece.keys))
        return sorted(found.values(), key=attrgetter("tablet_id"))

    def _piece(self, ordinal: int, keys: list[StoredKey]) -> _Piece:
        fragment = self._point.table.parts[ordinal].fragments[0]
        return _Piece(fragment.tablet_id, fragment.id, keys, [])

    def _placed(
        self, keyed: Sequence[tuple[StoredKey, Sequence[object], StoredRow]]
    ) -> list[_Piece]:
        found: dict[int, _Piece] = {}
        for key, row, stored in keyed:
            ordinal = self._write.ordinal_of([row[place] for place in self._write.partition])
            if ordinal == NO_PART:
                raise NotByRow("a row for no part")
            piece = found.get(ordinal)
            if piece is None:
                piece = found[ordinal] = self._piece(ordinal, [])
            piece.keys.append(key)
            piece.rows.append(stored)
        return list(found.values())

    async def _new_rows(self, new: NewRows, values: Sequence[object]) -> list[list[object]]:
        rows: list[list[object]] = [
            [None if function is None else function((), values) for function in functions]
            for functions in self._write.rows
        ]
        for place, sequence_id in new.sequences:
            sequences = self._services.sequences
            if sequences is None:
                raise NotByRow("no sequences")
            token = session_token(self._context)
            numbers = await sequences.next_numbers(token, sequence_id, len(rows))
            for row, number in zip(rows, numbers, strict=True):
                row[place] = int(number)
        if new.row_id is not None:
            for row, row_id in zip(rows, self._row_ids(len(rows)), strict=True):
                row[new.row_id] = row_id
        assert self._write.completes is not None
        for row in rows:
            self._write.completes.complete(row, values)
        return rows

    def _row_ids(self, count: int) -> list[int]:
        next_id, spread = self._services.ids.next, self._write.spread
        if spread is None:
            return [next_id() for _ in range(count)]
        written = set() if self._transaction is None else set(self._transaction.written)

        def part_of(row_id: int) -> int:
            return self._write.ordinal_of([row_id])

        return [spread.draw(next_id, part_of, written) for _ in range(count)]

    # -- requests

    def _request(
        self,
        piece: _Piece,
        packed: tuple[object, ...],
        transaction_id: int,
        command: int = 0,
        base: int = 0,
        timestamp: int | None = None,
        *,
        ends: bool = False,
    ) -> ChangeRows:
        return ChangeRows(
            piece.tablet_id,
            transaction_id,
            0,
            piece.fragment_id,
            tuple(piece.keys),
            self._point.mode,
            self._point.program,
            packed,
            tuple(piece.rows),
            command,
            base,
            ends=ends,
            shows=not ends or bool(self._point.returning),
            lock_s=self._settings.lock_deadline_s,
            definition=self._point.tables.schema.definition,
            scan=piece.scan,
            timestamp=timestamp,
        )

    async def _by_itself(self, piece: _Piece, packed: tuple[object, ...]) -> Changed:
        request = self._request(piece, packed, self._services.ids.next(), ends=True)
        answer = await self._services.tablets.write_rows(request)
        if not answer.by_row:
            raise NotByRow("the leader says so")
        return self._answer([answer])

    async def _on_several(self, pieces: Sequence[_Piece], packed: tuple[object, ...]) -> Changed:
        async with Transaction.opened_by(self._services, self._settings) as opened:
            timestamp = await self._found_at(pieces)
            with self._held(timestamp):
                answers = await self._changed(opened, pieces, packed, 0, 0, timestamp)
            result = self._answer(answers)
            await opened.commit(max(answer.as_of for answer in answers), checks=False)
        return result

    async def _in_block(
        self, transaction: SessionTransaction, pieces: Sequence[_Piece], packed: tuple[object, ...]
    ) -> Changed:
        base = 0
        if transaction.keeps_snapshot:
            base, catalog = await transaction.snapshot()
            if catalog is not self._context.catalog:
                raise NotByRow("a snapshot of another catalog")
        for piece in pieces:
            for key in piece.keys:
                transaction.note_key(piece.tablet_id, piece.fragment_id, key)
            if piece.scan is not None:
                transaction.note_range(piece.tablet_id, piece.fragment_id, piece.scan)
        opened = transaction.opened
        timestamp = base or await self._found_at(pieces)
        with self._held(timestamp):
            command = transaction.command
            answers = await self._changed(opened, pieces, packed, command, base, timestamp)
        transaction.saw(max(answer.as_of for answer in answers))
        return self._answer(answers)

    async def _found_at(self, pieces: Sequence[_Piece]) -> int | None:
        """The snapshot at which the rows of several tablets are found; None where the newest rows
        of one are meant (rule R2)."""
        if len(pieces) == 1 or pieces[0].scan is None:
            return None
        timestamp, version = await self._services.timestamps.snapshot()
        if version > self._context.catalog.version:
            raise NotByRow("a snapshot of a newer catalog")
        return timestamp

    def _held(self, timestamp: int | None) -> AbstractContextManager[None]:
        """Keeps that snapshot's history while the block lasts."""
        return nullcontext() if timestamp is None else self._services.timestamps.held(timestamp)

    async def _changed(
        self,
        opened: Transaction,
        pieces: Sequence[_Piece],
        packed: tuple[object, ...],
        command: int,
        base: int,
        timestamp: int | None,
    ) -> list[RowsChanged]:
        answers = []
        for piece in pieces:
            request = self._request(piece, packed, opened.id, command, base, timestamp)
            # What was seen to refer to none of its rows holds as long as they are locked.
            binding = bool(self._point.referred)
            answer = await opened.change_rows(request, self._point.tables, binding=binding)
            if not answer.by_row:
                raise NotByRow("the leader says so")
            answers.append(answer)
        if self._write.keeper is not None:
            lock_s = self._settings.lock_deadline_s
            await self._write.keeper.keep(self._services, opened, command, lock_s, answers)
        return answers

    def _is_small(self, piece: _Piece) -> bool:
        """Whether it is surely within the limit of a transaction."""
        most = self._settings.max_bytes
        # A new value may be as long as the message that brings it.
        return most is None or size_bytes(piece.rows) + LARGEST_MESSAGE_BYTES < most

    # -- the answer

    def _answer(self, answers: Sequence[RowsChanged]) -> Changed:
        point = self._point
        count = sum([answer.changed for answer in answers])
        tag = f"INSERT 0 {count}" if point.command == "INSERT" else f"{point.command} {count}"
        if point.columns is None:
            return Changed(tag, None)
        place = 0 if point.command == "DELETE" else 1
        shown = [pair[place] for answer in answers for pair in answer.rows]
        return Changed(tag, [self._shown(row) for row in shown if row is not None])

    def _shown(self, stored: StoredRow) -> list[Any]:
        row = self._point.tables.decode_row(stored)
        values = [function(row, ()) for function in self._write.returning]
        for place, width in self._write.pads:
            if values[place] is not None:
                values[place] = str(values[place]).ljust(width)
        return values
