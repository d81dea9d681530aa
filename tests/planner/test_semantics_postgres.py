"""Every expression here means to DuckDB what it means to PostgreSQL 18.

Both run it: PostgreSQL as it is, DuckDB what the binder made of it. Values are compared in
PostgreSQL's text form, numbers that are not exact in either to 14 digits, errors by SQLSTATE.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

import duckdb
import psycopg
import pytest
from bind_support import make_context, make_duckdb, make_table, rounded, run, runnable_sql
from postgres_support import Postgres, running_postgres

from cluster.errors import DqeError
from planner.binder import bind_query
from planner.context import PlannerContext
from planner.dialect import parse_query
from planner.semantics.errors import translate_duckdb_error

CASES = Path(__file__).parent / "semantics_cases"
COMPARED_DIGITS = 14


def cases(name: str) -> list[str]:
    """The lines of a file of cases; `--` begins a comment line."""
    lines = (CASES / f"{name}.sql").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("--")]


class Both:
    """PostgreSQL and DuckDB with the same tables."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        definitions = cases("tables")
        tables = [
            make_table(number, line.rstrip(";").partition("|")[0], key=("id",))
            for number, line in enumerate(definitions, 1)
        ]
        self.context: PlannerContext = make_context(tables)
        self.duckdb: duckdb.DuckDBPyConnection = make_duckdb(tables)
        for line in definitions:
            head, _, rows = line.rstrip(";").partition("|")
            name = head.partition("(")[0].strip()
            declared = head.replace(" char(", " character(").strip()
            postgres.rows(f"DROP TABLE IF EXISTS {name}")
            postgres.rows(f"CREATE TABLE {declared[:-1]}, PRIMARY KEY (id))")
            postgres.rows(f"INSERT INTO {name} VALUES {rows}")
            self._copy(name)

    def _copy(self, name: str) -> None:
        """Moves a table's rows to DuckDB, as an INSERT of their texts would."""
        table = self.context.catalog.find_table(name)
        assert table is not None
        rows = [
            ", ".join("NULL" if v is None else psycopg.sql.quote(v) for v in row)
            for row in self.postgres.rows(f"SELECT * FROM {name}")
        ]
        values = parse_query("VALUES " + ", ".join(f"({row})" for row in rows))
        bound = bind_query(values, self.context, expected=[c.type for c in table.columns])
        self.duckdb.execute(f'INSERT INTO "{name}" {runnable_sql(bound)}')

    def ours(self, sql: str) -> list[tuple[str | None, ...]]:
        return run(sql, self.context, self.duckdb)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with running_postgres() as postgres:
        yield Both(postgres)


def assert_alike(ours: list[tuple[str | None, ...]], theirs: list[tuple[str | None, ...]]) -> None:
    assert len(ours) == len(theirs), f"{ours} is not {theirs}"
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine) == len(other), f"{ours} is not {theirs}"
        for left, right in zip(mine, other, strict=True):
            assert left == right or _near(left, right), f"{ours} is not {theirs}"


def _near(left: str | None, right: str | None) -> bool:
    if left is None or right is None:
        return False
    try:
        if Decimal(left) == Decimal(right):
            return True
        return rounded(left, COMPARED_DIGITS) == rounded(right, COMPARED_DIGITS)
    except InvalidOperation:
        return False


EXPRESSION_FILES = (
    "numbers",
    "strings",
    "patterns",
    "times",
    "formats",
    "comparisons",
    "arrays",
    "json",
    "casts",
    "system",
)
QUERY_FILES = ("queries", "aggregates", "windows")


@pytest.mark.parametrize("expression", [line for name in EXPRESSION_FILES for line in cases(name)])
def test_expression_means_what_postgres_means(both: Both, expression: str) -> None:
    query = f"SELECT {expression}"
    assert_alike(both.ours(query), both.postgres.rows(query))


@pytest.mark.parametrize("query", [line for name in QUERY_FILES for line in cases(name)])
def test_query_answers_as_postgres(both: Both, query: str) -> None:
    ours, theirs = both.ours(query), both.postgres.rows(query)
    if "order by" not in query.lower():
        ours, theirs = (sorted(rows, key=repr) for rows in (ours, theirs))
    assert_alike(ours, theirs)


@pytest.mark.parametrize("query", cases("errors"))
def test_query_fails_as_in_postgres(both: Both, query: str) -> None:
    with pytest.raises(psycopg.Error) as theirs:
        both.postgres.rows(query)
    try:
        rows = both.ours(query)
    except DqeError as error:
        ours = error
    except duckdb.Error as error:
        ours = translate_duckdb_error(error)
    else:
        pytest.fail(f"no error but {rows}; PostgreSQL: {theirs.value}")
    assert ours.sqlstate == theirs.value.sqlstate, f"{ours} is not {theirs.value}"


@pytest.mark.parametrize("query", cases("positions"))
def test_error_has_message_and_position_of_postgres(both: Both, query: str) -> None:
    with pytest.raises(psycopg.Error) as theirs:
        both.postgres.rows(query)
    with pytest.raises(DqeError) as ours:
        both.ours(query)
    diagnostics = theirs.value.diag
    assert ours.value.message == diagnostics.message_primary
    wanted = diagnostics.statement_position
    assert ours.value.position == (int(wanted) if wanted is not None else None)


@pytest.mark.parametrize("query", cases("names"))
def test_columns_are_named_as_in_postgres(both: Both, query: str) -> None:
    bound = bind_query(parse_query(query), both.context)
    assert [column.name for column in bound.columns] == both.postgres.names(query)
