"""Each fault of DuckDB is still there, and the respelled query has none."""

from __future__ import annotations

import duckdb
import pytest

from planner.dialect import duckdb_sql, parse_query
from planner.duckdb_faults import runnable

FIRST_ROWS = (
    "select wanted.k from wanted join (select distinct on (o.c) o.c, s.b from o cross join s "
    "order by o.c, s.b) d on wanted.k = d.b"
)
MEMBERS = (
    "select t.a, t.b, (t.a, t.b) {} (select s.x, s.y from s where s.z {} t.a) "
    "from t order by t.a, t.b"
)


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": "1"})


def respelled(sql: str) -> str:
    return duckdb_sql(runnable(parse_query(sql)))


def test_a_join_reaches_behind_distinct_on(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table o as from (values (1), (2)) v(c)")
    connection.execute("create table s as select i b from range(30) r(i)")
    connection.execute("create table wanted as select i + 10 k from range(12) r(i)")
    assert connection.execute(FIRST_ROWS).fetchall() != []
    assert connection.execute(respelled(FIRST_ROWS)).fetchall() == []


@pytest.mark.parametrize(
    ("word", "operator", "expected"),
    [
        ("in", "=", [(1, 2, True), (1, None, None), (3, 4, False), (None, None, False)]),
        ("not in", "=", [(1, 2, False), (1, None, None), (3, 4, True), (None, None, True)]),
        ("in", "<>", [(1, 2, False), (1, None, False), (3, 4, None), (None, None, False)]),
    ],
)
def test_correlated_rows(
    connection: duckdb.DuckDBPyConnection,
    word: str,
    operator: str,
    expected: list[tuple[int | None, int | None, bool | None]],
) -> None:
    connection.execute(
        "create table t as from (values (1, 2), (1, null), (3, 4), (null, null)) v(a, b)"
    )
    connection.execute(
        "create table s as "
        "from (values (1, 2, 1), (1, null, 1), (3, null, 2), (5, 6, 3)) v(x, y, z)"
    )
    sql = MEMBERS.format(word, operator)
    with pytest.raises(duckdb.NotImplementedException):
        connection.execute(sql)
    assert connection.execute(respelled(sql)).fetchall() == expected


def test_memberships_in_one_another(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table t as from (values (1, 2), (3, 4)) v(a, b)")
    sql = (
        "select t.a from t where (t.a, t.b) in (select q.a, q.b from t q where q.a = t.a and "
        "(q.a, q.b) in (select r.a, r.b from t r where r.b = q.b and r.a < 2))"
    )
    assert connection.execute(respelled(sql)).fetchall() == [(1,)]


@pytest.mark.parametrize("join", ["left", "full"])
def test_a_limit_over_a_join_with_nothing(connection: duckdb.DuckDBPyConnection, join: str) -> None:
    connection.execute("create table t as select i a from range(20) r(i)")
    sql = f"select t.a from t {join} join (select * from t where a = 100) s on t.a = s.a limit 3"
    assert len(connection.execute(sql).fetchall()) == 20
    assert len(connection.execute(respelled(sql)).fetchall()) == 3


def test_a_count_over_a_join_with_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table t as select i a, i b from range(20) r(i)")
    sql = (
        "select count(*) from t x left join t y on x.a = y.a and y.b = -2 "
        "having count(*) > 2 and sum(x.b) > 3"
    )
    assert connection.execute(sql).fetchall() == []
    assert connection.execute(respelled(sql)).fetchall() == [(20,)]


def test_a_join_without_a_match_that_is_read(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table t as select i a, i b from range(20) r(i)")
    sql = (
        "select x.b from t x left join t y on x.a = y.a join t z on z.a = x.a "
        "where {} and (y.b = 3 or z.b > 7)"
    )
    with pytest.raises(duckdb.InternalException):
        connection.execute(sql.format("y.a is null"))
    found = connection.execute(sql.format("coalesce(y.a is null, false)")).fetchall()
    assert found == []
