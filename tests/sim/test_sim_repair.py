"""Repair, drained nodes and new nodes on whole simulated clusters; minutes pass in seconds."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from repair_story import Story, tell

from catalog.model import NodeId, NodeState
from cluster.raft import state_machine
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration, GroupImage

pytestmark = pytest.mark.slow

CREATE = (
    "CREATE TABLE t (k bigint PRIMARY KEY, v text) PARTITION BY HASH (k) PARTITIONS 4"
    " WITH (replicas = 3)"
)
FILL = "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 200) g(i)"
READ = "SELECT count(*), sum(k) FROM t"
FILLED = [(200, 20100)]


async def prepared(story: Story) -> None:
    await story.ask("SELECT dqe.set_cluster_setting('dead_after', '20s')")
    await story.ask(CREATE)
    await story.ask(FILL)
    await story.until(story.is_whole, 60, "all replicas are there")


def replicas(story: Story) -> Counter[NodeId]:
    return Counter(n for tablet in story.catalog.tablets.values() for n in tablet.replicas)


def leaders(story: Story) -> Counter[NodeId]:
    """Who really leads each tablet."""
    found: Counter[NodeId] = Counter()
    for machine in story.cluster.machines:
        if machine.is_serving:
            tablets = machine.parts.storage.tablets.values()
            found[story.node_id(machine)] += sum(tablet.is_leader for tablet in tablets)
    return found


def test_two_nodes_of_five_die_for_good_one_after_the_other() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        for machine in (story.cluster.machines[1], story.cluster.machines[4]):
            gone = story.node_id(machine)
            machine.end("for good", power_cut=True)
            took_s = await story.until(
                lambda gone=gone: (
                    story.catalog.nodes[gone].state is NodeState.DEAD  # type: ignore[misc]
                    and story.is_whole()
                ),
                80,
                "the replicas are rebuilt",
            )
            assert took_s > 20
            assert gone not in replicas(story)
            assert await story.ask(READ) == FILLED
        assert {len(tablet.replicas) for tablet in story.catalog.tablets.values()} == {3}

    tell(5, happens)


def test_dead_node_that_returns_drops_what_it_had_and_takes_a_share() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        machine = story.cluster.machines[3]
        gone = story.node_id(machine)
        machine.end("for long")
        await story.until(
            lambda: story.catalog.nodes[gone].state is NodeState.DEAD and story.is_whole(),
            80,
            "the replicas are rebuilt",
        )
        await story.ask("INSERT INTO t VALUES (201, 'later')")
        story.cluster.start(machine)
        await story.until(
            lambda: (
                story.catalog.nodes[gone].state is NodeState.ACTIVE
                and story.is_whole()
                and replicas(story)[gone] >= 2
            ),
            60,
            "the node takes a share again",
        )
        await story.until(
            lambda: (
                set(machine.parts.storage.tablets)
                == {t.id for t in story.catalog.tablets.values() if gone in t.replicas}
            ),
            20,
            "replicas that were moved away are dropped",
        )
        assert await story.ask(READ) == [(201, 20301)]

    tell(5, happens)


def test_restarted_node_believes_no_old_copy_of_the_catalog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it reads back from disk does not know which replicas came to it, and left it, lately:
    it drops none (rule G3), and founds none again."""
    done: list[tuple[str, NodeId, int]] = []
    drop, begin = RaftHost.drop_group, RaftHost._create

    async def dropped(host: RaftHost, group_id: int) -> None:
        done.append(("dropped", NodeId(host.node_id), group_id))
        await drop(host, group_id)

    async def begun(host: RaftHost, group_id: int, bootstrap: Configuration | None) -> GroupImage:
        done.append(("begun", NodeId(host.node_id), group_id))
        return await begin(host, group_id, bootstrap)

    monkeypatch.setattr(RaftHost, "drop_group", dropped)
    monkeypatch.setattr(RaftHost, "_create", begun)

    async def happens(story: Story) -> None:
        monkeypatch.setattr(state_machine, "SAVED_EVERY_ENTRIES", 4)
        await prepared(story)
        await asyncio.sleep(10)
        monkeypatch.setattr(state_machine, "SAVED_EVERY_ENTRIES", 1_000_000)
        # Who had none gets some, who had some has none: two tables that change places.
        for nodes in ("1,2,3", "2,3,4"):
            await story.ask(f"ALTER TABLE t SET (nodes = '{nodes}')")
            await story.until(
                lambda nodes=nodes: (  # type: ignore[misc]
                    set(replicas(story)) == {NodeId(int(n)) for n in nodes.split(",")}
                    and story.is_whole()
                ),
                120,
                "the replicas have moved",
            )
        come = next(m for m in story.cluster.machines if story.node_id(m) == 4)
        gone = next(m for m in story.cluster.machines if story.node_id(m) == 1)
        for tablet in come.parts.storage.tablets.values():
            await tablet.checkpoint_whole()
        await story.until(lambda: not gone.parts.storage.tablets, 20, "what left is dropped")
        done.clear()
        for machine in (come, gone):
            machine.end("restart")
            story.cluster.start(machine)
            await story.until(lambda machine=machine: machine.is_serving, 60, "it is back")  # type: ignore[misc]
            await asyncio.sleep(5)
        assert done == []
        assert await story.ask(READ) == FILLED

    tell(4, happens)


