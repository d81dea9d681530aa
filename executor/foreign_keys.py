"""Foreign keys, looked after when a statement has done its changes (rule I5).

    statement's changes, unique constraints -> what it did to keys (`executor.key_changes`)
        keys that are gone     RESTRICT, then actions on the rows that refer to them, which are
                               statements of their own and come to this again, then NO ACTION
        values referred to     their rows are there: found, and locked FOR KEY SHARE

Everything is read as it is now, beside the transaction's own changes, at snapshots drawn after
the locks that keep what is found so. A referring row locks the row it refers to until its
transaction ends; who deletes that row, or changes its key, has it locked FOR UPDATE before it
looks for rows that refer to it. So of the two one waits for the other and then sees it: where the
insert is first, its commit timestamp was drawn before the delete got its lock, and so lies below
the delete's snapshot; where the delete is first, the insert finds no row, or not that one.
Locks that may have been lost with their leader are asked for again once the commit timestamp is
drawn (`Transaction.guards`), before anything is decided.

A statement that has no transaction to be part of gets one here. What is deferred is looked at in
the same way before the commit begins (`executor.deferred_keys`); actions never are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import ColumnId, ForeignKey, ReferentialAction, Table, TableId
from executor.execution import Execution
from executor.foreign_key_errors import not_present, row_texts, still_referenced
from executor.foreign_key_reads import Found, lock_by_key
from executor.given_rows import given
from executor.key_changes import KeyChanges, numbered
from executor.row_locking import LockedRows, RowLocker, relation_of
from executor.writes import rows_of, run_delete, run_update
from planner.binder import bind_query
from planner.foreign_keys import (
    KEYS,
    ROW,
    action_text,
    keys_still_there,
    parsed,
    referenced_rows,
    referring_rows,
)
from planner.optimizer import plan_query
from planner.plan import QueryPlan
from planner.statements import Delete, Query, Update
from planner.write_assignments import routing_columns
from storage.locks import LockMode
from storage.types import INT8, SqlType

_ACTING = (ReferentialAction.CASCADE, ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


async def keep_foreign_keys(execution: Execution) -> None:
    """Looks after what the transaction's statement has done since it began, or since the last
    call. Raises 23503 and 23001."""
    transaction = execution.transaction
    assert transaction is not None
    changes = list(transaction.key_changes)
    transaction.key_changes.clear()
    for change in changes:
        await _follow_keys(execution, change)
    for change in changes:
        await _check_references(execution, change)


# ---------------------------------------------------------------------------------------
# Constraints that wait for the end of the transaction


class _Later(Protocol):
    """A check of a table's foreign key, both as they are when it runs."""

    async def __call__(self, execution: Execution, table: Table, key: ForeignKey) -> None: ...


def _defers(execution: Execution, table: Table, key: ForeignKey) -> bool:
    transaction = execution.transaction
    assert transaction is not None
    return transaction.deferred_keys.defers(table, key)


def _check_later(execution: Execution, table: Table, key: ForeignKey, check: _Later) -> None:
    transaction = execution.transaction
    assert transaction is not None

    async def run() -> None:
        catalog = transaction.definitions.view(execution.services.catalog.current)
        context = dataclasses.replace(execution.context, catalog=catalog)
        current = dataclasses.replace(execution, context=context, deadline_s=None)
        present = catalog.tables.get(table.id)
        for each in () if present is None else present.foreign_keys:
            if present is not None and each.name == key.name:
                await check(current, present, each)

    transaction.deferred_keys.wait(transaction.statement_command, (table.id, key.name), run)


# ---------------------------------------------------------------------------------------
# Rows that refer to others


async def _check_references(execution: Execution, change: KeyChanges) -> None:
    """Every value that new rows refer to is some row's key, and stays so."""
    for key in change.table.foreign_keys:
        values = change.referring(key)
        if not values.num_rows:
            continue
        if _defers(execution, change.table, key):
            again = partial(_check_still_referring, values=values)
            _check_later(execution, change.table, key, again)
            continue
        values = _whole(execution, change.table, key, values)
        if values.num_rows:
            await _lock_referenced(execution, change.table, key, values)


