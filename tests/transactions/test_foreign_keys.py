"""Foreign keys while several sessions write: never a row that refers to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
from test_leaders_moving import groups_of, move_leader
from worlds import Client, World, in_world

from cluster.errors import (
    CannotConnectNow,
    DeadlockDetected,
    DqeError,
    ForeignKeyViolation,
    SerializationFailure,
    StatementCompletionUnknown,
    UniqueViolation,
)
from executor.transaction_driver import Transaction

NEAR = (
    "CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY HASH (id) PARTITIONS 3",
    "CREATE TABLE c (pid int REFERENCES p{}, n int, PRIMARY KEY (pid, n)) COLOCATE WITH p",
)
EVERYWHERE = (
    "CREATE TABLE p (id int PRIMARY KEY, v int) REPLICATED USING hybrid",
    "CREATE TABLE c (pid int REFERENCES p{}, n int PRIMARY KEY) PARTITION BY HASH (n) PARTITIONS 3",
)
ORPHANS = "SELECT c.* FROM c LEFT JOIN p ON p.id = c.pid WHERE p.id IS NULL AND c.pid IS NOT NULL"
LAYOUTS = pytest.mark.parametrize("layout", [NEAR, EVERYWHERE], ids=["near", "everywhere"])


async def tables(client: Client, layout: tuple[str, str], action: str = "") -> None:
    for text in layout:
        await client.ask(text.format(action))
    await client.ask("INSERT INTO p SELECT g, 0 FROM generate_series(1, 9) g")


@LAYOUTS
def test_who_refers_first_keeps_the_row(tmp_path: Path, layout: tuple[str, str]) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, layout)
        await first.ask("BEGIN; INSERT INTO c VALUES (1, 1)")
        deletion = second.later("DELETE FROM p WHERE id = 1")
        await world.waits(deletion)
        await first.ask("COMMIT")
        with pytest.raises(ForeignKeyViolation):
            await deletion
        assert await first.ask("SELECT id FROM p WHERE id = 1") == [("1",)]

    in_world(tmp_path, test, 2)


@LAYOUTS
def test_who_deletes_first_leaves_nothing_to_refer_to(
    tmp_path: Path, layout: tuple[str, str]
) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, layout)
        await first.ask("BEGIN; DELETE FROM p WHERE id = 1")
        insertion = second.later("INSERT INTO c VALUES (1, 1)")
        await world.waits(insertion)
        await first.ask("COMMIT")
        with pytest.raises(ForeignKeyViolation) as refused:
            await insertion
        assert refused.value.detail == 'Key (pid)=(1) is not present in table "p".'

    in_world(tmp_path, test, 2)


@LAYOUTS
def test_rows_go_with_the_one_they_refer_to(tmp_path: Path, layout: tuple[str, str]) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, layout, " ON DELETE CASCADE")
        await first.ask("BEGIN; INSERT INTO c VALUES (1, 1), (2, 2)")
        deletion = second.later("DELETE FROM p WHERE id = 1")
        await world.waits(deletion)
        await first.ask("COMMIT")
        await deletion
        assert await first.ask("SELECT pid FROM c") == [("2",)]

    in_world(tmp_path, test, 2)


def test_changes_beside_the_key_go_on(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, NEAR)
        await first.ask("BEGIN; INSERT INTO c VALUES (1, 1)")
        await second.ask("UPDATE p SET v = 5 WHERE id = 1")
        await second.ask("INSERT INTO c VALUES (1, 2)")
        await first.ask("COMMIT")
        assert await first.ask("SELECT v FROM p WHERE id = 1") == [("5",)]

    in_world(tmp_path, test)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_newer_rows_than_the_snapshot_count(tmp_path: Path, level: str) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, NEAR)
        await first.ask(f"BEGIN ISOLATION LEVEL {level}")
        await first.ask("SELECT count(*) FROM c")
        await second.ask("DELETE FROM p WHERE id = 1")
        with pytest.raises((ForeignKeyViolation, SerializationFailure)):
            await first.ask("INSERT INTO c VALUES (1, 1); COMMIT")
        await first.ask("ROLLBACK")
        assert await first.ask(ORPHANS) == []

    in_world(tmp_path, test)


def test_a_part_of_a_block_is_undone_with_its_actions(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await tables(client, NEAR, " ON DELETE CASCADE ON UPDATE CASCADE")
        await client.ask("INSERT INTO c VALUES (1, 1), (2, 2)")
        await client.ask("BEGIN; DELETE FROM p WHERE id = 1; SAVEPOINT s")
        await client.ask("UPDATE p SET id = 12 WHERE id = 2")
        assert await client.ask("SELECT pid FROM c") == [("12",)]
        await client.ask("ROLLBACK TO s")
        assert await client.ask("SELECT pid FROM c") == [("2",)]
        await client.refused("INSERT INTO c VALUES (1, 5)", ForeignKeyViolation)
        await client.ask("ROLLBACK")
        assert await client.ask("SELECT pid FROM c ORDER BY 1") == [("1",), ("2",)]

    in_world(tmp_path, test)


@pytest.mark.parametrize(
    ("layout", "action"),
    [(NEAR, ""), (NEAR, " ON DELETE CASCADE"), (EVERYWHERE, " ON DELETE SET NULL")],
    ids=["near", "cascade", "set null"],
)
def test_no_interleaving_leaves_an_orphan(
    tmp_path: Path, layout: tuple[str, str], action: str
) -> None:
    async def test(world: World) -> None:
        clients = await world.clients(4)
        await tables(clients[0], layout, action)
        await asyncio.gather(
            *(_wild(client, random.Random(seed)) for seed, client in enumerate(clients))
        )
        assert await clients[0].ask(ORPHANS) == []
        assert await clients[0].ask("SELECT count(*) > 0 FROM c") == [("t",)]

    in_world(tmp_path, test, 2)


def test_a_deletion_does_not_come_along_to_a_new_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the gap somebody may have referred to the row, which does not change it."""

    async def silent(transaction: Transaction, *, everywhere: bool) -> None:
        return

    async def test(world: World) -> None:
        first, second = await _clients_of_three(world, 2)
        await tables(first, NEAR)
        monkeypatch.setattr(Transaction, "_speak", silent)
        await first.ask("BEGIN; DELETE FROM p WHERE id = 1")
        await move_leader(world, "p")
        await second.ask("INSERT INTO c VALUES (1, 1)")
        await first.refused("COMMIT", SerializationFailure)
        assert await second.ask(ORPHANS) == []

    in_world(tmp_path, test, 3)


