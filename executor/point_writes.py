"""INSERT, UPDATE and DELETE of single rows by key, and SELECT ... FOR UPDATE, without a plan.

    statement or shape of a text -> `planner.point_writes` -> a `Write`, kept
    its parameters               -> `executor.write_runs`  -> one request a tablet

A statement that commits by itself on one tablet is one request: the leader locks the row, computes
what becomes of it, logs it and answers. In a block it is one request, too, and what it did stays in
the leader's draft until COMMIT. No plan is made, no snapshot drawn where none must be kept, and
DuckDB is not asked.

Simple queries come as text with other literals every time; texts of one shape
(`executor.lifted_literals`) share a `Write`, their literals being its parameters. A shape counts
only where each of its literals has become a value of what is computed for the key or of the row,
and none is to be shown; any other text goes the usual way, by itself.

As in `executor.point_queries` the node's own catalog is used, and whatever is refused, or fails
in a way that may pass before anything has happened, goes the usual way, which plans anew, tries
again, and says what is wrong with a statement.

Left out: optimistic transactions, and those that define something: what they do is only told at
their end.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from catalog.leader_search import is_leaderless
from catalog.model import Catalog
from cluster.errors import (
    CannotConnectNow,
    DqeError,
    LeaderChanged,
    ObjectNotInPrerequisiteState,
    Outcome,
    RowMoved,
    SerializationFailure,
)
from executor.execution import Result
from executor.lifted_literals import statement_of
from executor.point_plans import NamesMeant, names_meant
from executor.services import ExecutorServices
from executor.session_transaction import SessionTransaction
from executor.write_runs import Changed, Write, WriteRun
from executor.write_settings import WriteSettings
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.point import LiteralKinds
from planner.point_writes import PointStatement, PointWrite, may_be_by_row, point_write
from planner.row_expressions import Code, NotByRow
from storage.row_values import encoding_of
from storage.types import Kind, SqlType

WRITES_KEPT = 512
# The class of SQLSTATEs for values that cannot be.
_WRONG_DATA = "22"


class PointWrites:
    """What one node knows of such statements. A newer catalog empties it."""

    def __init__(self, services: ExecutorServices) -> None:
        self._services = services
        self._catalog: Catalog | None = None
        self._kept: OrderedDict[tuple[object, ...], Write | None] = OrderedDict()

    def described(
        self,
        statement: PointStatement,
        types: tuple[SqlType | None, ...],
        context: PlannerContext,
    ) -> PointWrite | None:
        """The statement with its parameters' types and columns; None for any other."""
        write = self.of_statement(statement, types, context)
        return None if write is None else write.point

    def of_statement(
        self,
        statement: PointStatement,
        types: tuple[SqlType | None, ...],
        context: PlannerContext,
    ) -> Write | None:
        """What is kept of a statement, if it is such a one; `context` holds the node's newest
        catalog."""
        # What is written in a statement means other rows in another time zone.
        zone = context.settings.get("timezone")
        key = (statement.text, types, names_meant(context).key, zone)
        return self._known(
            key, context.catalog, lambda: Write(point_write(statement, context, types))
        )

    def of_shape(
        self,
        shape: str,
        kinds: LiteralKinds,
        names: NamesMeant,
        zone: str,
        context: Callable[[], PlannerContext],
    ) -> Write | None:
        """The same of texts of a shape that `lifted` gave. `context` is of the same catalog and
        session as `names`, `zone` its time zone."""
        key = (None, shape, names.key, zone)
        return self._known(key, names.catalog, lambda: _of_shape(shape, kinds, context()))

    def _known(
        self, key: tuple[object, ...], catalog: Catalog, make: Callable[[], Write | None]
    ) -> Write | None:
        if catalog is not self._catalog:
            self._catalog = catalog
            self._kept.clear()
        if key in self._kept:
            return self._kept[key]
        try:
            write = make()
        except (NotByRow, DqeError):
            write = None
        self._kept[key] = write
        while len(self._kept) > WRITES_KEPT:
            self._kept.popitem(last=False)
        return write

    async def answer(
        self,
        statement: PointStatement,
        types: tuple[SqlType | None, ...],
        values: Sequence[Datum],
        context: PlannerContext,
        transaction: SessionTransaction | None,
        settings: WriteSettings,
    ) -> Result | None:
        """The answer, or None where the statement is to go the usual way.

        `context` holds the node's newest catalog.
        """
        write = self.of_statement(statement, types, context)
        if write is None:
            return None
        changed = await self.run(write, values, context, transaction, settings)
        if changed is None:
            return None
        if changed.rows is None:
            return Result(changed.tag)
        assert write.columns is not None
        return Result(changed.tag, write.columns, _batches(_batch(changed.rows, write.columns)))

    async def run(
        self,
        write: Write,
        values: Sequence[Datum],
        context: PlannerContext,
        transaction: SessionTransaction | None,
        settings: WriteSettings,
    ) -> Changed | None:
        """Carries it out; None where the statement is to go the usual way, nothing of it having
        happened."""
        if settings.control.optimistic:
            return None
        if transaction is not None and (transaction.definitions.any or transaction.is_past):
            return None
        run = WriteRun(self._services, write, context, transaction, settings)
        try:
            return await run.changed(values)
        except NotByRow:
            await run.give_up()
        except (CannotConnectNow, ObjectNotInPrerequisiteState, LeaderChanged) as error:
            # Within a transaction nothing is decided yet: the statement is undone and made again.
            if error.outcome is Outcome.UNKNOWN and transaction is None:
                raise
            await run.give_up()
            if is_leaderless(error):
                raise
        except SerializationFailure as error:
            if transaction is not None or isinstance(error, RowMoved):
                raise
        except DqeError as error:
            # Of a literal that does not fit the usual way says where it stands.
            if not write.is_shape or not error.sqlstate.startswith(_WRONG_DATA):
                raise
            await run.give_up()
        return None


