"""SELECT ... FOR UPDATE and its like: which rows are locked, and how the query yields them.

The query is planned without its LIMIT and OFFSET, which count the rows that could be locked, and
with one more column for each that identifies a row of the locked table; the executor takes them
off again (`executor.locking`).

Left out, and refused: locking the rows of several tables at once, and locking clauses inside of
subqueries and CTEs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import ColumnId, Table
from cluster.errors import (
    FeatureNotSupported,
    GroupingError,
    UndefinedTable,
    WrongObjectType,
)
from planner.binder import bind_query
from planner.context import PlannerContext
from planner.datum import Datum
from planner.ddl_names import find_relation
from planner.optimizer import plan_query
from planner.plan import QueryPlan
from planner.statements import ObjectName
from planner.write_assignments import routing_columns
from planner.write_rows import column_reference
from storage.types import INT8, SqlType


@dataclass(frozen=True, slots=True)
class LockingPlan:
    """`source` yields the query's `visible` columns and then `identity`, the key of `table` and
    what routes its rows. `mode` is as in SQL, "for no key update"; `policy` "wait", "nowait" or
    "skip". `limits` yields one row: LIMIT and OFFSET, NULL without."""

    table: Table
    source: QueryPlan
    visible: int
    identity: tuple[ColumnId, ...]
    mode: str
    policy: str
    limits: QueryPlan


def locks_rows(tree: exp.Query) -> bool:
    """Whether the query has a locking clause of its own."""
    return bool(tree.args.get("locks"))


def without_locks(tree: exp.Query) -> exp.Query:
    """The query as it would be without its locking clauses."""
    copied = tree.copy()
    copied.set("locks", None)
    return copied


def plan_locking(
    tree: exp.Query,
    context: PlannerContext,
    *,
    parameters: Sequence[SqlType | None] = (),
    values: Sequence[Datum] | None = None,
) -> LockingPlan:
    """The plan of a query with a locking clause. 0A000 where rows cannot be told, as after
    GROUP BY."""
    lock = _one_lock(tree)
    mode = lock_mode(lock)
    if not isinstance(tree, exp.Select):
        raise FeatureNotSupported(f"{mode.upper()} is not allowed with UNION/INTERSECT/EXCEPT")
    _check_rows_are_told(tree, mode)
    table, alias = _locked_table(tree, lock, mode, context)
    identity = routing_columns(table)
    query = without_locks(tree)
    limit, offset = query.args.get("limit"), query.args.get("offset")
    query.set("limit", None)
    query.set("offset", None)
    extra = [
        exp.alias_(column_reference(table.column(c).name, alias), f"locked {place}", quoted=True)
        for place, c in enumerate(identity)
    ]
    query.set("expressions", [*query.expressions, *extra])
    try:
        bound = bind_query(query, context, parameters=parameters, values=values)
    except GroupingError as error:
        raise FeatureNotSupported(
            f"{mode.upper()} is not allowed with aggregate functions"
        ) from error
    counts = [None if node is None else node.expression for node in (limit, offset)]
    numbers = exp.Select(
        expressions=[
            exp.Cast(this=count or exp.Null(), to=exp.DataType.build("bigint")) for count in counts
        ]
    )
    bound_numbers = bind_query(
        numbers, context, parameters=parameters, values=values, expected=[INT8, INT8]
    )
    return LockingPlan(
        table,
        plan_query(bound, context),
        len(bound.columns) - len(identity),
        identity,
        mode,
        lock_policy(lock),
        plan_query(bound_numbers, context),
    )


def _one_lock(tree: exp.Query) -> exp.Lock:
    locks = tree.args["locks"]
    if len(locks) > 1:
        raise FeatureNotSupported("several locking clauses in one query are not supported")
    found: exp.Lock = locks[0]
    return found


def lock_mode(lock: exp.Lock) -> str:
    """The mode of a locking clause as in SQL, "for no key update"."""
    if lock.args.get("update"):
        return "for no key update" if lock.args.get("key") else "for update"
    return "for key share" if lock.args.get("key") else "for share"


def lock_policy(lock: exp.Lock) -> str:
    """What becomes of rows that others hold: "wait", "nowait" or "skip"."""
    # sqlglot keeps NOWAIT as a true `wait`, and SKIP LOCKED as a false one.
    wait = lock.args.get("wait")
    return "wait" if wait is None else "nowait" if wait else "skip"


def _check_rows_are_told(tree: exp.Select, mode: str) -> None:
    clauses = (("distinct", "DISTINCT"), ("group", "GROUP BY"), ("having", "HAVING"))
    for name, words in clauses:
        if tree.args.get(name):
            raise FeatureNotSupported(f"{mode.upper()} is not allowed with {words} clause")
    for item in tree.expressions:
        if item.find(exp.Window):
            raise FeatureNotSupported(f"{mode.upper()} is not allowed with window functions")


def _locked_table(
    tree: exp.Select, lock: exp.Lock, mode: str, context: PlannerContext
) -> tuple[Table, str]:
    """The table whose rows are locked, and what the query calls it."""
    source = tree.args.get("from_")
    if source is None:
        raise FeatureNotSupported(f"{mode.upper()} must name a table to lock rows of")
    relations = [source.this, *(join.this for join in tree.args.get("joins") or [])]
    named = [item.name for item in lock.args.get("expressions") or []]
    if named:
        known = {relation.alias_or_name for relation in relations}
        for name in named:
            if name not in known:
                raise UndefinedTable(
                    f'relation "{name}" in {mode.upper()} clause not found in FROM clause'
                )
        relations = [relation for relation in relations if relation.alias_or_name in named]
    if len(relations) > 1:
        raise FeatureNotSupported(
            f"{mode.upper()} of several tables in one query is not supported",
            hint=f"Name the table whose rows are to be locked: {mode.upper()} OF table.",
        )
    relation = relations[0]
    found = None
    if isinstance(relation, exp.Table):
        found = find_relation(context, ObjectName(relation.name, relation.db or None))
    if not isinstance(found, Table):
        raise WrongObjectType(
            f'cannot lock rows in relation "{relation.alias_or_name}"',
            detail="It is no table.",
        )
    return found, relation.alias_or_name
