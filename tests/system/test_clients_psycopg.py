"""psycopg as programs use it: adapters, cursors of the server, pipelines, COPY, prepared plans."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster

VALUES: tuple[Any, ...] = (
    True,
    5,
    2**40,
    1.5,
    float("inf"),
    Decimal("1.250"),
    "tëxt",
    b"\x00\xff",
    date(2020, 2, 29),
    time(1, 2, 3, 456),
    datetime(2020, 1, 2, 3, 4, 5, 6),
    datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    timedelta(days=400, seconds=3),
    uuid.UUID(int=7),
    [1, 2, None],
    None,
)


@pytest.fixture
def rows(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A connection with a table `t` of fifty rows, its first transaction not yet begun."""
    connection.execute("create table t (id int primary key, v text, n numeric, a int[])")
    given = [(i, f"v{i}", Decimal(i) / 4, [i]) for i in range(50)]
    connection.cursor().executemany("insert into t values (%s, %s, %s, %s)", given)
    return connection


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_values_come_back(connection: psycopg.Connection[Any], binary: bool) -> None:
    cursor = connection.cursor(binary=binary)
    for value in VALUES:
        found = cursor.execute("select %s", (value,)).fetchone()
        assert found == (value,)
    texts = ["a", 'b,"', None]
    assert cursor.execute("select %s::text[]", (texts,)).fetchone() == (texts,)
    found = cursor.execute("select %s", (Jsonb({"a": [1, None]}),)).fetchone()
    assert found == ({"a": [1, None]},)


def test_executemany_returns(rows: psycopg.Connection[Any]) -> None:
    cursor = rows.cursor()
    cursor.executemany(
        "insert into t (id, v) values (%s, %s) returning id", [(100, "a"), (101, "b")],
        returning=True,
    )  # fmt: skip
    found = []
    while True:
        found += cursor.fetchall()
        if not cursor.nextset():
            break
    assert found == [(100,), (101,)]


def test_cursors_of_the_server(rows: psycopg.Connection[Any]) -> None:
    with rows.transaction():
        with rows.cursor(name="forward") as cursor:
            cursor.itersize = 7
            cursor.execute("select id from t where id >= %s order by id", (10,))
            assert [row[0] for row in cursor] == list(range(10, 50))
        with rows.cursor(name="both ways", scrollable=True) as cursor:
            cursor.execute("select id from t order by id")
            assert [row[0] for row in cursor.fetchmany(3)] == [0, 1, 2]
            cursor.scroll(2)
            assert cursor.fetchone() == (5,)
            cursor.scroll(0, mode="absolute")
            assert cursor.fetchone() == (0,)
    with rows.cursor(name="kept", withhold=True) as cursor:
        cursor.execute("select id from t order by id")
        assert cursor.fetchmany(2) == [(0,), (1,)]
        open_cursors = rows.execute("select name, is_holdable from pg_cursors").fetchall()
        assert open_cursors == [("kept", True)]
    assert rows.execute("select count(*) from pg_cursors").fetchone() == (0,)


def test_fetch_goes_both_ways(rows: psycopg.Connection[Any]) -> None:
    def fetched(direction: str) -> list[int]:
        return [row[0] for row in rows.execute(f"fetch {direction} from c".encode()).fetchall()]

    with rows.transaction():
        rows.execute("declare c scroll cursor for select id from t where id < 5 order by id")
        assert fetched("2") == [0, 1]
        assert fetched("0") == [1]
        assert fetched("backward 5") == [0]
        assert fetched("all") == [0, 1, 2, 3, 4]
        assert fetched("prior") == [4]
        assert fetched("relative -2") == [2]
        assert fetched("last") == [4]
        assert fetched("absolute -2") == [3]
        assert fetched("backward all") == [2, 1, 0]
        assert rows.execute("move 3 from c").statusmessage == "MOVE 3"
        assert fetched("next") == [3]
        rows.execute("declare d no scroll cursor for select id from t order by id")
        rows.execute("fetch 3 from d")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
            rows.execute("fetch prior from d")
        assert caught.value.diag.message_hint is not None
        raise psycopg.Rollback


def test_pipelines(rows: psycopg.Connection[Any]) -> None:
    with rows.pipeline() as pipeline:
        cursors = [rows.execute("select v from t where id = %s", (i,)) for i in range(10)]
        pipeline.sync()
        assert [cursor.fetchone() for cursor in cursors] == [(f"v{i}",) for i in range(10)]
    with pytest.raises(psycopg.errors.DivisionByZero):
        _fail_in_a_pipeline(rows)
    assert rows.execute("select count(*) from t").fetchone() == (50,)


def _fail_in_a_pipeline(rows: psycopg.Connection[Any]) -> None:
    with rows.pipeline():
        rows.execute("select 1")
        rows.execute("select 1/0")
        rows.execute("delete from t")


@pytest.mark.parametrize("form", ["text", "binary"])
def test_copy_row_by_row(rows: psycopg.Connection[Any], form: str) -> None:
    types = ["int4", "text", "numeric"]
    given = [(1000 + i, 'c\t"x"\\', Decimal("1.5")) for i in range(3)]
    with rows.cursor().copy(f"copy t (id, v, n) from stdin (format {form})".encode()) as copy:
        copy.set_types(types)
        for row in given:
            copy.write_row(row)
    query = f"copy (select id, v, n from t where id >= 1000 order by id) to stdout (format {form})"
    with rows.cursor().copy(query.encode()) as copy:
        copy.set_types(types)
        assert list(copy.rows()) == given


def test_copy_sends_a_message_a_row(rows: psycopg.Connection[Any]) -> None:
    with rows.cursor().copy("copy (select id from t order by id) to stdout (header true)") as copy:
        assert [bytes(block) for block in copy] == [b"id\n", *(b"%d\n" % i for i in range(50))]


def test_prepared_after_some_uses(rows: psycopg.Connection[Any]) -> None:
    for number in range(8):
        found = rows.execute("select v from t where id = %s", (number,)).fetchone()
        assert found == (f"v{number}",)
    shown = rows.execute(
        "select statement, parameter_types, result_types, from_sql from pg_prepared_statements "
        "where statement like 'select v%'"
    ).fetchall()
    assert shown == [("select v from t where id = $1", ["smallint"], ["text"], False)]


def test_types_are_looked_up(connection: psycopg.Connection[Any]) -> None:
    info = psycopg.types.TypeInfo.fetch(connection, "text")
    assert info is not None
    assert (info.oid, info.array_oid) == (25, 1009)
    assert psycopg.types.TypeInfo.fetch(connection, "hstore") is None


def test_a_failed_block_says_so_until_it_ends(cluster: LocalCluster) -> None:
    with psycopg.connect(cluster.url) as connection:
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("select nosuch")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)


def test_cancel(connection: psycopg.Connection[Any]) -> None:
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    endless = "select count(*) from generate_series(1, 10000000) a, generate_series(1, 10000) b"
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(endless)
    timer.join()
    assert connection.execute("select 1").fetchone() == (1,)
