"""COPY's fields to values and back: types, NULLs, escapes, the first error in row order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from catalog.model import (
    AccessMethod,
    ColocationId,
    Column,
    ColumnId,
    Durability,
    PartitionMethod,
    Table,
    TableId,
)
from cluster.errors import BadCopyFileFormat, DqeError
from executor.copy_binary import HEADER, TRAILER, BinaryRows
from executor.copy_binary_read import read_numeric
from executor.copy_binary_write import joined, write_numeric, write_rows
from executor.copy_out import RowWriter
from executor.copy_rows import ReadBatch, TextRows
from executor.formatting.text import TextSettings
from executor.writes_rows import RowEvaluator
from planner import macros, udfs
from planner.plan import ResultColumn
from planner.statements import CopyFormat, CopyOptions
from planner.write_plan import CopyFromPlan, RowExpression
from storage import types as t
from storage.types import SqlType, array_of, arrow_type

CSV = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="")
TEXT = CopyOptions()
BINARY = CopyOptions(format=CopyFormat.BINARY)
MONEY = SqlType(t.Kind.NUMERIC, precision=10, scale=2)
SHORT = SqlType(t.Kind.VARCHAR, length=3)


def table(*types: SqlType) -> Table:
    columns = tuple(
        Column(ColumnId(place), f"c{place}", sql_type) for place, sql_type in enumerate(types)
    )
    return Table(
        id=TableId(1),
        schema="public",
        name="t",
        columns=columns,
        key=(columns[0].id,),
        hidden_row_id=False,
        primary_key=None,
        unique=(),
        checks=(),
        method=PartitionMethod.NONE,
        partition_columns=(),
        groups=(),
        parts=(),
        colocation_id=ColocationId(1),
        access_method=AccessMethod.COLUMNAR,
        replicas=1,
        durability=Durability.QUORUM,
    )


def plan(*types: SqlType) -> CopyFromPlan:
    """A plan whose exact casts are DuckDB's own."""
    target = table(*types)
    casts = tuple(
        RowExpression(c.name, f'CAST("{c.name}" AS {t.duckdb_type(c.type)})')
        for c in target.columns
    )
    return CopyFromPlan(target, tuple(c.id for c in target.columns), casts, None, (), None)


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.execute("SET GLOBAL arrow_lossless_conversion = true")
    for statement in macros.SETUP_SQL:
        connection.execute(statement)
    udfs.register(connection)
    yield connection
    connection.close()


def read(
    database: duckdb.DuckDBPyConnection, data: bytes, options: CopyOptions, *types: SqlType
) -> list[ReadBatch]:
    evaluator = RowEvaluator(database.cursor)
    try:
        if options.format is CopyFormat.BINARY:
            binary = BinaryRows(plan(*types))
            return [*binary.feed(data), *binary.finish()]
        reader = TextRows(plan(*types), options, evaluator, "UTC")
        return [*reader.feed(data), *reader.finish()]
    finally:
        evaluator.close()


def values(batches: list[ReadBatch]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for batch in batches:
        if batch.rows:
            rows += zip(*(array.to_pylist() for array in batch.arrays), strict=True)
        if batch.error is not None:
            raise batch.error
    return rows


def test_nulls_and_escapes_of_text(database: duckdb.DuckDBPyConnection) -> None:
    data = b"1\ta\\tb\\nc\\\\\\x41\\101\n\\N\t\\N\n2\t\\\\N\n3\tN\n"
    assert values(read(database, data, TEXT, t.INT4, t.TEXT)) == [
        (1, "a\tb\nc\\AA"),
        (None, None),
        (2, "\\N"),
        (3, "N"),
    ]


def test_nulls_of_csv_are_never_quoted(database: duckdb.DuckDBPyConnection) -> None:
    data = b'1,\n2,""\n'
    assert values(read(database, data, CSV, t.INT4, t.TEXT)) == [(1, None), (2, "")]
    forced = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="", force_null=("*",))
    assert values(read(database, data, forced, t.INT4, t.TEXT)) == [(1, None), (2, None)]
    kept = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="", force_not_null=("c1",))
    assert values(read(database, data, kept, t.INT4, t.TEXT)) == [(1, ""), (2, "")]


