"""Statements over single rows by key: the same end state and errors as the usual way."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_ways import Maker, Twins, Watched
from worlds import World, in_world

from cluster.errors import DqeError, LockNotAvailable, SerializationFailure, UniqueViolation
from executor.point_writes import PointWrites

COLUMNS = (
    "(k int, g text default 'd', n int not null default 5, m numeric(8,2), f bool, v varchar(4),"
    " x int generated always as (n * 2) stored, check (n <> 13), primary key (k, g))"
)
STATE = "select k, g, n, m, f, v, x from {t} order by k, g"


def told(error: DqeError) -> str:
    # The usual way does not say by how much a number is too large, and of several keys that
    # are there already it may name another one.
    detail = error.detail if error.sqlstate not in ("22003", "23505") else ""
    return f"{error.sqlstate} {error.message} {detail}"


class Writer(Maker):
    """Random statements over `{t}`."""

    def key(self) -> str:
        k, g = self.chance.randrange(4), self.pick("'d'", "'e'")
        return self.pick(f"k = {k} and g = {g}", f"{g} = g and (k = {k})", f"g = {g} and k = {k}.0")

    def value(self, column: str) -> str:
        return {
            "n": self.pick(
                "n + 1", "5", "13", "null", "n * 1000000", "k + n", "default", "m", "'7'"
            ),
            "m": self.pick("m + 1.005", "1.5", "null", "m * n", "999999999", "n", "-m", "'2.345'"),
            "f": self.pick("not f", "n > 5", "null", "true", "m is null"),
            "v": self.pick("v || 'x'", "'abcd'", "'abcde'", "g", "null", "n::text", "upper(v)"),
        }[column]

    def sets(self) -> str:
        columns = self.chance.sample(["n", "m", "f", "v"], self.chance.randint(1, 2))
        return ", ".join(f"{column} = {self.value(column)}" for column in columns)

    def constant(self, column: str) -> str:
        return {
            "k": str(self.chance.randrange(4)),
            "g": self.pick("'d'", "'e'", "default", "'d'"),
            "n": self.pick("1", "13", "null", "default", "2 + 3", "'8'", "1.6"),
            "m": self.pick("1.005", "null", "12345678", "-3", "1e2"),
            "f": self.pick("true", "null", "1 < 2", "'on'"),
            "v": self.pick("'ab'", "'abcd   '", "'abcdef'", "null", "7"),
        }[column]

    def insert(self) -> str:
        extra = self.chance.sample(["g", "n", "m", "f", "v"], self.chance.randint(0, 5))
        columns = ["k", *extra]
        count = self.pick("1", "1", "2", "3")
        rows = ", ".join(
            "(" + ", ".join(self.constant(c) for c in columns) + ")" for _ in range(int(count))
        )
        conflict = self.pick(
            "",
            "",
            " on conflict do nothing",
            " on conflict (k, g) do update set n = {t}.n + excluded.n, v = excluded.v",
            " on conflict (k, g) do update set m = excluded.m where {t}.n < 20",
        )
        return f"insert into {{t}} ({', '.join(columns)}) values {rows}{conflict}"

    def statement(self) -> str:
        made = self.chance.random()
        more = self.pick("", "", " and n < 20", " and (f is not true or m > 0)")
        if made < 0.1:
            mode = self.pick("update", "no key update", "share", "key share", "update of {t}")
            shown = self.pick("*", "n, m as money", "n / 5 as q, k")
            return f"select {shown} from {{t}} where {self.key()}{more} for {mode}"
        if made < 0.4:
            text = self.insert()
        elif made < 0.8:
            text = f"update {{t}} set {self.sets()} where {self.key()}{more}"
        else:
            text = f"delete from {{t}} where {self.key()}{more}"
        return text + self.pick(
            "", "", " returning *", " returning k, m as money", " returning n / 5 as q"
        )


@pytest.mark.parametrize(("seed", "method"), [(1, "row"), (2, "hybrid")])
def test_random_statements_end_as_the_usual_way_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, method: str
) -> None:
    watched, maker = Watched(monkeypatch, PointWrites), Writer(seed)

    async def test(world: World) -> None:
        client = await world.client()
        for table in ("one", "two"):
            await client.ask(f"create table {table} {COLUMNS} using {method}")
        twins = Twins(client, watched, told)
        for _ in range(150):
            texts = maker.block(maker.statement, "commit", "commit", "rollback")
            await twins.end_alike(texts, [STATE])
        assert watched.taken > 100, watched.taken

    in_world(tmp_path, test)


def test_parameters_of_every_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, PointWrites)
    types = {
        "a": ("smallint", "7"), "b": ("bigint", "-9000000000"), "c": ("numeric", "12.340"),
        "d": ("numeric(30,3)", "123456789012345678901234.5"), "e": ("float8", "1.5"),
        "f": ("text", "é"), "g": ("char(5)", "ab"), "h": ("bytea", "\\x00ff"),
        "i": ("date", "2024-02-29"), "j": ("time", "12:34:56.7"),
        "l": ("timestamp", "2024-02-29 01:02:03"), "o": ("timestamptz", "2024-02-29 01:02:03+02"),
        "p": ("uuid", "ffffffff-0000-0000-0000-000000000001"), "q": ("bool", "t"),
        "r": ("json", '{"a": 1}'), "s": ("jsonb", '{"b":  2}'), "t": ("interval", "1 day 2 hours"),
    }  # fmt: skip

    async def test(world: World) -> None:
        client = await world.client()
        columns = ", ".join(f"{name} {kind}" for name, (kind, _) in types.items())
        await client.ask(f"create table t (k int primary key, {columns}) using hybrid")
        marks = ", ".join(f"${n}" for n in range(1, len(types) + 2))
        texts = [text for _, text in types.values()]
        await client.ask(f"insert into t values ({marks})", ["1", *texts])
        assert watched.taken == 1
        sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(types, 2))
        await client.ask("insert into t (k) values ($1)", ["2"])
        await client.ask(f"update t set {sets} where k = $1", ["2", *texts])
        assert watched.taken == 3
        with watched.the_usual_way():
            await client.ask(f"insert into t values ({marks})", ["3", *texts])
        names = ", ".join(types)
        rows = [await client.ask(f"select {names} from t where k = {k}") for k in (1, 2, 3)]
        assert rows[0] == rows[2]
        assert rows[1] == rows[2]

    in_world(tmp_path, test)


def test_sequences_hidden_ids_and_other_unique_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, PointWrites)

    async def test(world: World) -> None:
        client = await world.client()
        await client.ask("create table t (k serial primary key, u int, unique (k, u)) using row")
        await client.ask("create table h (v text, at timestamp default now()) using hybrid")
        await client.ask("create table w (a int primary key, b int unique) replicated using row")
        assert await client.ask("insert into t (u) values (1), (2) returning k") == [("1",), ("2",)]
        await client.ask("insert into h (v) values ('a'), ('a')")
        assert watched.taken == 2
        assert await client.ask("select count(*), count(at) from h") == [("2", "2")]
        await client.ask("insert into w values (1, 1), (2, null), (3, null)")
        found = await client.refused("insert into w values (4, 1)", UniqueViolation)
        assert found.detail == "Key (b)=(1) already exists."
        await client.refused("update w set b = 1 where a = 2", UniqueViolation)
        await client.ask("update w set b = 1 where a = 1")
        await client.ask("update w set b = 7 where a = 1; update w set b = 1 where a = 2")
        assert await client.ask("select a, b from w order by a") == [
            ("1", "7"),
            ("2", "1"),
            ("3", None),
        ]

    in_world(tmp_path, test)


def test_rows_on_several_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement over several tablets is all or nothing, in a block and by itself."""
    watched = Watched(monkeypatch, PointWrites)

    async def test(world: World) -> None:
        clients = await world.clients(3)
        await clients[0].ask(
            "create table t (k int primary key, v int)"
            " partition by hash (k) partitions 6 using hybrid"
        )
        rows = ", ".join(f"({k}, 0)" for k in range(12))
        await clients[1].ask(f"insert into t values {rows}")
        assert watched.taken == 1
        more = ", ".join(f"({k}, 0)" for k in range(11, 20))
        await clients[2].refused(f"insert into t values {more}", UniqueViolation)
        assert await clients[0].ask("select count(*), sum(v) from t") == [("12", "0")]
        for client in clients:
            await client.ask("begin")
            for k in range(12):
                await client.ask(f"update t set v = v + 1 where k = {k}")
            assert await client.ask("select sum(v) from t where k < 12") == [
                (str(12 * (clients.index(client) + 1)),)
            ]
            await client.ask("commit")
        assert await clients[0].ask("select count(*), sum(v) from t") == [("12", "36")]
        assert await clients[1].ask("update t set v = 0 where k = 3 returning v, k") == [("0", "3")]

    in_world(tmp_path, test, 3)


