"""Expressions of SQL over one row, as Python functions, with PostgreSQL's meaning.

    compiler = RowCompiler([RowColumn("id", INT8, 0), ...], context, parameter_types)
    code = compiler.assigned(tree, column.type)      or .condition(tree), .value(tree)
    function = row_function(code)                    (`planner.row_closures`)
    function(row, compiler.values(datums))

Statements that touch one row by its key spend more time in DuckDB's binder than in all the rest;
here their expressions are compiled once, and computed in a microsecond or so. `code` is plain data,
so that the node that has the row can be told what to compute.

What is not surely computed as DuckDB and the binder (`planner.binder`) would raises `NotByRow`,
when it is compiled or, rarely, when it is computed; the statement then goes the usual way, where
errors in it are found, too. Types are the binder's, the shapes of numerics included.

`row` and `values` hold plain values (`storage.row_values`): whole numbers for dates and times,
Decimals with their column's scale. char(n) is without its padding.

Left out: division of numerics, float4, intervals and arrays in expressions, patterns, jsonb,
most functions, subqueries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from cluster.errors import DqeError
from planner.context import PlannerContext
from planner.datum import Datum
from planner.row_casts import (
    Typed,
    cast,
    constant,
    numeric_literal_type,
    parameter_value,
    plain_of_text,
)
from planner.row_operators import arithmetic, comparison, negative
from planner.semantics import literals, numbers
from planner.semantics.environment import Environment
from planner.types import INTEGER_KINDS, TEXT_KINDS, Coercion, common_type, declared_type
from storage.row_closures import Code, NotByRow, RowFunction, row_function
from storage.types import (
    BOOL,
    INT4,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    Kind,
    SqlType,
    numeric_shape,
)

__all__ = [
    "Code",
    "NotByRow",
    "RowColumn",
    "RowCompiler",
    "RowFunction",
    "Typed",
    "row_function",
]

# Longer lists are worth a plan.
LONGEST_LIST = 100
# A compiler's values begin with the transaction's start.
NOW = 0


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column that expressions may name, and where a row has its value. `relation` is the
    name that may stand before it."""

    name: str
    type: SqlType
    place: int
    relation: str | None = None