async def _check_still_referring(
    execution: Execution, table: Table, key: ForeignKey, values: pa.Table
) -> None:
    """The same of values of earlier statements, as far as rows refer to them still."""
    values = _whole(execution, table, key, values)
    if not values.num_rows:
        return
    types = [table.column(column).type for column in key.columns]
    present = await _numbers(execution, values, types, referring_rows(table, key, every=True))
    values = numbered(values.take(pa.array(sorted(present), pa.int64())).drop_columns([ROW]))
    if values.num_rows:
        await _lock_referenced(execution, table, key, values)


def _whole(execution: Execution, table: Table, key: ForeignKey, values: pa.Table) -> pa.Table:
    """Those without NULLs; the others refer to nothing, or break MATCH FULL."""
    nulls = sum(
        (pc.cast(pc.is_null(column), pa.int32()).to_numpy() for column in values.columns[:-1]),
        start=np.zeros(values.num_rows, dtype=np.int32),
    )
    mixed = np.flatnonzero((nulls > 0) & (nulls < len(key.columns)))
    if key.match_full and len(mixed):
        target = execution.context.catalog.tables[key.target]
        raise not_present(table, target, key, _texts(table, key.columns, values, int(mixed[0])))
    return numbered(values.filter(pa.array(nulls == 0)).drop_columns([ROW]))


async def _lock_referenced(
    execution: Execution, table: Table, key: ForeignKey, values: pa.Table
) -> None:
    found = await _locked_by_key(execution, key, values)
    if found is None:
        found = await _found_and_locked(execution, table, key, values)
    if not found.all():
        target = execution.context.catalog.tables[key.target]
        row = int(np.flatnonzero(~found)[0])
        raise not_present(table, target, key, _texts(table, key.columns, values, row))


async def _locked_by_key(execution: Execution, key: ForeignKey, values: pa.Table) -> Found | None:
    transaction = execution.transaction
    assert transaction is not None
    target = execution.context.catalog.tables[key.target]
    transaction.begin_part()
    return await lock_by_key(execution, target, key, values)


async def _found_and_locked(
    execution: Execution, table: Table, key: ForeignKey, values: pa.Table
) -> Found:
    """The same by a join, for as many values as there are."""
    found = np.zeros(values.num_rows, dtype=bool)
    types = [table.column(column).type for column in key.columns]
    async with _now(execution, values, types) as current:
        target = current.context.catalog.tables[key.target]
        identity = routing_columns(target)
        plan = _planned(current, referenced_rows(target, key, identity))
        transaction = execution.transaction
        assert transaction is not None
        relation = relation_of(plan, target)
        locked = LockedRows(target, relation, identity, LockMode.FOR_KEY_SHARE)
        locker = RowLocker(current, transaction.statement(), plan, locked, newest=True)
        async for batch in locker.batches():
            found[batch.column(len(identity)).to_numpy(zero_copy_only=False)] = True
    return found


# ---------------------------------------------------------------------------------------
# Rows that others refer to


def references_to(execution: Execution, table: Table) -> Iterator[tuple[Table, ForeignKey]]:
    """The foreign keys that refer to the table, with theirs."""
    for table_id in table.referenced_by:
        referring = execution.context.catalog.tables[table_id]
        for key in referring.foreign_keys:
            if key.target == table.id:
                yield referring, key


async def _follow_keys(execution: Execution, change: KeyChanges) -> None:
    """What refers to keys that are gone is gone, too, refers to others, or is an error."""
    found = []
    for referring, key in references_to(execution, change.table):
        for keys, is_update in change.gone(key.target_columns):
            action = key.on_update if is_update else key.on_delete
            found.append((referring, key, keys, is_update, action))
    for referring, key, keys, _, action in found:
        if action is ReferentialAction.RESTRICT:
            await _refuse_referred(execution, change.table, referring, key, keys, restricts=True)
    for referring, key, keys, is_update, action in found:
        if action in _ACTING:
            await _act(execution, change.table, referring, key, keys, is_update)
    for referring, key, keys, _, action in found:
        if action not in (ReferentialAction.NO_ACTION, ReferentialAction.SET_DEFAULT):
            continue
        if _defers(execution, referring, key):
            again = partial(_check_not_referred, target_id=change.table.id, keys=keys)
            _check_later(execution, referring, key, again)
        else:
            await _refuse_dangling(execution, change.table, referring, key, keys)


