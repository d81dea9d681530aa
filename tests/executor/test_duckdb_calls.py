"""The calls below DuckDB's relations do what the relations do."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from executor.duckdb_calls import Source, open_reader, schema_of

EVERY_TYPE = """SELECT true AS a, 1::TINYINT AS b, 1::SMALLINT AS c, 1 AS d, 1::BIGINT AS e,
    1::UTINYINT AS f, 1::USMALLINT AS g, 1::UINTEGER AS h, 1::UBIGINT AS i, 1::HUGEINT AS j,
    1::FLOAT AS k, 1::DOUBLE AS l, 'x' AS m, 'x'::BLOB AS n, DATE '2024-01-01' AS o,
    TIME '10:00' AS p, TIMESTAMP '2024-01-01' AS q, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS r,
    INTERVAL 1 DAY AS s, uuid() AS t, '{}'::JSON AS u, 1.5::DECIMAL(5, 2) AS v,
    1.5::DECIMAL(38, 10) AS w, [1, 2] AS x, {'a': 1, 'b': ['x']} AS y, NULL AS z,
    MAP {'k': 1} AS aa, 'a'::ENUM('a', 'b') AS ab, '101'::BIT AS ac,
    '10:00:00+02'::TIMETZ AS ad"""


@pytest.fixture
def cursor() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    opened.execute("SET GLOBAL arrow_lossless_conversion = true; SET GLOBAL TimeZone = 'UTC'")
    return opened.cursor()


def batches(*numbers: int) -> pa.RecordBatchReader:
    schema = pa.schema([("a", pa.int64())])
    made = (pa.record_batch([pa.array([n])], schema=schema) for n in numbers)
    return pa.RecordBatchReader.from_batches(schema, made)


def test_the_schema_of_a_query_is_that_of_its_rows(cursor: duckdb.DuckDBPyConnection) -> None:
    before = schema_of(cursor, EVERY_TYPE)
    reader = open_reader(cursor, EVERY_TYPE, 10)
    assert before == reader.schema
    assert reader.read_all().num_rows == 1


def test_rows_come_in_batches_as_they_are_asked_for(cursor: duckdb.DuckDBPyConnection) -> None:
    reader = open_reader(cursor, "SELECT * FROM range(10_000_000_000)", 4096)
    assert [reader.read_next_batch().num_rows for _ in range(3)] == [4096] * 3
    reader.close()
    assert cursor.execute("SELECT 1").fetchall() == [(1,)]


def test_a_source_is_read_once_and_lazily(cursor: duckdb.DuckDBPyConnection) -> None:
    source = Source(cursor, batches(1, 2, 3))
    reader = open_reader(cursor, f'SELECT sum(a)::INT AS s FROM "{source.name}"', 10)
    assert reader.read_all().to_pydict() == {"s": [6]}


def test_a_table_is_read_as_often_as_wanted(cursor: duckdb.DuckDBPyConnection) -> None:
    source = Source(cursor, batches(1, 2, 3).read_all())
    sql = f'SELECT count(*)::INT AS n FROM "{source.name}" AS x, "{source.name}" AS y'
    assert open_reader(cursor, sql, 10).read_all().to_pydict() == {"n": [9]}


def test_the_open_transaction_is_the_one_that_is_read(cursor: duckdb.DuckDBPyConnection) -> None:
    other = cursor.cursor()
    other.execute("CREATE TABLE t AS SELECT 1 AS a")
    cursor.execute("BEGIN")
    assert schema_of(cursor, "SELECT a FROM t") == pa.schema([("a", pa.int32())])
    other.execute("INSERT INTO t VALUES (2)")
    assert open_reader(cursor, "SELECT a FROM t", 10).read_all().to_pydict() == {"a": [1]}


def test_errors_are_duckdbs_own(cursor: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.CatalogException):
        schema_of(cursor, "SELECT * FROM nothing")
    with pytest.raises(duckdb.Error, match="vision by zero"):
        open_reader(cursor, "SELECT error('vision by zero')", 10).read_all()