def test_values_in_plain_and_other_spellings(database: duckdb.DuckDBPyConnection) -> None:
    data = b"t,1.5,2020-01-02,1.25\nYES, 2,2020-1-2,1.255\noff,inf,,1e1\n"
    assert values(read(database, data, CSV, t.BOOL, t.FLOAT8, t.DATE, MONEY)) == [
        (True, 1.5, date(2020, 1, 2), Decimal("1.25")),
        (True, 2.0, date(2020, 1, 2), Decimal("1.26")),
        (False, float("inf"), None, Decimal("10.00")),
    ]


def test_varchar_loses_only_spaces(database: duckdb.DuckDBPyConnection) -> None:
    assert values(read(database, b"abc   \nab\n", TEXT, SHORT)) == [("abc",), ("ab",)]
    with pytest.raises(DqeError) as caught:
        values(read(database, b"ab\nabcd\n", TEXT, SHORT))
    assert caught.value.sqlstate == "22001"
    assert caught.value.where == 'COPY t, line 2, column c0: "abcd"'


def test_the_error_of_the_first_row_comes_after_the_rows_before_it(
    database: duckdb.DuckDBPyConnection,
) -> None:
    batches = read(database, b"1,2\n3,x\ny,4\n5\n", CSV, t.INT4, t.INT4)
    assert batches[0].rows == 1
    error = batches[0].error
    assert error is not None
    assert error.where == 'COPY t, line 2, column c1: "x"'
    torn = read(database, b"1,2\n3\n", CSV, t.INT4, t.INT4)
    assert [batch.rows for batch in torn] == [1, 0]
    assert torn[1].error is not None
    assert torn[1].error.sqlstate == "22P04"


def test_headers(database: duckdb.DuckDBPyConnection) -> None:
    header = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="", header="yes")
    assert values(read(database, b'x,"y"\n1,2\n', header, t.INT4, t.INT4)) == [(1, 2)]
    assert values(read(database, b"x,y", header, t.INT4, t.INT4)) == []
    match = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="", header="match")
    assert values(read(database, b'c0,"c1"\n1,2\n', match, t.INT4, t.INT4)) == [(1, 2)]
    with pytest.raises(BadCopyFileFormat) as caught:
        read(database, b"c0,x\n1,2\n", match, t.INT4, t.INT4)
    assert 'field 2: got "x", expected "c1"' in caught.value.message


def test_bytes_that_are_no_text(database: duckdb.DuckDBPyConnection) -> None:
    for bad in (b"\xff\n", b"a\0b\n"):
        with pytest.raises(DqeError) as caught:
            read(database, bad, TEXT, t.TEXT)
        assert caught.value.sqlstate == "22021"


# ---------------------------------------------------------------------------------------
# Out, and back in

TYPES = (t.INT2, t.INT8, t.FLOAT8, MONEY, t.NUMERIC, t.TEXT, t.BOOL, t.DATE, t.TIMESTAMPTZ,
         t.BYTEA, t.INTERVAL, array_of(t.INT4), t.UUID)  # fmt: skip


def sample() -> pa.RecordBatch:
    uuids = pa.array([b"\1" * 16, None, b"\2" * 16], pa.binary(16))
    arrays = [
        pa.array([1, None, -3], pa.int16()),
        pa.array([2**40, None, 0], pa.int64()),
        pa.array([1.5, None, float("-inf")], pa.float64()),
        pa.array([Decimal("12.30"), None, Decimal("-0.05")], pa.decimal128(10, 2)),
        pa.array([Decimal("12345678.9"), None, Decimal(0)], pa.decimal128(38, 16)),
        pa.array(['a,"b"\t\\\n', None, ""]),
        pa.array([True, None, False]),
        pa.array([date(2020, 1, 2), None, date(1999, 12, 31)], pa.date32()),
        pa.array([0, None, 946_684_800_000_001], pa.timestamp("us", tz="UTC")),
        pa.array([b"\0\xff", None, b""], pa.binary()),
        pa.array([pa.MonthDayNano([1, 2, 3000]), None, pa.MonthDayNano([0, 0, 0])]),
        pa.array([[1, None], None, []], pa.list_(pa.int32())),
        pa.ExtensionArray.from_storage(pa.uuid(), uuids),
    ]
    names = [f"c{place}" for place in range(len(arrays))]
    return pa.RecordBatch.from_arrays(arrays, names=names)


