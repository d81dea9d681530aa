"""Single rows of tables with foreign keys: by row where all is well, and else as the usual way
says, which is PostgreSQL's (`test_foreign_keys_postgres`)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from test_point_writes import Watched
from worlds import Client, Row, World, in_world

from cluster.errors import DqeError, ForeignKeyViolation, SerializationFailure

TABLES = (
    "create table {n}code (code varchar(4) primary key) {replicated} using row",
    "create table {n}parent (a int, b int, n int, primary key (a, b)) {cut} using row",
    "create table {n}child (a bigint, k int, b int,"
    " code text references {n}code on delete set null, up int, primary key (a, k),"
    " foreign key (a, b) references {n}parent {match} on delete {action},"
    " foreign key (a, up) references {n}child (a, k)) {cut} using row",
    "create index on {n}child (a, b)",
)


STATES = (
    "select * from {n}code order by code",
    "select * from {n}parent order by a, b",
    "select * from {n}child order by a, k",
)


def statement(chance: random.Random) -> str:
    a, b, k, up = (chance.randrange(most) for most in (2, 2, 3, 3))
    code = chance.choice(["'x'", "'y'", "'none'", "null"])
    parent = chance.choice([str(b), str(b), "null"])
    other = chance.choice([str(up), str(k), "null", "null"])
    return chance.choice(
        [
            f"insert into {{n}}parent values ({a}, {b}, 1)",
            f"insert into {{n}}child values ({a}, {k}, {parent}, {code}, {other})",
            f"insert into {{n}}child values ({a}, {k}, {parent}, {code}, {other}) returning a, k",
            f"insert into {{n}}child values ({a}, {k}, {b}, null, {up}),"
            f" ({a}, {up}, {b}, 'x', {k})",
            f"update {{n}}child set b = {parent} where a = {a} and k = {k}",
            f"update {{n}}child set code = {code}, up = {other} where a = {a} and k in ({k}, {b})",
            f"update {{n}}parent set n = n + 1 where a = {a}",
            f"delete from {{n}}parent where a = {a} and b = {b}",
            f"delete from {{n}}parent where a = {a} and n > 1",
            f"delete from {{n}}child where a = {a} and k = {k}",
            f"delete from {{n}}child where a = {a}",
            "delete from {n}code where code = 'y'",
            "insert into {n}code values ('y') on conflict do nothing",
        ]
    )


async def outcome(client: Client, sql: str) -> tuple[str, list[Row] | None]:
    try:
        rows = await client.ask(sql)
    except DqeError as error:
        return f"{error.sqlstate} {error.message} {error.detail}".replace("one_", ""), None
    return client.tag, sorted(rows, key=repr)


@pytest.mark.parametrize(
    ("seed", "action", "match"),
    [(1, "no action", ""), (2, "cascade", "match full"), (3, "restrict", "")],
)
def test_random_statements_end_as_the_usual_way_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, action: str, match: str
) -> None:
    watched, chance = Watched(monkeypatch), random.Random(seed)

    async def test(world: World) -> None:
        client = await world.client()
        for name in ("one_", "two_"):
            for text in TABLES:
                await client.ask(
                    text.format(
                        n=name,
                        action=action,
                        match=match if action != "cascade" else "",
                        cut="partition by hash (a) partitions 2",
                        replicated="replicated",
                    )
                )
            await client.ask(f"insert into {name}code values ('x'), ('y')")
        for number in range(70):
            block = chance.choice(["", "", "repeatable read", "serializable", "read committed"])
            texts = [statement(chance) for _ in range(chance.randint(1, 3))]
            if block:
                end = chance.choice(["commit", "commit", "rollback"])
                texts = [f"begin isolation level {block}", *texts, end]
            found = [await outcome(client, text.format(n="one_")) for text in texts]
            with watched.the_usual_way():
                wanted = [await outcome(client, text.format(n="two_")) for text in texts]
            renamed = [(tag.replace("two_", ""), rows) for tag, rows in wanted]
            assert found == renamed, texts
            for query in STATES:
                state = await client.ask(query.format(n="one_"))
                assert state == await client.ask(query.format(n="two_")), (number, texts)
        assert watched.by_row > 50, watched.by_row

    in_world(tmp_path, test)


async def made(world: World, count: int = 2) -> list[Client]:
    clients = await world.clients(count)
    for text in TABLES:
        await clients[0].ask(
            text.format(n="", action="no action", match="", cut="", replicated="replicated")
        )
    await clients[0].ask("insert into code values ('x'); insert into parent values (1, 1, 1)")
    return clients


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_reference_and_a_deletion_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, end: str
) -> None:
    watched = Watched(monkeypatch)

    async def test(world: World) -> None:
        one, two = await made(world)
        await two.ask(f"begin isolation level {level}; select 1 from parent")
        await one.ask("begin; insert into child values (1, 1, 1, 'x', 1)")
        deleting = two.later("delete from parent where a = 1 and b = 1")
        await world.waits(deleting)
        await one.ask(end)
        if end == "commit":
            with pytest.raises(ForeignKeyViolation):
                await deleting
            await two.ask("rollback; begin; delete from child where a = 1")
        else:
            await deleting
        await two.ask("delete from parent where a = 1 and b = 1")
        inserting = one.later("insert into child values (1, 2, 1, null, null)")
        await world.waits(inserting)
        await two.ask("commit")
        with pytest.raises((ForeignKeyViolation, SerializationFailure)):
            await inserting
        assert watched.by_row >= 2

    in_world(tmp_path, test)
