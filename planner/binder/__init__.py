"""The binder: names and types of a parsed query, and its meaning written for DuckDB.

In the order control flows:

    statement               what all blocks of a statement share
    query, blocks           blocks, set operations, VALUES; their parts
      common_tables, settling WITH; the final types of outputs
    relations, scope        FROM, and the names that it puts in sight
      tables, using           what a name in FROM means; columns that a join makes one
    clause                  what may stand where
    expressions             scalars: a rule for each class of node, from these modules:
      references, constants   names; literals and parameters
      operators, quantifiers  two values; one against many (IN, ANY, ALL)
      predicates, constructs  AND, IS, BETWEEN, LIKE; CASE, casts, arrays, subqueries
      calls, special          functions; sequence_calls: those over sequences
      windows, sort_keys      what OVER says; sort keys, wherever ORDER BY stands
    trees                   parsed trees taken apart
    grouping, ordering      GROUP BY; ORDER BY, DISTINCT ON and LIMIT
    naming, output          names of output columns, and what the client gets

The rules of each family of types are in `planner.semantics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from planner.binder.clause import Clause
from planner.binder.expressions import ExpressionBinder
from planner.binder.output import finished, shown
from planner.binder.query import QueryBinder
from planner.binder.scope import Namespace, Scope, ScopeColumn, Source
from planner.binder.settling import Settling
from planner.binder.statement import Statement
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.types import Coercion
from storage.types import SqlType


def bind_query(
    tree: exp.Query | exp.Expr,
    context: PlannerContext,
    *,
    parameters: Sequence[SqlType | None] = (),
    values: Sequence[Datum] | None = None,
    expected: Sequence[SqlType] | None = None,
) -> BoundQuery:
    """The query bound; `DqeError` with PostgreSQL's SQLSTATE where it cannot be.

    `parameters` are the types given for `$1`, ...; those not given are inferred. With `values`
    parameters become literals. `expected` are the columns that rows are assigned to (INSERT):
    outputs are cast to them as stored, and shown to no client.
    """
    statement = Statement(context, parameters, values)
    binder = QueryBinder(statement)
    block = binder.bind(tree, None, expected)
    if expected is not None:
        binder.settling.assign(block, expected)
        columns = tuple(ResultColumn(o.name, o.type, (o.alias,)) for o in block.outputs)
    else:
        binder.settling.settle(block)
        columns = finished(block, statement.casts)
    types = statement.parameter_types()
    return BoundQuery(block.tree, columns, tuple(statement.relations), types)


def bind_scalar(
    expression: exp.Expr,
    columns: Sequence[tuple[str, SqlType]],
    context: PlannerContext,
    *,
    label: Callable[[str], str] = str,
    expected: SqlType | None = None,
    relation: str | None = None,
    parameters: Sequence[SqlType | None] = (),
    values: Sequence[Datum] | None = None,
    for_client: bool = False,
) -> exp.Expr:
    """An expression over these columns, for CHECK, DEFAULT, RETURNING and COPY's WHERE.

    Columns come out under what `label` makes of their names, unqualified, or qualified by
    `relation`; subqueries and aggregates are refused. With `expected` the result is cast for
    assignment to that type; `for_client` gives it the form that clients see.
    """
    statement = Statement(context, parameters, values)
    visible = tuple(ScopeColumn(name, t, relation or "", label(name)) for name, t in columns)
    scope = Scope(Namespace([Source(relation or "", relation or "", visible)], list(visible)))
    binder = ExpressionBinder(statement, scope, Clause.CHECK, None)
    bound = binder.bind(expression)
    if for_client:
        return shown(bound, statement.casts)
    if expected is None:
        return bound
    return Settling(statement).assigned(
        statement.casts.coerce(bound, expected, Coercion.ASSIGNMENT), expected
    )


def bind_over_row(
    expression: exp.Expr,
    relations: Sequence[tuple[str, Sequence[tuple[str, SqlType, str]]]],
    context: PlannerContext,
) -> exp.Expr:
    """An expression over one row made of several relations', in the form that clients see.

    A relation is its name and its columns, each with the label under which it comes out.
    """
    statement = Statement(context, (), None)
    sources = [
        Source(name, "", tuple(ScopeColumn(c, t, "", label) for c, t, label in columns))
        for name, columns in relations
    ]
    visible = [column for source in sources for column in source.columns]
    scope = Scope(Namespace(sources, visible))
    binder = ExpressionBinder(statement, scope, Clause.CHECK, None)
    return shown(binder.bind(expression), statement.casts)


__all__ = ["bind_over_row", "bind_query", "bind_scalar"]
