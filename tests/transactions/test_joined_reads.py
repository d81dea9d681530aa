"""Joins of few rows by their keys: as the usual way has them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from short_ways import Watched
from worlds import World, in_world

from cluster.errors import (
    DuplicateAlias,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
    UndefinedTable,
)
from executor.joined_queries import JoinedQueries

TABLES = """
    create table orders (c int, o int, n int, place text, at timestamptz, primary key (c, o))
      partition by hash (c) partitions 2 using {method};
    create table lines (c bigint, o int, l int, item int, code varchar(5), m numeric(6,2),
      primary key (c, o, l)) partition by hash (c) partitions 2 using {method};
    create table items (id int primary key, code varchar(5) not null, m numeric(6,2), pad char(4))
      partition by hash (id) partitions 3 using {method};
    create table codes (code varchar(5) primary key, words text) replicated using {method};
    create index on orders (place, o);
"""
ROWS = """
    insert into orders select i % 4, i, nullif(i % 5, 4), substr('xyz', i % 3 + 1, 1),
      timestamptz '2026-01-01 00:00+00' + i * interval '1 h' from generate_series(1, 40) s(i);
    insert into lines select i % 4, i % 40 + 1, i, nullif(i % 13, 12), 'c' || i % 6, i * 1.25
      from generate_series(1, 160) s(i);
    insert into items select i, 'c' || i % 5, nullif(i, 3) * 2.5, 'p' || i
      from generate_series(0, 11) s(i);
    insert into codes select 'c' || i, 'words of ' || i from generate_series(0, 3) s(i);