async def _clients_of_three(world: World, count: int) -> list[Client]:
    """Clients of three nodes, once new tables get a replica on each."""
    clients = await world.clients(count)
    catalog = world.nodes[0].parts.catalog
    while len(catalog.group.configuration.voters) < 3:
        await asyncio.sleep(0.05)
    return clients


@pytest.mark.parametrize(
    ("layout", "action"),
    [(EVERYWHERE, ""), (NEAR, " ON DELETE CASCADE")],
    ids=["everywhere", "near"],
)
def test_leaders_that_move_leave_no_orphan(
    tmp_path: Path, layout: tuple[str, str], action: str
) -> None:
    async def test(world: World) -> None:
        clients = await _clients_of_three(world, 3)
        await tables(clients[0], layout, action)
        writing = asyncio.gather(
            *(_wild(client, random.Random(seed), 40) for seed, client in enumerate(clients))
        )
        moves = 0
        while not writing.done():
            moves += await _move_leaders(world)
        await writing
        assert moves
        assert await clients[0].ask(ORPHANS) == []

    in_world(tmp_path, test, 3)


async def _move_leaders(world: World) -> int:
    """Each tablet gets another leader, if it has one; how many did."""
    moves = 0
    for groups in [*groups_of(world, "p"), *groups_of(world, "c")]:
        for group in groups:
            if group.is_leader:
                others = [n for n in group.configuration.voters if n != group.leader_id]
                # It may be too busy to take over, or lead no more.
                with contextlib.suppress(DqeError):
                    await group.transfer_leadership(others[0], deadline_s=2.0)
                    moves += 1
                break
    await asyncio.sleep(0.05)
    return moves


