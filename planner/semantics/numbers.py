"""Arithmetic: PostgreSQL's result types, numeric that stays exact, errors for zero divisors.

Integers: the wider operand decides, division truncates; DuckDB does both and reports overflow.
Floats: a zero divisor is an error in PostgreSQL, infinity in DuckDB, hence a macro.
Numeric: DuckDB's DECIMAL is exact for + - * % while the result fits 38 digits. The shape of
every result is worked out here, so that products can be widened or narrowed before DuckDB
would run out of digits, and division goes through a macro on hugeint with 16 digits behind
the point. (A division that is a whole output column is done by the coordinator instead, with
PostgreSQL's own scale; see `binder.output`.)
"""

from __future__ import annotations

from decimal import Decimal

from sqlglot import exp

from planner.bound import type_of
from planner.functions import Call, Catalogue, Emit, signature
from planner.semantics import build, literals
from planner.semantics.casts import Casts
from planner.semantics.rules import define, forms, natural, operator_node
from planner.types import FLOAT_KINDS, INTEGER_KINDS, Coercion, as_numeric
from storage.decimals import EXACT
from storage.types import (
    FLOAT4,
    FLOAT8,
    INT8,
    NUMERIC,
    Kind,
    SqlType,
    numeric_shape,
)

# A product whose scale leaves fewer whole digits than this is computed by `pg_multiply`.
_MINIMUM_WHOLE_DIGITS = 16
_DIVISION_SCALE = 16
_LONGEST_LITERAL = 38
_NARROW_DIGITS = 18  # what DuckDB keeps in 64 bits

_NODES: dict[str, type[exp.Expr]] = {"+": exp.Add, "-": exp.Sub, "*": exp.Mul, "%": exp.Mod}
_WIDTHS = {Kind.INT2: 0, Kind.INT4: 1, Kind.INT8: 2}