@pytest.mark.parametrize("options", [TEXT, CSV, BINARY], ids=["text", "csv", "binary"])
def test_what_is_written_reads_back(
    database: duckdb.DuckDBPyConnection, options: CopyOptions
) -> None:
    batch = sample()
    columns = [ResultColumn(f"c{i}", sql_type, ()) for i, sql_type in enumerate(TYPES)]
    writer = RowWriter(columns, options, TextSettings())
    data = writer.head() + joined(writer.rows(batch)) + writer.tail()
    types = list(TYPES)
    if options is not BINARY:  # DuckDB alone reads these in its own spelling only
        types[9] = types[10] = types[11] = t.TEXT
    (found,) = read(database, data, options, *types)
    assert found.error is None
    for place, (sql_type, array) in enumerate(zip(types, found.arrays, strict=True)):
        if sql_type == TYPES[place]:
            assert array.type == arrow_type(sql_type)
            assert array.to_pylist() == batch.column(place).to_pylist()


def test_csv_quotes_what_would_be_read_as_something_else() -> None:
    columns = [ResultColumn("a", t.TEXT, ()), ResultColumn("b", t.TEXT, ())]
    writer = RowWriter(columns, CSV, TextSettings())
    batch = pa.record_batch([pa.array(["", "x,y", "p\nq"]), pa.array([None, 'say "hi"', "z"])],
                            names=["a", "b"])  # fmt: skip
    expected = [b'"",\n', b'"x,y","say ""hi"""\n', b'"p\nq",z\n']
    assert writer.rows(batch).to_pylist() == expected


@pytest.mark.parametrize(
    "text", ["0", "1", "-1", "0.05", "12345678.9", "10000", "100000000", "-0.00012345", "99999999"]
)
def test_numerics_in_binary(text: str) -> None:
    assert read_numeric(write_numeric(Decimal(text))) == Decimal(text)


def test_numeric_bytes_are_postgresqls() -> None:
    # 12345.678: digits 1, 2345, 6780; weight 1; scale 3.
    assert write_numeric(Decimal("12345.678")) == struct.pack(">hhHhhhh", 3, 1, 0, 3, 1, 2345, 6780)


def test_columns_of_nothing_but_nulls_keep_their_types() -> None:
    nulls = pa.array([None, None], pa.string())
    batch = pa.record_batch([nulls, nulls], names=["a", "j"])
    data = HEADER + joined(write_rows(batch, [t.TEXT, t.JSONB]))
    reader = BinaryRows(plan(t.TEXT, t.JSONB))
    (block,) = reader.feed(data)  # the last field ends where the data does
    assert [array.type for array in block.arrays] == [pa.string(), arrow_type(t.JSONB)]
    assert [array.to_pylist() for array in block.arrays] == [[None, None], [None, None]]


def test_binary_comes_in_pieces_of_any_size() -> None:
    batch = pa.record_batch(
        [pa.array(range(50), pa.int64()), pa.array(["x" * (i % 7) for i in range(50)])],
        names=["a", "b"],
    )
    data = HEADER + joined(write_rows(batch, [t.INT8, t.TEXT])) + TRAILER
    for step in (1, 7, 64, len(data)):
        reader = BinaryRows(plan(t.INT8, t.TEXT))
        found: list[ReadBatch] = []
        for start in range(0, len(data), step):
            found += reader.feed(data[start : start + step])
        found += reader.finish()
        assert values(found) == list(zip(*batch.to_pydict().values(), strict=True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"nonsense, surely", "COPY file signature not recognized"),
        (HEADER + struct.pack(">h", 3), "row field count is 3, expected 1"),
        (HEADER + struct.pack(">hi", 1, -5), "invalid field size"),
        (HEADER + struct.pack(">hi", 1, 4), "unexpected EOF in COPY data"),
        (HEADER + struct.pack(">hi", 1, 2) + b"ab" + TRAILER, "incorrect binary data format"),
    ],
)
def test_bad_binary(database: duckdb.DuckDBPyConnection, data: bytes, message: str) -> None:
    with pytest.raises(DqeError) as caught:
        read(database, data, BINARY, t.INT8)
    assert caught.value.message == message
