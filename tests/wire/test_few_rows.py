"""A few rows value by value are the same bytes as by whole columns."""

import random
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dqe.wire.few_rows import FEW_ROWS, encode_few
from dqe.wire.rows import encode_columns, encode_rows
from executor.formatting.text import TextSettings
from storage.types import BOOL, Kind, SqlType

SETTINGS = TextSettings()
COLUMNS: list[tuple[SqlType, pa.DataType, list[Any]]] = [
    (SqlType(Kind.INT2), pa.int16(), [0, -1, 32767, -32768]),
    (SqlType(Kind.INT4), pa.int32(), [0, 7, -(2**31), 2**31 - 1]),
    (SqlType(Kind.INT8), pa.int64(), [0, 5, -(2**63), 2**63 - 1]),
    (SqlType(Kind.OID), pa.uint32(), [0, 2**32 - 1]),
    (SqlType(Kind.TEXT), pa.string(), ["", "a", "é\n'", "x" * 300]),
    (SqlType(Kind.BPCHAR, 3), pa.string(), ["abc", "a  "]),
    (BOOL, pa.bool_(), [True, False]),
    (SqlType(Kind.NUMERIC, 10, 2), pa.decimal128(10, 2), [Decimal("-1.50"), Decimal("0.00")]),
    (SqlType(Kind.FLOAT8), pa.float64(), [0.1, -0.0, 1e300, float("inf")]),
    (SqlType(Kind.DATE), pa.date32(), [date(1999, 1, 8), date(2026, 12, 31)]),
    (
        SqlType(Kind.TIMESTAMPTZ),
        pa.timestamp("us", "UTC"),
        [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), datetime(1960, 1, 1, tzinfo=UTC) + timedelta(1)],
    ),
    (SqlType(Kind.BYTEA), pa.binary(), [b"", b"\x00\xff"]),
    (SqlType(Kind.NUMERIC), pa.string(), ["1.333333333333333"]),  # an exact quotient
]


@pytest.mark.parametrize("seed", range(60))
def test_both_ways_give_the_same_bytes(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(1, FEW_ROWS)
    chosen = [chance.choice(COLUMNS) for _ in range(chance.randint(1, 5))]
    arrays = [
        pa.array([chance.choice([*values, None]) for _ in range(count)], arrow)
        for _, arrow, values in chosen
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])
    types = [sql_type for sql_type, _, _ in chosen]
    formats = [chance.randint(0, 1) for _ in chosen]
    assert encode_few(batch, types, formats, SETTINGS) == bytes(
        encode_columns(batch, types, formats, SETTINGS)
    )


def test_uuids_are_taken_apart() -> None:
    value = uuid.UUID(int=2**127 + 5)
    batch = pa.RecordBatch.from_arrays([pa.array([value.bytes, None], pa.uuid())], names=["u"])
    for wanted in (0, 1):
        few = encode_few(batch, [SqlType(Kind.UUID)], [wanted], SETTINGS)
        assert few == bytes(encode_columns(batch, [SqlType(Kind.UUID)], [wanted], SETTINGS))


def test_long_batches_go_by_columns() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(FEW_ROWS + 1), pa.int32())], names=["a"])
    (rows,) = encode_rows(batch, [SqlType(Kind.INT4)], [0], SETTINGS)
    assert isinstance(rows, memoryview)
    assert bytes(rows) == encode_few(batch, [SqlType(Kind.INT4)], [0], SETTINGS)
