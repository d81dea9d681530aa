"""Bad statements beside a real PostgreSQL: the same SQLSTATE, words and place, and a session
that goes on. What the two are known to say differently has its reason beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers import postgres

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster

SETUP = (
    "create table b (id int primary key, r text not null, n int check (n > 0), v varchar(3))",
    "insert into b values (1, 'a', 1, 'abc')",
    "create view w as select id from b",
)

ALIKE = (
    # Names
    "select * from nosuch",
    "select * from nosch.t",
    "select nosuch from b",
    "select b.nosuch from b",
    "select x.id from b",
    "select rr from b",
    "select b.id from b a",
    "select id from b, b c",
    "select a.n from b a join b c using (id) where a.nosuch = 1",
    "select nosuchfn(1)",
    "select substr(1, 2, 3, 4, 5)",
    "select * from b order by nosuch",
    "select count(*) from b group by nosuch",
    "drop table nosuch",
    "drop view nosuch",
    "drop schema nosuch",
    "drop table w",
    "drop view b",
    "create table b (id int)",
    "create table e (a nosuchtype)",
    "create table e (a int, a text)",
    "create table e (a int primary key, b int primary key)",
    "create table nosch.e (a int)",
    "create schema pg_mine",
    "alter table b add column id int",
    "alter table b drop column nosuch",
    "delete from nosuch",
    "update nosuch set a = 1",
    "update b set nosuch = 1",
    "insert into nosuch values (1)",
    "set nosuch = 1",
    "show nosuch",
    "set statement_timeout = 'x'",
    "execute nosuch",
    "deallocate nosuch",
    "fetch from nosuch",
    "close nosuch",
    # Syntax
    "selec 1",
    "select * frm b",
    "select 1 +",
    "select (1",
    "select 'unterminated",
    "select 1 from",
    "select case when 1 then 2",
    "insert into b valuse (1)",
    "create table (a int)",
    "select 1 limit -1",
    "select 1 where",
    "select * from b where id in ()",
    # Types and values
    "select 'a' + 1",
    "select 1 + 'x'",
    "select 'abc'::int",
    "select '1'::uuid",
    "select 'x'::boolean",
    "select '2020-02-30'::date",
    "select 'x'::timestamp",
    "select '{1,2'::int[]",
    "select '{\"a\"'::json",
    "select 1 union select 'a'",
    "select 1, 2 union select 1",
    "select 1 where 1",
    "select 1 and true",
    "select array[1, 'x']",
    "select case when true then 1 else 'x' end",
    "insert into b values (3, 'x', 'y')",
    "update b set id = 'x'",
    # At run time
    "select 1/0",
    "select 1 % 0",
    "select 2147483647 + 1",
    "select 9223372036854775807 + 1",
    "select 40000::int2",
    "select sqrt(-1)",
    "select ln(0)",
    "select 'x' like 'y' escape 'ab'",
    "select substr('a', 1, -1)",
    "select chr(-1)",
    "select * from generate_series(1, 10, 0)",
    "select (select id from (values (1), (2)) v (id))",
    "select n::numeric(2, 1) from (values (12345)) v (n)",
    # Grouping
    "select id, count(*) from b",
    "select r, count(*) from b group by n",
    "select max(max(id)) from b",
    "select * from b where count(*) > 1",
    "select count(*) from b where max(id) > 1",
    "select * from b group by 99",
    "select * from b order by 99",
    "select distinct id from b order by n",
    "select id from b having true",
    "select row_number() over () from b where row_number() over () > 1",
    # Constraints
    "insert into b values (1, 'b', 1, 'x')",
    "insert into b values (2, null, 1, 'x')",
    "insert into b values (2, 'x', -1, 'x')",
    "insert into b values (1, 'x'), (1, 'y')",
    "insert into b values (2)",
    "update b set r = null",
    "update b set n = -5",
    "create table e (a int check (nosuch > 0))",
    "create table e (a int default 'x')",
    "create table e (like nosuch)",
)  # fmt: skip

# SQLSTATE alike, but not every word or place.
NEARLY = (
    "select 1 from b a, b a",  # a place
    "select 1::nosuchtype",  # no place
    "alter table nosuch add column x int",  # a place
    "truncate nosuch",  # a place
    "copy nosuch from stdin",  # a place
    "select id || n from b",  # no place
    "select -'a'::text from b",  # no place
    "select 1 = array[1]",  # the place of the left side
    "select coalesce(1, true)",  # no place
    "insert into b values (true, 'x')",  # the column is not named
    "select (-2147483648)::int4 / -1",  # "value out of range"
    "select (select id, n from b)",  # no place
    "select id in (select id, n from b) from b",  # no place
    "create table e (a int, primary key (nosuch))",  # no place
    "insert into b (id, nosuch) values (1, 2)",  # no place
    "insert into b values (1, 2, 3, 4, 5)",  # no place
    "insert into b values (2, 'x', 1, 'abcd')",  # a place, since the constant is checked early
    "select 99999999999999999999999999999999999999999::int8",
    "create table e (a varchar(0))",
)


@pytest.fixture(scope="module")
def beside(cluster: LocalCluster) -> Iterator[tuple[psycopg.Connection[Any], Any]]:
    """Ours and PostgreSQL's connection, both with the tables."""
    with (
        tempfile.TemporaryDirectory(prefix="bad-input") as directory,
        postgres(Path(directory)) as url,
        psycopg.connect(cluster.url, autocommit=True) as ours,
        psycopg.connect(url, autocommit=True) as theirs,
    ):
        for statement in SETUP:
            ours.execute(statement.encode())
            theirs.execute(statement.encode())
        yield ours, theirs
        ours.execute("drop table b cascade")


def said(connection: psycopg.Connection[Any], statement: str) -> tuple[str | None, ...]:
    try:
        cursor = psycopg.ClientCursor(connection)
        if statement.startswith("copy"):
            with cursor.copy(statement.encode()):
                pass
        else:
            cursor.execute(statement.encode())
    except psycopg.Error as error:
        found = (error.sqlstate, error.diag.message_primary, error.diag.statement_position)
    else:
        found = ("00000", None, None)
    assert connection.execute("select 1").fetchone() == (1,)
    return found


@pytest.mark.parametrize("statement", ALIKE)
def test_the_same_is_said(beside: Any, statement: str) -> None:
    ours, theirs = beside
    wanted = said(theirs, statement)
    assert wanted[0] != "00000", "PostgreSQL takes it"
    assert said(ours, statement) == wanted


@pytest.mark.parametrize("statement", NEARLY)
def test_the_same_class_is_raised(beside: Any, statement: str) -> None:
    ours, theirs = beside
    assert said(ours, statement)[0] == said(theirs, statement)[0]
