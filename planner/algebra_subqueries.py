"""Subqueries in expressions become joins.

    condition                        becomes
    EXISTS (q), x IN (q), x < ANY (q)    semi join on q's correlation (and the comparison)
    NOT EXISTS (q)                       anti join
    x NOT IN (q), x < ALL (q)            anti join in which unknown counts as found; a plain
                                         anti join where no side holds NULLs
    a scalar subquery, uncorrelated      cross join with its one row, computed once
    a scalar aggregate, correlated by    left join with the subquery grouped by its side of
    equalities                           the correlation; counts over nothing are made 0
    any other scalar, so correlated      the same, with an error where a group has two rows
    EXISTS inside an expression, IN      left join with the distinct keys and a marker
    below AND and OR of a condition

A correlation reads the query directly around and stands in the subquery's WHERE; all else
raises `CannotDistribute`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from planner.algebra import (
    Aggregate,
    Item,
    Join,
    JoinKind,
    Limit,
    Node,
    Project,
    Scalar,
    names_of,
)
from planner.algebra_functions import ZERO_ON_EMPTY, call_name, has_aggregate, is_query, returns_set
from planner.algebra_scalars import (
    any_of,
    column_item,
    column_node,
    column_scalar,
    copy_tree,
    plain_column,
    scalar_of,
    split_equality,
    wrapped,
)
from planner.algebra_scopes import CannotDistribute, Frame, Relation, Scope
from planner.bound import type_of
from storage.types import BOOL, INT8

if TYPE_CHECKING:
    from planner.algebra_blocks import Grouping
    from planner.algebra_build import QueryBuilder

MANY_ROWS = "more than one row returned by a subquery used as an expression"
_OPPOSITES: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.LT: exp.GTE,
    exp.GTE: exp.LT,
    exp.GT: exp.LTE,
    exp.LTE: exp.GT,
}


class SubqueryBuilder:
    """Takes subqueries out of the expressions of a frame."""

    def __init__(self, builder: QueryBuilder) -> None:
        self._builder = builder
        # By id(), the IN (subquery) of conditions where unknown is as good as false.
        self._positive: set[int] = set()

    # Conditions

    def apply_conditions(
        self, conditions: Iterable[exp.Expr], frame: Frame, grouping: Grouping | None = None
    ) -> None:
        """Applies the terms of a WHERE, HAVING or inner ON; plain ones first."""
        later: list[exp.Expr] = []
        for condition in conditions:
            if any(is_query(part) for part in condition.walk()):
                later.append(condition)
            else:
                frame.add_filter(self._builder.scalar(condition, frame, grouping, allow_outer=True))
        for condition in later:
            if not self._apply_as_join(condition, frame, grouping):
                self._positive.update(id(n) for n in _positive_memberships(condition))
                frame.add_filter(self._builder.scalar(condition, frame, grouping, allow_outer=True))

    def _apply_as_join(self, condition: exp.Expr, frame: Frame, grouping: Grouping | None) -> bool:
        """Whether the whole condition was one of the forms that are a semi or anti join."""
        negated = False
        while isinstance(condition, exp.Not | exp.Paren):
            negated ^= isinstance(condition, exp.Not)
            condition = condition.this
        if isinstance(condition, exp.Exists):
            self._exists(_query_of(condition.this), negated, frame)
            return True
        if isinstance(condition, exp.In) and condition.args.get("query") is not None:
            query = _query_of(condition.args["query"])
            self._compared(exp.EQ, condition.this, query, negated, frame, grouping)
            return True
        if isinstance(condition, exp.Binary) and type(condition) in _OPPOSITES:
            quantified = condition.expression
            if isinstance(quantified, exp.Any | exp.All) and is_query(_bare(quantified.this)):
                if negated:
                    return False
                operator: type[exp.Expr] = type(condition)
                every = isinstance(quantified, exp.All)
                if every:
                    operator = _OPPOSITES[operator]
                query = _query_of(quantified.this)
                self._compared(operator, condition.this, query, every, frame, grouping)
                return True
        return False

    def _exists(self, query: exp.Expr, negated: bool, frame: Frame) -> None:
        kind = JoinKind.ANTI if negated else JoinKind.SEMI
        inner = self._existence_block(query, frame)
        if not inner.correlated:
            inner.node = Limit(inner.node, 1)
        self._attach(kind, frame, inner.node, tuple(inner.correlated))

    def _existence_block(self, query: exp.Expr, frame: Frame) -> Frame:
        """What decides whether the subquery has rows, correlation kept apart."""
        if isinstance(query, exp.Select) and self._only_filters(query):
            return self._open(query, frame)
        return Frame(Scope(parent=frame.scope), self._closed(query, frame).node)

    @staticmethod
    def _only_filters(query: exp.Select) -> bool:
        """Whether a row of FROM that WHERE keeps is a row of the result, and there is no other."""
        clauses = ("group", "having", "offset", "limit", "with_")
        return not any(query.args.get(c) for c in clauses) and not any(
            has_aggregate(e) or returns_set(e) for e in query.expressions
        )

    def _compared(
        self,
        operator: type[exp.Expr],
        left: exp.Expr,
        query: exp.Expr,
        anti: bool,
        frame: Frame,
        grouping: Grouping | None,
    ) -> None:
        """Joins with the rows for which `left operator item` is true (anti: or unknown)."""
        sides = list(left.expressions) if isinstance(left, exp.Tuple) else [left]
        lefts = [self._builder.scalar(s, frame, grouping) for s in sides]
        inner, rights = self._compared_rows(query, frame)
        if len(lefts) != len(rights):
            raise CannotDistribute("a row compared with a subquery of another width")
        if any(s.volatile for s in (*lefts, *rights)):
            raise CannotDistribute("a volatile function in IN (subquery)")
        pairs = [_comparison(operator, x, y) for x, y in zip(lefts, rights, strict=True)]
        correlated = tuple(inner.correlated)
        if not anti:
            self._attach(JoinKind.SEMI, frame, inner.node, (*correlated, *pairs))
            return
        unsure = [s for s in (*lefts, *rights) if not self._never_null(s)]
        if not unsure:
            self._attach(JoinKind.ANTI, frame, inner.node, (*correlated, *pairs))
        elif len(pairs) == 1 and not correlated and operator is exp.EQ:
            self._attach(JoinKind.NULL_AWARE_ANTI, frame, inner.node, tuple(pairs))
        elif len(pairs) == 1:
            condition = _or_unknown(pairs[0], unsure)
            self._attach(JoinKind.ANTI, frame, inner.node, (*correlated, condition))
        else:
            raise CannotDistribute("NOT IN over several columns that may be NULL")

    def _compared_rows(self, query: exp.Expr, frame: Frame) -> tuple[Frame, list[Scalar]]:
        if (
            isinstance(query, exp.Select)
            and self._only_filters(query)
            and not (query.args.get("distinct") and query.args["distinct"].args.get("on"))
            and not any(e.find(exp.Window) for e in query.expressions)
        ):
            inner = self._open(query, frame)
            return inner, [
                self._builder.scalar(e.unalias(), inner, None) for e in query.expressions
            ]
        relation = self._closed(query, frame)
        inner = Frame(Scope(parent=frame.scope), relation.node)
        return inner, [column_scalar(column) for _, column in relation.outputs]

    def _never_null(self, scalar: Scalar) -> bool:
        plain = plain_column(scalar)
        if plain is not None:
            return self._builder.relations.never_null(plain)
        return isinstance(scalar.node, exp.Literal)

    # Values

    def replacement(
        self, node: exp.Expr, frame: Frame, grouping: Grouping | None
    ) -> exp.Expr | None:
        """What stands for a subquery within an expression; None for any other node."""
        if isinstance(node, exp.Exists):
            return self._marker(_query_of(node.this), frame)
        if isinstance(node, exp.In) and node.args.get("query") is not None:
            if id(node) not in self._positive:
                raise CannotDistribute("IN (subquery) inside an expression")
            return self._membership(node, frame, grouping)
        if isinstance(node, exp.Any | exp.All) and is_query(_bare(node.this)):
            raise CannotDistribute("ANY or ALL (subquery) inside an expression")
        if isinstance(node, exp.Subquery | exp.Select | exp.SetOperation):
            return self._value(_query_of(node), frame)
        if _reads_query(node):
            raise CannotDistribute("an ARRAY(subquery)")
        return None

    def _value(self, query: exp.Expr, frame: Frame) -> exp.Expr:
        if not isinstance(query, exp.Select) or query.args.get("with_"):
            return self._single(self._closed(query, frame), frame)
        inner = self._open(query, frame)
        if not inner.correlated:
            relation = self._builder.finish_block(query, inner, "")
            if inner.correlated:
                raise CannotDistribute("a correlated HAVING in a scalar subquery")
            if _has_one_row(relation.node):
                return self._cross(relation, frame)
            return self._single(relation, frame)
        if len(query.expressions) != 1 or any(
            query.args.get(c) for c in ("group", "having", "limit", "offset")
        ):
            raise CannotDistribute("a correlated subquery with GROUP BY, HAVING or LIMIT")
        if returns_set(query.expressions[0]):
            raise CannotDistribute("a set-returning function in a correlated subquery")
        keys = self._correlation_keys(inner, frame)
        if has_aggregate(query.expressions[0]):
            return self._correlated_aggregate(query, inner, keys, frame)
        return self._correlated_row(query, inner, keys, frame)

    def _cross(self, relation: Relation, frame: Frame) -> exp.Expr:
        _, column = relation.outputs[0]
        self._attach(JoinKind.INNER, frame, relation.node, ())
        return column_node(column)

    def _single(self, relation: Relation, frame: Frame) -> exp.Expr:
        """The value of the only row, NULL of none, an error of more."""
        if len(relation.outputs) != 1:
            raise CannotDistribute("a subquery of several columns used as a value")
        _, column = relation.outputs[0]
        node, value = self._guarded(relation.node, (), column_scalar(column))
        self._attach(JoinKind.INNER, frame, node, ())
        return value

    def _guarded(self, node: Node, keys: tuple[Item, ...], value: Scalar) -> tuple[Node, exp.Expr]:
        """Groups by keys, and an expression that is the group's one value or fails."""
        found = Item(self._builder.fresh("value"), _aggregate("any_value", value))
        count = exp.AnonymousAggFunc(this="count_star", expressions=[])
        counted = Item(self._builder.fresh("rows"), scalar_of(count, INT8))
        grouped = Aggregate(node, keys, (found, counted))
        too_many = exp.GT(this=column_node(counted.column), expression=exp.Literal.number(1))
        failure = exp.Anonymous(this="error", expressions=[exp.Literal.string(MANY_ROWS)])
        case = exp.Case(
            ifs=[exp.If(this=too_many, true=failure)], default=column_node(found.column)
        )
        case.meta["type"] = value.type
        return grouped, case

    def _correlation_keys(self, inner: Frame, frame: Frame) -> list[tuple[Item, Scalar]]:
        """The subquery's group keys, and what each must equal in the query around."""
        inside, outside = names_of(inner.node), names_of(frame.node)
        keys: list[tuple[Item, Scalar]] = []
        for condition in inner.correlated:
            sides = split_equality(condition, inside, outside)
            if sides is None or condition.volatile:
                raise CannotDistribute("a scalar subquery correlated by more than equalities")
            plain = plain_column(sides[0])
            taken = {item.name for item, _ in keys}
            name = plain if plain is not None and plain not in taken else None
            keys.append((Item(name or self._builder.fresh("key"), sides[0]), sides[1]))
        return keys

    def _correlated_aggregate(
        self,
        query: exp.Select,
        inner: Frame,
        keys: Sequence[tuple[Item, Scalar]],
        frame: Frame,
    ) -> exp.Expr:
        grouping = self._builder.group(query, inner)
        assert grouping is not None
        assert isinstance(inner.node, Aggregate)
        grouped = Aggregate(
            inner.node.child, tuple(item for item, _ in keys), inner.node.aggregates
        )
        zeroes = self._zeroes(grouped.aggregates)
        value = self._builder.scalar(query.expressions[0].unalias(), inner, grouping)
        if not value.columns <= {item.name for item in grouped.aggregates}:
            raise CannotDistribute("a correlated aggregate beside another subquery")
        self._left_join(grouped, keys, frame)

        def replace(node: exp.Expr) -> exp.Expr | None:
            if isinstance(node, exp.Column) and node.name in zeroes:
                zero = exp.Literal.number(0)
                made = exp.Coalesce(this=copy_tree(node), expressions=[zero])
                made.meta["type"] = type_of(node)
                return made
            return None

        return wrapped(copy_tree(value.node, replace))

    @staticmethod
    def _zeroes(aggregates: Iterable[Item]) -> set[str]:
        """The aggregates that are 0, not NULL, over no rows."""
        found: set[str] = set()
        for item in aggregates:
            node = item.scalar.node
            call = node.this if isinstance(node, exp.Filter | exp.WithinGroup) else node
            name = call_name(call)
            if name in ZERO_ON_EMPTY:
                found.add(item.name)
            elif name not in _NULL_ON_EMPTY:
                raise CannotDistribute(f"a correlated {name}")
        return found

    def _correlated_row(
        self,
        query: exp.Select,
        inner: Frame,
        keys: Sequence[tuple[Item, Scalar]],
        frame: Frame,
    ) -> exp.Expr:
        if query.args.get("distinct") or query.expressions[0].find(exp.Window):
            raise CannotDistribute("a correlated subquery with DISTINCT or a window")
        value = self._builder.scalar(query.expressions[0].unalias(), inner, None)
        node, guarded = self._guarded(inner.node, tuple(item for item, _ in keys), value)
        self._left_join(node, keys, frame)
        return guarded

    def _marker(self, query: exp.Expr, frame: Frame) -> exp.Expr:
        """A boolean that says whether the subquery has rows."""
        inner = self._existence_block(query, frame)
        if not inner.correlated:
            counted = Item(
                self._builder.fresh("rows"),
                scalar_of(exp.AnonymousAggFunc(this="count_star", expressions=[]), INT8),
            )
            node: Node = Aggregate(Limit(inner.node, 1), (), (counted,))
            self._attach(JoinKind.INNER, frame, node, ())
            some = exp.GT(this=column_node(counted.column), expression=exp.Literal.number(0))
            return _typed_boolean(exp.Paren(this=some))
        return self._marked(inner.node, self._correlation_keys(inner, frame), frame)

    def _membership(self, node: exp.In, frame: Frame, grouping: Grouping | None) -> exp.Expr:
        """A boolean that says whether the value is among the subquery's rows; false where SQL
        says unknown."""
        left = self._builder.scalar(node.this, frame, grouping)
        inner, rights = self._compared_rows(_query_of(node.args["query"]), frame)
        if len(rights) != 1 or left.volatile or rights[0].volatile:
            raise CannotDistribute("IN (subquery) of several columns inside an expression")
        keys = self._correlation_keys(inner, frame)
        keys.append((Item(self._builder.fresh("key"), rights[0]), left))
        return self._marked(inner.node, keys, frame)

    def _marked(self, node: Node, keys: Sequence[tuple[Item, Scalar]], frame: Frame) -> exp.Expr:
        """Left joins the distinct keys, and says whether a row found its own."""
        grouped = Aggregate(node, tuple(item for item, _ in keys), ())
        true = scalar_of(_typed_boolean(exp.Boolean(this=True)), BOOL)
        marker = Item(self._builder.fresh("exists"), true)
        items = (*(column_item(item.column) for item, _ in keys), marker)
        self._left_join(Project(grouped, items), keys, frame)
        absent = exp.Is(this=column_node(marker.column), expression=exp.Null())
        return _typed_boolean(exp.Not(this=absent))

    # Joining

    def _left_join(self, node: Node, keys: Sequence[tuple[Item, Scalar]], frame: Frame) -> None:
        conditions = tuple(
            _comparison(exp.EQ, outer, column_scalar(item.column)) for item, outer in keys
        )
        self._attach(JoinKind.LEFT, frame, node, conditions)

    def _attach(
        self, kind: JoinKind, frame: Frame, node: Node, conditions: tuple[Scalar, ...]
    ) -> None:
        known = names_of(frame.node) | names_of(node)
        for condition in conditions:
            if not condition.columns <= known:
                raise CannotDistribute("a subquery that refers further out than one query")
            if condition.volatile:
                raise CannotDistribute("a correlation with a volatile function")
        frame.node = Join(kind, frame.node, node, conditions)

    def _open(self, query: exp.Select, frame: Frame) -> Frame:
        return self._builder.open_block(query, Scope(parent=frame.scope))

    def _closed(self, query: exp.Expr, frame: Frame) -> Relation:
        return self._builder.query_or_opaque(query, frame.scope, "")