class RowCompiler:
    """Compiles the expressions of one statement. Types of parameters that are not given are
    settled by the first place that uses them, as in PostgreSQL."""

    def __init__(
        self,
        columns: Iterable[RowColumn],
        context: PlannerContext,
        parameters: Sequence[SqlType | None] = (),
    ) -> None:
        self._columns = list(columns)
        self._environment = Environment(context)
        self._parameters: dict[int, SqlType] = {
            number: given
            for number, given in enumerate(parameters, 1)
            if given is not None and given.kind is not Kind.UNKNOWN
        }
        self._count = len(parameters)

    # What statements ask for.

    def value(self, tree: exp.Expr) -> Typed:
        """An output column: its type, UNKNOWN settled as text, and its code."""
        typed = self._bound(tree)
        if typed.type.kind is Kind.UNKNOWN:
            typed = self._settled(typed, TEXT, Coercion.IMPLICIT)
        return typed

    def condition(self, tree: exp.Expr) -> Code:
        """A condition: its code gives True, False or None."""
        return self._truth(self._bound(tree)).code

    def assigned(self, tree: exp.Expr, target: SqlType) -> Code:
        """What an assignment to a column of that type stores."""
        typed = self._bound(tree)
        how = Coercion.ASSIGNMENT
        if typed.type.kind is Kind.UNKNOWN:
            typed = self._settled(typed, target, how)
        typed = self._coerced(typed, target, how)
        if target.kind is Kind.NUMERIC and numeric_shape(typed.type) != numeric_shape(target):
            return ("rescale", *numeric_shape(target), typed.code)
        if target.kind is Kind.NUMERIC and target.precision is None:
            return ("rescale", *numeric_shape(target), typed.code)
        return typed.code

    def compared(self, tree: exp.Expr, with_type: SqlType) -> Typed:
        """What a value of that type is compared with: an untyped one is taken as such."""
        typed = self._bound(tree)
        if typed.type.kind is Kind.UNKNOWN:
            typed = self._settled(typed, SqlType(with_type.kind), Coercion.IMPLICIT)
        return typed

    @property
    def parameter_types(self) -> tuple[SqlType | None, ...]:
        """The types of `$1`, `$2`, ... as far as they are given or implied."""
        count = max([self._count, *self._parameters])
        return tuple(self._parameters.get(number) for number in range(1, count + 1))

    # Scalars.

    def _bound(self, node: exp.Expr) -> Typed:
        method = _METHODS.get(type(node))
        if method is None:
            raise NotByRow(f"{node.key} expressions")
        return method(self, node)

    def _paren(self, node: exp.Expr) -> Typed:
        return self._bound(node.this)

    def _column(self, node: exp.Expr) -> Typed:
        if not isinstance(node.this, exp.Identifier) or node.args.get("db"):
            raise NotByRow("such names")
        qualifier = node.args.get("table")
        relation = None if qualifier is None else folded(qualifier)
        name = folded(node.this)
        found = [
            column
            for column in self._columns
            if column.name == name and relation in (None, column.relation)
        ]
        if len(found) != 1:
            raise NotByRow("a name that is not one column's")
        return Typed(found[0].type, ("column", found[0].place))

    def _literal(self, node: exp.Expr) -> Typed:
        if node.is_string:
            return Typed(UNKNOWN, text=str(node.this))
        found = numbers.number_literal(str(node.this))
        value = literals.constant_of(found)
        if isinstance(value, int):
            return constant(value, found.meta["type"])
        if isinstance(value, float):
            raise NotByRow("a number of more than 38 digits")
        return constant(value, numeric_literal_type(value))

    def _boolean(self, node: exp.Expr) -> Typed:
        return constant(bool(node.this), BOOL)

    def _null(self, _node: exp.Expr) -> Typed:
        return Typed(UNKNOWN)

    def _parameter(self, node: exp.Expr) -> Typed:
        number = int(node.name)
        self._count = max(self._count, number)
        known = self._parameters.get(number)
        if known is None:
            return Typed(UNKNOWN, parameter=number)
        return Typed(known, ("parameter", number))

    def _now(self, _node: exp.Expr) -> Typed:
        return Typed(TIMESTAMPTZ, ("parameter", NOW))

    def _now_call(self, arguments: Sequence[exp.Expr]) -> Typed:
        if arguments:
            raise NotByRow("now() with arguments")
        return Typed(TIMESTAMPTZ, ("parameter", NOW))

    # Types taken from the place.

    def _settled(self, value: Typed, target: SqlType, how: Coercion) -> Typed:
        """What had no type as a value of the target."""
        if value.parameter is not None:
            bare = SqlType(target.kind, element=target.element)
            self._parameters[value.parameter] = bare
            typed = Typed(bare, ("parameter", value.parameter))
            return self._coerced(typed, target, how)
        if value.text is None:
            return Typed(target)
        if target.kind in _TIMES and not _FIXED_TIME.fullmatch(value.text):
            raise NotByRow("a time by words, which may mean another one next time")
        try:
            text = value.text
            if how is not Coercion.EXPLICIT and target.kind in TEXT_KINDS:
                text = literals.fitted_text(text, target, truncate=False)
            plain = plain_of_text(text, target, self._environment)
        except DqeError as error:
            raise NotByRow(error.message) from error
        if target.kind is Kind.NUMERIC and target.precision is None:
            return constant(plain, numeric_literal_type(plain))
        return constant(plain, target)

    def _coerced(self, value: Typed, target: SqlType, how: Coercion) -> Typed:
        if value.type.kind is Kind.UNKNOWN:
            return self._settled(value, target, how)
        if {value.type.kind, target.kind} == {Kind.TIMESTAMPTZ, Kind.TIMESTAMP}:
            if target.kind is Kind.TIMESTAMPTZ or how is Coercion.IMPLICIT:
                raise NotByRow("a local time as an instant")
            return Typed(TIMESTAMP, ("local", self._environment.zone_name, value.code))
        return cast(value, target, how)

    def _truth(self, value: Typed) -> Typed:
        if value.type.kind not in (Kind.BOOL, Kind.UNKNOWN):
            raise NotByRow(f"{value.type} as a condition")
        return self._coerced(value, BOOL, Coercion.IMPLICIT)

    # Operators.

    def _both(self, left: Typed, right: Typed, untyped: SqlType = TEXT) -> tuple[Typed, Typed]:
        """Two operands, an untyped one as the other's type."""
        if left.type.kind is Kind.UNKNOWN and right.type.kind is Kind.UNKNOWN:
            return (
                self._settled(left, untyped, Coercion.IMPLICIT),
                self._settled(right, untyped, Coercion.IMPLICIT),
            )
        if left.type.kind is Kind.UNKNOWN:
            left = self._settled(left, SqlType(right.type.kind), Coercion.IMPLICIT)
        elif right.type.kind is Kind.UNKNOWN:
            right = self._settled(right, SqlType(left.type.kind), Coercion.IMPLICIT)
        return left, right

    def _pair(self, arguments: Sequence[exp.Expr]) -> tuple[Typed, Typed]:
        if len(arguments) != 2:
            raise NotByRow("a call with such arguments")
        return self._both(self._bound(arguments[0]), self._bound(arguments[1]))

    def _single(self, arguments: Sequence[exp.Expr]) -> Typed:
        if len(arguments) != 1:
            raise NotByRow("a call with such arguments")
        return self._bound(arguments[0])

    def _arithmetic(self, node: exp.Expr) -> Typed:
        left, right = self._both(self._bound(node.this), self._bound(node.expression))
        return arithmetic(_ARITHMETIC[type(node)], left, right)

    def _negative(self, node: exp.Expr) -> Typed:
        return negative(self._bound(node.this))

    def _comparison(self, node: exp.Expr) -> Typed:
        left, right = self._bound(node.this), self._bound(node.expression)
        return self._compared(_COMPARISONS[type(node)], left, right)

    def _compared(self, name: str, left: Typed, right: Typed) -> Typed:
        return comparison(name, *self._both(left, right))

    def _distinct(self, node: exp.Expr) -> Typed:
        left, right = self._both(self._bound(node.this), self._bound(node.expression))
        equal = comparison("=", left, right)
        if equal.code[0] != "compare":
            raise NotByRow("floats that may be NaN")
        distinct: Code = ("distinct", *equal.code[2:])
        return Typed(BOOL, ("not", distinct) if isinstance(node, exp.NullSafeEQ) else distinct)

    def _logical(self, node: exp.Expr) -> Typed:
        parts = [self._truth(self._bound(part)).code for part in node.flatten()]
        return Typed(BOOL, ("and" if isinstance(node, exp.And) else "or", *parts))

    def _not(self, node: exp.Expr) -> Typed:
        return Typed(BOOL, ("not", self._truth(self._bound(node.this)).code))

    def _is(self, node: exp.Expr) -> Typed:
        right = node.expression
        value = self._bound(node.this)
        if isinstance(right, exp.Boolean):
            test: Code = ("is", bool(right.this), self._truth(value).code)
        elif isinstance(right, exp.Null):
            if value.type.kind is Kind.UNKNOWN:
                value = self._settled(value, TEXT, Coercion.IMPLICIT)
            test = ("is null", value.code)
        else:
            raise NotByRow("such an IS")
        return Typed(BOOL, ("not", test) if node.args.get("negate") else test)

    def _in(self, node: exp.Expr) -> Typed:
        items = node.expressions
        if not items or len(items) > LONGEST_LIST or node.args.get("query"):
            raise NotByRow("such an IN")
        left = self._bound(node.this)
        tests = [self._compared("=", left, self._bound(item)).code for item in items]
        return Typed(BOOL, ("or", *tests))

    def _between(self, node: exp.Expr) -> Typed:
        if node.args.get("symmetric"):
            raise NotByRow("BETWEEN SYMMETRIC")
        value = self._bound(node.this)
        low = self._compared(">=", value, self._bound(node.args["low"]))
        high = self._compared("<=", value, self._bound(node.args["high"]))
        return Typed(BOOL, ("and", low.code, high.code))

    def _concat(self, node: exp.Expr) -> Typed:
        left, right = self._bound(node.this), self._bound(node.expression)
        if not any(side.type.kind in (Kind.TEXT, Kind.VARCHAR) for side in (left, right)):
            raise NotByRow("such a ||")
        sides = [self._coerced(side, TEXT, Coercion.ASSIGNMENT) for side in (left, right)]
        return Typed(TEXT, ("concat", sides[0].code, sides[1].code))

    # Choices.

    def _unified(self, values: Sequence[Typed]) -> tuple[SqlType, list[Code]]:
        """All as their common type."""
        if not values:
            raise NotByRow("a call without arguments")
        target = common_type([value.type for value in values])
        if target is None or target.kind in (Kind.FLOAT4, Kind.ANY, Kind.ARRAY):
            raise NotByRow("values of such types")
        codes = []
        for value in values:
            code = self._coerced(value, target, Coercion.IMPLICIT).code
            if target.kind is Kind.NUMERIC and value.type != target:
                code = ("rescale", *numeric_shape(target), code)
            codes.append(code)
        return target, codes

    def _case(self, node: exp.Expr) -> Typed:
        subject = None if node.this is None else self._bound(node.this)
        tests = []
        values = []
        for branch in node.args["ifs"]:
            test = self._bound(branch.this)
            test = self._truth(test) if subject is None else self._compared("=", subject, test)
            tests.append(test.code)
            values.append(self._bound(branch.args["true"]))
        default = node.args.get("default")
        otherwise = self._bound(default) if default is not None else Typed(UNKNOWN)
        target, (first, *rest) = self._unified([otherwise, *values])
        return Typed(target, ("case", tuple(zip(tests, rest, strict=True)), first))

    def _call(self, node: exp.Expr) -> Typed:
        name = str(node.this).lower()
        function = _FUNCTIONS.get(name)
        arguments = node.expressions
        if function is None:
            raise NotByRow(f"{name}()")
        return function(self, arguments)

    def _coalesce(self, arguments: Sequence[exp.Expr]) -> Typed:
        target, codes = self._unified([self._bound(argument) for argument in arguments])
        return Typed(target, ("coalesce", *codes))

    def _nullif(self, arguments: Sequence[exp.Expr]) -> Typed:
        left, right = self._pair(arguments)
        equal = comparison("=", left, right)
        return Typed(left.type, ("case", ((equal.code, ("value", None)),), left.code))

    def _extreme(self, name: str, arguments: Sequence[exp.Expr]) -> Typed:
        target, codes = self._unified([self._bound(argument) for argument in arguments])
        if target.kind not in _ORDERED:
            raise NotByRow(f"{name} of {target}")
        return Typed(target, (name, *codes))

    def _text_function(self, name: str, result: SqlType, arguments: Sequence[exp.Expr]) -> Typed:
        value = self._coerced(self._single(arguments), TEXT, Coercion.IMPLICIT)
        return Typed(result, (name, value.code))

    def _abs(self, arguments: Sequence[exp.Expr]) -> Typed:
        value = self._single(arguments)
        if value.type.kind in INTEGER_KINDS:
            return Typed(value.type, ("in range", value.type.kind.value, ("abs", value.code)))
        if value.type.kind is not Kind.NUMERIC:
            raise NotByRow(f"abs of {value.type}")
        return Typed(value.type, ("abs", value.code))

    def _mod(self, arguments: Sequence[exp.Expr]) -> Typed:
        left, right = self._pair(arguments)
        return arithmetic("%", left, right)

    def _cast(self, node: exp.Expr) -> Typed:
        target = declared_type(node.args["to"])
        value = self._bound(node.this)
        if value.type.kind is Kind.UNKNOWN:
            return self._settled(value, target, Coercion.EXPLICIT)
        if value.type.kind is Kind.NUMERIC and target.kind is Kind.NUMERIC and target.precision:
            return Typed(target, ("rescale", *numeric_shape(target), value.code))
        if value.type.kind in INTEGER_KINDS and target == NUMERIC:
            raise NotByRow("a numeric without a scale")
        return self._coerced(value, target, Coercion.EXPLICIT)

    # Values.

    def values(self, given: Sequence[Datum]) -> list[Any]:
        """The plain values that functions of the statement's code take."""
        return row_values(self.parameter_types, given, self._environment)


