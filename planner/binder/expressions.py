"""Scalar expressions: a parsed tree in, a typed DuckDB tree out.

`ExpressionBinder.bind` looks up a method by the node's class and never changes its input.
Untyped literals, NULLs and parameters come out with type UNKNOWN and take their type from the
place where they are used (`casts.coerce`). Calls are bound in `calls`, subqueries by the block
binder that owns this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from cluster.errors import (
    DatatypeMismatch,
    DqeError,
    FeatureNotSupported,
    SyntaxError_,
    UndefinedColumn,
    UndefinedTable,
)
from planner.binder.clause import Clause
from planner.binder.scope import Scope
from planner.binder.statement import Statement
from planner.binder.trees import as_call, fold, inner_query, keep_position, quantifier
from planner.bound import Spelling, type_of
from planner.functions import Call, resolve
from planner.semantics import build, comparison, literals, numbers, patterns, records
from planner.semantics.catalogue import CATALOGUE
from planner.semantics.system import SESSION_NODES, registered_cast, session_value
from planner.semantics.text_intervals import read_interval
from planner.types import NUMBER_KINDS, Coercion, common_type, declared_type
from storage.types import (
    ANY,
    BOOL,
    TEXT,
    UNKNOWN,
    Kind,
    SqlType,
    array_of,
)

if TYPE_CHECKING:
    from planner.binder.query import QueryBinder

_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.Pow: "^",
}
# Operators that are looked up in the catalogue by name.
_NAMED: dict[type[exp.Expr], str] = {
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseXor: "#",
    exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>",
    exp.DPipe: "||",
    exp.JSONExtract: "->",
    exp.JSONExtractScalar: "->>",
    exp.JSONBExtract: "#>",
    exp.JSONBExtractScalar: "#>>",
    exp.JSONBContainsTopKey: "?",
    exp.JSONBContainsAnyTopKeys: "?|",
    exp.JSONBContainsAllTopKeys: "?&",
    exp.JSONBDeleteAtPath: "#-",
    exp.ArrayContainsAll: "@>",
    exp.ArrayContainedBy: "<@",
    exp.ArrayOverlaps: "&&",
    exp.StartsWith: "^@",
}
_PATTERNS: dict[type[exp.Expr], str] = {
    exp.Like: "~~",
    exp.ILike: "~~*",
    exp.SimilarTo: "similar to",
    exp.RegexpLike: "~",
    exp.RegexpILike: "~*",
}


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

    def bind(self, node: exp.Expr) -> exp.Expr:
        """The typed node; its type is UNKNOWN where only its place can say."""
        method = _METHODS.get(type(node))
        if method is None:
            raise FeatureNotSupported(
                f"{node.key} expressions are not supported", position=build.error_position(node)
            )
        bound = method(self, node)
        if not isinstance(node, exp.Paren | exp.Column):
            bound.meta["spelling"] = Spelling(node)
        return keep_position(node, bound)

    def bind_as(self, node: exp.Expr, target: SqlType, how: Coercion) -> exp.Expr:
        """The node, coerced."""
        return self.casts.coerce(self.bind(node), target, how)

    def bind_condition(self, node: exp.Expr) -> exp.Expr:
        """A boolean, as WHERE, HAVING and ON demand it."""
        bound = self.bind(node)
        if type_of(bound).kind not in (Kind.BOOL, Kind.UNKNOWN, Kind.ANY):
            raise DatatypeMismatch(
                f"argument of {_condition_name(self.clause)} must be type boolean, "
                f"not type {type_of(bound)}",
                position=build.error_position(node),
            )
        return self.casts.coerce(bound, BOOL, Coercion.IMPLICIT)

    # Names

    def column(self, node: exp.Column) -> exp.Expr:
        relation = node.args.get("table")
        position = build.error_position(node.args.get("db") or relation or node)
        name = fold(node.this)
        if isinstance(node.this, exp.Star):
            raise SyntaxError_('syntax error at or near "*"', position=position)
        if relation is not None:
            return self._qualified(node, name, position)
        found = self.scope.column(name, position)
        if found is not None:
            return found.node()
        source = self.scope.source(name)
        if source is not None:
            if source.is_scalar:
                return source.columns[0].node()
            return records.whole_row(source.columns)
        if name == "user" and not node.this.args.get("quoted"):
            return session_value("current_user", self.statement.environment)
        raise self.scope.missing_column(name, position)

    def _qualified(self, node: exp.Column, name: str, position: int | None) -> exp.Expr:
        schema = node.args.get("db")
        relation = fold(node.args["table"])
        schema_name = fold(schema) if schema is not None else None
        try:
            return self.scope.qualified(relation, name, schema_name, position).node()
        except (UndefinedTable, UndefinedColumn):
            outer = self.scope.column(relation, position) if schema is None else None
            if outer is not None and outer.type.kind is Kind.RECORD:
                return records.field(outer.node(), name, position)
            raise

    def dot(self, node: exp.Dot) -> exp.Expr:
        """`schema.f(x)` or `(row).field`."""
        right = node.expression
        if isinstance(right, (exp.Anonymous, exp.Func)):
            return self.bind(right)
        inner = node.this.this if isinstance(node.this, exp.Paren) else node.this
        if isinstance(inner, exp.Column) and inner.args.get("table") is None:
            source = self.scope.source(fold(inner.this))
            if source is not None:
                position = build.error_position(right)
                return self.scope.qualified(source.name, fold(right), None, position).node()
        return records.field(self.bind(node.this), fold(right), build.error_position(right))

    # Constants

    def literal(self, node: exp.Literal) -> exp.Expr:
        if node.is_string:
            return build.typed(exp.Literal.string(node.this), UNKNOWN)
        return numbers.number_literal(str(node.this))

    def text_form(self, node: exp.Expr) -> exp.Expr:
        """E'...', $$...$$ and their like: the text as the tokenizer read it."""
        return build.typed(exp.Literal.string(str(node.this)), UNKNOWN)

    def unicode_form(self, node: exp.UnicodeString) -> exp.Expr:
        return build.typed(exp.Literal.string(patterns.unescape_unicode(str(node.this))), UNKNOWN)

    def hex_form(self, node: exp.HexString) -> exp.Expr:
        return numbers.number_literal(str(int(str(node.this) or "0", 16)))

    def adjacent(self, node: exp.Concat) -> exp.Expr:
        """'a' 'b', which is one constant."""
        parts = [build.literal_text(self.bind(part)) or "" for part in node.expressions]
        return build.typed(exp.Literal.string("".join(parts)), UNKNOWN)

    def boolean(self, node: exp.Boolean) -> exp.Expr:
        return literals.constant(build.boolean(bool(node.this)), bool(node.this))

    def null(self, _node: exp.Null) -> exp.Expr:
        return build.null()

    def parameter(self, node: exp.Parameter) -> exp.Expr:
        return self.statement.parameter(int(node.name))

    def interval(self, node: exp.Interval) -> exp.Expr:
        unit = node.args.get("unit")
        written = build.literal_text(node.this) if node.this is not None else None
        if written is None:
            raise SyntaxError_("an interval constant needs a text")
        if isinstance(unit, exp.IntervalSpan):
            unit = unit.expression
        name = unit.name.lower() if unit is not None else None
        return literals.interval_constant(read_interval(written, name))

    # Operators

    def paren(self, node: exp.Paren) -> exp.Expr:
        return self.bind(node.this)

    def arithmetic(self, node: exp.Expr) -> exp.Expr:
        return self.operator(_ARITHMETIC[type(node)], self.bind(node.this), node.expression)

    def operator(self, name: str, left: exp.Expr, right_node: exp.Expr) -> exp.Expr:
        """A binary operator with an already bound left side."""
        return self.binary(name, left, self.bind(right_node))

    def binary(self, name: str, left: exp.Expr, right: exp.Expr) -> exp.Expr:
        """`left name right`, both bound."""
        if name in comparison.NODES:
            return comparison.compare(name, left, right, self.casts)
        if name in _ARITHMETIC.values():
            done = self._numbers(name, left, right)
            if done is not None:
                return done
        return self._resolved(name, left, right)

    def _numbers(self, name: str, left: exp.Expr, right: exp.Expr) -> exp.Expr | None:
        kinds = [type_of(left).kind, type_of(right).kind]
        if kinds[0] in NUMBER_KINDS and kinds[1] is Kind.UNKNOWN:
            right = self.casts.coerce(right, _plain(type_of(left)), Coercion.IMPLICIT)
        elif kinds[1] in NUMBER_KINDS and kinds[0] is Kind.UNKNOWN:
            left = self.casts.coerce(left, _plain(type_of(right)), Coercion.IMPLICIT)
        if type_of(left).kind in NUMBER_KINDS and type_of(right).kind in NUMBER_KINDS:
            return numbers.arithmetic(name, left, right, self.casts)
        if Kind.ANY in kinds:
            node = exp.Mul if name == "*" else exp.Add if name == "+" else exp.Sub
            if name in ("+", "-", "*"):
                return build.binary(node, left, right, ANY)
            return build.call(
                {"/": "pg_divide_float", "%": "mod", "^": "pow"}[name], left, right, type=ANY
            )
        return None

    def _resolved(self, name: str, left: exp.Expr | None, right: exp.Expr) -> exp.Expr:
        """An operator from the catalogue; 42883 where there is none."""
        sides = [side for side in (left, right) if side is not None]
        types = [type_of(side) for side in sides]
        found = resolve(CATALOGUE.named(name), types, operator=True)
        if isinstance(found, list):
            found = found[0]
        if found is None:
            raise comparison.no_operator(name, left, right)
        arguments = tuple(
            self.casts.coerce(side, target, Coercion.IMPLICIT)
            for side, target in zip(sides, found.arguments, strict=True)
        )
        return found.signature.emit(Call(arguments, found.result, self.casts))

    def named_operator(self, node: exp.Expr) -> exp.Expr:
        return self._resolved(_NAMED[type(node)], self.bind(node.this), self.bind(node.expression))

    def spelled_operator(self, node: exp.Operator) -> exp.Expr:
        """a OPERATOR(schema.op) b."""
        name = str(node.args["operator"]).rpartition(".")[2]
        left, right = self.bind(node.this), self.bind(node.expression)
        negated = name.startswith("!") and name not in ("!=",)
        plain = name[1:] if negated else name
        if plain in patterns.OPERATORS:
            matched = patterns.match(plain, left, right, None, self.casts)
            return build.negation(matched) if negated else matched
        return self.binary("<>" if name == "!=" else name, left, right)

    def negative(self, node: exp.Neg) -> exp.Expr:
        inner = node.this
        if isinstance(inner, exp.Literal) and not inner.is_string:
            # -9223372036854775808 is a bigint though its digits alone are not.
            return numbers.negative(numbers.number_literal(str(inner.this)), self.casts)
        value = self.bind(inner)
        if type_of(value).kind in NUMBER_KINDS:
            return numbers.negative(value, self.casts)
        return self._resolved("-", None, value)

    def bitwise_not(self, node: exp.BitwiseNot) -> exp.Expr:
        return self._resolved("~", None, self.bind(node.this))

    def root(self, node: exp.Expr) -> exp.Expr:
        """|/ and ||/."""
        name = "sqrt" if isinstance(node, exp.Sqrt) else "cbrt"
        return self.bind(exp.Anonymous(this=name, expressions=[node.this]))

    def comparison(self, node: exp.Expr) -> exp.Expr:
        name = comparison.NAMES[type(node)]
        over = quantifier(node.expression)
        if over is not None:
            kind, inner = over
            return self.quantified(name, self.bind(node.this), kind, inner)
        left, right = self.bind(node.this), self.bind(node.expression)
        try:
            return comparison.compare(name, left, right, self.casts)
        except DqeError as error:
            if error.position is None:
                error.position = build.error_position(node)
            raise

    def quantified(self, name: str, left: exp.Expr, kind: str, inner: exp.Expr) -> exp.Expr:
        """`left op ANY/ALL (array or subquery)`."""
        query = inner_query(inner)
        if query is not None:
            return self._subquery_comparison(name, left, kind, query)
        array = self.bind(inner)
        element_type = type_of(array).element
        if build.is_untyped(array):
            wanted = type_of(left) if not build.is_untyped(left) else TEXT
            array = self.casts.coerce(array, array_of(_plain(wanted)), Coercion.IMPLICIT)
            element_type = type_of(array).element
        if element_type is None and type_of(array).kind is not Kind.ANY:
            raise DatatypeMismatch("op ANY/ALL (array) requires array on right side")
        return records.any_element(name, left, kind, array, element_type or ANY, self)

    def _subquery_comparison(
        self, name: str, left: exp.Expr, kind: str, query: exp.Expr
    ) -> exp.Expr:
        assert self.block is not None
        left, subquery = self.block.comparable_subquery(left, query, self)
        if name in ("=", "<>") and (kind == "any") == (name == "="):
            member = build.typed(exp.In(this=build.operand(left), query=subquery), BOOL)
            return member if name == "=" else build.negation(member)
        if name not in comparison.NODES:
            raise FeatureNotSupported(f"{name} {kind.upper()} (subquery) is not supported")
        quantified = (exp.Any if kind == "any" else exp.All)(this=subquery)
        node = comparison.NODES[name](this=build.operand(left), expression=quantified)
        return build.typed(node, BOOL)

    def distinct_from(self, node: exp.Expr) -> exp.Expr:
        negated = isinstance(node, exp.NullSafeEQ)
        left, right = self.bind(node.this), self.bind(node.expression)
        return comparison.distinct(left, right, self.casts, negated=negated)

    def logical(self, node: exp.Expr) -> exp.Expr:
        kind = exp.And if isinstance(node, exp.And) else exp.Or
        parts = []
        for part in node.flatten():
            bound = self.bind(part)
            if type_of(bound).kind not in (Kind.BOOL, Kind.UNKNOWN, Kind.ANY):
                raise DatatypeMismatch(
                    f"argument of {kind.__name__.upper()} must be type boolean, "
                    f"not type {type_of(bound)}",
                    position=build.error_position(part),
                )
            parts.append(self.casts.coerce(bound, BOOL, Coercion.IMPLICIT))
        return build.conjunction(parts, kind)

    def negation(self, node: exp.Not) -> exp.Expr:
        inner = self.bind(node.this)
        if type_of(inner).kind not in (Kind.BOOL, Kind.UNKNOWN, Kind.ANY):
            raise DatatypeMismatch(
                f"argument of NOT must be type boolean, not type {type_of(inner)}",
                position=build.error_position(node.this),
            )
        return build.negation(self.casts.coerce(inner, BOOL, Coercion.IMPLICIT))

    def is_test(self, node: exp.Is) -> exp.Expr:
        right = node.expression
        if isinstance(right, exp.JSON):
            test = self._is_json(node)
        elif isinstance(right, exp.Boolean):
            left = self.casts.coerce(self.bind(node.this), BOOL, Coercion.IMPLICIT)
            same = exp.NullSafeEQ(this=build.operand(left), expression=build.boolean(right.this))
            test = build.typed(same, BOOL)
        else:
            return self._is_null(self.bind(node.this), negate=bool(node.args.get("negate")))
        return build.negation(test) if node.args.get("negate") else test

    def _is_null(self, value: exp.Expr, *, negate: bool) -> exp.Expr:
        if isinstance(value, (exp.Tuple, exp.Struct)):  # every field is (not) null
            fields = records.fields(value)
            tests = [self._is_null(field, negate=negate) for field in fields]
            return build.conjunction(tests)
        if build.is_untyped(value):
            value = self.casts.coerce(value, TEXT, Coercion.IMPLICIT)
        test = build.is_null(value)
        return build.negation(test) if negate else test

    def _is_json(self, node: exp.Is) -> exp.Expr:
        value = self.bind_as(node.this, TEXT, Coercion.EXPLICIT)
        kind = build.text(str(node.expression.args.get("this") or "value").lower())
        return build.call("pg_is_json", value, kind, type=BOOL)

    def membership(self, node: exp.In) -> exp.Expr:
        query = node.args.get("query")
        if query is not None:
            inner = inner_query(query)
            assert inner is not None
            return self._subquery_comparison("=", self.bind(node.this), "any", inner)
        left = self.bind(node.this)
        items = [self.bind(item) for item in node.expressions]
        if isinstance(left, exp.Tuple) or any(isinstance(i, exp.Tuple) for i in items):
            tests = [comparison.compare("=", left.copy(), i, self.casts) for i in items]
            return build.conjunction(tests, exp.Or)
        return self.membership_of(left, items)

    def membership_of(self, left: exp.Expr, items: list[exp.Expr]) -> exp.Expr:
        if build.is_untyped(left):
            target = common_type([type_of(i) for i in items]) or TEXT
            left = self.casts.coerce(left, target, Coercion.IMPLICIT)
        results = []
        for item in items:
            first, second = comparison.unified("=", left, item, self.casts)
            if first is not left:  # the sides met at a third type: compare one by one
                tests = [comparison.compare("=", left.copy(), i, self.casts) for i in items]
                return build.conjunction(tests, exp.Or)
            results.append(second)
        return build.typed(exp.In(this=build.operand(left), expressions=results), BOOL)

    def between(self, node: exp.Between) -> exp.Expr:
        value = self.bind(node.this)
        low, high = self.bind(node.args["low"]), self.bind(node.args["high"])
        if build.is_untyped(value):
            target = common_type([type_of(low), type_of(high)]) or TEXT
            value = self.casts.coerce(value, target, Coercion.IMPLICIT)
        inside = self._inside(value, low, high)
        if not node.args.get("symmetric"):
            return inside
        return build.conjunction(
            [inside, self._inside(value.copy(), high.copy(), low.copy())], exp.Or
        )

    def _inside(self, value: exp.Expr, low: exp.Expr, high: exp.Expr) -> exp.Expr:
        left, lower = comparison.unified(">=", value, low, self.casts)
        right, upper = comparison.unified("<=", value, high, self.casts)
        # DuckDB has no BETWEEN for lists.
        if left is value and right is value and type_of(value).kind is not Kind.ARRAY:
            low_side, high_side = build.operand(lower), build.operand(upper)
            return build.typed(
                exp.Between(this=build.operand(value), low=low_side, high=high_side), BOOL
            )
        return build.conjunction(
            [
                build.binary(exp.GTE, left, lower, BOOL),
                comparison.ordered("<=", right.copy(), upper),
            ]
        )

    def pattern(self, node: exp.Expr) -> exp.Expr:
        return self._pattern(node, None)

    def escape(self, node: exp.Escape) -> exp.Expr:
        return self._pattern(node.this, self.bind(node.expression))

    def _pattern(self, node: exp.Expr, escape: exp.Expr | None) -> exp.Expr:
        name = _PATTERNS[type(node)]
        left = self.bind(node.this)
        over = quantifier(node.expression)
        negate = bool(node.args.get("negate"))
        if over is not None:
            kind, inner = over
            return self.quantified(("!" if negate else "") + name, left, kind, inner)
        result = patterns.match(name, left, self.bind(node.expression), escape, self.casts)
        return build.negation(result) if negate else result

    def case(self, node: exp.Case) -> exp.Expr:
        subject = node.this
        conditions, values = [], []
        for branch in node.args["ifs"]:
            if subject is not None:
                test = self.binary("=", self.bind(subject), self.bind(branch.this))
            else:
                test = self._when(self.bind(branch.this), branch.this)
            conditions.append(test)
            values.append(self.bind(branch.args["true"]))
        default = node.args.get("default")
        otherwise = self.bind(default) if default is not None else build.null()
        # ELSE comes first where the types are settled (manual 10.5 takes the first type).
        otherwise, *values = self.unify([otherwise, *values], "CASE")
        pairs = list(zip(conditions, values, strict=True))
        result = build.case(pairs, otherwise if default is not None else None)
        return build.typed(result, _branch_type([otherwise, *values]))

    def _when(self, test: exp.Expr, written: exp.Expr) -> exp.Expr:
        if type_of(test).kind not in (Kind.BOOL, Kind.UNKNOWN, Kind.ANY):
            raise DatatypeMismatch(
                f"argument of CASE/WHEN must be type boolean, not type {type_of(test)}",
                position=build.error_position(written),
            )
        return self.casts.coerce(test, BOOL, Coercion.IMPLICIT)

    def unify(self, nodes: Sequence[exp.Expr], construct: str) -> list[exp.Expr]:
        """All of one type, as CASE, COALESCE, ARRAY and their like demand."""
        types = [type_of(node) for node in nodes]
        target = common_type(types)
        if target is None:
            first = next(t for t in types if t.kind is not Kind.UNKNOWN)
            other = next(t for t in types if common_type([first, t]) is None)
            raise DatatypeMismatch(
                f"{construct} types {_plain(first)} and {_plain(other)} cannot be matched",
                position=build.error_position(nodes[types.index(other)]),
            )
        return [self._to_common(node, target) for node in nodes]

    def _to_common(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        source = type_of(node)
        if source.kind is Kind.NUMERIC and target.kind is Kind.NUMERIC and source != target:
            # DuckDB finds the wider DECIMAL by itself.
            return node
        return self.casts.coerce(node, target, Coercion.IMPLICIT)

    def cast(self, node: exp.Cast) -> exp.Expr:
        target = declared_type(node.args["to"])
        inner = node.this
        if isinstance(inner, exp.Array) and target.element is not None:
            elements = [
                self.bind_as(item, target.element, Coercion.EXPLICIT)
                for item in inner.expressions
                if not isinstance(item, exp.Array)
            ]
            if len(elements) == len(inner.expressions):
                return build.cast_as(build.list_of(elements, target), target)
        value = self.bind(inner)
        if type_of(value) == target and target.kind is not Kind.NUMERIC:
            return value
        special = self._catalog_cast(value, target)
        if special is not None:
            return special
        try:
            result = self.casts.coerce(value, target, Coercion.EXPLICIT)
        except DqeError as error:
            if error.position is None:
                error.position = build.error_position(node)
            raise
        if target.kind is Kind.NUMERIC and type_of(result) != target and target.precision:
            return build.cast_as(result, target)
        return result

    def _catalog_cast(self, value: exp.Expr, target: SqlType) -> exp.Expr | None:
        return registered_cast(value, target, self.statement.environment)

    def collate(self, node: exp.Collate) -> exp.Expr:
        name = node.expression.name
        if name.lower() not in ("c", "posix", "default", "ucs_basic", "c.utf-8", "c.utf8"):
            raise FeatureNotSupported(f'collation "{name}" is not supported (only "C")')
        return self.bind(node.this)

    # Arrays and rows

    def array(self, node: exp.Array) -> exp.Expr:
        items = [self.bind(item) for item in node.expressions]
        if not items:
            return build.typed(exp.Literal.string("{}"), UNKNOWN)
        unified = self.unify(items, "ARRAY")
        element = _branch_type(unified)
        if element.kind is Kind.ARRAY:
            return build.typed(exp.Array(expressions=unified), ANY)
        if element.kind is Kind.NUMERIC:
            unified = [build.cast_as(item, element) for item in unified]
        return build.list_of(unified, array_of(element))

    def bracket(self, node: exp.Bracket) -> exp.Expr:
        value = self.bind(node.this)
        if build.is_untyped(value):
            raise DatatypeMismatch("cannot subscript an untyped literal")
        return records.subscript(value, node.expressions, self)

    def tuple(self, node: exp.Tuple) -> exp.Expr:
        return records.row([self.bind(item) for item in node.expressions])

    def exists(self, node: exp.Exists) -> exp.Expr:
        assert self.block is not None
        query = inner_query(node.this)
        assert query is not None
        tree = self.block.subquery(query, self.scope).tree
        return build.typed(exp.Exists(this=tree), BOOL)

    def subquery(self, node: exp.Expr) -> exp.Expr:
        """A scalar subquery; DuckDB is told to fail, as PostgreSQL, on more than one row."""
        query = inner_query(node)
        if query is None or self.block is None:
            raise FeatureNotSupported("cannot use subquery here")
        block = self.block.subquery(query, self.scope)
        if len(block.outputs) != 1:
            raise SyntaxError_("subquery must return only one column")
        return build.typed(exp.Subquery(this=block.tree), block.outputs[0].type)

    def session(self, node: exp.Expr) -> exp.Expr:
        return session_value(SESSION_NODES[type(node)], self.statement.environment)

    # Calls with a grammar of their own

    def grammar_call(self, node: exp.Expr) -> exp.Expr:
        return self.bind(as_call(node))

    def time_zone(self, node: exp.AtTimeZone) -> exp.Expr:
        return self.bind(exp.Anonymous(this="timezone", expressions=[node.args["zone"], node.this]))

    def overlaps(self, node: exp.Overlaps) -> exp.Expr:
        parts = [*node.this.expressions, *node.expression.expressions]
        return self.bind(exp.Anonymous(this="overlaps", expressions=parts))

    def call(self, node: exp.Expr) -> exp.Expr:
        from planner.binder.calls import bind_call

        return bind_call(self, node)


def _plain(sql_type: SqlType) -> SqlType:
    return SqlType(sql_type.kind, element=sql_type.element)


def _branch_type(nodes: Sequence[exp.Expr]) -> SqlType:
    return common_type([type_of(node) for node in nodes]) or TEXT


def _condition_name(clause: Clause) -> str:
    return "JOIN/ON" if clause is Clause.JOIN else str(clause)


_Method = Callable[[ExpressionBinder, Any], exp.Expr]
_METHODS: dict[type[exp.Expr], _Method] = {
    exp.Column: ExpressionBinder.column,
    exp.Dot: ExpressionBinder.dot,
    exp.Literal: ExpressionBinder.literal,
    exp.RawString: ExpressionBinder.text_form,
    exp.ByteString: ExpressionBinder.text_form,
    exp.National: ExpressionBinder.text_form,
    exp.UnicodeString: ExpressionBinder.unicode_form,
    exp.HexString: ExpressionBinder.hex_form,
    exp.Concat: ExpressionBinder.adjacent,
    exp.Boolean: ExpressionBinder.boolean,
    exp.Null: ExpressionBinder.null,
    exp.Parameter: ExpressionBinder.parameter,
    exp.Interval: ExpressionBinder.interval,
    exp.Paren: ExpressionBinder.paren,
    **dict.fromkeys(_ARITHMETIC, ExpressionBinder.arithmetic),
    **dict.fromkeys(_NAMED, ExpressionBinder.named_operator),
    **dict.fromkeys(_PATTERNS, ExpressionBinder.pattern),
    **dict.fromkeys(comparison.NAMES, ExpressionBinder.comparison),
    exp.Operator: ExpressionBinder.spelled_operator,
    exp.Neg: ExpressionBinder.negative,
    exp.BitwiseNot: ExpressionBinder.bitwise_not,
    exp.Sqrt: ExpressionBinder.root,
    exp.Cbrt: ExpressionBinder.root,
    exp.NullSafeEQ: ExpressionBinder.distinct_from,
    exp.NullSafeNEQ: ExpressionBinder.distinct_from,
    exp.And: ExpressionBinder.logical,
    exp.Or: ExpressionBinder.logical,
    exp.Not: ExpressionBinder.negation,
    exp.Is: ExpressionBinder.is_test,
    exp.In: ExpressionBinder.membership,
    exp.Between: ExpressionBinder.between,
    exp.Escape: ExpressionBinder.escape,
    exp.Case: ExpressionBinder.case,
    exp.Cast: ExpressionBinder.cast,
    exp.Collate: ExpressionBinder.collate,
    exp.Array: ExpressionBinder.array,
    exp.Bracket: ExpressionBinder.bracket,
    exp.Tuple: ExpressionBinder.tuple,
    exp.Exists: ExpressionBinder.exists,
    exp.Subquery: ExpressionBinder.subquery,
    exp.Select: ExpressionBinder.subquery,
    exp.Extract: ExpressionBinder.grammar_call,
    exp.Substring: ExpressionBinder.grammar_call,
    exp.Trim: ExpressionBinder.grammar_call,
    exp.Overlay: ExpressionBinder.grammar_call,
    exp.StrPosition: ExpressionBinder.grammar_call,
    exp.AtTimeZone: ExpressionBinder.time_zone,
    exp.Overlaps: ExpressionBinder.overlaps,
    exp.Anonymous: ExpressionBinder.call,
    exp.Filter: ExpressionBinder.call,
    exp.WithinGroup: ExpressionBinder.call,
    exp.Window: ExpressionBinder.call,
    exp.IgnoreNulls: ExpressionBinder.call,
    exp.RespectNulls: ExpressionBinder.call,
    **dict.fromkeys(SESSION_NODES, ExpressionBinder.session),
}
