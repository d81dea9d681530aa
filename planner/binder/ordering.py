"""ORDER BY, DISTINCT ON, LIMIT, OFFSET and FETCH of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import (
    AmbiguousColumn,
    FeatureNotSupported,
    InvalidColumnReference,
    InvalidRowCountInLimitClause,
    OtherError,
    SyntaxError_,
)
from planner.binder.blocks import Block, Output, Selection
from planner.binder.clause import Clause
from planner.binder.expressions import ExpressionBinder
from planner.binder.relations import FromClause
from planner.binder.scope import Scope
from planner.binder.sort_keys import sort_key
from planner.binder.trees import fold
from planner.bound import type_of
from planner.semantics import build, comparison, literals
from planner.types import Coercion
from storage.types import INT8

if TYPE_CHECKING:
    from planner.binder.query import QueryBinder


class Ordering:
    """Binds what comes after the rows of a block are known."""

    def __init__(self, block: QueryBinder) -> None:
        self.block = block
        self.statement = block.statement

    def bind(self, selection: Selection, node: exp.Select) -> None:
        distinct = node.args.get("distinct")
        order = node.args.get("order")
        binder = self.block.expression_binder(selection, Clause.ORDER)
        if order is not None:
            for each in order.expressions:
                key = self._key(each.this, selection, binder, distinct)
                if key is not None:
                    selection.order.append(sort_key(binder, each, key))
        if distinct is not None and distinct.args.get("on") is not None:
            on = distinct.args["on"]
            written = on.expressions if isinstance(on, exp.Tuple) else [on]
            for part in written:
                inner = part.this if isinstance(part, exp.Paren) else part
                found = self._key(inner, selection, binder, None)
                if found is not None:
                    selection.distinct_on.append(found)
            self._check_distinct_on(selection)

    def _check_distinct_on(self, selection: Selection) -> None:
        wanted = set(selection.distinct_on)
        for key in selection.order[: len(wanted)]:
            if key.this not in wanted:
                raise InvalidColumnReference(
                    "SELECT DISTINCT ON expressions must match initial ORDER BY expressions"
                )

    def _key(
        self,
        node: exp.Expr,
        selection: Selection,
        binder: ExpressionBinder,
        distinct: exp.Expr | None,
    ) -> exp.Expr | None:
        """A sort key over FROM, or an output by its alias; None for a constant."""
        place = self._output_meant(node, selection)
        if place is None:
            key = binder.bind(node)
            if build.is_untyped(key) or _is_constant(key):
                return None
            plain = distinct is not None and distinct.args.get("on") is None
            if not plain:
                return comparison.normalised(key)
            matching = [i for i, item in enumerate(selection.items) if item.node == key]
            if not matching:
                raise InvalidColumnReference(
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                    position=build.error_position(node),
                )
            place = matching[0]
        item = selection.items[place]
        by_alias = distinct is not None and distinct.args.get("on") is None
        if by_alias or _needs_alias(item.node):
            return build.column(selection.aliases[place], None, type_of(item.node))
        if build.is_untyped(item.node) or _is_constant(item.node):
            return None  # DuckDB would take a number for a place
        return comparison.normalised(item.node.copy())

    def _output_meant(self, node: exp.Expr, selection: Selection) -> int | None:
        """The output meant by a place or a bare name."""
        position = build.error_position(node)
        if isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit():
            place = int(str(node.this))
            if not 1 <= place <= len(selection.items):
                raise InvalidColumnReference(
                    f"ORDER BY position {place} is not in select list", position=position
                )
            return place - 1
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            name = fold(node.this)
            named = [i for i, item in enumerate(selection.items) if item.name == name]
            if len({selection.items[i].node for i in named}) > 1:
                raise AmbiguousColumn(f'ORDER BY "{name}" is ambiguous', position=position)
            if named:
                return named[0]
        return None

    def of_outputs(self, block: Block, node: exp.Expr) -> None:
        """ORDER BY of a set operation: its outputs by name or place alone."""
        order = node.args.get("order")
        if order is None:
            return
        keys: list[exp.Expr] = []
        for each in order.expressions:
            output = self._output_named(block, each.this)
            key = build.column(output.alias, None, output.type)
            binder = ExpressionBinder(
                self.statement, Scope(FromClause().namespace), Clause.ORDER, self.block
            )
            keys.append(sort_key(binder, each, key))
        block.tree.set("order", exp.Order(expressions=keys))

    def _output_named(self, block: Block, node: exp.Expr) -> Output:
        position = build.error_position(node)
        if isinstance(node, exp.Literal) and str(node.this).isdigit():
            place = int(str(node.this))
            if not 1 <= place <= len(block.outputs):
                raise InvalidColumnReference(
                    f"ORDER BY position {place} is not in select list", position=position
                )
            return block.outputs[place - 1]
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            found = [o for o in block.outputs if o.name == fold(node.this)]
            if found:
                return found[0]
            scope = Scope(FromClause().namespace)
            raise scope.missing_column(fold(node.this), position)
        raise FeatureNotSupported(
            "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
            detail="Only result column names can be used, not expressions or functions.",
            position=position,
        )

    # LIMIT

    def limits(self, tree: exp.Query, node: exp.Expr, scope: Scope) -> None:
        for key, clause in (("limit", Clause.LIMIT), ("offset", Clause.OFFSET)):
            written = node.args.get(key)
            if written is None:
                continue
            bound = self._row_count(written, clause, scope)
            if bound is not None:
                kind = exp.Limit if key == "limit" else exp.Offset
                tree.set(key, kind(expression=bound))

    def _row_count(self, written: exp.Expr, clause: Clause, scope: Scope) -> exp.Expr | None:
        """The number of rows; None where there is no bound."""
        if isinstance(written, exp.Fetch):
            inner = written.args.get("count") or exp.Literal.number(1)
        else:
            inner = written.expression
        if isinstance(inner, (exp.Var, exp.Null)):
            return None
        binder = ExpressionBinder(self.statement, scope, clause, self.block)
        bound = binder.bind_as(inner, INT8, Coercion.ASSIGNMENT)
        if any(column.table for column in bound.find_all(exp.Column)) and not isinstance(
            bound, exp.Subquery
        ):
            raise InvalidColumnReference(f"argument of {clause} must not contain variables")
        value = literals.constant_of(bound)
        if value is None:
            is_null = isinstance(bound, exp.Cast) and isinstance(bound.this, exp.Null)
            return None if is_null else bound
        if value < 0:
            if clause is Clause.OFFSET:
                raise OtherError("2201X", "OFFSET must not be negative")
            raise InvalidRowCountInLimitClause("LIMIT must not be negative")
        return exp.Literal.number(value)

    def with_ties(self, block: Block, selection: Selection, node: exp.Select) -> Block:
        """FETCH ... WITH TIES: the rank of each row is kept beside it and compared."""
        if not selection.order:
            raise SyntaxError_("WITH TIES cannot be specified without ORDER BY clause")
        self.block.settling.settle(block)
        taken = {o.alias for o in block.outputs}
        rank_alias, row_alias = (
            self.block.free_alias("rank", taken),
            self.block.free_alias("place", taken),
        )
        for function, alias in (("rank", rank_alias), ("row_number", row_alias)):
            keys = [key.copy() for key in selection.order]
            window = exp.Window(
                this=exp.Anonymous(this=function, expressions=[]), order=exp.Order(expressions=keys)
            )
            block.tree.append("expressions", build.aliased(build.typed(window, INT8), alias))
        wrapped = self.block.settling.wrapped(block)
        relation = wrapped.tree.args["from_"].this.alias
        limit = self._row_count(node.args["limit"], Clause.LIMIT, selection.scope)
        offset = node.args.get("offset")
        skipped = self._row_count(offset, Clause.OFFSET, selection.scope) if offset else None
        first = skipped or exp.Literal.number(0)
        last = exp.Add(this=build.operand(first.copy()), expression=limit)
        conditions: list[exp.Expr] = [
            exp.LTE(this=build.column(rank_alias, relation, INT8), expression=last),
            exp.GT(this=build.column(row_alias, relation, INT8), expression=first),
        ]
        wrapped.tree.set("where", exp.Where(this=build.conjunction(conditions)))
        keys = [
            exp.Ordered(this=build.column(row_alias, relation, INT8), desc=False, nulls_first=False)
        ]
        wrapped.tree.set("order", exp.Order(expressions=keys))
        return wrapped


def _is_constant(node: exp.Expr) -> bool:
    """Whether the key is a literal, and so orders nothing."""
    parts = (exp.Literal, exp.Neg, exp.Paren, exp.Cast, exp.DataType, exp.Null, exp.Boolean)
    return all(isinstance(part, parts) for part in node.walk())


def _needs_alias(node: exp.Expr) -> bool:
    """Whether evaluating the expression twice would be wrong or dear."""
    return any(
        isinstance(n, (exp.Subquery, exp.Window, exp.Exists))
        or (n._meta is not None and (n.meta.get("volatile") or n.meta.get("returns_set")))
        for n in node.walk()
    )