_EXPECTED = (
    CannotConnectNow,
    DeadlockDetected,
    ForeignKeyViolation,
    SerializationFailure,
    StatementCompletionUnknown,
    UniqueViolation,
)


async def _wild(client: Client, rng: random.Random, steps: int = 25) -> None:
    """Inserts of both sides and deletions of the referenced one, some in blocks."""
    for step in range(steps):
        key, number = rng.randint(1, 9), rng.randint(1, 10_000)
        texts = [f"INSERT INTO c VALUES ({key}, {number})"] * 3 + [
            f"DELETE FROM p WHERE id = {key}",
            f"INSERT INTO p VALUES ({key}, {step}) ON CONFLICT DO NOTHING",
        ]
        chosen = [rng.choice(texts) for _ in range(rng.randint(1, 2))]
        text = chosen[0] if len(chosen) == 1 else "; ".join(["BEGIN", *chosen, "COMMIT"])
        with contextlib.suppress(*_EXPECTED):
            await client.ask(text)
        if client.status != "I":
            await client.ask("ROLLBACK")


def test_a_lock_that_was_lost_ends_who_relied_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_looks_before(transaction: Transaction) -> None:
        return

    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, EVERYWHERE)
        await first.ask("BEGIN; INSERT INTO c VALUES (1, 1)")
        _lose_locks(world, first)
        await second.ask("DELETE FROM p WHERE id = 1")
        monkeypatch.setattr(Transaction, "_hold_where_only_locked", nobody_looks_before)
        with pytest.raises(SerializationFailure):
            await first.ask("COMMIT")
        assert await second.ask("SELECT * FROM c") == []

    in_world(tmp_path, test)


def _lose_locks(world: World, client: Client) -> None:
    """As when its lease lapses where it has only locked."""
    transaction = client.session.state.block.transaction
    assert transaction is not None
    opened = transaction.opened
    for tablet_id, tablet in world.nodes[0].parts.storage.tablets.items():
        if tablet_id not in opened.written:
            tablet._follow(tablet._participant.abandon(opened.id))


def test_optimistic_transactions_keep_what_they_refer_to(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        first, second = await world.clients(2)
        await tables(first, EVERYWHERE)
        for client in (first, second):
            await client.ask("SET dqe.concurrency_control = 'optimistic'")
        await first.ask("BEGIN; INSERT INTO c VALUES (1, 1)")
        deletion = second.later("DELETE FROM p WHERE id = 1")
        await world.waits(deletion)
        await first.ask("COMMIT")
        with pytest.raises(ForeignKeyViolation):
            await deletion
        assert await first.ask(ORPHANS) == []

    in_world(tmp_path, test)


@LAYOUTS
@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_what_explain_analyze_changes_is_looked_after(
    tmp_path: Path, layout: tuple[str, str], begin: str
) -> None:
    async def test(world: World) -> None:
        (client,) = await world.clients(1)
        await tables(client, layout, " ON DELETE CASCADE")
        for change in ("INSERT INTO c VALUES (1, 1), (2, 2)", "DELETE FROM p WHERE id = 1"):
            await client.ask(f"EXPLAIN ANALYZE {change}")
        assert await client.ask("SELECT pid FROM c") == [("2",)]
        if begin:
            await client.ask(begin)
        orphan = "EXPLAIN ANALYZE INSERT INTO c VALUES (1, 3)"
        await client.refused(orphan, ForeignKeyViolation)
        if begin:
            await client.ask("ROLLBACK")
        assert await client.ask(ORPHANS) == []

    in_world(tmp_path, test, 1)
