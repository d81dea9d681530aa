"""INSERT, UPDATE and DELETE of single rows by key, at their tablets' leaders.

    statement -> `planner.point_writes` (kept) -> the parts that the keys are in -> one request each

A statement that commits by itself on one tablet is one request: the leader locks the row, computes
what becomes of it, logs it and answers. In a block it is one request, too, and what it did stays in
the leader's draft until COMMIT. No plan is made, no snapshot drawn where none must be kept, and
DuckDB is not asked.

As in `executor.point_queries` the node's own catalog is used, and whatever is refused, or fails
in a way that may pass before anything has happened, goes the usual way, which plans anew, tries
again, and says what is wrong with a statement.

Left out: optimistic transactions, and those that define something: what they do is only told at
their end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog.bounds import NO_PART, ordinal_for
from catalog.model import Catalog
from catalog.tablet_requests import ChangeRows, RowsChanged
from cluster.errors import (
    CannotConnectNow,
    DqeError,
    LeaderChanged,
    ObjectNotInPrerequisiteState,
    Outcome,
    SerializationFailure,
)
from executor.execution import Result
from executor.services import ExecutorServices
from executor.session_transaction import SessionTransaction
from executor.transaction_driver import Transaction
from executor.transaction_faces import Control
from planner.binder.sequence_calls import session_token
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.point_writes import NewRows, PointStatement, PointWrite, point_write
from planner.row_expressions import Code, NotByRow, RowFunction, row_function, row_values
from planner.semantics.environment import Environment
from storage import row_programs
from storage.row_programs import pack_values, stored_value
from storage.row_tables import StoredKey, StoredRow
from storage.row_values import encoding_of
from storage.stored_changes import StoredChange
from storage.types import Kind

WRITES_KEPT = 512
# Transactions of less are not measured where one statement is all of them.
LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """What of a session bears on its changes: how long it waits for a lock, how much it may
    change (None without a limit), and how it commits."""

    lock_deadline_s: float
    max_bytes: int | None
    control: Control


class _Write:
    """A statement and its functions."""

    def __init__(self, point: PointWrite) -> None:
        self.point = point
        self.key = [row_function(code) for code in point.key]
        self.returning = [row_function(code) for code in point.returning]
        # Whether RETURNING cannot fail, so that the statement may have committed by then.
        self.shows_plainly = all(code[0] == "column" for code in point.returning)
        names = point.tables.names
        self.partition = [names.index(f"c{c}") for c in point.table.partition_columns]
        new = point.new
        self.rows = [] if new is None else [_functions(row) for row in new.rows]
        self.completes = None if new is None else row_programs.compiled(new.program)


def _functions(row: Sequence[Code | None]) -> list[RowFunction | None]:
    return [None if code is None else row_function(code) for code in row]


@dataclass(slots=True)
class _Piece:
    """What of a statement goes to one tablet."""

    tablet_id: int
    fragment_id: int
    keys: list[StoredKey]
    rows: list[StoredRow]


class PointWrites:
    """What one node knows of such statements. A newer catalog empties it."""

    def __init__(self, services: ExecutorServices) -> None:
        self._services = services
        self._catalog: Catalog | None = None
        self._kept: OrderedDict[tuple[object, ...], _Write | None] = OrderedDict()

    def described(
        self, statement: PointStatement, types: tuple[object, ...], context: PlannerContext
    ) -> PointWrite | None:
        """The statement with its parameters' types and columns; None for any other."""
        write = self._known(statement, types, context)
        return None if write is None else write.point

    async def answer(
        self,
        statement: PointStatement,
        types: tuple[object, ...],
        values: Sequence[Datum],
        context: PlannerContext,
        transaction: SessionTransaction | None,
        settings: WriteSettings,
    ) -> Result | None:
        """The answer, or None where the statement is to go the usual way.

        `context` holds the node's newest catalog.
        """
        write = self._known(statement, types, context)
        if write is None or settings.control.optimistic:
            return None
        if transaction is not None and (transaction.definitions.any or transaction.is_past):
            return None
        run = _Run(self._services, write, context, transaction, settings)
        try:
            return await run.result(values)
        except NotByRow:
            await run.give_up()
        except (CannotConnectNow, ObjectNotInPrerequisiteState, LeaderChanged) as error:
            # Within a transaction nothing is decided yet: the statement is undone and made again.
            if error.outcome is Outcome.UNKNOWN and transaction is None:
                raise
            await run.give_up()
        except SerializationFailure:
            if transaction is not None:
                raise
        return None

    def _known(
        self, statement: PointStatement, types: tuple[object, ...], context: PlannerContext
    ) -> _Write | None:
        if context.catalog is not self._catalog:
            self._catalog = context.catalog
            self._kept.clear()
        setting = context.settings.get
        schema = context.session.get("temporary_schema")
        # What is written in a statement means other rows in another time zone.
        key = (statement.text, types, setting("search_path"), setting("timezone"), schema)
        if key in self._kept:
            return self._kept[key]
        try:
            write = _Write(point_write(statement, context, types))  # type: ignore[arg-type]
        except (NotByRow, DqeError):
            write = None
        self._kept[key] = write
        while len(self._kept) > WRITES_KEPT:
            self._kept.popitem(last=False)
        return write


