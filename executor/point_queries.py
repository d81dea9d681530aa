"""Queries for one row by its key, or a few, from the row store of its tablet's leader.

    statement -> `executor.point_plans` -> the part for the key -> `read_stored` there -> one batch

No snapshot is drawn for a statement that commits by itself or in READ COMMITTED: at the leader
the newest row is the right one (rule R2), and what the transaction itself changed is laid over
it (R5). A transaction that keeps its snapshot reads at that; rows of several tablets, by a list of
keys, are read at one snapshot. No stage runs and DuckDB is not asked.

Without a timestamp nothing says how new the catalog must be (rule T3), so the node's own copy is
used: a definition is acknowledged when every node that answers has it, and a tablet refuses
fragments that it no longer has. Whatever is refused, or fails in a way that may pass, goes the
usual way, which plans anew and tries again.

A SERIALIZABLE transaction remembers the key, so that its commit validates just that (rule I4).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pyarrow as pa

from executor.execution import Result
from executor.point_plans import Place, PointPlan, PointPlans
from executor.services import ExecutorServices
from executor.session_transaction import SERIALIZABLE, SessionTransaction
from executor.short_ways import or_usual_way
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.statements import Query
from storage.fragments import OwnChanges, Timestamp
from storage.row_closures import NotByRow
from storage.row_tables import StoredRow
from storage.row_values import encoding_of
from storage.types import SqlType


class PointQueries:
    """One a node."""

    def __init__(self, services: ExecutorServices) -> None:
        self._services = services
        self.plans = PointPlans()

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
        plan = self.plans.of_tree(statement, types, context)
        places = None if plan is None else _places(plan, values)
        if plan is None or places is None:
            return None
        timestamp: Timestamp | None = None
        own: OwnChanges | None = None
        if transaction is not None:
            if transaction.definitions.any:
                return None
            if transaction.isolation == SERIALIZABLE and len(plan.point.table.groups) > 1:
                return None  # who changes a row is known by its key in the first group alone
            if transaction.keeps_snapshot:
                timestamp, catalog = await transaction.snapshot()
                if catalog is not context.catalog:
                    return None
            own = transaction.own_changes()
            for place in places:
                for key in place.keys:
                    transaction.note_key(place.tablet_id, place.fragment_id, key)
        with or_usual_way:
            found = await self._found(places, timestamp, own, context)
            return _result(plan, [row for row in found if row is not None], values)
        return None

    def described(
        self, statement: Query, types: tuple[SqlType | None, ...], context: PlannerContext
    ) -> tuple[tuple[SqlType, ...], tuple[ResultColumn, ...]] | None:
        """Parameter types and columns of such a query; None for any other."""
        plan = self.plans.of_tree(statement, types, context)
        parameters = None if plan is None else plan.point.parameter_types(types)
        return None if plan is None or parameters is None else (parameters, plan.columns)

    async def _found(
        self,
        places: Sequence[Place],
        timestamp: Timestamp | None,
        own: OwnChanges | None,
        context: PlannerContext,
    ) -> Sequence[StoredRow | None]:
        """The rows; those of several tablets at one snapshot."""
        if len(places) <= 1:
            return await self._stored(places[0], timestamp, own) if places else ()
        timestamps = self._services.timestamps
        if timestamp is None:
            timestamp, version = await timestamps.snapshot()
            if version > context.catalog.version:
                raise NotByRow("a snapshot of a newer catalog")
        with timestamps.held(timestamp):
            asked = [self._stored(place, timestamp, own) for place in places]
            listed = await asyncio.gather(*asked, return_exceptions=True)
        for each in listed:
            if isinstance(each, BaseException):
                raise each
        return [row for rows in listed if not isinstance(rows, BaseException) for row in rows]

    async def _stored(
        self, place: Place, timestamp: Timestamp | None, own: OwnChanges | None
    ) -> Sequence[StoredRow | None]:
        if own is not None and place.tablet_id not in own.tablets:
            own = None
        return await self._services.tablets.read_stored(
            place.tablet_id, place.fragment_id, place.keys, timestamp, own
        )


def _places(plan: PointPlan, values: Sequence[Datum]) -> list[Place] | None:
    """Where the rows are; None where only the usual way can tell."""
    place = plan.find(values)
    if isinstance(place, Place):
        return [place]
    if not place:
        return []
    return plan.find_all(values) if plan.point.more_keys else None


def _result(plan: PointPlan, rows: Sequence[StoredRow], values: Sequence[Datum]) -> Result:
    answers = [plan.answer(row, values) for row in rows]
    kept = [answer for answer in answers if answer is not None]
    if not kept:
        return Result("SELECT 0", plan.columns, _rows(None))
    arrays = []
    for column, plain in zip(plan.columns, zip(*kept, strict=True), strict=True):
        encoding = encoding_of(column.type)
        stored = [None if value is None else encoding.encode(value) for value in plain]
        arrays.append(encoding.to_arrow(stored))
    names = [column.name for column in plan.columns]
    batch = pa.RecordBatch.from_arrays(arrays, names)
    return Result(f"SELECT {len(kept)}", plan.columns, _rows(batch))


async def _rows(batch: pa.RecordBatch | None) -> AsyncIterator[pa.RecordBatch]:
    if batch is not None:
        yield batch
