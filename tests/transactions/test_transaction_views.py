"""What people can see of transactions under way: dqe.transactions, dqe.locks, pg_locks, and
dqe.transactions_in_doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from worlds import Row, World, in_world

from catalog.model import Catalog, ColocationId, NodeId, Tablet, TabletId
from catalog.system_tables import SystemContext, rows
from storage.transaction_facts import DecisionFact, TransactionFact, TransactionFacts, joined
from storage.transaction_ids import EPOCH_MS


def test_who_holds_and_awaits_what(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two, looker = await world.clients(3)
        await looker.ask(
            "create table t (id int primary key, v int) partition by hash (id) partitions 1;"
            " insert into t values (1, 10), (2, 20)"
        )
        await one.ask("begin; update t set v = 0 where id = 1")
        waiting = two.later("begin; delete from t where id = 1")
        await world.waits(waiting)
        rows = await looker.ask(
            "select state, locks > 0, cardinality(waits_for), coordinator, age_s < 60"
            " from dqe.transactions order by transaction_id"
        )
        assert rows == [("open", "t", "0", "1", "t"), ("open", "t", "1", "2", "t")]
        rows = await looker.ask(
            "select table_name, key, mode, granted from dqe.locks where key is not null order by 4"
        )
        assert rows == [
            ("t", "1", "for update", "f"),
            ("t", "1", "for no key update", "t"),
        ]
        rows = await looker.ask(
            "select locktype, relation::regclass, mode, granted from pg_locks"
            " where locktype = 'tuple' or not granted order by granted"
        )
        assert rows == [
            ("tuple", "t", "AccessExclusiveLock", "f"),
            ("tuple", "t", "ExclusiveLock", "t"),
        ]
        await one.ask("rollback")
        await waiting
        await two.ask("rollback")
        assert await looker.ask("select * from dqe.locks") == []

    in_world(tmp_path, test, 3)


@pytest.mark.parametrize(
    ("protocol", "state"), [("two-phase", "prepared"), ("three-phase", "pre-committed")]
)
def test_what_is_prepared_is_listed_with_what_it_waits_for(
    tmp_path: Path, protocol: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks between the prepares and the decision."""

    async def test(world: World) -> None:
        one, looker = await world.clients(2)
        await looker.ask(
            "create table t (id int primary key, v int) partition by hash (id) partitions 2"
        )
        tablets = world.nodes[0].parts.services.tablets
        step = "write" if protocol == "two-phase" else "decide"
        decide = getattr(tablets, step)
        seen: list[Row] = []

        async def looks_first(tablet_id: int, *args: Any) -> int:
            seen.extend(
                await looker.ask(
                    "select state, tablet_id <> home_tablet, home_leader, coordinator,"
                    " waits_for = 'tablet ' || home_tablet || ', led by node 1'"
                    " from dqe.transactions_in_doubt"
                )
            )
            return await decide(tablet_id, *args)

        monkeypatch.setattr(tablets, step, looks_first)
        await one.ask(f"set dqe.commit_protocol = '{protocol}'")
        await one.ask("insert into t select i, i from generate_series(1, 20) s(i)")
        assert seen == [(state, "t", "1", "1", "t")]
        while await looker.ask("select * from dqe.transactions_in_doubt"):
            await asyncio.sleep(0.05)

    in_world(tmp_path, test)


HOME, OTHER, COORDINATOR = 11, 12, 3 << 12


def shown(*facts: TransactionFact, decisions: tuple[DecisionFact, ...] = (), leader: int) -> object:
    tablets = {
        TabletId(t): Tablet(TabletId(t), ColocationId(1), (NodeId(2),), 1) for t in (HOME, OTHER)
    }
    catalog = Catalog("c", tablets=tablets)
    context = SystemContext(
        catalog,
        live_nodes=(NodeId(2),),
        leaders={TabletId(HOME): NodeId(leader)},
        transactions=joined([TransactionFacts(facts, decisions)]),
        now_ms=EPOCH_MS + 7_000,
    )
    table = rows(catalog, "dqe", "transactions_in_doubt", context)
    names = ["tablet_id", "state", "age_s", "waits_for"]
    return [tuple(row.values()) for row in table.select(names).to_pylist()]


def test_a_home_without_a_leader_is_named_so() -> None:
    fact = TransactionFact(COORDINATOR, OTHER, True, "prepared", HOME)
    assert shown(fact, leader=2) == [(OTHER, "prepared", 7.0, f"tablet {HOME}, led by node 2")]
    assert shown(fact, leader=5) == [
        (OTHER, "prepared", 7.0, f"tablet {HOME}, which has no leader that answers")
    ]


def test_a_tablet_without_a_leader_is_told_of_by_its_replicas() -> None:
    told = [TransactionFact(COORDINATOR, OTHER, False, "prepared", HOME)] * 2
    text = f"a leader of its own; then tablet {HOME}, led by node 2"
    assert shown(*told, leader=2) == [(OTHER, "prepared", 7.0, text)]


def test_what_a_leader_does_not_tell_has_ended_whatever_its_followers_say() -> None:
    follower = TransactionFacts((TransactionFact(COORDINATOR, OTHER, False, "prepared", HOME),))
    leader = TransactionFacts(led=(OTHER,))
    for every in ([follower, leader], [leader, follower]):
        assert joined(every).transactions == ()
        assert joined([joined(every), follower]).transactions == ()
    assert joined([follower, TransactionFacts(led=(HOME,))]).transactions == follower.transactions


def test_who_has_not_confirmed_is_named() -> None:
    decision = DecisionFact(COORDINATOR, HOME, (OTHER, 99))
    text = f"tablet {OTHER}, which has no leader that answers; tablet 99, which was dropped"
    expected = [(HOME, "committed", 7.0, f"confirmation by {text}")]
    assert shown(decisions=(decision,), leader=2) == expected