def test_rows_that_are_only_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, PointWrites)

    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (k int primary key, v int) using hybrid")
        await one.ask("insert into t values (1, 10), (2, 20)")
        await two.ask("begin isolation level repeatable read")
        assert await two.ask("select count(*) from t") == [("2",)]
        await one.ask("begin")
        before = watched.taken
        lock = "select v + 1 as more, k from t where k = 1"
        assert await one.ask(lock + " and v = 10 for no key update") == [("11", "1")]
        assert one.tag == "SELECT 1"
        assert await one.ask(lock + " and v = 11 for update") == []
        assert await one.ask("select v from t where k = 3 for share") == []
        assert watched.taken == before + 3
        await two.ask("set lock_timeout = '50ms'")
        assert await two.ask("select k from t where k = 2 for update") == [("2",)]
        await two.refused("update t set v = 0 where k = 1", LockNotAvailable)
        await two.ask("rollback")
        await one.ask("update t set v = 7 where k = 1")
        assert await one.ask(lock + " for update") == [("8", "1")]
        await two.ask("begin isolation level repeatable read; select count(*) from t")
        await one.ask("commit")
        await two.refused("select v from t where k = 1 for key share", SerializationFailure)
        await two.ask("rollback")
        await one.ask("begin; select v from t where k = 1 for update; commit")
        await two.ask("update t set v = 0 where k = 1")

    in_world(tmp_path, test, 2)
