"""Column types of the differential tests: their values, and what may be done with them.

Values come from small domains, so that joins meet and groups have several rows, with NULLs,
skew, and now and then the edges of the type. A column that has edges takes no part in
arithmetic (`magnitude` None), so that no query overflows by chance.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

# Classes of types whose values compare with one another.
INTEGER = "integer"
NUMERIC = "numeric"
FLOAT = "float"
TEXT = "text"
BOOLEAN = "boolean"
DATE = "date"
TIMESTAMP = "timestamp"
TIMESTAMPTZ = "timestamptz"
UUID = "uuid"
JSONB = "jsonb"
ARRAY = "array"

NUMBERS = (INTEGER, NUMERIC, FLOAT)
CLASSES = {
    "smallint": INTEGER,
    "integer": INTEGER,
    "bigint": INTEGER,
    "numeric(10,2)": NUMERIC,
    "numeric(18,6)": NUMERIC,
    "double precision": FLOAT,
    "text": TEXT,
    "varchar(12)": TEXT,
    "char(5)": TEXT,
    "boolean": BOOLEAN,
    "date": DATE,
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "uuid": UUID,
    "jsonb": JSONB,
    "integer[]": ARRAY,
}
TYPES = tuple(CLASSES)
# The largest result of arithmetic that a type holds.
LARGEST = {
    "smallint": 2**15 - 1,
    "integer": 2**31 - 1,
    "bigint": 2**63 - 1,
    NUMERIC: 10**15,
    FLOAT: 10**12,
}
_INTEGER_EDGES = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
_WORDS = (
    "",
    "a",
    "b",
    "A",
    "ab",
    "abc",
    "a%b",
    "a_b",
    "ß",
    "été",
    "x y",
    "zz",
    " lead",
    "B'q",
    "10",
)
_UUIDS = tuple(f"{i:08x}-0000-4000-8000-0000000000{i:02x}" for i in (0, 1, 7, 127, 128, 255))
_JSON = (
    '{"a": 1}', '{"a": 2, "b": "x"}', '{"b": null}', "[1, 2, 3]", '"text"', "5", "null", "true",
    "{}", "[]", '{"a": {"b": [1, {"c": 2}]}}',
)  # fmt: skip
_ARRAYS = ("{}", "{1}", "{1,2}", "{2,1}", "{NULL}", "{1,NULL,3}", "{3,3,3}")
FIRST_DAY = date(2024, 1, 1)


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column of a table; `nulls` is the share of NULLs in it."""

    name: str
    type: str
    nulls: float = 0.2
    edges: bool = False

    @property
    def kind(self) -> str:
        return CLASSES[self.type]

    @property
    def magnitude(self) -> int | None:
        """A bound of the absolute value, or None where arithmetic might overflow."""
        return None if self.edges else 100

    def text(self, chance: random.Random) -> str | None:
        """A value in PostgreSQL's text form, NULL as None."""
        if self.nulls and chance.random() < self.nulls:
            return None
        return value_text(chance, self.type, edges=self.edges)


def value_text(chance: random.Random, type_name: str, *, edges: bool = False) -> str:
    """One value of the type's domain."""
    match CLASSES[type_name]:
        case "integer":
            return _integer(chance, type_name, edges)
        case "numeric":
            return _numeric(chance, type_name)
        case "float":
            # Quarters add up exactly in any order.
            return repr(
                chance.choice([0.0, -0.25, 1.5, 2.0, 3.75, -20.5, chance.randint(-40, 40) / 4])
            )
        case "text":
            return _text(chance, type_name)
        case "boolean":
            return chance.choice(["t", "f"])
        case "date":
            return _date(chance, edges)
        case "timestamp":
            return _moment(chance)
        case "timestamptz":
            return _moment(chance) + "+00"
        case "uuid":
            return chance.choice(_UUIDS)
        case "jsonb":
            return chance.choice(_JSON)
    return chance.choice(_ARRAYS)


def _integer(chance: random.Random, type_name: str, edges: bool) -> str:
    if edges and chance.random() < 0.2:
        return str(chance.choice(_INTEGER_EDGES[type_name]))
    if chance.random() < 0.3:
        return str(chance.choice([0, 1, 1, 2]))
    return str(chance.randint(-3, 9) if chance.random() < 0.8 else chance.randint(-99, 99))


def _numeric(chance: random.Random, type_name: str) -> str:
    digits = 2 if type_name == "numeric(10,2)" else 6
    if chance.random() < 0.4:
        return str(Decimal(chance.randint(-2, 5)))
    shown = chance.choice([1, 2, digits])
    return str(Decimal(chance.randint(-(10**shown) * 5, 10**shown * 9)).scaleb(-shown))


def _text(chance: random.Random, type_name: str) -> str:
    word = chance.choice(_WORDS)
    if chance.random() < 0.3:
        word = chance.choice("abc")
    return word[:5] if type_name == "char(5)" else word


def _date(chance: random.Random, edges: bool) -> str:
    if edges and chance.random() < 0.1:
        return chance.choice(["0001-01-01", "9999-12-31", "2000-02-29"])
    return (FIRST_DAY + timedelta(days=chance.choice([0, 1, 2, 30, 31, 59, 60, 366]))).isoformat()


def _moment(chance: random.Random) -> str:
    seconds = chance.choice([0, 1, 3600, 86400, 86400 * 31 + 12345])
    micros = chance.choice([0, 0, 500000, 123456])
    start = datetime(2024, 1, 1) + timedelta(seconds=seconds, microseconds=micros)
    return start.isoformat(sep=" ")


def literal(chance: random.Random, type_name: str) -> str:
    """A constant of the type in SQL."""
    return sql_literal(type_name, value_text(chance, type_name))


def sql_literal(type_name: str, text: str | None) -> str:
    """The text as a constant of the type."""
    if text is None:
        return "NULL"
    kind = CLASSES[type_name]
    if kind in (INTEGER, NUMERIC):
        return text if not text.startswith("-") else f"({text})"
    quoted = "'" + text.replace("'", "''") + "'"
    if kind == TEXT:
        return quoted
    if kind == FLOAT:
        return f"{quoted}::float8"
    return f"{quoted}::{type_name}"
