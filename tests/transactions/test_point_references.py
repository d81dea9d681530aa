"""Single rows of tables with foreign keys: by row where all is well, and else as the usual way
says, which is PostgreSQL's (`test_foreign_keys_postgres`)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from short_ways import Maker, Twins, Watched
from worlds import Client, World, in_world

from cluster.errors import DqeError, ForeignKeyViolation, SerializationFailure
from executor.point_writes import PointWrites

TABLES = (
    "create table {t}code (code varchar(4) primary key) {replicated} using row",
    "create table {t}parent (a int, b int, n int, primary key (a, b)) {cut} using row",
    "create table {t}child (a bigint, k int, b int,"
    " code text references {t}code on delete set null, up int, primary key (a, k),"
    " foreign key (a, b) references {t}parent {match} on delete {action},"
    " foreign key (a, up) references {t}child (a, k)) {cut} using row",
    "create index on {t}child (a, b)",
)


STATES = (
    "select * from {t}code order by code",
    "select * from {t}parent order by a, b",
    "select * from {t}child order by a, k",
)


def statement(chance: random.Random) -> str:
    a, b, k, up = (chance.randrange(most) for most in (2, 2, 3, 3))
    code = chance.choice(["'x'", "'y'", "'none'", "null"])
    parent = chance.choice([str(b), str(b), "null"])
    other = chance.choice([str(up), str(k), "null", "null"])
    return chance.choice(
        [
            f"insert into {{t}}parent values ({a}, {b}, 1)",
            f"insert into {{t}}child values ({a}, {k}, {parent}, {code}, {other})",
            f"insert into {{t}}child values ({a}, {k}, {parent}, {code}, {other}) returning a, k",
            f"insert into {{t}}child values ({a}, {k}, {b}, null, {up}),"
            f" ({a}, {up}, {b}, 'x', {k})",
            f"update {{t}}child set b = {parent} where a = {a} and k = {k}",
            f"update {{t}}child set code = {code}, up = {other} where a = {a} and k in ({k}, {b})",
            f"update {{t}}parent set n = n + 1 where a = {a}",
            f"delete from {{t}}parent where a = {a} and b = {b}",
            f"delete from {{t}}parent where a = {a} and n > 1",
            f"delete from {{t}}child where a = {a} and k = {k}",
            f"delete from {{t}}child where a = {a}",
            "delete from {t}code where code = 'y'",
            "insert into {t}code values ('y') on conflict do nothing",
        ]
    )


def told(error: DqeError) -> str:
    return f"{error.sqlstate} {error.message} {error.detail}"


@pytest.mark.parametrize(
    ("seed", "action", "match"),
    [(1, "no action", ""), (2, "cascade", "match full"), (3, "restrict", "")],
)
def test_random_statements_end_as_the_usual_way_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, action: str, match: str
) -> None:
    watched, maker = Watched(monkeypatch, PointWrites), Maker(seed)

    async def test(world: World) -> None:
        client = await world.client()
        for name in ("one", "two"):
            for text in TABLES:
                await client.ask(
                    text.format(
                        t=name,
                        action=action,
                        match=match if action != "cascade" else "",
                        cut="partition by hash (a) partitions 2",
                        replicated="replicated",
                    )
                )
            await client.ask(f"insert into {name}code values ('x'), ('y')")
        twins = Twins(client, watched, told)
        for _ in range(70):
            texts = maker.block(lambda: statement(maker.chance), "commit", "commit", "rollback")
            await twins.end_alike(texts, STATES)
        assert watched.taken > 50, watched.taken

    in_world(tmp_path, test)


async def made(world: World, count: int = 2) -> list[Client]:
    clients = await world.clients(count)
    for text in TABLES:
        await clients[0].ask(
            text.format(t="", action="no action", match="", cut="", replicated="replicated")
        )
    await clients[0].ask("insert into code values ('x'); insert into parent values (1, 1, 1)")
    return clients


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_reference_and_a_deletion_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, end: str
) -> None:
    watched = Watched(monkeypatch, PointWrites)

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
        assert watched.taken >= 2

    in_world(tmp_path, test)