"""
FROM = [
    "lines, items where lines.c = {x} and lines.item = items.id",
    "lines l join items i on l.item = i.id where l.c = {x} and l.o > {z}",
    "items i cross join lines l where i.id = l.item and l.c = {x} and i.m > 5",
    "lines l join orders o on o.c = l.c and o.o = l.o where l.c = {x} and o.n is not null",
    "lines l join orders o on o.c = l.c and o.o = l.o where o.c = {x} and l.o = {z}",
    "orders o join lines l on l.c = o.c and l.o = o.o where o.place = 'x' and o.o > {z}"
    " and l.l = o.o - 1",
    "lines l inner join codes k on k.code = l.code where l.c = {x} and l.o = {z}",
    "lines l, orders o, items i where l.c = {x} and o.c = l.c and o.o = l.o and i.id = l.item",
    "lines l join items i on i.id = l.item join codes k on k.code = i.code where l.c = {x}"
    " and (l.l % 2 = 0 or k.words > 'words of 1')",
    "lines l join items i on i.id = l.item and i.code = l.code where l.c = {x}",
    "lines l join items i on i.id = {z} where l.c = {x} and l.o < 20",
    "orders o join items i on i.id = o.n where o.place = 'y'",
    "lines l left join items i on i.id = l.item where l.c = {x}",
    "lines l join items i on i.m = l.m where l.c = {x}",
    "lines l join items i using (code) where l.c = {x}",
]
# With the names that they need.
ITEMS = {
    "*": "",
    "count(*)": "",
    "count(distinct i.id), max(l.m)": "il",
    "l.m + 1, upper(i.code)": "il",
    "i.pad, l.l, i.code as l": "il",
    "o.at, o.place || 'x'": "o",
    "o.at, l.m": "ol",
}


def query(chance: random.Random) -> str:
    source = chance.choice(FROM).format(x=chance.randrange(5), z=chance.randrange(12))
    known = {name for name in "ilo" if f" {name} " in source and f"{name}." in source}
    if "using" in source or source.startswith("lines,"):
        known.clear()
    items = chance.choice([items for items, needed in ITEMS.items() if known >= set(needed)])
    text = f"select {items} from {source}"
    if known >= {"i", "l"} and "(" not in items:
        text += chance.choice(
            [" order by i.code desc, l.l, l.o, i.id", " order by l.item, l.l, l.o"]
        )
        text += chance.choice(["", f" limit {chance.randint(0, 9)}"])
    return text


@pytest.mark.parametrize("method", ["row", "hybrid"])
def test_a_join_is_what_a_plan_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    watched = Watched(monkeypatch, JoinedQueries)

    async def test(world: World) -> None:
        client, other = await world.clients(2)
        await client.ask(TABLES.format(method=method))
        await other.ask(ROWS)
        chance = random.Random(method)
        for _ in range(60):
            await watched.both_ways(client, query(chance))
        taken = watched.taken
        assert taken > 25, taken
        await client.ask("begin isolation level repeatable read")
        await client.ask("delete from items where id = 2")
        await client.ask("update lines set item = 5 where c = 1 and o < 20")
        await client.ask("insert into orders values (1, 99, 1, 'x', now())")
        await other.ask(
            "update items set m = 1 where id > 5; delete from lines where c = 1 and o = 25"
        )
        for _ in range(60):
            await watched.both_ways(client, query(chance))
        assert watched.taken > taken + 25, watched.taken
        await client.ask("rollback")

    in_world(tmp_path, test)


def test_parameters_that_no_key_can_have(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(TABLES.format(method="row"))
        await client.ask(ROWS)
        await client.ask(
            "prepare p (text) as select i.code from lines l join items i on i.id = l.item"
            " join codes k on k.code = $1 where l.c = 1 and l.o = 2"
        )
        assert await client.ask("execute p ('c1')")
        assert await client.ask("execute p (null)") == []
        query = "select l.l from lines l join items i on i.id = {} where l.c = 1"
        assert await client.ask(query.format("3"))
        assert not await client.ask(query.format("77"))
        assert not await client.ask(query.format("null"))
        with pytest.raises(NumericValueOutOfRange):
            await client.ask(query.format("'3000000000'"))
        with pytest.raises(InvalidTextRepresentation):
            await client.ask(query.format("'x'"))

    in_world(tmp_path, test)


NOT_IN_SIGHT = [
    "lines l, items i join codes k on k.code = l.code where i.id = l.item and l.c = 1",
    "lines l join items i on i.code = k.code join codes k on k.code = l.code"
    " where i.id = l.item and l.c = 1",
    "lines l cross join codes k, items i join orders o on o.c = l.c and o.o = l.o"
    " where i.id = l.item and k.code = l.code and l.c = 1",
]


def test_a_condition_names_only_what_its_join_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, JoinedQueries)

    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(TABLES.format(method="row"))
        await client.ask(ROWS)
        for source in NOT_IN_SIGHT:
            await client.refused(f"select l.l from {source}", UndefinedTable)
        await watched.both_ways(
            client,
            "select l.l from codes k, lines l cross join items i join orders o on o.c = l.c"
            " and o.o = l.o where i.id = l.item and k.code = l.code and l.c = 1",
        )
        assert watched.taken == 1

    in_world(tmp_path, test)


def test_conditions_that_follow_each_other(tmp_path: Path) -> None:
    """The inner of two joins stands between the outer one and its condition."""

    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(TABLES.format(method="row"))
        await client.ask(ROWS)
        text = "select l.l, k.words from lines l {} where l.c = 1 and l.o < 20 order by l.l"
        for side in ("", "left "):
            nested = f"{side}join items i join codes k on k.code = i.code on i.id = l.item"
            within = f"{side}join (items i join codes k on k.code = i.code) on i.id = l.item"
            plain = "join items i on i.id = l.item join codes k on k.code = i.code"
            rows = await client.ask(text.format(nested))
            assert rows == await client.ask(text.format(within))
            assert (rows == await client.ask(text.format(plain))) is (side == "")
        await client.refused(
            "select 1 from items join lines items on items.c = items.item", DuplicateAlias
        )

    in_world(tmp_path, test)


def test_explain_says_so(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await client.ask(TABLES.format(method="hybrid"))
        found = await client.ask(
            "explain select i.code from lines l join items i on i.id = l.item where l.c = 1"
        )
        shown = [line or "" for (line,) in found]
        assert any(line.startswith("Lookup Join") for line in shown), shown
        assert any("Index Lookup on lines" in line for line in shown), shown
        assert any("Key Lookup on items" in line for line in shown), shown
        assert any("id = lines.item" in line for line in shown), shown

    in_world(tmp_path, test)
