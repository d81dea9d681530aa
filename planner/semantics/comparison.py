"""Comparison: which types meet, row comparison, IS [NOT] DISTINCT FROM.

Text compares bytewise (collation C) in DuckDB and here. char(n) is held without padding, so
its comparisons are plain. A date column compared with a timestamp constant at midnight is
compared with a date, which lets partitions and zone maps be pruned.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from cluster.errors import DqeError, SyntaxError_, UndefinedFunction
from planner.bound import type_of
from planner.semantics import build, literals
from planner.semantics.casts import Casts
from planner.types import (
    FLOAT_KINDS,
    NUMBER_KINDS,
    OID_KINDS,
    TEXT_KINDS,
    Coercion,
    bare_type,
    common_type,
)
from storage.types import BOOL, DATE, FLOAT4, FLOAT8, TEXT, TIMESTAMPTZ, Kind, SqlType

NODES: dict[str, type[exp.Expr]] = {
    "=": exp.EQ,
    "<>": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
}
NAMES = {node: name for name, node in NODES.items()}
_STRICT = {"<=": "<", ">=": ">"}
_ALIKE = {
    Kind.BOOL,
    Kind.BYTEA,
    Kind.DATE,
    Kind.TIME,
    Kind.TIMESTAMP,
    Kind.TIMESTAMPTZ,
    Kind.INTERVAL,
    Kind.UUID,
    Kind.CHAR,
}
_DAYS = {Kind.DATE, Kind.TIMESTAMP}


def no_operator(
    operator: str, left: exp.Expr | None, right: exp.Expr, position: int | None = None
) -> DqeError:
    """42883, in PostgreSQL's words."""
    sides = [str(bare_type(type_of(node))) for node in (left, right) if node is not None]
    sides.insert(len(sides) - 1, operator)
    return UndefinedFunction(
        f"operator does not exist: {' '.join(sides)}",
        hint="No operator matches the given name and argument types. "
        "You might need to add explicit type casts.",
        position=position,
    )


def compare(operator: str, left: exp.Expr, right: exp.Expr, casts: Casts) -> exp.Expr:
    """`left operator right`, a boolean."""
    if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
        return _rows(operator, left.expressions, right.expressions, casts)
    left, right = unified(operator, left, right, casts)
    return ordered(operator, left, right)