class _Run:
    """One execution of a statement."""

    def __init__(
        self,
        services: ExecutorServices,
        write: _Write,
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

    async def result(self, given: Sequence[Datum]) -> Result:
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
        if len(pieces) == 1 and self._write.shows_plainly and self._is_small(pieces[0]):
            return await self._by_itself(pieces[0], packed)
        return await self._on_several(pieces, packed)

    async def give_up(self) -> None:
        """Takes back what was done so far."""
        if self._transaction is not None:
            await self._transaction.undo_statement()

    # -- rows and where they are

    async def _pieces(self, values: Sequence[object]) -> list[_Piece]:
        new = self._point.new
        tables = self._point.tables
        if new is None:
            plain = [function((), values) for function in self._write.key]
            if None in plain:
                return []
            try:
                key = tables.encode_key(plain)
            except ValueError:  # no row can have it
                return []
            names = tables.schema.key
            by_name = dict(zip(names, plain, strict=True))
            return self._placed([(key, [by_name.get(n) for n in tables.names], None)])
        rows = await self._new_rows(new, values)
        keyed = []
        for row in rows:
            stored = tuple(stored_value(tables, place, v) for place, v in enumerate(row))
            keyed.append((tables.key_of(stored), row, stored))
        if self._point.updates_conflicts and len({key for key, _, _ in keyed}) < len(keyed):
            raise NotByRow("a row that would be changed twice")
        return self._placed(keyed)

    def _placed(
        self, keyed: Sequence[tuple[StoredKey, Sequence[object], StoredRow | None]]
    ) -> list[_Piece]:
        table = self._point.table
        found: dict[int, _Piece] = {}
        for key, row, stored in keyed:
            ordinal = ordinal_for(table, [row[place] for place in self._write.partition])
            if ordinal == NO_PART:
                if stored is None:
                    continue  # no row can have it
                raise NotByRow("a row for no part")
            piece = found.get(ordinal)
            if piece is None:
                fragment = table.parts[ordinal].fragments[0]
                piece = found[ordinal] = _Piece(fragment.tablet_id, fragment.id, [], [])
            piece.keys.append(key)
            if stored is not None:
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
            for row, row_id in zip(rows, self._services.ids.take(len(rows)).tolist(), strict=True):
                row[new.row_id] = row_id
        assert self._write.completes is not None
        for row in rows:
            self._write.completes.complete(row, values)
        return rows

    # -- requests

    def _request(
        self,
        piece: _Piece,
        packed: tuple[object, ...],
        transaction_id: int,
        command: int = 0,
        base: int = 0,
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
        )

    async def _by_itself(self, piece: _Piece, packed: tuple[object, ...]) -> Result:
        request = self._request(piece, packed, self._services.ids.next(), ends=True)
        answer = await self._services.tablets.write_rows(request)
        if not answer.by_row:
            raise NotByRow("the leader says so")
        return self._answer([answer])

    async def _on_several(self, pieces: Sequence[_Piece], packed: tuple[object, ...]) -> Result:
        services = self._services
        async with Transaction(
            services.runtime,
            services.tablets,
            services.timestamps,
            services.ids.next(),
            lock_deadline_s=self._settings.lock_deadline_s,
            max_bytes=self._settings.max_bytes,
            control=self._settings.control,
        ) as opened:
            answers = await self._changed(opened, pieces, packed, 0, 0)
            result = self._answer(answers)
            await opened.commit(max(answer.as_of for answer in answers), checks=False)
        return result

    async def _in_block(
        self, transaction: SessionTransaction, pieces: Sequence[_Piece], packed: tuple[object, ...]
    ) -> Result:
        base = 0
        if transaction.keeps_snapshot:
            base, catalog = await transaction.snapshot()
            if catalog is not self._context.catalog:
                raise NotByRow("a snapshot of another catalog")
        for piece in pieces:
            for key in piece.keys:
                transaction.note_key(piece.tablet_id, piece.fragment_id, key)
        opened = transaction.opened
        answers = await self._changed(opened, pieces, packed, transaction.command, base)
        transaction.saw(max(answer.as_of for answer in answers))
        return self._answer(answers)

    async def _changed(
        self,
        opened: Transaction,
        pieces: Sequence[_Piece],
        packed: tuple[object, ...],
        command: int,
        base: int,
    ) -> list[RowsChanged]:
        answers = []
        for piece in pieces:
            request = self._request(piece, packed, opened.id, command, base)
            answer = await opened.change_rows(request, self._point.tables)
            if not answer.by_row:
                raise NotByRow("the leader says so")
            answers.append(answer)
        return answers

    def _is_small(self, piece: _Piece) -> bool:
        """Whether it is surely within the limit of a transaction."""
        most = self._settings.max_bytes
        tables = self._point.tables
        size_bytes = StoredChange(tables, (), piece.rows).size_bytes
        # A new value may be as long as the message that brings it.
        return most is None or size_bytes + LARGEST_MESSAGE_BYTES < most

    # -- the answer

    def _answer(self, answers: Sequence[RowsChanged]) -> Result:
        point = self._point
        changed = sum(answer.changed for answer in answers)
        tag = f"INSERT 0 {changed}" if point.command == "INSERT" else f"{point.command} {changed}"
        if point.columns is None:
            return Result(tag)
        place = 0 if point.command == "DELETE" else 1
        shown = [pair[place] for answer in answers for pair in answer.rows]
        rows = [point.tables.decode_row(row) for row in shown if row is not None]
        return Result(tag, point.columns, _batches(self._returned(rows, point.columns)))

    def _returned(
        self, rows: Sequence[Sequence[object]], columns: Sequence[ResultColumn]
    ) -> pa.RecordBatch | None:
        if not rows:
            return None
        arrays = []
        for function, column in zip(self._write.returning, columns, strict=True):
            encode = encoding_of(column.type)
            values = [function(row, ()) for row in rows]
            if column.type.kind is Kind.BPCHAR and column.type.length is not None:
                width = column.type.length
                values = [None if v is None else str(v).ljust(width) for v in values]
            stored = [None if value is None else encode.encode(value) for value in values]
            arrays.append(encode.to_arrow(stored))
        return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


async def _batches(batch: pa.RecordBatch | None) -> AsyncIterator[pa.RecordBatch]:
    if batch is not None:
        yield batch
