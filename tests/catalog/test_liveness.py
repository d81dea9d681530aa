"""What nodes tell each other of themselves, over a simulated network."""

from __future__ import annotations

import errno

from catalog_nodes import World, run_world

from catalog import commands as c
from catalog.addresses import AddressBook
from catalog.liveness import NodeLoad, ReplicaTroubles
from catalog.model import NodeId, NodeState


def test_sizes_leaders_load_and_troubles_come_to_the_others() -> None:
    async def scenario(world: World) -> None:
        first, second, _ = await world.three()
        own, other = first.liveness, second.liveness
        sizes = {5: 1600, 300: 7, 9000: 0}
        own.measure_tablets = lambda: dict(sizes)
        own.list_led = lambda: [300]
        own.measure_load = lambda: NodeLoad(77)
        own.report_troubles = lambda: ReplicaTroubles({5: "damaged"}, ((300, 2, 1234),), ((5, 1),))
        await world.until(lambda: dict(other.tablet_bytes(1)) == sizes)
        await world.until(lambda: other.leader_of(300) == 1)
        assert other.leader_of(5) is None
        await world.until(lambda: other.load_of(1) == NodeLoad(77))
        await world.until(lambda: other.troubles_of(1).fenced == {5: "damaged"})
        assert other.troubles_of(1).lagging == ((300, 2, 1234),)
        assert own.tablet_bytes(1) == sizes
        # A sixteenth more is not worth a word, twice as much is; one that is gone is gone.
        sizes.update({5: 1690, 300: 14})
        del sizes[9000]
        await world.until(lambda: dict(other.tablet_bytes(1)) == {5: 1600, 300: 14})

    run_world(1, scenario)


def test_silence_begins_with_the_death_and_ends_with_the_return() -> None:
    async def scenario(world: World) -> None:
        first, second, _ = await world.three()
        assert first.liveness.silent_s(3) == 0
        await world.nodes["n3"].crash()
        runtime = world.nodes["n1"].runtime
        died_s = runtime.monotonic()
        await runtime.sleep(20)
        for service in (first, second):
            assert 20 - 4 < service.liveness.silent_s(3) <= runtime.monotonic() - died_s
            assert service.liveness.live_nodes() == (1, 2)
        assert first.liveness.silent_s(99) > 20, "one that was never heard of"
        again = await world.start("n3")
        await again.ready(30)
        await world.until(lambda: first.liveness.silent_s(3) == second.liveness.silent_s(3) == 0)

    run_world(2, scenario)


def test_a_full_disk_does_not_silence_a_node() -> None:
    async def scenario(world: World) -> None:
        first, second, _ = await world.three()
        book = world.nodes["n1"].book
        store = book._store
        kept, full = store.save, True

        async def save(index: int, data: bytes) -> None:
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            await kept(index, data)

        store.save = save  # type: ignore[method-assign]
        runtime = world.nodes["n1"].runtime
        await world.nodes["n3"].crash()
        await world.start("n3")  # announces itself anew
        await runtime.sleep(30)
        assert second.liveness.live_nodes() == (1, 2, 3)
        assert first.liveness.live_nodes() == (1, 2, 3)
        full = False
        await world.until(lambda: AddressBook(store).announcements == book.announcements)

    run_world(4, scenario)


def test_forgotten_node_is_not_looked_for_any_more() -> None:
    async def scenario(world: World) -> None:
        first, second, _ = await world.three()
        await world.nodes["n3"].crash()
        await first.execute(c.SetNodeState(NodeId(3), NodeState.DECOMMISSIONING))
        done = await first.execute(c.ForgetNode(NodeId(3)))
        await first.ensure_everywhere(done.version)
        for name in ("n1", "n2"):
            assert 3 not in world.nodes[name].book.announcements
        await world.nodes["n1"].runtime.sleep(30)
        for service in (first, second):
            gossip = service.liveness._gossip
            assert gossip is not None
            assert [m.node_id for m in gossip.members] == [2 if service is first else 1]

    run_world(3, scenario)
