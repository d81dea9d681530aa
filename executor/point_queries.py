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
from dataclasses import dataclass, field

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
    read: PointRead | None
    key_places: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    padded: tuple[int | None, ...] = ()
    tables: dict[int, RowTables] = field(default_factory=dict)  # by part


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
        known = self._known(statement.tree, types, context)
        if known.read is None:
            return None
        key = known.read.key_values(values)
        if key is None:
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
            row = await self._row(known, known.read, key, timestamp, own)
        except (CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure):
            return None
        return _result(known, known.read, row)

    def described(
        self, statement: Query, types: tuple[SqlType | None, ...], context: PlannerContext
    ) -> tuple[tuple[SqlType, ...], tuple[ResultColumn, ...]] | None:
        """Parameter types and columns of such a query; None for any other."""
        read = self._known(statement.tree, types, context).read
        parameters = None if read is None else read.parameter_types(types)
        return None if read is None or parameters is None else (parameters, read.columns)

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
        known: _Known,
        read: PointRead,
        key: list[object],
        timestamp: Timestamp | None,
        own: OwnChanges | None,
    ) -> StoredRow | None:
        ordinal = ordinal_for(read.table, [key[place] for place in known.key_places])
        if ordinal == NO_PART:
            return None
        fragment = read.table.parts[ordinal].fragments[read.group]
        tables = known.tables.get(ordinal)
        if tables is None:
            tables = known.tables[ordinal] = RowTables(fragment_schema(read.table, fragment))
        if own is not None and fragment.tablet_id not in own.tablets:
            own = None
        try:
            stored = tables.encode_key(key)
        except ValueError:  # no row can have it
            return None
        (row,) = await self._services.tablets.read_stored(
            fragment.tablet_id, fragment.id, (stored,), timestamp, own
        )
        if row is None:
            return None
        places = [tables.names.index(name) for name in known.names]
        return tuple(row[place] for place in places)


def _looked_at(
    tree: exp.Expr, types: tuple[SqlType | None, ...], context: PlannerContext
) -> _Known:
    read = point_read(tree, context, types)
    if read is None:
        return _Known(tree, None)
    places = tuple(read.table.key.index(column) for column in read.table.partition_columns)
    wanted = [read.table.column(column_id) for column_id in read.wanted]
    padded = tuple(c.type.length if c.type.kind is Kind.BPCHAR else None for c in wanted)
    return _Known(tree, read, places, tuple(store_name(c.id) for c in wanted), padded)


def _result(known: _Known, read: PointRead, row: StoredRow | None) -> Result:
    if row is None:
        return Result("SELECT 0", read.columns, _rows(None))
    tables = next(iter(known.tables.values()))
    batch = tables.to_batch([row], known.names)
    for place, length in enumerate(known.padded):
        if length is not None:
            column = pc.utf8_rpad(batch.column(place), length)
            batch = batch.set_column(place, batch.schema.names[place], column)
    return Result("SELECT 1", read.columns, _rows(batch))


async def _rows(batch: pa.RecordBatch | None) -> AsyncIterator[pa.RecordBatch]:
    if batch is not None:
        yield batch
