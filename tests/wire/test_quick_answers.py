"""Answers made of plain values are the bytes that whole columns give."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from dqe.wire import messages
from dqe.wire.quick_answers import quick_answer, row_description
from dqe.wire.rows import encode_columns
from executor.formatting.text import TextSettings
from planner.plan import ResultColumn
from storage import types as t
from storage.fragments import AccessMethod, FragmentSchema, StoreColumn, UniqueKey
from storage.row_tables import RowTables
from storage.types import Kind, SqlType

VALUES: list[tuple[SqlType, list[Any]]] = [
    (t.INT2, [0, -1, 2**15 - 1, -(2**15)]),
    (t.INT4, [0, -1, 2**31 - 1, -(2**31)]),
    (t.INT8, [0, -1, 2**63 - 1, -(2**63)]),
    (t.TEXT, ["", "a", "größer", "x" * 300]),
    (SqlType(Kind.VARCHAR, length=5), ["", "abcde"]),
    (SqlType(Kind.BPCHAR, length=4), ["ab  ", "abcd"]),
    (t.BOOL, [True, False]),
    (t.FLOAT8, [0.0, -0.0, 1.5, 1e300, 1e15, 1e-5, float("inf"), float("-inf"), float("nan")]),
    (SqlType(Kind.NUMERIC, precision=10, scale=2), [Decimal("0.00"), Decimal("-12.50")]),
    (SqlType(Kind.NUMERIC, precision=10, scale=0), [Decimal("0"), Decimal("-1200")]),
    (SqlType(Kind.NUMERIC, precision=30, scale=20), [Decimal("0.00000000000000000001")]),
    (t.UUID, [0, 2**128 - 1, 0x0E984725C51C4BF49960E1C80E27ABA0]),
    (SqlType(Kind.JSON), ['{"a": 1}']),
]
BINARY = {Kind.INT2, Kind.INT4, Kind.INT8, Kind.BOOL, Kind.TEXT, Kind.VARCHAR, Kind.UUID}
SETTINGS = TextSettings("UTC", "postgres", "hex")


@dataclass
class Plan:
    columns: tuple[ResultColumn, ...] | None
    kept: dict[Hashable, Any] = field(default_factory=dict)


@dataclass
class Answered:
    tag: str
    rows: list[list[Any]] | None


def batch_of(types: Sequence[SqlType], rows: Sequence[Sequence[Any]]) -> Any:
    """The rows on the way that stored rows take."""
    columns = [StoreColumn(f"c{i}", sql_type) for i, sql_type in enumerate(types)]
    key = StoreColumn("k", t.INT4)  # of its own: -0.0 in a key is 0.0
    unique = (UniqueKey("t_pkey", ("k",)),)
    schema = FragmentSchema(1, (key, *columns), ("k",), unique, "t", AccessMethod.ROW)
    tables = RowTables(schema)
    stored = [
        tuple(
            None if value is None else encoding.encode(value)
            for value, encoding in zip((0, *row), tables.encodings, strict=True)
        )
        for row in rows
    ]
    return tables.to_batch(stored, schema.names).select([column.name for column in columns])


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_the_bytes_are_those_of_whole_columns(binary: bool) -> None:
    dice = random.Random(3)
    known = [(s, v) for s, v in VALUES if not binary or s.kind in BINARY]
    for _ in range(200):
        chosen = [dice.choice(known) for _ in range(dice.randrange(1, 5))]
        types = [sql_type for sql_type, _ in chosen]
        rows = [
            [None if dice.random() < 0.2 else dice.choice(values) for _, values in chosen]
            for _ in range(dice.randrange(1, 4))
        ]
        formats = (int(binary),) * len(types)
        columns = tuple(ResultColumn(f"n{i}", s, (f"n{i}",)) for i, s in enumerate(types))
        made = quick_answer(Plan(columns), formats)
        assert made is not None
        expected = bytes(encode_columns(batch_of(types, rows), types, formats, SETTINGS))
        tag = dice.choice([f"SELECT {len(rows)}", f"INSERT 0 {len(rows)}"])
        complete = messages.command_complete(tag)
        assert made.body(Answered(tag, rows)) == expected + complete
        assert made.description == made.shown == row_description(columns, formats)


def test_no_row_is_a_tag() -> None:
    made = quick_answer(Plan((ResultColumn("v", t.INT4, ("v",)),)), ())
    assert made is not None
    assert made.body(Answered("SELECT 0", [])) == messages.command_complete("SELECT 0")


@pytest.mark.parametrize("formats", [(), (0, 1)])
def test_a_statement_without_columns_shows_none(formats: tuple[int, ...]) -> None:
    made = quick_answer(Plan(None), formats)
    assert made is not None
    assert (made.shown, made.description) == (b"", messages.NO_DATA)
    assert made.body(Answered("UPDATE 1", None)) == messages.command_complete("UPDATE 1")


@pytest.mark.parametrize(("sql_type", "form"), [(t.TIMESTAMPTZ, 0), (t.BYTEA, 0), (t.FLOAT8, 1)])
def test_other_types_go_the_usual_way(sql_type: SqlType, form: int) -> None:
    columns = (ResultColumn("v", t.INT4, ("v",)), ResultColumn("w", sql_type, ("w",)))
    assert quick_answer(Plan(columns), (form, form)) is None
