"""SQL types as every floor means them: PostgreSQL's names, and what DuckDB and Arrow hold.

A `SqlType` is what a column, an expression or a parameter has. The kinds follow PostgreSQL
(manual, chapter 8); `oid` is PostgreSQL's, for clients and `pg_type`. Two kinds are the
engine's own: `UNKNOWN`, a literal or parameter not yet resolved, and `ANY`, an expression
that only DuckDB can type (its Arrow type is learned when it runs).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

# A numeric without precision: DuckDB has one scale a column, so 22 digits before the point
# and 16 behind it; trailing zeros are dropped on output (docs/sql.md).
BARE_NUMERIC_PRECISION = 38
BARE_NUMERIC_SCALE = 16
MAX_NUMERIC_PRECISION = 38


class Kind(StrEnum):
    """The type constructors."""

    BOOL = "bool"
    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    NUMERIC = "numeric"
    TEXT = "text"
    VARCHAR = "varchar"
    BPCHAR = "bpchar"
    NAME = "name"
    CHAR = "char"  # PostgreSQL's one-byte "char", met only in pg_catalog
    BYTEA = "bytea"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"
    JSONB = "jsonb"
    OID = "oid"
    REGCLASS = "regclass"
    REGTYPE = "regtype"
    REGPROC = "regproc"
    ARRAY = "array"
    RECORD = "record"
    VOID = "void"
    UNKNOWN = "unknown"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type with its modifiers.

    `length` is n of varchar(n) and char(n), in characters. `precision` and `scale` are those
    of numeric(p, s), both None for bare numeric. `element` is an array's element type; arrays
    of any number of dimensions have one type, as in PostgreSQL.
    """

    kind: Kind
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    element: SqlType | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> SqlType:
        """Immutable, so a copy is the type itself: trees that carry it copy cheaply."""
        return self

    def __str__(self) -> str:
        """As PostgreSQL's `format_type` writes it, e.g. `numeric(12,2)` or `integer[]`."""
        if self.kind is Kind.ARRAY:
            return f"{self.element}[]"
        name = _DISPLAY_NAMES.get(self.kind, str(self.kind))
        if self.kind is Kind.NUMERIC and self.precision is not None:
            return f"{name}({self.precision},{self.scale or 0})"
        if self.length is not None:
            return f"{name}({self.length})"
        return name


BOOL = SqlType(Kind.BOOL)
INT2 = SqlType(Kind.INT2)
INT4 = SqlType(Kind.INT4)
INT8 = SqlType(Kind.INT8)
FLOAT4 = SqlType(Kind.FLOAT4)
FLOAT8 = SqlType(Kind.FLOAT8)
NUMERIC = SqlType(Kind.NUMERIC)
TEXT = SqlType(Kind.TEXT)
VARCHAR = SqlType(Kind.VARCHAR)
BPCHAR = SqlType(Kind.BPCHAR)
NAME = SqlType(Kind.NAME)
CHAR = SqlType(Kind.CHAR)
BYTEA = SqlType(Kind.BYTEA)
DATE = SqlType(Kind.DATE)
TIME = SqlType(Kind.TIME)
TIMESTAMP = SqlType(Kind.TIMESTAMP)
TIMESTAMPTZ = SqlType(Kind.TIMESTAMPTZ)
INTERVAL = SqlType(Kind.INTERVAL)
UUID = SqlType(Kind.UUID)
JSON = SqlType(Kind.JSON)
JSONB = SqlType(Kind.JSONB)
OID = SqlType(Kind.OID)
REGCLASS = SqlType(Kind.REGCLASS)
REGTYPE = SqlType(Kind.REGTYPE)
REGPROC = SqlType(Kind.REGPROC)
RECORD = SqlType(Kind.RECORD)
VOID = SqlType(Kind.VOID)
UNKNOWN = SqlType(Kind.UNKNOWN)
ANY = SqlType(Kind.ANY)


def array_of(element: SqlType) -> SqlType:
    """The array type over `element`."""
    return SqlType(Kind.ARRAY, element=element)


_DISPLAY_NAMES = {
    Kind.BOOL: "boolean",
    Kind.INT2: "smallint",
    Kind.INT4: "integer",
    Kind.INT8: "bigint",
    Kind.FLOAT4: "real",
    Kind.FLOAT8: "double precision",
    Kind.VARCHAR: "character varying",
    Kind.BPCHAR: "character",
    Kind.CHAR: '"char"',
    Kind.TIME: "time without time zone",
    Kind.TIMESTAMP: "timestamp without time zone",
    Kind.TIMESTAMPTZ: "timestamp with time zone",
}

