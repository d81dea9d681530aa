"""The catalog loses its majority for good, and goes on at an operator's word."""

from __future__ import annotations

import asyncio

import pytest
from repair_story import Story, tell

from catalog.model import NodeId, NodeState
from dqe.simulation.machine import SimulatedMachine

pytestmark = pytest.mark.slow

CREATE = (
    "CREATE TABLE t (k bigint PRIMARY KEY, v text) PARTITION BY HASH (k) PARTITIONS 4"
    " WITH (replicas = 3)"
)
FILL = "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 200) g(i)"
READ = "SELECT count(*), sum(k) FROM t"
RECOVER = "SELECT dqe.recover_catalog('accept data loss')"


def voting(story: Story) -> list[SimulatedMachine]:
    """The machines that vote on the catalog, its leader last."""
    machines = [m for m in story.cluster.machines if m.is_serving]
    voters = machines[0].parts.catalog.group.configuration.voters
    found = [m for m in machines if int(story.node_id(m)) in voters]
    return sorted(found, key=lambda m: m.parts.catalog.group.is_leader)


async def lose(story: Story, lost: list[SimulatedMachine]) -> None:
    left = len(story.live) - len(lost)
    for machine in lost:
        machine.end("for good", power_cut=True)
    await story.until(lambda: len(story.live) == left, 10, "they are gone")
    await asyncio.sleep(8)


async def recovered_tablets(story: Story) -> list[int]:
    """What lost its majority beside the catalog, recovered as well."""
    lost = await story.ask(
        "SELECT tablet_id FROM dqe.repairs WHERE trouble = 'no majority' AND tablet_id > 0"
    )
    for (tablet_id,) in lost:
        await story.ask(f"SELECT dqe.recover_tablet({tablet_id}, 'accept data loss')")
    return [int(str(tablet_id)) for (tablet_id,) in lost]


def test_catalog_goes_on_without_two_of_its_three_voters() -> None:
    async def happens(story: Story) -> None:
        await story.ask(CREATE)
        await story.ask(FILL)
        await story.until(story.is_whole, 60, "all replicas are there")
        lost = voting(story)[1:]
        ids = [story.node_id(machine) for machine in lost]
        version = story.catalog.version
        await lose(story, lost)
        # What an operator can see without the catalog, and what is asked of him.
        [(shown,)] = await story.ask("SELECT detail FROM dqe.repairs WHERE tablet_id = 0")
        assert str(shown).startswith("nodes ")
        assert await story.ask("SELECT count(*) FROM dqe.nodes WHERE live") == [(3,)]
        word = await story.refusal("SELECT dqe.recover_catalog('yes')")
        assert "only with loss of data" in word
        [(tablet_id,)] = await story.ask(
            "SELECT min(tablet_id) FROM dqe.repairs WHERE trouble = 'no majority' AND tablet_id > 0"
        )
        word = await story.refusal(f"SELECT dqe.recover_tablet({tablet_id}, '')")
        assert f"tablet {tablet_id} can go on only with loss of data" in word
        assert story.catalog.version == version
        await story.ask(RECOVER)
        assert {story.catalog.nodes[n].state for n in ids} == {NodeState.DEAD}
        assert await recovered_tablets(story)
        assert await story.ask(READ) == [(200, 20100)]
        # Everything works again: definitions, writes, repair, the catalog's own voters.
        await story.ask("CREATE TABLE later (k bigint PRIMARY KEY)")
        await story.ask("INSERT INTO later SELECT i FROM generate_series(1, 50) g(i)")
        await story.until(story.is_whole, 120, "all replicas are there again")
        await story.until(lambda: len(voting(story)) == 3, 60, "three vote on the catalog")
        # The lost ones come back after all, and had a majority of the old group.
        for machine in lost:
            story.cluster.start(machine)
        await story.until(lambda: len(story.live) == 5 and story.is_whole(), 120, "all are back")
        await asyncio.sleep(10)
        versions = {m.parts.catalog.current.version for m in story.cluster.machines}
        assert len(versions) == 1
        assert {n.state for n in story.catalog.nodes.values()} == {NodeState.ACTIVE}
        assert await story.ask(READ) == [(200, 20100)]
        assert await story.ask("SELECT count(*) FROM later") == [(50,)]
        assert {m.parts.catalog.incarnation for m in story.cluster.machines} == {
            story.cluster.machines[0].parts.catalog.incarnation
        }

    tell(5, happens)


def test_one_node_of_three_goes_on_and_gets_company() -> None:
    async def happens(story: Story) -> None:
        await story.ask(CREATE)
        await story.ask(FILL)
        await story.until(story.is_whole, 60, "all replicas are there")
        await lose(story, voting(story)[1:])
        await story.ask(RECOVER)
        assert len(await recovered_tablets(story)) == 4
        assert await story.ask(READ) == [(200, 20100)]
        for _ in range(2):
            machine = await story.join()
            # No id is given twice that the lost catalog may have given.
            assert story.node_id(machine) > NodeId(100)
        await story.until(story.is_whole, 120, "there are three replicas again")
        assert await story.ask(READ) == [(200, 20100)]

    tell(3, happens)


def test_survivor_that_stops_and_starts_again_is_the_one_that_went_on() -> None:
    async def happens(story: Story) -> None:
        await story.ask(CREATE)
        await story.ask(FILL)
        survivor, *lost = voting(story)
        await lose(story, lost)
        await story.ask(RECOVER)
        incarnation = survivor.parts.catalog.incarnation
        assert incarnation.founder == story.node_id(survivor)
        await recovered_tablets(story)
        survivor.end("restart", power_cut=True)
        story.cluster.start(survivor)
        await story.until(lambda: survivor.is_serving, 60, "it is back")
        assert survivor.parts.catalog.incarnation == incarnation
        assert await story.ask(READ) == [(200, 20100)]

    tell(3, happens)


def test_catalog_with_a_majority_is_not_recovered() -> None:
    async def happens(story: Story) -> None:
        await story.ask(CREATE)
        word = await story.refusal(RECOVER)
        assert "has a majority of its voters" in word
        first, *_ = voting(story)
        first.end("for long")
        await asyncio.sleep(8)
        word = await story.refusal(RECOVER)
        assert "has a majority of its voters" in word
        assert {m.parts.catalog.incarnation.number for m in voting(story)} == {1}

    tell(3, happens)
