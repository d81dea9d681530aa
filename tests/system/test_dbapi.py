"""`dqe.connect` against PEP 249."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

import dqe
from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def connection(cluster: LocalCluster) -> Iterator[dqe.Connection[Any]]:
    with dqe.connect(cluster.url, autocommit=True) as opened:
        opened.execute("create table booze (name varchar(20) primary key, size int, day date)")
        yield opened
        opened.execute("drop table if exists booze")


def test_module_attributes() -> None:
    assert (dqe.apilevel, dqe.threadsafety, dqe.paramstyle) == ("2.0", 2, "pyformat")
    assert issubclass(dqe.Warning, Exception)
    assert issubclass(dqe.InterfaceError, dqe.Error)
    for name in ("DataError", "OperationalError", "IntegrityError", "InternalError",
                 "ProgrammingError", "NotSupportedError"):  # fmt: skip
        assert issubclass(getattr(dqe, name), dqe.DatabaseError)
    assert dqe.Date(2020, 1, 2) == datetime.date(2020, 1, 2)
    assert dqe.Timestamp(2020, 1, 2, 3, 4, 5) == datetime.datetime(2020, 1, 2, 3, 4, 5)
    assert dqe.Binary(b"x") is not None


def test_execute_fetch_and_describe(connection: dqe.Connection[Any]) -> None:
    cursor = connection.cursor()
    assert cursor.description is None
    cursor.execute("insert into booze values (%s, %s, %s)", ("pils", 3, datetime.date(2020, 1, 2)))
    assert cursor.rowcount == 1
    cursor.executemany(
        "insert into booze (name, size) values (%(name)s, %(size)s)",
        [{"name": f"b{i}", "size": i} for i in range(5)],
    )
    assert cursor.rowcount == 5
    cursor.execute("select name, size, day from booze order by name")
    assert cursor.rowcount == 6
    assert cursor.description is not None
    assert [column[0] for column in cursor.description] == ["name", "size", "day"]
    codes = [column[1] for column in cursor.description]
    assert codes == [dqe.STRING, dqe.NUMBER, dqe.DATETIME]
    assert cursor.fetchone() == ("b0", 0, None)
    assert [row[0] for row in cursor.fetchmany(2)] == ["b1", "b2"]
    assert [row[0] for row in cursor.fetchall()] == ["b3", "b4", "pils"]
    assert cursor.fetchone() is None
    assert cursor.fetchall() == []
    cursor.setinputsizes([25])
    cursor.setoutputsize(1000)
    cursor.close()
    with pytest.raises(dqe.Error):
        cursor.execute("select 1")


def test_errors_are_of_the_right_class(connection: dqe.Connection[Any]) -> None:
    connection.execute("insert into booze values ('pils')")
    for statement, error in (
        ("select nosuch from booze", dqe.ProgrammingError),
        ("selec 1", dqe.ProgrammingError),
        ("select 1/0", dqe.DataError),
        ("insert into booze values ('pils')", dqe.IntegrityError),
        ("insert into booze values (null)", dqe.IntegrityError),
        ("listen brewing", dqe.NotSupportedError),
    ):
        with pytest.raises(error):
            connection.execute(statement.encode())
        assert connection.execute("select 1").fetchone() == (1,)


def test_blocks_begin_by_themselves(cluster: LocalCluster) -> None:
    with dqe.connect(cluster.url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        assert connection.info.transaction_status.name == "INTRANS"
        connection.commit()
        assert connection.info.transaction_status.name == "IDLE"
        connection.execute("select 1")
        connection.rollback()
    assert connection.closed
    with pytest.raises(dqe.OperationalError):
        connection.execute("select 1")


def test_no_server_is_an_operational_error() -> None:
    with pytest.raises(dqe.OperationalError):
        dqe.connect("postgresql://dqe@127.0.0.1:1/dqe", connect_timeout=2)