def ordered(operator: str, left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """The comparison of two sides of one type.

    DuckDB makes a BETWEEN of `a >= x AND a <= y`, and has none for lists and structs: of these
    all but one direction are written so that it does not see them.
    """
    if operator in (">", ">=") and left.find(exp.Column) is None:
        operator, left, right = _MIRRORED[operator], right, left
    compared = build.binary(NODES[operator], left, right, BOOL)
    if operator not in ("<", "<=") or type_of(left).kind not in (Kind.ARRAY, Kind.RECORD):
        return compared
    opposite = build.binary(NODES[_OPPOSITE[operator]], left.copy(), right.copy(), BOOL)
    whens = [(compared, build.boolean(True)), (opposite, build.boolean(False))]
    return build.typed(build.case(whens, build.null(BOOL)), BOOL)


_OPPOSITE = {"<": ">=", "<=": ">"}
_MIRRORED = {">": "<", ">=": "<="}


def distinct(left: exp.Expr, right: exp.Expr, casts: Casts, *, negated: bool) -> exp.Expr:
    """IS DISTINCT FROM; `negated` for IS NOT DISTINCT FROM."""
    if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
        pairs = _pairs(left.expressions, right.expressions)
        parts = [distinct(a, b, casts, negated=negated) for a, b in pairs]
        return build.conjunction(parts, exp.And if negated else exp.Or)
    left, right = unified("=", left, right, casts)
    return build.binary(exp.NullSafeEQ if negated else exp.NullSafeNEQ, left, right, BOOL)


def unified(
    operator: str, left: exp.Expr, right: exp.Expr, casts: Casts
) -> tuple[exp.Expr, exp.Expr]:
    """Both sides as types that DuckDB compares as PostgreSQL would."""
    left, right = resolve_untyped(left, right, casts)
    kinds = {type_of(left).kind, type_of(right).kind}
    if kinds <= NUMBER_KINDS:
        return (left, right) if not kinds & FLOAT_KINDS else _floats(left, right, casts)
    if kinds <= TEXT_KINDS or Kind.ANY in kinds or kinds <= OID_KINDS | NUMBER_KINDS:
        return left, right
    if kinds == {Kind.JSONB}:
        return normalised(left), normalised(right)
    if len(kinds) == 1 and (kinds <= _ALIKE or kinds == {Kind.RECORD}):
        return left, right
    if kinds == _DAYS:
        return _dates(left), _dates(right)
    if kinds == {Kind.ARRAY} or (Kind.TIMESTAMPTZ in kinds and kinds <= _DAYS | {Kind.TIMESTAMPTZ}):
        target = TIMESTAMPTZ if Kind.TIMESTAMPTZ in kinds else None
        target = target or common_type([type_of(left), type_of(right)])
        if target is not None:
            return tuple(  # type: ignore[return-value]
                casts.coerce(node, target, Coercion.IMPLICIT) for node in (left, right)
            )
    raise no_operator(operator, left, right)


def resolve_untyped(left: exp.Expr, right: exp.Expr, casts: Casts) -> tuple[exp.Expr, exp.Expr]:
    """An untyped literal or parameter takes the other side's type; two take text."""
    if build.is_untyped(left) and build.is_untyped(right):
        return (
            casts.coerce(left, TEXT, Coercion.IMPLICIT),
            casts.coerce(right, TEXT, Coercion.IMPLICIT),
        )
    if build.is_untyped(left):
        left = casts.coerce(left, _free(type_of(right)), Coercion.IMPLICIT)
    elif build.is_untyped(right):
        right = casts.coerce(right, _free(type_of(left)), Coercion.IMPLICIT)
    return left, right


def _free(sql_type: SqlType) -> SqlType:
    """The type without the modifier that would cut a literal short."""
    return bare_type(sql_type) if sql_type.kind is not Kind.ARRAY else sql_type


def _floats(left: exp.Expr, right: exp.Expr, casts: Casts) -> tuple[exp.Expr, exp.Expr]:
    if type_of(left) == FLOAT4 and type_of(right) == FLOAT4:
        return left, right
    return (
        casts.coerce(left, FLOAT8, Coercion.IMPLICIT),
        casts.coerce(right, FLOAT8, Coercion.IMPLICIT),
    )


def _dates(node: exp.Expr) -> exp.Expr:
    value = literals.constant_of(node)
    if literals.midnight(value):
        day = value.date()
        return literals.constant(build.cast_as(build.text(day.isoformat()), DATE), day)
    return node


def normalised(node: exp.Expr) -> exp.Expr:
    """A jsonb value in its normal form; columns and constants have it already."""
    if type_of(node).kind is not Kind.JSONB or isinstance(node, exp.Column):
        return node
    if literals.constant_of(node) is not None:
        return node
    if isinstance(node, exp.Anonymous) and node.name == "pg_jsonb":
        return node
    return build.call("pg_jsonb", build.cast_as(node, TEXT), type=type_of(node))


def _pairs(left: Sequence[exp.Expr], right: Sequence[exp.Expr]) -> list[tuple[exp.Expr, exp.Expr]]:
    if len(left) != len(right):
        raise SyntaxError_("unequal number of entries in row expressions")
    return list(zip(left, right, strict=True))


def _rows(
    operator: str, left: Sequence[exp.Expr], right: Sequence[exp.Expr], casts: Casts
) -> exp.Expr:
    """Row comparison, column by column (manual 9.25.5)."""
    pairs = _pairs(left, right)
    if operator in ("=", "<>"):
        parts = [compare(operator, a, b, casts) for a, b in pairs]
        return build.conjunction(parts, exp.And if operator == "=" else exp.Or)
    (first, second), rest = pairs[0], pairs[1:]
    if not rest:
        return compare(operator, first, second, casts)
    strict = compare(_STRICT.get(operator, operator), first.copy(), second.copy(), casts)
    equal = compare("=", first, second, casts)
    tail = _rows(operator, [a for a, _ in rest], [b for _, b in rest], casts)
    return build.conjunction([strict, build.conjunction([equal, tail])], exp.Or)