# Kind -> (type OID, array type OID, typlen) of PostgreSQL's pg_type.
_OIDS: dict[Kind, tuple[int, int, int]] = {
    Kind.BOOL: (16, 1000, 1),
    Kind.INT2: (21, 1005, 2),
    Kind.INT4: (23, 1007, 4),
    Kind.INT8: (20, 1016, 8),
    Kind.FLOAT4: (700, 1021, 4),
    Kind.FLOAT8: (701, 1022, 8),
    Kind.NUMERIC: (1700, 1231, -1),
    Kind.TEXT: (25, 1009, -1),
    Kind.VARCHAR: (1043, 1015, -1),
    Kind.BPCHAR: (1042, 1014, -1),
    Kind.NAME: (19, 1003, 64),
    Kind.CHAR: (18, 1002, 1),
    Kind.BYTEA: (17, 1001, -1),
    Kind.DATE: (1082, 1182, 4),
    Kind.TIME: (1083, 1183, 8),
    Kind.TIMESTAMP: (1114, 1115, 8),
    Kind.TIMESTAMPTZ: (1184, 1185, 8),
    Kind.INTERVAL: (1186, 1187, 16),
    Kind.UUID: (2950, 2951, 16),
    Kind.JSON: (114, 199, -1),
    Kind.JSONB: (3802, 3807, -1),
    Kind.OID: (26, 1028, 4),
    Kind.REGCLASS: (2205, 2210, 4),
    Kind.REGTYPE: (2206, 2211, 4),
    Kind.REGPROC: (24, 1008, 4),
    Kind.RECORD: (2249, 2287, -1),
    Kind.VOID: (2278, 0, 4),
    Kind.UNKNOWN: (705, 0, -2),
    Kind.ANY: (25, 1009, -1),
}

_KINDS_BY_OID = {oids[0]: kind for kind, oids in _OIDS.items() if kind is not Kind.ANY}
_ELEMENTS_BY_ARRAY_OID = {
    oids[1]: kind for kind, oids in _OIDS.items() if oids[1] and kind is not Kind.ANY
}


def type_oid(sql_type: SqlType) -> int:
    """PostgreSQL's OID of the type (the array type's for arrays)."""
    if sql_type.kind is Kind.ARRAY:
        assert sql_type.element is not None
        return _OIDS[sql_type.element.kind][1]
    return _OIDS[sql_type.kind][0]


def type_length_bytes(sql_type: SqlType) -> int:
    """PostgreSQL's `typlen`: the fixed size in bytes, or -1 where it varies."""
    return -1 if sql_type.kind is Kind.ARRAY else _OIDS[sql_type.kind][2]


def type_modifier(sql_type: SqlType) -> int:
    """PostgreSQL's `atttypmod`, -1 where there is none."""
    if sql_type.kind is Kind.NUMERIC and sql_type.precision is not None:
        return ((sql_type.precision << 16) | (sql_type.scale or 0)) + 4
    if sql_type.kind in (Kind.VARCHAR, Kind.BPCHAR) and sql_type.length is not None:
        return sql_type.length + 4
    return -1


def type_from_oid(oid: int) -> SqlType | None:
    """The type with that OID, without modifiers; None when the OID is not known here."""
    if oid in _KINDS_BY_OID:
        return SqlType(_KINDS_BY_OID[oid])
    if oid in _ELEMENTS_BY_ARRAY_OID:
        return array_of(SqlType(_ELEMENTS_BY_ARRAY_OID[oid]))
    return None


_DUCKDB_NAMES = {
    Kind.BOOL: "BOOLEAN",
    Kind.INT2: "SMALLINT",
    Kind.INT4: "INTEGER",
    Kind.INT8: "BIGINT",
    Kind.FLOAT4: "FLOAT",
    Kind.FLOAT8: "DOUBLE",
    Kind.BYTEA: "BLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMPTZ: "TIMESTAMPTZ",
    Kind.INTERVAL: "INTERVAL",
    Kind.UUID: "UUID",
    Kind.JSON: "JSON",
    Kind.JSONB: "JSON",
    Kind.OID: "BIGINT",
    Kind.REGCLASS: "BIGINT",
    Kind.REGTYPE: "BIGINT",
    Kind.REGPROC: "BIGINT",
}


def numeric_shape(sql_type: SqlType) -> tuple[int, int]:
    """Precision and scale with which a numeric is held."""
    if sql_type.precision is None:
        return BARE_NUMERIC_PRECISION, BARE_NUMERIC_SCALE
    return sql_type.precision, sql_type.scale or 0


def duckdb_type(sql_type: SqlType) -> str:
    """How DuckDB spells the type that holds it; text-like kinds are VARCHAR."""
    if sql_type.kind is Kind.NUMERIC:
        precision, scale = numeric_shape(sql_type)
        return f"DECIMAL({precision},{scale})"
    if sql_type.kind is Kind.ARRAY:
        assert sql_type.element is not None
        return f"{duckdb_type(sql_type.element)}[]"
    return _DUCKDB_NAMES.get(sql_type.kind, "VARCHAR")


_ARROW_TYPES: dict[Kind, pa.DataType] = {
    Kind.BOOL: pa.bool_(),
    Kind.INT2: pa.int16(),
    Kind.INT4: pa.int32(),
    Kind.INT8: pa.int64(),
    Kind.FLOAT4: pa.float32(),
    Kind.FLOAT8: pa.float64(),
    Kind.BYTEA: pa.binary(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
    Kind.INTERVAL: pa.month_day_nano_interval(),
    Kind.UUID: pa.uuid(),
    Kind.OID: pa.int64(),
    Kind.REGCLASS: pa.int64(),
    Kind.REGTYPE: pa.int64(),
    Kind.REGPROC: pa.int64(),
}


def arrow_type(sql_type: SqlType) -> pa.DataType:
    """The Arrow type in which rows of this type travel; text-like kinds are `string`."""
    if sql_type.kind is Kind.NUMERIC:
        precision, scale = numeric_shape(sql_type)
        return pa.decimal128(precision, scale)
    if sql_type.kind is Kind.ARRAY:
        assert sql_type.element is not None
        return pa.list_(arrow_type(sql_type.element))
    return _ARROW_TYPES.get(sql_type.kind, pa.string())