def arithmetic(operator: str, left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr | None:
    """`left operator right` for two numbers; None where PostgreSQL has no such operator."""
    kinds = (type_of(left).kind, type_of(right).kind)
    if operator == "^":
        return _power(left, right, casts)
    if kinds[0] in INTEGER_KINDS and kinds[1] in INTEGER_KINDS:
        return _integers(operator, left, right, casts)
    if kinds[0] in FLOAT_KINDS or kinds[1] in FLOAT_KINDS:
        return _floats(operator, left, right, casts)
    return _numerics(operator, left, right, casts)


def _integers(operator: str, left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr:
    wider = max(type_of(left), type_of(right), key=lambda t: _WIDTHS[t.kind])
    left = casts.coerce(left, wider, Coercion.IMPLICIT)
    right = casts.coerce(right, wider, Coercion.IMPLICIT)
    node = exp.IntDiv if operator == "/" else _NODES[operator]
    return build.binary(node, left, right, wider)


def _floats(operator: str, left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr | None:
    if operator == "%":
        return None
    both_single = type_of(left) == FLOAT4 and type_of(right) == FLOAT4
    target = FLOAT4 if both_single else FLOAT8
    left = casts.coerce(left, target, Coercion.IMPLICIT)
    right = casts.coerce(right, target, Coercion.IMPLICIT)
    if operator != "/":
        return build.binary(_NODES[operator], left, right, target)
    if literals.constant_of(right):  # not zero, and known
        # Told so, sqlglot writes a plain `/`.
        quotient = exp.Div(
            this=build.operand(left), expression=build.operand(right), typed=False, safe=True
        )
        return build.typed(quotient, target)
    return build.call("pg_divide_float", left, right, type=target)


def _numerics(operator: str, left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr:
    left = casts.coerce(left, NUMERIC, Coercion.IMPLICIT)
    right = casts.coerce(right, NUMERIC, Coercion.IMPLICIT)
    match operator:
        case "*":
            return multiply(left, right)
        case "/":
            return divide(left, right)
        case "%":
            return build.binary(exp.Mod, left, right, _sum_shape(left, right, carry=0))
    left = _widened(left, right, _sum_shape(left, right, carry=1))
    return build.binary(_NODES[operator], left, right, _sum_shape(left, right, carry=1))


def _widened(left: exp.Expr, right: exp.Expr, result: SqlType) -> exp.Expr:
    """The left side, wide enough that DuckDB computes in 128 bits where 64 may overflow.

    (DuckDB keeps results of two operands of up to 18 digits in 18 digits, and fails when they
    do not fit.)
    """
    (lp, ls), (rp, _) = numeric_shape(type_of(left)), numeric_shape(type_of(right))
    if max(lp, rp) > _NARROW_DIGITS or numeric_shape(result)[0] <= _NARROW_DIGITS:
        return left
    wide = SqlType(Kind.NUMERIC, precision=_NARROW_DIGITS + 1, scale=ls)
    return build.cast_as(left, wide)


def _sum_shape(left: exp.Expr, right: exp.Expr, carry: int) -> SqlType:
    (lp, ls), (rp, rs) = numeric_shape(type_of(left)), numeric_shape(type_of(right))
    scale = max(ls, rs)
    precision = min(max(lp - ls, rp - rs) + scale + carry, 38)
    if NUMERIC in (type_of(left), type_of(right)) and scale == 16:
        return NUMERIC
    return SqlType(Kind.NUMERIC, precision=precision, scale=scale)


def multiply(left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """The product of two numerics."""
    (lp, ls), (rp, rs) = numeric_shape(type_of(left)), numeric_shape(type_of(right))
    scale, whole = ls + rs, lp - ls + rp - rs
    fits = 38 - scale >= min(whole, _MINIMUM_WHOLE_DIGITS)
    if not fits:
        wide = (build.cast_as(left, NUMERIC), build.cast_as(right, NUMERIC))
        return build.call("pg_multiply", *wide, type=NUMERIC)
    shape = SqlType(Kind.NUMERIC, precision=min(lp + rp, 38), scale=scale)
    left = _widened(left, right, shape)
    lp = numeric_shape(type_of(left))[0]
    shape = SqlType(Kind.NUMERIC, precision=min(lp + rp, 38), scale=scale)
    product = build.binary(exp.Mul, left, right, shape)
    if NUMERIC in (type_of(left), type_of(right)):
        return build.cast_as(product, NUMERIC)
    return product


def divide(left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """The quotient of two numerics, 16 digits behind the point."""
    scale = max(numeric_shape(type_of(left))[1], numeric_shape(type_of(right))[1])
    if scale > _DIVISION_SCALE:
        scale = _DIVISION_SCALE
    held = SqlType(Kind.NUMERIC, precision=38, scale=scale)
    unit = build.cast_as(build.text("1" + "0" * scale), held, "HUGEINT")
    arguments = (build.cast_as(left, held), build.cast_as(right, held), unit)
    return build.call("pg_divide_numeric", *arguments, type=NUMERIC)


def is_numeric_division(node: exp.Expr) -> bool:
    """Whether the node is what `divide` or a numeric average made."""
    return isinstance(node, exp.Anonymous) and node.name == "pg_divide_numeric"


def division_operands(node: exp.Expr) -> tuple[exp.Expr, exp.Expr]:
    """Dividend and divisor of a numeric division, in their own shapes."""
    left, right, _unit = node.expressions
    return left.this, right.this


def _power(left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr:
    exact = Kind.NUMERIC in (type_of(left).kind, type_of(right).kind)
    if exact and not FLOAT_KINDS & {type_of(left).kind, type_of(right).kind}:
        return _numeric_power(left, right, casts)
    left = casts.coerce(left, FLOAT8, Coercion.IMPLICIT)
    right = casts.coerce(right, FLOAT8, Coercion.IMPLICIT)
    return build.call("pg_power", left, right, type=FLOAT8)


def _numeric_power(left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr:
    floats = [casts.coerce(node, FLOAT8, Coercion.IMPLICIT) for node in (left, right)]
    power = build.call("pg_power", *floats, type=FLOAT8)
    return build.call("pg_float_to_numeric", power, build.integer(16), type=NUMERIC)


def negative(node: exp.Expr) -> exp.Expr:
    """Unary minus of a number."""
    value = literals.constant_of(node)
    sql_type = type_of(node)
    if sql_type.kind in INTEGER_KINDS and isinstance(value, int):
        return literals.constant(build.integer(-value, sql_type), -value)
    negated = build.unary(exp.Neg, node, sql_type)
    if isinstance(value, (int, float, Decimal)):
        literals.constant(negated, EXACT.minus(value) if isinstance(value, Decimal) else -value)
    return negated


def number_literal(text: str) -> exp.Expr:
    """A number as written: int4, int8 or numeric by its size (manual 4.1.2.6)."""
    if text.isdigit():
        value = int(text)
        if value < 2**31:
            return literals.constant(build.integer(value), value)
        if value < 2**63:
            return literals.constant(build.integer(value, INT8), value)
    number = Decimal(text.replace("_", ""))
    if number.adjusted() >= _LONGEST_LITERAL:  # such as 1e308: no DECIMAL holds it
        return literals.constant(build.cast_as(build.text(text), FLOAT8), float(text))
    return literals.numeric_constant(number)


def _rounded_shape(node: exp.Expr, digits: int) -> SqlType:
    precision, scale = numeric_shape(type_of(node))
    kept = min(max(digits, 0), scale)
    return SqlType(Kind.NUMERIC, precision=min(precision - scale + kept + 1, 38), scale=kept)


def _round(name: str) -> object:
    def emit(call: Call) -> exp.Expr:
        node = call.arguments[0]
        digits = literals.constant_of(call.arguments[1]) if len(call.arguments) > 1 else 0
        if not isinstance(digits, int):  # digits that vary with the row
            rounded = build.call(f"pg_{name}_digits", *call.arguments, type=NUMERIC)
            return build.cast_as(rounded, NUMERIC)
        shape = _rounded_shape(node, digits)
        if name == "trunc" and digits >= 0:
            # DuckDB casts round, so what truncates must be cut off before.
            cut = build.call("trunc", node, build.integer(digits), type=shape)
            return build.cast_as(cut, shape)
        rounded = build.call(name, node, build.integer(digits), type=shape)
        result = build.cast_as(rounded, shape)
        missing = digits - (shape.scale or 0)
        if missing > 0 and (shape.precision or 38) + missing <= 38:  # round(1.5, 3) is 1.500
            widened = SqlType(
                Kind.NUMERIC, precision=(shape.precision or 0) + missing, scale=digits
            )
            return build.cast_as(result, widened)
        return result

    return emit


def _whole(name: str) -> object:
    def emit(call: Call) -> exp.Expr:
        shape = _rounded_shape(call.arguments[0], 0)
        return build.cast_as(build.call(name, *call.arguments, type=shape), shape)

    return emit


def _keep_shape(name: str) -> object:
    def emit(call: Call) -> exp.Expr:
        return build.call(name, *call.arguments, type=type_of(call.arguments[0]))

    return emit


def _modulo(call: Call) -> exp.Expr:
    left, right = call.arguments
    result = arithmetic("%", left, right, call.casts)
    assert result is not None
    return result


def _integer_quotient(call: Call) -> exp.Expr:
    quotient = divide(*call.arguments)
    whole = SqlType(Kind.NUMERIC, precision=38, scale=0)
    return build.cast_as(build.call("trunc", quotient, type=whole), whole)


def _raise(call: Call) -> exp.Expr:
    if call.type.kind is Kind.NUMERIC:
        left, right = call.arguments
        return _numeric_power(left, right, call.casts)
    return build.call("pg_power", *call.arguments, type=FLOAT8)


def _to_numeric_result(name: str) -> object:
    """A function of numerics that DuckDB has for floats alone."""

    def emit(call: Call) -> exp.Expr:
        floats = [call.casts.coerce(a, FLOAT8, Coercion.IMPLICIT) for a in call.arguments]
        value = build.call(name, *floats, type=FLOAT8)
        return build.call("pg_float_to_numeric", value, build.integer(16), type=NUMERIC)

    return emit


def _minimal_scale(call: Call) -> exp.Expr:
    scale = numeric_shape(as_numeric(type_of(call.arguments[0])))[1]
    return build.integer(scale)


def register(catalogue: Catalogue) -> None:
    """Functions on numbers."""
    for kind in ("int2", "int4", "int8"):
        define(catalogue, f"abs({kind}) -> {kind}", natural("abs"))
        define(catalogue, f"mod({kind}, {kind}) -> {kind}", _modulo)
        _register_bits(catalogue, kind)
    for kind in ("int4", "int8"):
        define(catalogue, f"gcd({kind}, {kind}) -> {kind}", forms("pg_gcd"))
        define(catalogue, f"lcm({kind}, {kind}) -> {kind}", forms("pg_lcm"))
    for kind in ("float4", "float8"):
        define(catalogue, f"abs({kind}) -> {kind}", natural("abs"))
    for name in ("abs",):
        define(catalogue, f"{name}(numeric) -> numeric", _keep_shape(name))
    for name, float_name in (("round", "pg_round_even"), ("trunc", "trunc")):
        define(catalogue, f"{name}(float8) -> float8", natural(float_name))
        define(catalogue, f"{name}(numeric) -> numeric", _round(name))
        define(catalogue, f"{name}(numeric, int4) -> numeric", _round(name))
    for name in ("ceil", "ceiling", "floor"):
        target = "floor" if name == "floor" else "ceil"
        define(catalogue, f"{name}(float8) -> float8", natural(target))
        define(catalogue, f"{name}(numeric) -> numeric", _whole(target))
    define(catalogue, "sign(float8) -> float8", forms("sign"))
    define(catalogue, "sign(numeric) -> numeric", forms("sign", "DECIMAL(1,0)"))
    define(catalogue, "mod(numeric, numeric) -> numeric", _modulo)
    define(catalogue, "div(numeric, numeric) -> numeric", _integer_quotient)
    for name in ("power", "pow"):
        define(catalogue, f"{name}(float8, float8) -> float8", _raise)
        define(catalogue, f"{name}(numeric, numeric) -> numeric", _raise)
    for name, target in (
        ("sqrt", "pg_sqrt"),
        ("exp", "exp"),
        ("ln", "pg_ln"),
        ("log", "pg_log10"),
        ("log10", "pg_log10"),
    ):
        define(catalogue, f"{name}(float8) -> float8", natural(target))
        define(catalogue, f"{name}(numeric) -> numeric", _to_numeric_result(target))
    define(catalogue, "log(numeric, numeric) -> numeric", _to_numeric_result("pg_log_base"))
    for name in _FLOAT_FUNCTIONS:
        define(catalogue, f"{name}(float8) -> float8", natural(name))
    for name in _DEGREE_FUNCTIONS:
        define(catalogue, f"{name}d(float8) -> float8", natural(f"pg_{name}d"))
    define(catalogue, "atan2(float8, float8) -> float8", natural("atan2"))
    define(catalogue, "pi() -> float8", natural("pi"))
    define(catalogue, "factorial(int8) -> numeric", forms("pg_factorial", "DECIMAL(38,0)"))
    define(catalogue, "scale(numeric) -> int4", _minimal_scale)
    define(catalogue, "trim_scale(numeric) -> numeric", forms("", "DECIMAL(38,16)"))
    define(
        catalogue, "width_bucket(float8, float8, float8, int4) -> int4", natural("pg_width_bucket")
    )
    define(
        catalogue,
        "width_bucket(numeric, numeric, numeric, int4) -> int4",
        natural("pg_width_bucket"),
    )
    define(catalogue, "to_hex(int4) -> text", natural("pg_to_hex4"))
    define(catalogue, "to_hex(int8) -> text", natural("pg_to_hex8"))
    define(catalogue, "to_bin(int8) -> text", natural("pg_to_bin"))
    define(catalogue, "to_oct(int8) -> text", natural("pg_to_oct"))
    catalogue.add(signature("random() -> float8", _random))


_FLOAT_FUNCTIONS = (
    "sin",
    "cos",
    "tan",
    "cot",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "degrees",
    "radians",
    "cbrt",
    "gamma",
    "lgamma",
)
_DEGREE_FUNCTIONS = ("sin", "cos", "tan", "asin", "acos", "atan")


_BITS = {"int2": 16, "int4": 32, "int8": 64}


def _register_bits(catalogue: Catalogue, kind: str) -> None:
    for name, node in (("&", exp.BitwiseAnd), ("|", exp.BitwiseOr)):
        define(catalogue, f"{name}({kind}, {kind}) -> {kind}", operator_node(node))
    define(catalogue, f"#({kind}, {kind}) -> {kind}", natural("xor"))
    define(catalogue, f"~({kind}) -> {kind}", operator_node(exp.BitwiseNot))
    define(catalogue, f"<<({kind}, int4) -> {kind}", _shift_left(_BITS[kind]))
    define(catalogue, f">>({kind}, int4) -> {kind}", _shift_right)


def _shift_left(bits: int) -> Emit:
    def emit(call: Call) -> exp.Expr:
        value, count = call.arguments
        unit = build.cast_as(build.text(str(2**bits)), NUMERIC, "HUGEINT")
        shifted = build.call("pg_shift_left", value, count, unit, type=NUMERIC)
        return build.cast_as(shifted, call.type)

    return emit


def _shift_right(call: Call) -> exp.Expr:
    value, count = call.arguments
    count = build.cast_as(count, call.type)
    return build.cast_as(build.binary(exp.BitwiseRightShift, value, count, call.type), call.type)


def _random(call: Call) -> exp.Expr:
    node = build.call("random", type=FLOAT8)
    node.meta["volatile"] = True
    return node
