"""Arrow types on the way: what DuckDB tells early, and what clients get."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest

from executor.results import ResultShape, plain_array, sql_type_of
from planner.plan import HostOperation, ResultColumn
from storage.types import ANY, BOOL, INT8, NUMERIC, array_of, arrow_type


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    opened.execute("SET GLOBAL arrow_lossless_conversion = true; SET GLOBAL TimeZone = 'UTC'")
    return opened


def result_of(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[object], ResultShape]:
    batch = next(iter(connection.sql(sql).to_arrow_reader(10)))
    columns = tuple(ResultColumn(name, ANY, (name,)) for name in batch.schema.names)
    shape = ResultShape(columns, batch.schema)
    return [column.to_pylist() for column in shape.apply(batch).columns], shape


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("true", True),
        (
            "170141183460469231731687303715884105::HUGEINT",
            Decimal("170141183460469231731687303715884105"),
        ),
        ("-5::HUGEINT", Decimal(-5)),
        ("'{\"a\": 1}'::JSON", '{"a": 1}'),
        ("[true, false, NULL]", [True, False, None]),
        ("[[true], NULL]", [[True], None]),
        ("{'a': true, 'b': 2::HUGEINT}", {"a": True, "b": Decimal(2)}),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID", UUID("a0eebc999c0b4ef8bb6d6bb9bd380a11")),
        ("[1, 2]", [1, 2]),
    ],
)
def test_clients_get_plain_types(
    connection: duckdb.DuckDBPyConnection, sql: str, value: object
) -> None:
    columns, _ = result_of(connection, f"SELECT a FROM (VALUES ({sql}), (NULL)) t(a)")
    assert columns == [[value, None]]


def test_types_only_duckdb_knew_are_filled_in(connection: duckdb.DuckDBPyConnection) -> None:
    _, shape = result_of(connection, "SELECT true AS a, 1::BIGINT AS b, [1::BIGINT] AS c")
    assert [column.type for column in shape.columns] == [BOOL, INT8, array_of(INT8)]


def test_every_sql_type_of_an_arrow_type_holds_it() -> None:
    for kept in (pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.date32(), pa.uuid()):
        assert arrow_type(sql_type_of(kept)) == kept


def test_integers_have_the_declared_width() -> None:
    schema = pa.schema([("a", pa.int32())])
    shape = ResultShape((ResultColumn("a", INT8, ("a",)),), schema)
    batch = pa.record_batch([pa.array([1], pa.int32())], schema=schema)
    assert shape.apply(batch).schema.field(0).type == pa.int64()


def test_quotients_of_result_columns() -> None:
    schema = pa.schema([("s", pa.decimal128(12, 2)), ("n", pa.int64())])
    column = ResultColumn("avg", NUMERIC, ("s", "n"), HostOperation.NUMERIC_DIVIDE)
    batch = pa.record_batch(
        [pa.array([Decimal("10.00")], pa.decimal128(12, 2)), [4]], schema=schema
    )
    assert ResultShape((column,), schema).apply(batch).column(0).to_pylist() == [
        "2.5000000000000000"
    ]


def test_an_empty_select_list_keeps_its_rows() -> None:
    schema = pa.schema([("unused", pa.int64())])
    batch = pa.record_batch([[1, 2, 3]], schema=schema)
    answer = ResultShape((), schema).apply(batch)
    assert (answer.num_columns, answer.num_rows) == (0, 3)


def test_slices_of_lossless_arrays() -> None:
    wide = pa.ExtensionArray.from_storage(
        pa.opaque(pa.binary(16), "hugeint", "DuckDB"),
        pa.array([n.to_bytes(16, "little", signed=True) for n in (1, -2, 3)], pa.binary(16)),
    )
    assert plain_array(wide.slice(1)).to_pylist() == [Decimal(-2), Decimal(3)]
