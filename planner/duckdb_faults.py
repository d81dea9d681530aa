"""Queries that DuckDB 2.0.0 refuses or answers wrongly, spelled so that it does not.

- **DISTINCT ON.** A join above it hands its keys down as a filter (join_filter_pushdown), past
  the choice of each group's first row, so that other rows come first. A LIMIT stops the filter.
- **Outer joins with nothing.** Statistics that show one side of the join to be empty are taken
  to say that nothing comes out: a LIMIT above is left away as one that keeps everything (one
  with an OFFSET stays), a count is known to be 0. Of how many rows a cross product with UNNEST
  has DuckDB knows nothing.
- **Outer joins without a match.** `LEFT JOIN y ... WHERE y.key IS NULL` becomes an anti join,
  without y's other columns, which a condition above may name; then the query fails. COALESCE
  around the test hides it (`stages_sql`).
- **Correlated `(a, b) IN (query)`** is not implemented; two EXISTS say the same.

`tests/planner/test_duckdb_faults.py` fails when a version of DuckDB has mended one of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from planner.algebra_scalars import copy_tree

NO_LIMIT = 2**63 - 1
# One row of which DuckDB does not know that it is one.
UNKNOWN_ROWS = '(SELECT UNNEST([0]) AS "~row")'


def runnable(tree: exp.Expr) -> exp.Expr:
    """The bound query in place, with what DuckDB cannot do respelled."""
    for select in list(tree.find_all(exp.Select)):
        _stop_filters(select)
    for query in tree.find_all(exp.Query):
        if query.args.get("limit") and not query.args.get("offset"):
            query.set("offset", exp.Offset(expression=exp.Literal.number(0)))
    for join in list(tree.find_all(exp.Join)):
        if join.side in ("LEFT", "FULL", "RIGHT"):
            _hide_size(join)
    for node in reversed(list(tree.find_all(exp.In))):  # the inner ones first
        if isinstance(_bare(node.this), exp.Tuple) and _is_correlated(node):
            node.replace(_membership(node))
    return tree


def _stop_filters(select: exp.Select) -> None:
    distinct = select.args.get("distinct")
    on = distinct.args.get("on") if distinct is not None else None
    if on is not None and not select.args.get("limit"):
        select.set("limit", exp.Limit(expression=exp.Literal.number(NO_LIMIT)))


def _hide_size(join: exp.Join) -> None:
    """The same rows joined, without DuckDB knowing how many they are."""
    rows = join.this
    alias = rows.alias if isinstance(rows, exp.Table | exp.Subquery) else ""
    if not alias:
        return
    one = exp.Subquery(
        this=exp.Select(expressions=[_unnested_row()]),
        alias=exp.TableAlias(this=_quoted("~rows")),
    )
    star = exp.Column(this=exp.Star(), table=_quoted(alias))
    select = exp.Select(
        expressions=[star], from_=exp.From(this=rows), joins=[exp.Join(this=one, kind="CROSS")]
    )
    join.set("this", exp.Subquery(this=select, alias=exp.TableAlias(this=_quoted(alias))))


def _unnested_row() -> exp.Expr:
    call = exp.Anonymous(this="UNNEST", expressions=[exp.Array(expressions=[_zero()])])
    return exp.alias_(call, "~row", quoted=True)


def _zero() -> exp.Expr:
    return exp.Literal.number(0)


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _is_correlated(node: exp.In) -> bool:
    """Whether the query names relations that are not its own."""
    query = node.args.get("query")
    if query is None:
        return False
    made = {t.alias_or_name for t in query.find_all(exp.Table)}
    made |= {t.alias for t in query.find_all(exp.Subquery, exp.Values, exp.Unnest, exp.Lateral)}
    return any(c.table and c.table not in made for c in query.find_all(exp.Column))


def _membership(node: exp.In) -> exp.Expr:
    """CASE of two EXISTS: a row that is equal, or else one that may be."""
    values = _bare(node.this).expressions
    query = node.args["query"]
    while isinstance(query, exp.Subquery | exp.Paren):
        query = query.this
    names = [f"member {place}" for place in range(1, len(values) + 1)]
    equal = [
        exp.Paren(this=exp.EQ(this=_column(name), expression=exp.Paren(this=copy_tree(value))))
        for name, value in zip(names, values, strict=True)
    ]
    # IS NOT FALSE, in the form in which the binder writes it.
    unsure = [
        exp.Not(this=exp.Paren(this=exp.NullSafeEQ(this=e.copy(), expression=exp.false())))
        for e in equal
    ]
    found = _exists(query, names, equal)
    possible = _exists(query, names, unsure)
    case = exp.Case(
        ifs=[
            exp.If(this=found, true=exp.true()),
            exp.If(this=possible, true=exp.Null()),
        ],
        default=exp.false(),
    )
    return exp.Paren(this=case)


_ALIAS = "member rows"


def _column(name: str) -> exp.Column:
    return exp.Column(this=_quoted(name), table=_quoted(_ALIAS))


def _quoted(name: str) -> exp.Identifier:
    return exp.Identifier(this=name, quoted=True)


def _exists(query: exp.Expr, names: Sequence[str], conditions: Sequence[exp.Expr]) -> exp.Exists:
    alias = exp.TableAlias(this=_quoted(_ALIAS), columns=[_quoted(name) for name in names])
    rows = exp.Subquery(this=copy_tree(query), alias=alias)
    select = exp.Select(
        expressions=[exp.Literal.number(1)],
        from_=exp.From(this=rows),
        where=exp.Where(this=exp.and_(*conditions, copy=False)),
    )
    return exp.Exists(this=select)