def test_new_node_takes_replicas_and_leaders() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        machine = await story.join()
        new = story.node_id(machine)
        await story.until(
            lambda: replicas(story)[new] == 3 and story.is_whole(), 60, "it has its share"
        )
        await story.until(lambda: leaders(story)[new] == 1, 60, "it leads its share")
        assert await story.ask(READ) == FILLED

    tell(3, happens)


def test_tables_made_on_one_node_get_three_replicas_when_three_nodes_are_there() -> None:
    async def happens(story: Story) -> None:
        await story.ask("CREATE TABLE t (k bigint PRIMARY KEY, v text)")
        await story.ask(FILL)
        for _ in range(2):
            await story.join()
        await story.until(
            lambda: (
                {len(t.replicas) for t in story.catalog.tablets.values()} == {3}
                and story.is_whole()
            ),
            60,
            "there are three replicas",
        )
        assert await story.ask(READ) == FILLED
        story.cluster.machines[0].end("for good")
        assert await story.ask(READ) == FILLED

    tell(1, happens)


def test_drain_and_decommission_under_load() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        machine = story.cluster.machines[2]
        leaving = story.node_id(machine)
        stop = asyncio.Event()
        load = asyncio.ensure_future(write_until(story, stop))
        await story.ask(f"SELECT dqe.drain_node({leaving})")
        await story.until(lambda: not leaders(story)[leaving], 60, "it leads nothing")
        assert replicas(story)[leaving]
        await story.ask(f"SELECT dqe.decommission_node({leaving})")
        await story.until(
            lambda: leaving not in story.catalog.nodes and story.is_whole(), 120, "it is forgotten"
        )
        stop.set()
        written = await load
        assert await story.ask("SELECT count(*) FROM t") == [(200 + written,)]
        assert {len(t.replicas) for t in story.catalog.tablets.values()} == {3}

    tell(4, happens)


async def write_until(story: Story, stop: asyncio.Event) -> int:
    """One row after the other; every one is asked for until it is in, as a client would."""
    number = 0
    while not stop.is_set():
        number += 1
        await story.ask(
            f"INSERT INTO t SELECT {1000 + number}, 'w' WHERE NOT EXISTS"
            f" (SELECT 1 FROM t WHERE k = {1000 + number})"
        )
        await asyncio.sleep(0.2)
    return number


def test_what_cannot_be_emptied_is_refused() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        word = await story.refusal("SELECT dqe.decommission_node(2)")
        assert 'table "t" could not keep its replicas' in word
        assert story.catalog.nodes[NodeId(2)].state is NodeState.ACTIVE
        await story.ask("CREATE TABLE one (k bigint PRIMARY KEY) WITH (replicas = 1)")
        home = next(t for t in story.catalog.tablets.values() if len(t.replicas) == 1).replicas[0]
        word = await story.refusal(f"SELECT dqe.drain_node({home})")
        assert 'table "one" has no other voting replica' in word

    tell(3, happens)


def test_tablet_goes_on_without_its_majority_at_an_operators_word() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        # The catalog's voters live; some tablet has two replicas on the others.
        voters = story.cluster.machines[0].parts.catalog.group.configuration.voters
        others = [m for m in story.cluster.machines if int(story.node_id(m)) not in voters]
        ids = [story.node_id(machine) for machine in others]
        lost = [t for t in story.catalog.tablets.values() if set(ids) <= set(t.replicas)]
        assert len(ids) == 2
        assert lost
        for machine in others:
            machine.end("for good", power_cut=True)
        await story.until(lambda: len(story.live) == 3, 10, "they are gone")
        await asyncio.sleep(5)
        for tablet in lost:
            word = await story.refusal(f"SELECT dqe.recover_tablet({tablet.id}, 'yes')")
            assert "only with loss of data" in word
            await story.ask(f"SELECT dqe.recover_tablet({tablet.id}, 'accept data loss')")
        assert await story.ask(READ) == FILLED
        await story.ask("INSERT INTO t SELECT i, 'later' FROM generate_series(201, 300) g(i)")
        await story.until(story.is_whole, 120, "all replicas are there again")
        for tablet in lost:
            after = story.catalog.tablets[tablet.id]
            assert after.incarnation == 2
            assert after.loss_timestamp > 0
            assert not set(ids) & set(after.replicas)
        # The lost ones come back after all, with their old group's majority.
        for machine in others:
            story.cluster.start(machine)
        await story.until(lambda: len(story.live) == 5 and story.is_whole(), 120, "all are back")
        await asyncio.sleep(20)
        assert await story.ask(READ) == [(300, 45150)]
        for tablet in lost:
            replicas = [
                machine.parts.storage.tablets[tablet.id]
                for machine in story.cluster.machines
                if tablet.id in machine.parts.storage.tablets
            ]
            loss = story.catalog.tablets[tablet.id].loss_timestamp
            # Followers of the new incarnation are told how far they can be read by themselves.
            assert all(r.is_leader or r.closed.timestamp > loss for r in replicas)
        for machine in story.cluster.machines:
            held = {
                t.id for t in story.catalog.tablets.values() if story.node_id(machine) in t.holders
            }
            assert set(machine.parts.storage.tablets) == held

    tell(5, happens)


def test_tablet_with_a_majority_is_not_recovered() -> None:
    async def happens(story: Story) -> None:
        await prepared(story)
        tablet_id = next(iter(story.catalog.tablets))
        word = await story.refusal(f"SELECT dqe.recover_tablet({tablet_id}, 'accept data loss')")
        assert "has a majority of its replicas" in word
        assert story.catalog.tablets[tablet_id].incarnation == 1

    tell(3, happens)
