"""Queries for one row by its key, from the row store of its tablet's leader.

    statement -> `planner.point` (kept) -> the part for the key -> `read_stored` there -> one batch

No snapshot is drawn for a statement that commits by itself or in READ COMMITTED: at the leader
the newest row is the right one (rule R2), and what the transaction itself changed is laid over
it (R5). A transaction that keeps its snapshot reads at that. No stage runs and DuckDB is not
asked.

Without a timestamp nothing says how new the catalog must be (rule T3), so the node's own copy is
used: a definition is acknowledged when every node that answers has it, and a tablet refuses
fragments that it no longer has. Whatever is refused, or fails in a way that may pass, goes the
usual way, which plans anew and tries again.

Left out: SERIALIZABLE transactions, whose reads must be remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from catalog.bounds import NO_PART, ordinal_for
from catalog.fragment_schemas import fragment_schema, store_name
from catalog.model import Catalog
from cluster.errors import CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure
from executor.execution import Result
from executor.services import ExecutorServices
from executor.session_transaction import SERIALIZABLE, SessionTransaction
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.point import PointRead, point_read
from planner.statements import Query
from storage.fragments import OwnChanges, Timestamp
from storage.row_tables import RowTables, StoredRow
from storage.types import Kind, SqlType

READS_KEPT = 512


@dataclass(slots=True)
class _Known:
    """A query that was looked at; `read` is None where it goes the usual way."""

    tree: exp.Expr
    read: _Read | None


@dataclass(frozen=True, slots=True)
class _Read:
    """How one is done. `tables` are those of the first part; keys and rows of all parts have
    one form."""

    point: PointRead
    tables: RowTables
    # The partition columns among the key's.
    key_places: tuple[int, ...]
    # The wanted columns among those of the fragment, and their names.
    places: tuple[int, ...]
    names: tuple[str, ...]
    # The lengths of those that are char(n).
    padded: tuple[int | None, ...]


class PointQueries:
    """What one node knows of queries for one row. A newer catalog empties it."""

    def __init__(self, services: ExecutorServices) -> None:
        self._services = services
        self._catalog: Catalog | None = None
        self._kept: OrderedDict[tuple[object, ...], _Known] = OrderedDict()

    async def answer(
        self,
        statement: Query,
        types: tuple[SqlType, ...],
        values: Sequence[Datum],
        context: PlannerContext,
        transaction: SessionTransaction | None,
    ) -> Result | None:
        """The answer, or None where the statement is to go the usual way.

        `context` holds the node's newest catalog.
        """
        read = self._known(statement.tree, types, context).read
        key = None if read is None else read.point.key_values(values)
        if read is None or key is None:
            return None
        timestamp: Timestamp | None = None
        own: OwnChanges | None = None
        if transaction is not None:
            if transaction.isolation == SERIALIZABLE or transaction.definitions.any:
                return None
            if transaction.keeps_snapshot:
                timestamp, catalog = await transaction.snapshot()
                if catalog is not context.catalog:
                    return None
            own = transaction.own_changes()
        try:
            row = await self._row(read, key, timestamp, own)
        except (CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure):
            return None
        return _result(read, row)

    def described(
        self, statement: Query, types: tuple[SqlType | None, ...], context: PlannerContext
    ) -> tuple[tuple[SqlType, ...], tuple[ResultColumn, ...]] | None:
        """Parameter types and columns of such a query; None for any other."""
        read = self._known(statement.tree, types, context).read
        parameters = None if read is None else read.point.parameter_types(types)
        return None if read is None or parameters is None else (parameters, read.point.columns)

    def _known(
        self, tree: exp.Expr, types: tuple[SqlType | None, ...], context: PlannerContext
    ) -> _Known:
        if context.catalog is not self._catalog:
            self._catalog = context.catalog
            self._kept.clear()
        path = context.settings.get("search_path")
        key = (id(tree), types, path, context.session.get("temporary_schema"))
        known = self._kept.get(key)
        if known is None or known.tree is not tree:
            known = self._kept[key] = _looked_at(tree, types, context)
            while len(self._kept) > READS_KEPT:
                self._kept.popitem(last=False)
        return known

    async def _row(
        self,
        read: _Read,
        key: list[object],
        timestamp: Timestamp | None,
        own: OwnChanges | None,
    ) -> StoredRow | None:
        table = read.point.table
        ordinal = ordinal_for(table, [key[place] for place in read.key_places])
        if ordinal == NO_PART:
            return None
        fragment = table.parts[ordinal].fragments[read.point.group]
        if own is not None and fragment.tablet_id not in own.tablets:
            own = None
        try:
            stored = read.tables.encode_key(key)
        except ValueError:  # no row can have it
            return None
        (row,) = await self._services.tablets.read_stored(
            fragment.tablet_id, fragment.id, (stored,), timestamp, own
        )
        if row is None:
            return None
        return tuple(row[place] for place in read.places)


def _looked_at(
    tree: exp.Expr, types: tuple[SqlType | None, ...], context: PlannerContext
) -> _Known:
    point = point_read(tree, context, types)
    if point is None:
        return _Known(tree, None)
    table = point.table
    tables = RowTables(fragment_schema(table, table.parts[0].fragments[point.group]))
    wanted = [table.column(column_id) for column_id in point.wanted]
    names = tuple(store_name(column.id) for column in wanted)
    read = _Read(
        point,
        tables,
        key_places=tuple(table.key.index(column) for column in table.partition_columns),
        places=tuple(tables.names.index(name) for name in names),
        names=names,
        padded=tuple(c.type.length if c.type.kind is Kind.BPCHAR else None for c in wanted),
    )
    return _Known(tree, read)


def _result(read: _Read, row: StoredRow | None) -> Result:
    columns = read.point.columns
    if row is None:
        return Result("SELECT 0", columns, _rows(None))
    batch = read.tables.to_batch([row], read.names)
    for place, length in enumerate(read.padded):
        if length is not None:
            column = pc.utf8_rpad(batch.column(place), length)
            batch = batch.set_column(place, batch.schema.names[place], column)
    return Result("SELECT 1", columns, _rows(batch))


async def _rows(batch: pa.RecordBatch | None) -> AsyncIterator[pa.RecordBatch]:
    if batch is not None:
        yield batch
