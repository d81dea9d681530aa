"""Queries that join few rows of one table with rows of others by key, from the tablets' leaders.

    statement -> `planner.joined_reads` -> the first relation's rows by an index -> the keys of the
    next that they lead to, each asked for once, at all leaders beside each other -> ...
    -> `executor.joined_answers` -> one batch

All of it is read at one snapshot, the statement's or the transaction's, and what the transaction
itself changed is laid over it (R5). Whatever is refused, leads to more rows than such a way is for,
or fails in a way that may pass, goes the usual way, through the columnar store.

A SERIALIZABLE transaction has its commit validate what the first relation was asked for, and each
key that was looked up, with a row or without (rule I4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from sqlglot import exp

from catalog.model import Fragment, FragmentId
from executor.execution import Execution, Result
from executor.index_queries import (
    fragments_of,
    noted,
    own_at,
    scan_of,
    shown_source,
)
from executor.joined_answers import Joined, JoinedAnswer, PlainKey
from executor.kept_answers import KeptAnswers
from executor.services import ExecutorServices
from executor.session_transaction import SessionTransaction
from executor.short_ways import or_usual_way
from planner.context import PlannerContext
from planner.datum import Datum
from planner.joined_reads import JoinedRead, joined_read
from planner.joined_relations import Place
from planner.joined_ways import Lookup
from planner.plan import PlanNote
from planner.statements import Query
from storage.fragments import OwnChanges, Timestamp
from storage.index_reads import MOST_ROWS
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.types import SqlType

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where and as whom one execution reads."""

    timestamp: Timestamp
    own: OwnChanges | None
    transaction: SessionTransaction | None
    values: Sequence[Datum]


