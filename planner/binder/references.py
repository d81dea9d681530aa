"""Names in expressions: columns, whole rows, fields of rows.

A name without a qualifier is a column before it is a relation (its whole row).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import SyntaxError_, UndefinedColumn, UndefinedTable
from planner.binder.trees import fold
from planner.semantics import build, records
from planner.semantics.session_values import session_value
from storage.types import Kind

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder, Rules


def column(binder: ExpressionBinder, node: exp.Column) -> exp.Expr:
    relation = node.args.get("table")
    position = build.error_position(node.args.get("db") or relation or node)
    name = fold(node.this)
    if isinstance(node.this, exp.Star):
        raise SyntaxError_('syntax error at or near "*"', position=position)
    if relation is not None:
        return _qualified(binder, node, name, position)
    found = binder.scope.column(name, position)
    if found is not None:
        return found.node()
    source = binder.scope.source(name)
    if source is not None:
        if source.is_scalar:
            return source.columns[0].node()
        return records.whole_row(source)
    if name == "user" and not node.this.args.get("quoted"):
        return session_value("current_user", binder.statement.environment)
    raise binder.scope.missing_column(name, position)


def _qualified(
    binder: ExpressionBinder, node: exp.Column, name: str, position: int | None
) -> exp.Expr:
    schema = node.args.get("db")
    relation = fold(node.args["table"])
    schema_name = fold(schema) if schema is not None else None
    try:
        return binder.scope.qualified(relation, name, schema_name, position).node()
    except (UndefinedTable, UndefinedColumn):
        outer = binder.scope.column(relation, position) if schema is None else None
        if outer is not None and outer.type.kind is Kind.RECORD:
            return records.field(outer.node(), name, position)
        raise


def dot(binder: ExpressionBinder, node: exp.Dot) -> exp.Expr:
    """`schema.f(x)` or `(row).field`."""
    right = node.expression
    if isinstance(right, (exp.Anonymous, exp.Func)):
        return binder.bind(right)
    inner = node.this.this if isinstance(node.this, exp.Paren) else node.this
    if isinstance(inner, exp.Column) and inner.args.get("table") is None:
        source = binder.scope.source(fold(inner.this))
        if source is not None:
            position = build.error_position(right)
            return binder.scope.qualified(source.name, fold(right), None, position).node()
    return records.field(binder.bind(node.this), fold(right), build.error_position(right))


RULES: Rules = {exp.Column: column, exp.Dot: dot}
