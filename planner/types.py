"""PostgreSQL's type system as the binder needs it: names, categories, casts, common types.

Rules are those of the manual, chapter 10 and the tables pg_cast and pg_type. One thing is the
engine's own: a numeric expression carries the precision and scale that DuckDB's DECIMAL has
for it, whether or not the user declared one, so that every step knows what DuckDB holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from sqlglot import exp

from cluster.errors import InvalidParameterValue, UndefinedObject
from storage.types import (
    ANY,
    BOOL,
    BPCHAR,
    BYTEA,
    CHAR,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    JSON,
    JSONB,
    MAX_NUMERIC_PRECISION,
    NAME,
    NUMERIC,
    OID,
    RECORD,
    REGCLASS,
    REGPROC,
    REGTYPE,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    UUID,
    VARCHAR,
    VOID,
    Kind,
    SqlType,
    array_of,
    numeric_shape,
)


class Coercion(IntEnum):
    """In which places a cast happens by itself; each includes those before it."""

    IMPLICIT = 0
    ASSIGNMENT = 1
    EXPLICIT = 2


TYPE_NAMES: dict[str, SqlType] = {
    "bool": BOOL,
    "boolean": BOOL,
    "int2": INT2,
    "smallint": INT2,
    "int4": INT4,
    "int": INT4,
    "integer": INT4,
    "int8": INT8,
    "bigint": INT8,
    "float4": FLOAT4,
    "real": FLOAT4,
    "float8": FLOAT8,
    "float": FLOAT8,
    "double precision": FLOAT8,
    "numeric": NUMERIC,
    "decimal": NUMERIC,
    "dec": NUMERIC,
    "text": TEXT,
    "varchar": VARCHAR,
    "character varying": VARCHAR,
    "bpchar": BPCHAR,
    "char": SqlType(Kind.BPCHAR, length=1),
    "character": SqlType(Kind.BPCHAR, length=1),
    "name": NAME,
    '"char"': CHAR,
    "bytea": BYTEA,
    "date": DATE,
    "time": TIME,
    "time without time zone": TIME,
    "timestamp": TIMESTAMP,
    "timestamp without time zone": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "timestamp with time zone": TIMESTAMPTZ,
    "interval": INTERVAL,
    "uuid": UUID,
    "json": JSON,
    "jsonb": JSONB,
    "oid": OID,
    "xid": OID,
    "regclass": REGCLASS,
    "regtype": REGTYPE,
    "regproc": REGPROC,
    "regprocedure": REGPROC,
    "regnamespace": OID,
    "regrole": OID,
    "regoper": OID,
    "regoperator": OID,
    "regcollation": OID,
    "regconfig": OID,
    "regdictionary": OID,
    "record": RECORD,
    "void": VOID,
    "unknown": UNKNOWN,
    "any": ANY,
    "anyelement": ANY,
    "serial": INT4,
    "bigserial": INT8,
    "smallserial": INT2,
}

_PARSED = exp.DType
_BY_PARSED: dict[exp.DType, SqlType] = {
    _PARSED.BOOLEAN: BOOL,
    _PARSED.SMALLINT: INT2,
    _PARSED.INT: INT4,
    _PARSED.BIGINT: INT8,
    _PARSED.FLOAT: FLOAT4,
    _PARSED.DOUBLE: FLOAT8,
    _PARSED.DECIMAL: NUMERIC,
    _PARSED.TEXT: TEXT,
    _PARSED.VARCHAR: VARCHAR,
    _PARSED.BPCHAR: BPCHAR,
    _PARSED.NAME: NAME,
    _PARSED.VARBINARY: BYTEA,
    _PARSED.DATE: DATE,
    _PARSED.TIME: TIME,
    _PARSED.TIMESTAMP: TIMESTAMP,
    _PARSED.TIMESTAMPTZ: TIMESTAMPTZ,
    _PARSED.INTERVAL: INTERVAL,
    _PARSED.UUID: UUID,
    _PARSED.JSON: JSON,
    _PARSED.JSONB: JSONB,
    _PARSED.SERIAL: INT4,
    _PARSED.BIGSERIAL: INT8,
    _PARSED.SMALLSERIAL: INT2,
    # Elements of arrays (`dialect.with_oid_arrays`).
    _PARSED.UINT: OID,
    _PARSED.UINT128: REGCLASS,
    _PARSED.UINT256: REGTYPE,
    _PARSED.INT256: REGPROC,
}


def declared_type(node: exp.Expr) -> SqlType:
    """The type a DataType node of the parser names; `UndefinedObject` where there is none."""
    if not isinstance(node, exp.DataType):
        return named_type(node.name or node.sql())
    parsed = node.this
    if parsed is exp.DType.ARRAY:
        element = declared_type(node.expressions[0])
        return element if element.kind is Kind.ARRAY else array_of(element)
    if parsed is exp.DType.USERDEFINED:
        return _user_defined(node.args.get("kind"))
    if parsed in (exp.DType.CHAR, exp.DType.NCHAR):
        return SqlType(Kind.BPCHAR, length=_modifier(node, 0, default=1))
    if isinstance(parsed, exp.Interval):
        return INTERVAL
    base = _BY_PARSED.get(parsed)
    if base is None:
        return named_type(str(getattr(parsed, "value", parsed)).lower())
    return _with_modifiers(base, node)


def _with_modifiers(base: SqlType, node: exp.DataType) -> SqlType:
    if not node.expressions:
        return base
    first = _modifier(node, 0)
    if base.kind is Kind.NUMERIC:
        return numeric_of(first, _modifier(node, 1, default=0))
    if base.kind in (Kind.VARCHAR, Kind.BPCHAR):
        if first < 1:
            raise InvalidParameterValue(f"length for type {base.kind} must be at least 1")
        return SqlType(base.kind, length=first)
    if base.kind is Kind.FLOAT8 and first <= 24:  # float(p)
        return FLOAT4
    return base


def numeric_of(precision: int, scale: int) -> SqlType:
    """numeric(p, s), refused beyond what DuckDB holds exactly."""
    if not 1 <= precision <= MAX_NUMERIC_PRECISION:
        raise InvalidParameterValue(
            f"NUMERIC precision {precision} must be between 1 and {MAX_NUMERIC_PRECISION}"
        )
    if not 0 <= scale <= precision:
        raise InvalidParameterValue(
            f"NUMERIC scale {scale} must be between 0 and precision {precision}"
        )
    return SqlType(Kind.NUMERIC, precision=precision, scale=scale)


def _modifier(node: exp.DataType, index: int, default: int | None = None) -> int:
    if index < len(node.expressions):
        text = node.expressions[index].name
        if text.lstrip("-").isdigit():
            return int(text)
    if default is None:
        raise InvalidParameterValue("invalid type modifier")
    return default


def _user_defined(kind: exp.Expr | str | None) -> SqlType:
    if isinstance(kind, exp.Dot):
        return named_type(kind.expression.name)
    if isinstance(kind, exp.Identifier) and kind.name == "char" and kind.args.get("quoted"):
        return CHAR
    name = kind.name if isinstance(kind, exp.Expr) else str(kind)
    return named_type(name)


def named_type(name: str) -> SqlType:
    """The type of that name, `int[]` and `_int4` for arrays included."""
    plain = name.strip().lower().removeprefix("pg_catalog.").strip()
    if plain.endswith("[]"):
        return array_of(named_type(plain[:-2]))
    found = TYPE_NAMES.get(plain)
    if found is not None:
        return found
    if plain.startswith("_") and plain[1:] in TYPE_NAMES:
        return array_of(TYPE_NAMES[plain[1:]])
    raise UndefinedObject(f'type "{name}" does not exist')


_CATEGORIES: dict[Kind, str] = {
    Kind.BOOL: "B",
    **dict.fromkeys(
        (
            Kind.INT2,
            Kind.INT4,
            Kind.INT8,
            Kind.FLOAT4,
            Kind.FLOAT8,
            Kind.NUMERIC,
            Kind.OID,
            Kind.REGCLASS,
            Kind.REGTYPE,
            Kind.REGPROC,
        ),
        "N",
    ),
    **dict.fromkeys((Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME), "S"),
    **dict.fromkeys((Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ), "D"),
    Kind.INTERVAL: "T",
    Kind.ARRAY: "A",
    Kind.RECORD: "P",
    Kind.CHAR: "Z",
    Kind.UNKNOWN: "X",
}
PREFERRED_KINDS = frozenset(
    {Kind.BOOL, Kind.FLOAT8, Kind.OID, Kind.TEXT, Kind.TIMESTAMPTZ, Kind.INTERVAL}
)
TEXT_KINDS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME, Kind.CHAR})
INTEGER_KINDS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
FLOAT_KINDS = frozenset({Kind.FLOAT4, Kind.FLOAT8})
NUMBER_KINDS = INTEGER_KINDS | FLOAT_KINDS | {Kind.NUMERIC}
REG_KINDS = frozenset({Kind.REGCLASS, Kind.REGTYPE, Kind.REGPROC})
OID_KINDS = REG_KINDS | {Kind.OID}


def category(sql_type: SqlType) -> str:
    """pg_type.typcategory."""
    return _CATEGORIES.get(sql_type.kind, "U")


_IMPLICIT: dict[Kind, frozenset[Kind]] = {
    Kind.INT2: frozenset({Kind.INT4, Kind.INT8, Kind.NUMERIC}) | FLOAT_KINDS | OID_KINDS,
    Kind.INT4: frozenset({Kind.INT8, Kind.NUMERIC}) | FLOAT_KINDS | OID_KINDS,
    Kind.INT8: frozenset({Kind.NUMERIC}) | FLOAT_KINDS | OID_KINDS,
    Kind.NUMERIC: FLOAT_KINDS,
    Kind.FLOAT4: frozenset({Kind.FLOAT8}),
    Kind.TEXT: frozenset({Kind.BPCHAR, Kind.VARCHAR, Kind.NAME, Kind.REGCLASS}),
    Kind.VARCHAR: frozenset({Kind.TEXT, Kind.BPCHAR, Kind.NAME, Kind.REGCLASS}),
    Kind.BPCHAR: frozenset({Kind.TEXT, Kind.VARCHAR, Kind.NAME}),
    Kind.NAME: frozenset({Kind.TEXT}),
    Kind.CHAR: frozenset({Kind.TEXT}),
    Kind.DATE: frozenset({Kind.TIMESTAMP, Kind.TIMESTAMPTZ}),
    Kind.TIMESTAMP: frozenset({Kind.TIMESTAMPTZ}),
    Kind.TIME: frozenset({Kind.INTERVAL}),
    Kind.OID: REG_KINDS,
    Kind.REGCLASS: frozenset({Kind.OID}),
    Kind.REGTYPE: frozenset({Kind.OID}),
    Kind.REGPROC: frozenset({Kind.OID}),
}
_ASSIGNMENT: dict[Kind, frozenset[Kind]] = {
    Kind.INT4: frozenset({Kind.INT2}),
    Kind.INT8: frozenset({Kind.INT2, Kind.INT4}),
    Kind.NUMERIC: INTEGER_KINDS,
    Kind.FLOAT4: INTEGER_KINDS | {Kind.NUMERIC},
    Kind.FLOAT8: INTEGER_KINDS | {Kind.NUMERIC, Kind.FLOAT4},
    Kind.NAME: frozenset({Kind.VARCHAR, Kind.BPCHAR}),
    Kind.TEXT: frozenset({Kind.CHAR}),
    Kind.TIMESTAMP: frozenset({Kind.DATE, Kind.TIME}),
    Kind.TIMESTAMPTZ: frozenset({Kind.TIMESTAMP, Kind.DATE, Kind.TIME}),
    Kind.INTERVAL: frozenset({Kind.TIME}),
    Kind.JSON: frozenset({Kind.JSONB}),
    Kind.JSONB: frozenset({Kind.JSON}),
    **dict.fromkeys(OID_KINDS, frozenset({Kind.INT4, Kind.INT8})),
}
_EXPLICIT: dict[Kind, frozenset[Kind]] = {
    Kind.BOOL: frozenset({Kind.INT4}),
    Kind.INT4: frozenset({Kind.BOOL, Kind.CHAR}),
    Kind.CHAR: frozenset({Kind.INT4}),
    Kind.JSONB: NUMBER_KINDS | {Kind.BOOL},
}


def can_cast(source: SqlType, target: SqlType, how: Coercion) -> bool:
    """Whether PostgreSQL lets a value of `source` become `target` in that place."""
    if ANY in (source, target) or source.kind in (target.kind, Kind.UNKNOWN):
        if source.kind is Kind.ARRAY and target.kind is Kind.ARRAY:
            assert source.element is not None
            assert target.element is not None
            return can_cast(source.element, target.element, how)
        return True
    if target.kind in _IMPLICIT.get(source.kind, ()):
        return True
    if how is Coercion.IMPLICIT:
        return False
    if target.kind in _ASSIGNMENT.get(source.kind, ()) or target.kind in TEXT_KINDS:
        return True
    if how is Coercion.ASSIGNMENT:
        return False
    return target.kind in _EXPLICIT.get(source.kind, ()) or source.kind in TEXT_KINDS


def bare_type(sql_type: SqlType) -> SqlType:
    """The type without its modifiers."""
    return SqlType(sql_type.kind, element=sql_type.element)


def same_type(left: SqlType, right: SqlType) -> bool:
    """Equal but for modifiers."""
    if left.kind is not right.kind:
        return False
    if left.kind is Kind.ARRAY:
        assert left.element is not None
        assert right.element is not None
        return same_type(left.element, right.element)
    return True


def as_numeric(sql_type: SqlType) -> SqlType:
    """The narrowest numeric that holds every value of a number type exactly."""
    match sql_type.kind:
        case Kind.INT2:
            return SqlType(Kind.NUMERIC, precision=5, scale=0)
        case Kind.INT4:
            return SqlType(Kind.NUMERIC, precision=10, scale=0)
        case Kind.INT8:
            return SqlType(Kind.NUMERIC, precision=19, scale=0)
        case Kind.NUMERIC:
            return sql_type
        case _:
            return NUMERIC


def merged_numeric(left: SqlType, right: SqlType) -> SqlType:
    """A numeric that holds the values of both, as far as 38 digits go."""
    if NUMERIC in (left, right):
        return NUMERIC
    left_precision, left_scale = numeric_shape(left)
    right_precision, right_scale = numeric_shape(right)
    scale = max(left_scale, right_scale)
    whole = max(left_precision - left_scale, right_precision - right_scale)
    return SqlType(Kind.NUMERIC, precision=min(whole + scale, 38) or 1, scale=min(scale, 38))


def common_type(types: Sequence[SqlType]) -> SqlType | None:
    """The type UNION, CASE, VALUES and arrays settle on (manual 10.5); None where none fits."""
    known = [t for t in types if t.kind is not Kind.UNKNOWN]
    if not known:
        return TEXT
    if ANY in known:
        return ANY
    chosen = known[0]
    for other in known[1:]:
        if same_type(chosen, other):
            chosen = _merge_modifiers(chosen, other)
            continue
        if category(chosen) != category(other):
            return None
        if chosen.kind not in PREFERRED_KINDS and (
            can_cast(chosen, other, Coercion.IMPLICIT)
            and not can_cast(other, chosen, Coercion.IMPLICIT)
        ):
            chosen = _widened(chosen, other)
        elif can_cast(other, chosen, Coercion.IMPLICIT):
            chosen = _widened(other, chosen)
        else:
            return None
    return chosen


def _merge_modifiers(left: SqlType, right: SqlType) -> SqlType:
    if left == right:
        return left
    if left.kind is Kind.NUMERIC:
        return merged_numeric(left, right)
    if left.kind is Kind.ARRAY and left.element and right.element:
        return array_of(_merge_modifiers(left.element, right.element))
    return SqlType(left.kind)


def _widened(source: SqlType, target: SqlType) -> SqlType:
    """The type wanted for both; a length said of one of them does not bind the other."""
    if target.kind is Kind.NUMERIC:
        return merged_numeric(as_numeric(source), target)
    return SqlType(target.kind) if target.length is not None else target
