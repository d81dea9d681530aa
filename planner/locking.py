"""SELECT ... FOR UPDATE and its like: which rows are locked, and how the query yields them.

The query is planned without its LIMIT and OFFSET, which count the rows that could be locked, and
with more columns, which tell of each row what rows of tables it is made of
(`planner.locked_relations`); the executor takes them off again (`executor.locking`).

Left out, and refused: WITH TIES, and set-returning functions beside a locking clause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import ColumnId, Table
from cluster.errors import FeatureNotSupported, GroupingError
from planner.binder import bind_query
from planner.bound import BoundQuery, BoundRelation
from planner.context import PlannerContext
from planner.datum import Datum
from planner.locked_relations import Clause, Told, check_rows_are_told, clause_of, settled, told
from planner.optimizer import plan_query
from planner.plan import QueryPlan
from storage.types import INT8, SqlType


@dataclass(frozen=True, slots=True)
class LockedRelation:
    """A table of the query: its columns from place `at` on are `identity`, the key of `table`
    and what routes its rows. Scans call it `relation`; `clause` None: it is not locked."""

    table: Table
    relation: str
    identity: tuple[ColumnId, ...]
    clause: Clause | None
    at: int


@dataclass(frozen=True, slots=True)
class LockingPlan:
    """`source` yields the query's `visible` columns and then what tells the rows of
    `relations`. `limits` yields one row: LIMIT and OFFSET, NULL without."""

    source: QueryPlan
    visible: int
    relations: tuple[LockedRelation, ...]
    limits: QueryPlan


def locks_rows(tree: exp.Expr) -> bool:
    """Whether the query has a locking clause of its own."""
    return bool(tree.args.get("locks"))


def without_locks(tree: exp.Expr) -> exp.Expr:
    """The query as it would be without any locking clause, in subqueries either."""
    copied = tree.copy()
    for lock in list(copied.find_all(exp.Lock)):
        lock.pop()
    return copied


def settled_locks(tree: exp.Expr, context: PlannerContext) -> exp.Select:
    """The query with locking clauses in those subqueries that have to lock for themselves."""
    clause = clause_of(tree.args["locks"][0])
    if isinstance(tree, exp.Values):
        raise FeatureNotSupported(f"{clause.name} cannot be applied to VALUES")
    check_rows_are_told(tree, clause)
    if not isinstance(tree, exp.Select):
        raise FeatureNotSupported(f"{clause.name} is not supported here")
    return settled(tree, context)


def plan_locking(
    tree: exp.Query,
    context: PlannerContext,
    *,
    parameters: Sequence[SqlType | None] = (),
    values: Sequence[Datum] | None = None,
) -> LockingPlan:
    """The plan of a query with a locking clause that `settled_locks` gave, its subqueries with
    clauses run."""
    clause = clause_of(tree.args["locks"][0])
    query = tree.copy()
    assert isinstance(query, exp.Select)
    relations = told(query, context)
    limit, offset = query.args.get("limit"), query.args.get("offset")
    for part in ("locks", "limit", "offset"):
        query.set(part, None)
    try:
        bound = bind_query(query, context, parameters=parameters, values=values)
    except GroupingError as error:
        raise FeatureNotSupported(
            f"{clause.name} is not allowed with aggregate functions"
        ) from error
    counts = _counts(limit, offset, clause)
    bound_numbers = bind_query(
        counts, context, parameters=parameters, values=values, expected=[INT8, INT8]
    )
    visible = len(bound.columns) - sum(len(each.names) for each in relations)
    return LockingPlan(
        plan_query(bound, context),
        visible,
        tuple(_placed(relations, bound, visible)),
        plan_query(bound_numbers, context),
    )


def _placed(relations: Sequence[Told], bound: BoundQuery, visible: int) -> list[LockedRelation]:
    found, at = [], visible
    for each in relations:
        (operand,) = bound.columns[at].operands
        found.append(
            LockedRelation(each.table, _origin(bound.tree, operand), each.identity, each.clause, at)
        )
        at += len(each.identity)
    return found


def _origin(query: exp.Query, name: str) -> str:
    """The relation of which the query's output column is a column, perhaps in another type."""
    item = next(item for item in query.selects if item.alias == name)
    column = item.find(exp.Column)
    assert column is not None
    sources = [query.args["from_"].this, *(j.this for j in query.args.get("joins") or [])]
    source = next(each for each in sources if each.alias_or_name == column.table)
    relation = source.meta.get("relation")
    if isinstance(relation, BoundRelation):
        return relation.name
    inner = source.this
    while isinstance(inner, exp.Subquery):
        inner = inner.this
    assert isinstance(inner, exp.Query)
    return _origin(inner, column.name)


def target_relation(bound: BoundQuery, at: int = 0) -> str:
    """What scans call the target of a statement, whose key the query yields from `at` on."""
    return _origin(bound.tree, bound.columns[at].operands[0])


def _counts(limit: exp.Expr | None, offset: exp.Expr | None, clause: Clause) -> exp.Select:
    counts: list[exp.Expr] = []
    for node in (limit, offset):
        if isinstance(node, exp.Fetch):
            options = node.args.get("limit_options")
            if options is not None and options.args.get("with_ties"):
                raise FeatureNotSupported(f"{clause.name} with WITH TIES is not supported")
            counts.append(node.args.get("count") or exp.Literal.number(1))
        else:
            counts.append(exp.Null() if node is None else node.expression)
    return exp.Select(
        expressions=[exp.Cast(this=count, to=exp.DataType.build("bigint")) for count in counts]
    )