# fmt: off
_NULL_ON_EMPTY = frozenset(
    [
        "sum", "min", "max", "avg", "any_value", "bool_and", "bool_or", "stddev", "stddev_pop",
        "stddev_samp", "variance", "var_pop", "var_samp", "median", "mode", "string_agg",
        "array_agg", "list", "first", "last",
    ]
)
# fmt: on


def _positive_memberships(node: exp.Expr) -> Iterator[exp.Expr]:
    """The IN (subquery) terms that AND and OR alone connect to the condition."""
    node = _bare(node)
    if isinstance(node, exp.And | exp.Or):
        yield from _positive_memberships(node.this)
        yield from _positive_memberships(node.expression)
    elif isinstance(node, exp.In) and node.args.get("query") is not None:
        yield node


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _query_of(node: exp.Expr) -> exp.Expr:
    """The query inside parentheses that add nothing to it."""
    while isinstance(node, exp.Paren) or (
        isinstance(node, exp.Subquery) and not any(v for k, v in node.args.items() if k != "this")
    ):
        node = node.this
    return node


def _reads_query(node: exp.Expr) -> bool:
    """Whether a call takes a query for an argument, as ARRAY(SELECT ...) does."""
    return isinstance(node, exp.Func | exp.Array) and any(
        isinstance(child, exp.Select | exp.SetOperation) for child in node.iter_expressions()
    )