def row_values(
    types: Sequence[SqlType | None], given: Sequence[Datum], environment: Environment
) -> list[Any]:
    """What functions take as `values`: the transaction's start, then each parameter's plain
    value. Errors of a parameter's text, or `NotByRow`."""
    now = environment.context.now
    values: list[Any] = [int(now.timestamp()) * 10**6 + now.microsecond]
    for sql_type, value in zip(types, given, strict=True):
        if sql_type is None:
            raise NotByRow("a parameter without a type")
        values.append(parameter_value(value, sql_type, environment))
    return values


def folded(identifier: exp.Expr) -> str:
    """A name as PostgreSQL folds it."""
    name = str(identifier.this)
    return name if identifier.args.get("quoted") else name.lower()


_TIMES = frozenset({Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_FIXED_TIME = re.compile(r"[-+0-9:./ ]*(T[-+0-9:. ]+)?Z?")
_ORDERED = INTEGER_KINDS | {
    Kind.NUMERIC,
    Kind.TEXT,
    Kind.VARCHAR,
    Kind.DATE,
    Kind.TIME,
    Kind.TIMESTAMP,
    Kind.TIMESTAMPTZ,
}
_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}
_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_Method = Callable[[RowCompiler, exp.Expr], Typed]
_METHODS: dict[type[exp.Expr], _Method] = {
    exp.Paren: RowCompiler._paren,
    exp.Column: RowCompiler._column,
    exp.Literal: RowCompiler._literal,
    exp.Boolean: RowCompiler._boolean,
    exp.Null: RowCompiler._null,
    exp.Parameter: RowCompiler._parameter,
    exp.CurrentTimestamp: RowCompiler._now,
    **dict.fromkeys(_ARITHMETIC, RowCompiler._arithmetic),
    **dict.fromkeys(_COMPARISONS, RowCompiler._comparison),
    exp.Neg: RowCompiler._negative,
    exp.And: RowCompiler._logical,
    exp.Or: RowCompiler._logical,
    exp.Not: RowCompiler._not,
    exp.Is: RowCompiler._is,
    exp.NullSafeEQ: RowCompiler._distinct,
    exp.NullSafeNEQ: RowCompiler._distinct,
    exp.In: RowCompiler._in,
    exp.Between: RowCompiler._between,
    exp.DPipe: RowCompiler._concat,
    exp.Case: RowCompiler._case,
    exp.Cast: RowCompiler._cast,
    exp.Anonymous: RowCompiler._call,
}
_Function = Callable[[RowCompiler, Sequence[exp.Expr]], Typed]


def _extreme_of(name: str) -> _Function:
    return lambda compiler, arguments: compiler._extreme(name, arguments)


def _text_function_of(name: str, result: SqlType) -> _Function:
    return lambda compiler, arguments: compiler._text_function(name, result, arguments)


_FUNCTIONS: dict[str, _Function] = {
    "coalesce": RowCompiler._coalesce,
    "nullif": RowCompiler._nullif,
    "greatest": _extreme_of("greatest"),
    "least": _extreme_of("least"),
    "abs": RowCompiler._abs,
    "mod": RowCompiler._mod,
    "length": _text_function_of("length", INT4),
    "char_length": _text_function_of("length", INT4),
    "lower": _text_function_of("lower", TEXT),
    "upper": _text_function_of("upper", TEXT),
    "now": RowCompiler._now_call,
}