async def _refuse_dangling(
    execution: Execution, table: Table, referring: Table, key: ForeignKey, keys: pa.Table
) -> None:
    keys = await _without_present(execution, table, key, keys)
    await _refuse_referred(execution, table, referring, key, keys, restricts=False)


async def _check_not_referred(
    execution: Execution, referring: Table, key: ForeignKey, target_id: TableId, keys: pa.Table
) -> None:
    """NO ACTION of keys that earlier statements have taken away."""
    table = execution.context.catalog.tables[target_id]
    await _refuse_dangling(execution, table, referring, key, keys)


async def _act(
    execution: Execution,
    table: Table,
    referring: Table,
    key: ForeignKey,
    keys: pa.Table,
    is_update: bool,
) -> None:
    action = key.on_update if is_update else key.on_delete
    statement = parsed(action_text(referring, key, action, gone=not is_update))
    async with _now(execution, keys, _types(table, key, keys)) as current:
        if isinstance(statement, Delete):
            await run_delete(current, statement)
        else:
            assert isinstance(statement, Update)
            await run_update(current, statement)
    await keep_foreign_keys(execution)


async def _without_present(
    execution: Execution, table: Table, key: ForeignKey, keys: pa.Table
) -> pa.Table:
    """The keys that no other row has instead."""
    present = await _numbers(
        execution, keys, _types(table, key, keys), keys_still_there(table, key)
    )
    left = np.ones(keys.num_rows, dtype=bool)
    left[present] = False
    return numbered(keys.filter(pa.array(left)).drop_columns([ROW]))


async def _refuse_referred(
    execution: Execution,
    table: Table,
    referring: Table,
    key: ForeignKey,
    keys: pa.Table,
    *,
    restricts: bool,
) -> None:
    if not keys.num_rows:
        return
    found = await _numbers(
        execution, keys, _types(table, key, keys), referring_rows(referring, key)
    )
    if found:
        texts = _texts(table, key.target_columns, keys, found[0])
        raise still_referenced(referring, table, key, texts, restricts=restricts)


def _types(table: Table, key: ForeignKey, keys: pa.Table) -> list[SqlType]:
    """Of the keys' columns: the old values', then, where there are some, the new ones'."""
    own = [table.column(column).type for column in key.target_columns]
    return own + own if keys.num_columns > len(own) + 1 else own


# ---------------------------------------------------------------------------------------
# Reading as it is now


@asynccontextmanager
async def _now(
    execution: Execution, keys: pa.Table, types: Sequence[SqlType]
) -> AsyncIterator[Execution]:
    """The execution at a snapshot drawn now, seeing all that the transaction has done so far,
    with these rows at hand."""
    services, transaction = execution.services, execution.transaction
    assert transaction is not None
    transaction.begin_part()
    timestamp, version = await services.timestamps.snapshot()
    catalog = await services.catalog.wait_version(version)
    context = dataclasses.replace(execution.context, catalog=catalog)
    current = dataclasses.replace(
        execution,
        context=context,
        timestamp=timestamp,
        parameter_types=(),
        values=(),
        notes_reads=False,
    )
    with (
        services.timestamps.held(timestamp),
        given(current, KEYS, keys, (*types, INT8)) as joined,
    ):
        yield joined


async def _numbers(
    execution: Execution, keys: pa.Table, types: Sequence[SqlType], text: str
) -> list[int]:
    """The numbers that a query gives."""
    found: list[int] = []
    async with (
        _now(execution, keys, types) as current,
        rows_of(current, _planned(current, text)) as run,
    ):
        async for batch in run.batches():
            found += batch.column(0).to_pylist()
    return found


def _planned(execution: Execution, text: str) -> QueryPlan:
    statement = parsed(text)
    assert isinstance(statement, Query)
    return plan_query(bind_query(statement.tree, execution.context), execution.context)


def _texts(
    table: Table, columns: Sequence[ColumnId], rows: pa.Table, row: int
) -> tuple[str | None, ...]:
    (batch,) = rows.select(list(range(len(columns)))).slice(row, 1).combine_chunks().to_batches()
    return row_texts(batch, 0, [table.column(column).type for column in columns])