# -- shapes


def _of_shape(shape: str, kinds: LiteralKinds, context: PlannerContext) -> Write | None:
    statement = statement_of(shape)
    if statement is None or not may_be_by_row(statement):
        return None
    point = point_write(statement, context, kinds)
    return Write(point, is_shape=True) if _means_the_same(point, kinds) else None


def _means_the_same(point: PointWrite, kinds: LiteralKinds) -> bool:
    """Whether the statement does with its parameters what it would do with literals.

    A literal that is shown would have a type of just its digits, and so would a string that is
    taken for a numeric.
    """
    if len(point.parameters) != len(kinds):
        return False
    for given, settled in zip(kinds, point.parameters, strict=True):
        if given is None and settled.kind is Kind.NUMERIC:
            return False
    codes: list[Any] = [*point.named_by, msgspec.msgpack.decode(point.program)]
    if point.new is not None:
        codes += point.new.rows
    used = {number for code in codes for number in _parameters_in(code)}
    shown = {number for code in point.returning for number in _parameters_in(code)}
    return used >= set(range(1, len(kinds) + 1)) and not shown - {0}


def _parameters_in(code: Code | list[Any] | None) -> Iterator[int]:
    if not isinstance(code, (tuple, list)):
        return
    if len(code) == 2 and code[0] == "parameter":
        yield code[1]
    for part in code:
        yield from _parameters_in(part)


# -- the answer as a batch


def _batch(rows: Sequence[Sequence[Any]], columns: Sequence[ResultColumn]) -> pa.RecordBatch | None:
    if not rows:
        return None
    arrays = []
    for column, plain in zip(columns, zip(*rows, strict=True), strict=True):
        encode = encoding_of(column.type)
        stored = [None if value is None else encode.encode(value) for value in plain]
        arrays.append(encode.to_arrow(stored))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


async def _batches(batch: pa.RecordBatch | None) -> AsyncIterator[pa.RecordBatch]:
    if batch is not None:
        yield batch