def _comparison(operator: type[exp.Expr], left: Scalar, right: Scalar) -> Scalar:
    node = operator(this=wrapped(copy_tree(left.node)), expression=wrapped(copy_tree(right.node)))
    return Scalar(
        _typed_boolean(node), left.columns | right.columns, BOOL, left.volatile or right.volatile
    )


def _or_unknown(pair: Scalar, unsure: Sequence[Scalar]) -> Scalar:
    """The comparison, true also where a side is NULL."""
    terms = [copy_tree(pair.node)]
    terms += [exp.Is(this=wrapped(copy_tree(s.node)), expression=exp.Null()) for s in unsure]
    combined = any_of(terms)
    assert combined is not None
    return scalar_of(exp.Paren(this=combined), BOOL)


def _aggregate(name: str, value: Scalar) -> Scalar:
    call = exp.AnonymousAggFunc(this=name, expressions=[copy_tree(value.node)])
    return scalar_of(call, value.type)


def _typed_boolean(node: exp.Expr) -> exp.Expr:
    node.meta["type"] = BOOL
    return node


def _has_one_row(node: Node) -> bool:
    """Whether the query surely has exactly one row."""
    if isinstance(node, Aggregate):
        return not node.keys and not node.sets
    return isinstance(node, Project) and _has_one_row(node.child)
