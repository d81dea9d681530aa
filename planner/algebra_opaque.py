"""The gather fallback: a query that runs as it is written, on one node, over whole relations.

What an opaque query reads of each base table is kept small all the same: only the columns it
names, and only the rows that its own block's WHERE could accept, as far as that condition is
safe to evaluate early. The conditions stay in the query, too, so that an early filter can only
save work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlglot import exp

from catalog.model import Table
from planner.algebra import Column, Filter, Node, Opaque, OpaqueInput, Scalar, Scan, SystemTableScan
from planner.algebra_functions import is_query
from planner.algebra_scalars import column_scalar, conjuncts, copy_tree, is_total, scalar_of
from planner.bound import BoundRelation, column_labels, type_of

if TYPE_CHECKING:
    from planner.algebra_build import QueryBuilder


def opaque_query(
    tree: exp.Expr, builder: QueryBuilder, prefix: str, reason: str, *, root: bool
) -> Opaque | None:
    """The query as an `Opaque`; None where it refers to anything outside itself."""
    if not root and not _is_closed(tree):
        return None
    used = _columns_used(tree)
    inputs = tuple(_input(t, used, builder) for t in _base_tables(tree))
    block = _first_block(tree)
    names = [e.alias_or_name for e in block.expressions]
    output = tuple(
        Column(name if root else builder.unique(f"{prefix or 'query'}.{name}"), type_of(e))
        for name, e in zip(names, block.expressions, strict=True)
    )
    return Opaque(tree, inputs, tuple(names), output, reason)


def _is_closed(tree: exp.Expr) -> bool:
    """Whether every column and CTE that the tree names is made inside it."""
    made = {t.alias_or_name for t in tree.find_all(exp.Table)}
    made |= {t.alias for t in tree.find_all(exp.Subquery, exp.Values, exp.Unnest, exp.Lateral)}
    if any(c.table and c.table not in made for c in tree.find_all(exp.Column)):
        return False
    ctes = {c.alias for c in tree.find_all(exp.CTE)}
    return all(
        t.name in ctes
        for t in tree.find_all(exp.Table)
        if not (t._meta and "relation" in t._meta) and isinstance(t.this, exp.Identifier)
    )


def _base_tables(tree: exp.Expr) -> Iterator[exp.Table]:
    for table in tree.find_all(exp.Table):
        if table._meta and isinstance(table._meta.get("relation"), BoundRelation):
            yield table


def _columns_used(tree: exp.Expr) -> dict[str, set[str]]:
    used: dict[str, set[str]] = {}
    for column in tree.find_all(exp.Column):
        used.setdefault(column.table, set()).add(column.name)
    return used


def _first_block(tree: exp.Expr) -> exp.Expr:
    while not isinstance(tree, exp.Select):
        tree = tree.this
    return tree


def _input(table: exp.Table, used: dict[str, set[str]], builder: QueryBuilder) -> OpaqueInput:
    alias = table.alias_or_name
    relation = table.meta["relation"]
    wanted = used.get(alias, set())
    prefix = builder.unique(alias)
    source = relation.source
    if isinstance(source, Table):
        labels = column_labels(source)
        every = source.columns  # a hidden row id is read by UPDATE and DELETE
        chosen = [c for c in every if labels[c.id] in wanted]
        chosen = chosen or list(source.visible_columns[:1])
        names = tuple(labels[c.id] for c in chosen)
        columns = tuple(
            Column(_unique_name(prefix, name), c.type)
            for name, c in zip(names, chosen, strict=True)
        )
        node: Node = Scan(columns, source, prefix, tuple(chosen), relation.name)
        conditions = _early_conditions(table, dict(zip(names, columns, strict=True)))
        if conditions:
            node = Filter(node, conditions)
    else:
        shown = [c for c in source.columns if c[0] in wanted] or list(source.columns[:1])
        columns = tuple(Column(f"{prefix}.{n}", t) for n, t in shown)
        names = tuple(n for n, _ in shown)
        node = SystemTableScan(columns, source, prefix, names)
    return OpaqueInput(alias, node, tuple(zip(names, (c.name for c in columns), strict=True)))


def _unique_name(prefix: str, name: str) -> str:
    return f"{prefix}.{name}".replace("\x00", "~")


def _early_conditions(table: exp.Table, columns: dict[str, Column]) -> tuple[Scalar, ...]:
    """Conditions of the table's own block on it alone that may be applied before all else."""
    block = table.find_ancestor(exp.Select)
    where = block.args.get("where") if block is not None else None
    if block is None or where is None or not _is_preserved(table, block):
        return ()
    alias = table.alias_or_name
    found: list[Scalar] = []
    for condition in conjuncts(where.this):
        parts = list(condition.walk())
        if any(is_query(p) or isinstance(p, exp.Window) for p in parts):
            continue
        named = [p for p in parts if isinstance(p, exp.Column)]
        if not named or any(c.table != alias or c.name not in columns for c in named):
            continue
        scalar = scalar_of(
            copy_tree(
                condition,
                lambda n: (
                    column_scalar(columns[n.name]).node if isinstance(n, exp.Column) else None
                ),
            )
        )
        if is_total(scalar):
            found.append(scalar)
    return tuple(found)


def _is_preserved(table: exp.Table, block: exp.Expr) -> bool:
    """Whether no join of the block puts NULLs for the table's columns."""
    joins = block.args.get("joins") or ()
    if any((j.args.get("side") or "").upper() in ("RIGHT", "FULL") for j in joins):
        return False
    clause = block.args.get("from_")
    if clause is not None and clause.this is table:
        return True
    return any(j.this is table and not j.args.get("side") for j in joins)