class JoinedQueries:
    """What one node knows of such queries. A newer catalog empties it."""

    def __init__(self, services: ExecutorServices) -> None:
        self._services = services
        self._answers = KeptAnswers(_answer)

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
        answer = self._answers.of(statement, types, context)
        if answer is None or (transaction is not None and transaction.definitions.any):
            return None
        with or_usual_way:
            return await self._answered(answer, values, context, transaction)
        return None

    async def _answered(
        self,
        answer: JoinedAnswer,
        values: Sequence[Datum],
        context: PlannerContext,
        transaction: SessionTransaction | None,
    ) -> Result | None:
        timestamps = self._services.timestamps
        with ExitStack() as held:
            if transaction is not None and transaction.keeps_snapshot:
                timestamp, catalog = await transaction.snapshot()
                if catalog is not context.catalog:
                    return None
            else:
                timestamp, version = await timestamps.snapshot()
                if version > context.catalog.version:
                    return None
                held.enter_context(timestamps.held(timestamp))
            own = None if transaction is None else transaction.own_changes()
            reading = _Reading(timestamp, own, transaction, values)
            rows = await self._joined(answer, reading)
        return None if rows is None else answer.result(rows, values)

    async def _joined(self, answer: JoinedAnswer, reading: _Reading) -> Sequence[Joined] | None:
        found = await self._first(answer, reading)
        if found is None:
            return None
        rows: Sequence[Joined] = answer.begun(found, reading.values)
        for step, lookup in enumerate(answer.read.lookups):
            keys = answer.keys(lookup, rows, reading.values)
            known = await self._looked_up(answer, step, keys, reading)
            rows = answer.extended(step, rows, keys, known, reading.values)
        return rows

    async def _first(
        self, answer: JoinedAnswer, reading: _Reading
    ) -> Sequence[Sequence[StoredRow]] | None:
        """The first relation's rows of each fragment that may have some."""
        first = answer.read.first
        scan = scan_of(first, answer.tables[answer.read.started], reading.values)
        fragments = None if scan is None else fragments_of(first, reading.values)
        if scan is None or fragments is None:
            return None
        if reading.transaction is not None:
            for each in fragments:
                reading.transaction.note_range(each.tablet_id, each.id, scan)
        found = await _all(
            self._services.tablets.scan_stored(
                each.tablet_id, each.id, scan, reading.timestamp, own_at(reading.own, each)
            )
            for each in fragments
        )
        listed = [rows for rows in found if rows is not None]
        few = sum(map(len, listed)) <= MOST_ROWS
        return listed if few and len(listed) == len(found) else None

    async def _looked_up(
        self,
        answer: JoinedAnswer,
        step: int,
        keys: Iterable[PlainKey | None],
        reading: _Reading,
    ) -> dict[PlainKey, StoredRow]:
        """The rows by their plain keys, without those that are not there."""
        tables = answer.tables[answer.read.lookups[step].relation]
        wanted = _wanted(tables, answer.fragment_of(step), keys)
        if reading.transaction is not None:
            for each in wanted:
                for key in each.keys:
                    reading.transaction.note_key(each.fragment.tablet_id, each.fragment.id, key)
        found = await _all(
            self._services.tablets.read_stored(
                each.fragment.tablet_id,
                each.fragment.id,
                tuple(each.keys),
                reading.timestamp,
                own_at(reading.own, each.fragment),
            )
            for each in wanted
        )
        known = dict[PlainKey, StoredRow]()
        for each, rows in zip(wanted, found, strict=True):
            pairs = zip(each.plain, rows, strict=True)
            known |= {plain: row for plain, row in pairs if row is not None}
        return known


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The keys that are looked up in one fragment, plain and as stored."""

    fragment: Fragment
    plain: list[PlainKey]
    keys: list[StoredKey]


def _answer(
    tree: exp.Expr, context: PlannerContext, types: tuple[SqlType, ...]
) -> JoinedAnswer | None:
    read = joined_read(tree, context, types)
    return None if read is None else JoinedAnswer(read, context)


def _wanted(
    tables: RowTables,
    fragment_of: Callable[[PlainKey], Fragment | None],
    keys: Iterable[PlainKey | None],
) -> list[_Wanted]:
    """Each key once, by where its row would lie."""
    found: dict[FragmentId, _Wanted] = {}
    for plain in dict.fromkeys(keys):
        fragment = None if plain is None else fragment_of(plain)
        if plain is None or fragment is None:
            continue
        try:
            stored = tables.encode_key(plain)
        except ValueError:  # no row can have it
            continue
        each = found.setdefault(fragment.id, _Wanted(fragment, [], []))
        each.plain.append(plain)
        each.keys.append(stored)
    return list(found.values())


async def _all(asked: Iterable[Awaitable[T]]) -> list[T]:
    """What all of them give, once all have ended; raises what the first to fail raised."""
    found = await asyncio.gather(*asked, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]


def explained(execution: Execution, statement: Query, usual: PlanNote) -> PlanNote | None:
    """How EXPLAIN shows a query that goes this way; None for any other. `usual` is its plan."""
    if statement.as_of is not None:
        return None
    read = joined_read(statement.tree, execution.context, execution.parameter_types)
    if read is None:
        return None
    sizes = {name: usual.properties.get(name, 0) for name in ("Plan Rows", "Plan Width")}
    lookups = [
        PlanNote(
            "Key Lookup",
            usual.stage_id,
            {
                "Relation Name": lookup.table.name,
                "Schema": lookup.table.schema,
                "Alias": lookup.table.name,
                **sizes,
                "Index Cond": _condition(read, lookup),
            },
        )
        for lookup in read.lookups
    ]
    children = (noted(execution, read.first, usual), *lookups)
    return PlanNote("Lookup Join", usual.stage_id, sizes, children)


def _condition(read: JoinedRead, lookup: Lookup) -> str:
    names = [lookup.table.column(column).name for column in lookup.table.key]
    sources = [
        f"{read.tables[source.relation].name}.{source.column.name}"
        if isinstance(source, Place)
        else shown_source(source)
        for source in lookup.key
    ]
    return " AND ".join(f"{name} = {source}" for name, source in zip(names, sources, strict=True))
