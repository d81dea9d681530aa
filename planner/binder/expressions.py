"""Scalar expressions: a parsed tree in, a typed DuckDB tree out.

`ExpressionBinder.bind` looks up the rule for the node's class, and no rule changes its input.
Untyped literals, NULLs and parameters come out with type UNKNOWN and take their type from the
place where they are used (`casts.coerce`). The rules are functions of the binder and the node, a
module for each family. Subqueries are bound by the block binder that owns this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from cluster.errors import DatatypeMismatch, FeatureNotSupported
from planner.binder import constants, constructs, operators, predicates, quantifiers, references
from planner.binder.clause import Clause
from planner.binder.scope import Scope
from planner.binder.statement import Statement
from planner.binder.trees import keep_position
from planner.bound import Spelling, type_of
from planner.semantics import build
from planner.types import Coercion, bare_type, common_type
from storage.types import BOOL, Kind, SqlType

if TYPE_CHECKING:
    from planner.binder.query import QueryBinder


class ExpressionBinder:
    """Binds the expressions of one clause of one block."""

    def __init__(
        self, statement: Statement, scope: Scope, clause: Clause, block: QueryBinder | None
    ) -> None:
        self.statement = statement
        self.casts = statement.casts
        self.scope = scope
        self.clause = clause
        self.block = block
        self.inside_aggregate = False
        self.inside_window = False

    @property
    def enclosing_block(self) -> QueryBinder:
        """What binds subqueries; 0A000 where none may stand, as in CHECK."""
        if self.block is None:
            raise FeatureNotSupported("cannot use subquery here")
        return self.block

    def bind(self, node: exp.Expr) -> exp.Expr:
        """The typed node; its type is UNKNOWN where only its place can say."""
        rule = _RULES.get(type(node))
        if rule is None:
            raise FeatureNotSupported(
                f"{node.key} expressions are not supported", position=build.error_position(node)
            )
        bound = rule(self, node)
        if not isinstance(node, exp.Paren | exp.Column):
            bound.meta["spelling"] = Spelling(node)
        return keep_position(node, bound)

    def bind_as(self, node: exp.Expr, target: SqlType, how: Coercion) -> exp.Expr:
        """The node, coerced."""
        return self.casts.coerce(self.bind(node), target, how)

    def bind_condition(self, node: exp.Expr) -> exp.Expr:
        """A boolean, as WHERE, HAVING and ON demand it."""
        return self.bind_boolean(
            node, "JOIN/ON" if self.clause is Clause.JOIN else str(self.clause)
        )

    def bind_boolean(self, node: exp.Expr, construct: str) -> exp.Expr:
        """A boolean; `construct` is what demands it, in the words of the error."""
        bound = self.bind(node)
        if type_of(bound).kind not in (Kind.BOOL, Kind.UNKNOWN, Kind.ANY):
            raise DatatypeMismatch(
                f"argument of {construct} must be type boolean, not type {type_of(bound)}",
                position=build.error_position(node),
            )
        return self.casts.coerce(bound, BOOL, Coercion.IMPLICIT)

    def unify(self, nodes: Sequence[exp.Expr], construct: str) -> list[exp.Expr]:
        """All of one type, as CASE, COALESCE, ARRAY and their like demand."""
        types = [type_of(node) for node in nodes]
        target = common_type(types)
        if target is None:
            first = next(t for t in types if t.kind is not Kind.UNKNOWN)
            other = next(t for t in types if common_type([first, t]) is None)
            raise DatatypeMismatch(
                f"{construct} types {bare_type(first)} and {bare_type(other)} cannot be matched",
                position=build.error_position(nodes[types.index(other)]),
            )
        return [self._to_common(node, target) for node in nodes]

    def _to_common(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        source = type_of(node)
        if source.kind is Kind.NUMERIC and target.kind is Kind.NUMERIC and source != target:
            # DuckDB finds the wider DECIMAL by itself.
            return node
        return self.casts.coerce(node, target, Coercion.IMPLICIT)


Rule = Callable[[ExpressionBinder, Any], exp.Expr]
Rules = Mapping[type[exp.Expr], Rule]

_RULES: Rules = {
    **references.RULES,
    **constants.RULES,
    **operators.RULES,
    **quantifiers.RULES,
    **predicates.RULES,
    **constructs.RULES,
}
