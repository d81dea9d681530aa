"""Queries for the rows that an index leads to, from the row stores of the tablets' leaders.

    statement -> `planner.index_reads` -> the parts that may have such rows -> `scan_stored` at
    each -> `executor.index_answers` -> one batch

One tablet gives its newest rows (rule R2). Several are read at one snapshot, or at that of the
transaction, and what the transaction itself changed is laid over (R5). Where a tablet refuses a
snapshot that its store has gone past, another is drawn. Whatever is refused, gives more rows than
an index is for, or fails in a way that may pass, goes the usual way, through the columnar store.

A SERIALIZABLE transaction has its commit validate the range that was asked for (rule I4): a row
that comes into it later is in none of the keys that were found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlglot import exp

from catalog.bounds import NO_PART, ordinals_by
from catalog.fragment_schemas import fragment_schema, store_name
from catalog.model import Catalog, Fragment
from executor.execution import Execution, Result
from executor.index_answers import IndexAnswer
from executor.kept_answers import KeptAnswers
from executor.services import ExecutorServices
from executor.session_transaction import SessionTransaction
from executor.short_ways import or_usual_way
from planner.context import PlannerContext
from planner.datum import Datum
from planner.index_reads import IndexRead, Source, index_read
from planner.plan import PlanNote
from planner.point import Parameter
from planner.statements import Query
from storage.fragments import OwnChanges, Timestamp
from storage.index_reads import MOST_ROWS, IndexScan
from storage.row_tables import RowTables, StoredRow
from storage.types import SqlType

# How often a snapshot is drawn anew where stores have gone past it.
SNAPSHOTS = 3


class IndexQueries:
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
        if answer is None:
            return None
        with or_usual_way:
            found = await self._found(answer, values, context.catalog, transaction)
            return None if found is None else answer.result(found, values)
        return None

    def answer_of(
        self, statement: Query, types: tuple[SqlType, ...], context: PlannerContext
    ) -> IndexAnswer | None:
        """How the query is answered, if it is such a one, for as long as the catalog is this."""
        return self._answers.of(statement, types, context)

    async def plain(
        self,
        answer: IndexAnswer,
        values: Sequence[Datum],
        catalog: Catalog,
        transaction: SessionTransaction | None,
    ) -> list[list[Any]] | None:
        """The answer's rows as plain values, or None where the query is to go the usual way;
        `catalog` is the one that `answer_of` was asked with."""
        with or_usual_way:
            found = await self._found(answer, values, catalog, transaction)
            return None if found is None else answer.plain(found, values)
        return None

    async def _found(
        self,
        answer: IndexAnswer,
        values: Sequence[Datum],
        catalog: Catalog,
        transaction: SessionTransaction | None,
    ) -> list[Sequence[StoredRow]] | None:
        read = answer.read
        scan = scan_of(read, answer.tables, values)
        fragments = None if scan is None else fragments_of(read, values)
        if scan is None or fragments is None:
            return None
        if transaction is not None and transaction.definitions.any:
            return None
        return await self._rows(fragments, scan, catalog, transaction)

    async def _rows(
        self,
        fragments: Sequence[Fragment],
        scan: IndexScan,
        catalog: Catalog,
        transaction: SessionTransaction | None,
    ) -> list[Sequence[StoredRow]] | None:
        """Each fragment's rows; None where one of them refuses."""
        own = None
        if transaction is not None:
            own = transaction.own_changes()
            for each in fragments:
                transaction.note_range(each.tablet_id, each.id, scan)
        if transaction is not None and transaction.keeps_snapshot:
            timestamp, known = await transaction.snapshot()
            return await self._at(fragments, scan, timestamp, own) if known is catalog else None
        if len(fragments) <= 1:
            return await self._at(fragments, scan, None, own)
        for _ in range(SNAPSHOTS):
            timestamp, version = await self._services.timestamps.snapshot()
            if version > catalog.version:
                return None
            with self._services.timestamps.held(timestamp):
                found = await self._at(fragments, scan, timestamp, own)
            if found is not None:
                return found
        return None

    async def _at(
        self,
        fragments: Sequence[Fragment],
        scan: IndexScan,
        timestamp: Timestamp | None,
        own: OwnChanges | None,
    ) -> list[Sequence[StoredRow]] | None:
        scan_stored = self._services.tablets.scan_stored
        asked = [
            scan_stored(each.tablet_id, each.id, scan, timestamp, own_at(own, each))
            for each in fragments
        ]
        found = await asyncio.gather(*asked, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        rows = [each for each in found if not isinstance(each, BaseException) and each is not None]
        return rows if len(rows) == len(found) else None


def _answer(
    tree: exp.Expr, context: PlannerContext, types: tuple[SqlType, ...]
) -> IndexAnswer | None:
    read = index_read(tree, context, types)
    tables = None if read is None else _tables(read)
    return None if read is None or tables is None else IndexAnswer(read, tables, context)


def _tables(read: IndexRead) -> RowTables | None:
    """How rows of all the table's parts are stored."""
    parts = read.table.parts
    if not parts:
        return None
    return RowTables(fragment_schema(read.table, parts[0].fragments[read.group]))


def own_at(own: OwnChanges | None, fragment: Fragment) -> OwnChanges | None:
    return own if own is not None and fragment.tablet_id in own.tablets else None


def scan_of(read: IndexRead, tables: RowTables, values: Sequence[Datum]) -> IndexScan | None:
    """What to ask a tablet; None where only the usual way can tell."""
    names = [store_name(column) for column in read.index]

    def stored(place: int, source: Source) -> object | None:
        plain = read.plain(place, source, values)
        return None if plain is None else tables.encoding(names[place]).encode(plain)

    prefix = [stored(place, source) for place, source in enumerate(read.equal)]
    bounds: list[tuple[object, bool] | None] = []
    for bound in (read.low, read.high):
        value = None if bound is None else stored(len(read.equal), bound[0])
        if bound is not None and value is None:
            return None
        bounds.append(None if bound is None else (value, bound[1]))
    if None in prefix:
        return None
    return IndexScan(
        tuple(names), tuple(prefix), bounds[0], bounds[1], read.descending, read.scan_limit
    )


def fragments_of(read: IndexRead, values: Sequence[Datum]) -> list[Fragment] | None:
    """Where such rows may lie."""
    table = read.table
    given = dict(zip(read.index, read.equal, strict=False))
    parts = table.parts
    if table.partition_columns and set(table.partition_columns) <= given.keys():
        places = [read.index.index(column) for column in table.partition_columns]
        key = [read.plain(place, read.equal[place], values) for place in places]
        ordinal = ordinals_by(table)(key)
        parts = () if ordinal == NO_PART else (table.parts[ordinal],)
    return [part.fragments[read.group] for part in parts]


def explained(execution: Execution, statement: Query, usual: PlanNote) -> PlanNote | None:
    """How EXPLAIN shows a query that goes this way; None for any other. `usual` is its plan."""
    if statement.as_of is not None:
        return None
    read = index_read(statement.tree, execution.context, execution.parameter_types)
    return None if read is None else noted(execution, read, usual)


def noted(execution: Execution, read: IndexRead, usual: PlanNote) -> PlanNote:
    """How EXPLAIN shows such a read; `usual` is what the query's plan says of itself."""
    fragments = None if _has_parameters(read) else fragments_of(read, execution.values)
    asked = len(read.table.parts) if fragments is None else len(fragments)
    properties: dict[str, str | int | float | list[str]] = {
        "Relation Name": read.table.name,
        "Schema": read.table.schema,
        "Alias": read.table.name,
        **{name: usual.properties.get(name, 0) for name in ("Plan Rows", "Plan Width")},
        "Index Name": read.name,
        "Index Cond": _condition(read),
        "Fragments": f"{asked} of {len(read.table.parts)}",
        "Scan Instead": f"above {MOST_ROWS} rows of a fragment",
    }
    return PlanNote("Index Lookup", usual.stage_id, properties)


def _has_parameters(read: IndexRead) -> bool:
    return any(isinstance(source, Parameter) for source in read.equal)


def _condition(read: IndexRead) -> str:
    names = [read.table.column(column).name for column in read.index]
    compared = [(name, "=", source) for name, source in zip(names, read.equal, strict=False)]
    for bound, sign in ((read.low, ">"), (read.high, "<")):
        if bound is not None:
            compared.append((names[len(read.equal)], sign + "=" * bound[1], bound[0]))
    return " AND ".join(f"{name} {sign} {shown_source(source)}" for name, sign, source in compared)


def shown_source(source: Source) -> str:
    """A constant or parameter in a condition that EXPLAIN shows."""
    return f"${source.number}" if isinstance(source, Parameter) else repr(source)
