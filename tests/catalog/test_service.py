"""The catalog over several nodes: joining, changing, failing over, coming back elsewhere."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from catalog_nodes import World, run_world

from catalog import commands as c
from catalog.definition import ColumnDefinition, TableDefinition
from catalog.liveness import LIVE_FOR_S
from cluster.errors import CannotConnectNow, DuplicateSchema, StatementCompletionUnknown
from cluster.simulation.network import NetworkFaults
from storage.types import INT8


def table(name: str) -> c.CreateTable:
    return c.CreateTable(TableDefinition("public", name, (ColumnDefinition("k", INT8),)))


def test_nodes_join_and_hold_the_same_catalog() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        done = await services[2].execute(table("t"))
        assert services[2].current.version >= done.version
        await services[2].ensure_everywhere(done.version)
        first, *others = (service.current for service in services)
        assert others == [first, first]
        assert sorted(services[0].current.nodes) == [1, 2, 3]
        assert services[1].current.find_table("t") is not None
        assert services[0].liveness.live_nodes() == (1, 2, 3)

    run_world(1, scenario)


def test_error_of_a_command_reaches_the_asking_node() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        await services[1].execute(c.CreateSchema("s"))
        with pytest.raises(DuplicateSchema, match='schema "s" already exists'):
            await services[2].execute(c.CreateSchema("s"))

    run_world(2, scenario)


def test_join_asked_twice_gives_one_identity() -> None:
    async def scenario(world: World) -> None:
        first = await world.start("n1")
        await first.ready(20)
        await world.start("n2", ("n1:1",))
        await world.nodes["n2"].crash()
        world.disks["n2"].identity = None  # the answer was lost before it was written down
        again = await world.start("n2", ("n1:1",))
        await again.ready(20)
        assert sorted(first.current.nodes) == [1, 2]

    run_world(3, scenario)


@pytest.mark.parametrize("seed", range(5))
def test_commands_go_on_when_the_leader_dies(seed: int) -> None:
    async def scenario(world: World) -> None:
        await world.three()
        leader = world.leader()
        assert leader is not None
        name = next(n for n, node in world.nodes.items() if node.catalog is leader)
        survivor = next(n.catalog for m, n in world.nodes.items() if m != name)
        before, _ = await survivor.timestamps.snapshot()
        await world.nodes[name].crash()
        await survivor.execute(table("t"))
        after, version = await survivor.timestamps.snapshot()
        assert after > before
        assert version >= survivor.current.version
        back = await world.start(name)
        await back.ready(30)
        await back.wait_version(version)
        assert back.current.find_table("t") is not None

    run_world(seed, scenario)


def test_retried_commands_are_applied_once_over_a_bad_network() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        world.network.faults.reset = 0.03
        created = 0
        for number in range(40):
            try:
                await services[number % 3].execute(c.CreateSchema(f"s{number}"))
                created += 1
            except StatementCompletionUnknown:
                continue
        assert created > 30
        world.network.faults.reset = 0.0
        done = await services[0].execute(c.CreateSchema("last"))
        await services[0].ensure_everywhere(done.version)
        schemas = [s.current.schemas for s in services]
        assert len(schemas[0]) >= created + 2
        assert schemas[0] == schemas[1] == schemas[2]

    run_world(4, scenario, NetworkFaults(loss=0.05, duplication=0.05, reordering=0.05))


def test_timestamps_rise_over_nodes_and_failovers() -> None:
    async def scenario(world: World) -> None:
        await world.three()
        last = 0
        for round_number in range(3):
            for node in list(world.nodes.values()):
                drawn = await asyncio.gather(
                    *(node.catalog.timestamps.commit_timestamp() for _ in range(20))
                )
                snapshot, _ = await node.catalog.timestamps.snapshot()
                assert min(drawn) > last
                assert len(set(drawn)) == 20
                assert snapshot > max(drawn)
                last = snapshot
            leader = world.leader()
            name = next(n for n, node in world.nodes.items() if node.catalog is leader)
            await world.nodes[name].crash()
            back = await world.start(name)
            await back.ready(30)
            assert round_number < 3

    run_world(5, scenario)


def test_all_nodes_come_back_at_other_addresses() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        done = await services[0].execute(table("t"))
        await services[0].ensure_everywhere(done.version)
        await world.stop()
        # n2 and n3 know one address each that is still good: that of --join.
        again = [await world.start("n1", port=7)]
        again.append(await world.start("n2", ("n1:7",), port=8))
        again.append(await world.start("n3", ("n1:7",), port=9))
        for service in again:
            await service.ready(60)
            assert service.current.find_table("t") is not None
        addresses = [again[2].current.nodes[i].rpc_address for i in sorted(again[2].current.nodes)]
        assert addresses == ["n1:7", "n2:8", "n3:9"]

    run_world(6, scenario)


def test_ddl_does_not_wait_for_a_dead_node() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        await world.nodes["n3"].crash()
        runtime = world.nodes["n1"].runtime
        await runtime.sleep(LIVE_FOR_S + 0.5)
        started_s = runtime.monotonic()
        done = await services[0].execute(table("t"))
        await services[0].ensure_everywhere(done.version)
        assert runtime.monotonic() - started_s < 3
        assert services[0].liveness.live_nodes() == (1, 2)

    run_world(7, scenario)


def test_minority_answers_with_57p03() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        for name in ("n2", "n3"):
            await world.nodes[name].crash()
        with pytest.raises((CannotConnectNow, StatementCompletionUnknown)):
            await services[0].execute(table("t"), deadline_s=5)
        with pytest.raises(CannotConnectNow, match="no timestamp could be had"):
            await services[0].timestamps.snapshot(deadline_s=5)

    run_world(8, scenario)


def test_cut_off_leader_hands_out_no_timestamp_behind_the_new_one() -> None:
    """T1: the lease is checked after the number is taken."""

    async def scenario(world: World) -> None:
        services = await world.three()
        leader = world.leader()
        assert leader is not None
        name = next(n for n, node in world.nodes.items() if node.catalog is leader)
        others = [n for n in world.nodes if n != name]
        world.network.partition([name], others)
        other = world.nodes[others[0]].catalog
        highest = 0
        cut_off: list[int] = []
        for _ in range(80):
            with contextlib.suppress(CannotConnectNow):
                highest, _ = await other.timestamps.snapshot(deadline_s=0.1)
            try:
                stamp, _ = await leader.timestamps.snapshot(deadline_s=0.05)
                assert stamp > highest
                cut_off.append(stamp)
            except CannotConnectNow:
                pass
        assert cut_off, "the lease lasts a moment"
        assert highest > cut_off[-1], "the majority went on"
        assert services

    run_world(9, scenario)
