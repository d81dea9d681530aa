"""What a definition does to rows: copies them into new fragments, and checks them.

Both follow from what the statement's tables were and what they are now, whatever it said:

- A table all of whose fragments are others is rewritten: its rows are read as they were, and
  written as an INSERT of the same transaction would: with defaults for columns that are new, with
  their expressions for columns of another type, generated ones anew, without those that went.
- A column that must not be NULL any more, and a CHECK that is new, are tested on all rows of a
  table that was not rewritten for another reason, or was.

The rows are read at a timestamp drawn under the lock that keeps writers out, and with what the
transaction itself has changed; so nothing is lost, and nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlglot import exp

from catalog.model import CheckConstraint, Column, Table, TableId
from catalog.patches import fragments_of
from cluster.errors import CheckViolation, DqeError, NotNullViolation, UniqueViolation
from executor.execution import Execution
from executor.writes import StatementRows, has_unique, insert_rows, rows_of, transaction
from planner.binder import bind_query
from planner.ddl_plan import ChangeCatalog, CreateAndFill
from planner.optimizer import plan_query
from planner.parser.expressions import parse_expression
from planner.write_plan import InsertPlan
from planner.write_rows import (
    column_reference,
    default_columns,
    generated_expressions,
    table_reference,
)


async def move_and_check(
    before: Execution, after: Execution, plan: ChangeCatalog, changed: Iterable[TableId]
) -> None:
    """Gives the tables that the plan has `changed` the rows that they are to have; raises what
    contradicts it (23502, 23505, 23514).

    Others that differ between the two catalogs were changed, and their rows moved, by somebody
    else who committed meanwhile.
    """
    block = after.transaction
    assert block is not None
    tables, present = before.context.catalog.tables, after.context.catalog.tables
    pairs = [(tables[i], present[i]) for i in changed if i in tables and i in present]
    for old, new in pairs:
        if _is_rewritten(old, new):
            await _rewrite(before, after, plan, old, new)
            block.begin_part()
    for old, new in pairs:
        await _check(after, old, new)


def _is_rewritten(old: Table, new: Table) -> bool:
    had, has = fragments_of(old), fragments_of(new)
    return bool(had) and bool(has) and had.keys().isdisjoint(has)


async def fill_table(execution: Execution, table: Table, plan: CreateAndFill) -> int:
    """CREATE TABLE AS: the rows of its query into the new table; how many."""
    assert plan.source is not None
    columns = tuple(column.id for column in table.visible_columns)
    return await _fill(execution, InsertPlan(table, columns, plan.source, None, (), None))


async def _fill(execution: Execution, plan: InsertPlan) -> int:
    rows = StatementRows(execution, None)
    try:
        async with transaction(execution) as opened:
            async with rows_of(execution, plan.source) as run:
                count = await insert_rows(execution, opened, plan, run.batches(), rows)
            await opened.commit(execution.timestamp, checks=has_unique(plan.table))
        return count
    finally:
        rows.close()


# ---------------------------------------------------------------------------------------
# Rewriting


async def _rewrite(
    before: Execution, after: Execution, plan: ChangeCatalog, old: Table, new: Table
) -> None:
    # What the rows refer to does not change, and nothing is deferred.
    target = replace(
        new,
        foreign_keys=(),
        referenced_by=(),
        primary_key=new.primary_key and replace(new.primary_key, deferrable=False),
        unique=tuple(replace(key, deferrable=False) for key in new.unique),
    )
    kept = [c for c in new.visible_columns if _is_kept(old, c)]
    items = [_value(plan, old, column) for column in kept]
    tree = exp.Select(
        expressions=items or [exp.Literal.number(1)],
        from_=exp.From(this=table_reference(old, None)),
    )
    expected = [column.type for column in kept] or None
    source = plan_query(bind_query(tree, before.context, expected=expected), before.context)
    columns = tuple(column.id for column in kept)
    given = (*columns, *(c.id for c in new.visible_columns if c.generated is not None))
    insert = InsertPlan(
        target,
        columns,
        source,
        default_columns(target, given, after.context),
        (),
        None,
        generated=generated_expressions(target, after.context),
    )
    try:
        await _fill(replace(after, timestamp=before.timestamp), insert)
    except UniqueViolation as error:
        raise _not_unique(target, error) from error
    except NotNullViolation as error:
        raise contains_nulls(target, error.column or "") from error


def _is_kept(old: Table, column: Column) -> bool:
    return column.generated is None and any(c.id == column.id for c in old.columns)


def _value(plan: ChangeCatalog, old: Table, column: Column) -> exp.Expr:
    """What a row of the old table has in a column of the new one."""
    for conversion in plan.conversions:
        if conversion.column == column.id:
            return conversion.value.copy()
    return column_reference(old.column(column.id).name, old.name)


def _not_unique(table: Table, error: UniqueViolation) -> DqeError:
    """PostgreSQL's words for rows that contradict a key that is added."""
    detail = error.detail
    if detail is not None:
        detail = detail.replace(" already exists.", " is duplicated.")
    name = error.constraint or (table.primary_key.name if table.primary_key else "")
    return UniqueViolation(
        f'could not create unique index "{name}"',
        detail=detail,
        table=table.name,
        constraint=name,
    )


# ---------------------------------------------------------------------------------------
# Checking


async def _check(execution: Execution, old: Table, new: Table) -> None:
    rewritten = _is_rewritten(old, new)
    for column in _newly_not_null(old, new):
        if not rewritten:
            condition = exp.Is(this=column_reference(column.name, new.name), expression=exp.Null())
            if await _any_row(execution, new, condition):
                raise contains_nulls(new, column.name)
    for check in _new_checks(old, new):
        if check.validated and await _any_row(execution, new, _violation(check)):
            raise _violated(new, check)


def _newly_not_null(old: Table, new: Table) -> Iterator[Column]:
    nullable = {column.id for column in old.columns if not column.not_null}
    return (column for column in new.columns if column.not_null and column.id in nullable)


def _new_checks(old: Table, new: Table) -> Iterator[CheckConstraint]:
    known = {(check.name, check.validated) for check in old.checks}
    types = {column.id: column.type for column in old.columns}
    if any(types.get(column.id, column.type) != column.type for column in new.columns):
        known = set()  # they mean something else now
    return (check for check in new.checks if (check.name, check.validated) not in known)


def _violation(check: CheckConstraint) -> exp.Expr:
    return exp.Not(this=exp.Paren(this=parse_expression(check.expression).copy()))


async def _any_row(execution: Execution, table: Table, condition: exp.Expr) -> bool:
    query = (
        exp.Select(
            expressions=[exp.Literal.number(1)], from_=exp.From(this=table_reference(table, None))
        )
        .where(condition)
        .limit(1)
    )
    plan = plan_query(bind_query(query, execution.context), execution.context)
    async with rows_of(execution, plan) as run:
        async for batch in run.batches():
            if batch.num_rows:
                return True
    return False


def contains_nulls(table: Table, column: str) -> NotNullViolation:
    """PostgreSQL's words for rows that contradict a NOT NULL that is added."""
    return NotNullViolation(
        f'column "{column}" of relation "{table.name}" contains null values',
        table=table.name,
        column=column,
    )


def _violated(table: Table, check: CheckConstraint) -> CheckViolation:
    return CheckViolation(
        f'check constraint "{check.name}" of relation "{table.name}" is violated by some row',
        table=table.name,
        constraint=check.name,
    )
