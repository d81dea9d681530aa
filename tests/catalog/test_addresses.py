"""The address book: the newest word counts, and an address belongs to one node."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from catalog_nodes import KeptInMemory, World, run_world
from hypothesis import given
from hypothesis import strategies as st

from catalog.addresses import AddressBook, Announcement
from catalog.model import Catalog, Node, NodeId
from cluster.runtime import ProductionRuntime
from storage.kept_file import KeptFile


def book(**known: tuple[str, int]) -> AddressBook:
    made = AddressBook(KeptInMemory())
    for name, (address, started_ms) in known.items():
        made.learn({int(name[1:]): Announcement(address, started_ms)})
    return made


def test_an_address_belongs_to_who_announced_it_last() -> None:
    known = book(n1=("p1", 5), n2=("p2", 5))
    assert [known.node_at(p) for p in ("p1", "p2", "p3")] == [1, 2, 0]
    known.learn({2: Announcement("p1", 6)})
    assert known.node_at("p1") == 2
    assert known.address_of(2) == "p1"
    assert known.address_of(1) is None, "what is meant for node 1 must not come to node 2"
    known.learn({1: Announcement("p2", 7)})
    assert (known.address_of(1), known.address_of(2)) == ("p2", "p1")


announcements = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from("abc"), st.integers(0, 5)), max_size=12
)


@given(announcements)
def test_no_address_is_ever_given_for_two_nodes(said: list[tuple[int, str, int]]) -> None:
    known = AddressBook(KeptInMemory())
    for node_id, address, started_ms in said:
        known.learn({node_id: Announcement(address, started_ms)})
        given_out = [a for n in range(1, 5) if (a := known.address_of(n)) is not None]
        assert len(given_out) == len(set(given_out))


def test_book_survives_and_forgets_what_the_catalog_has_forgotten() -> None:
    store = KeptInMemory()
    first = AddressBook(store)
    first.learn({n: Announcement(f"p{n}", 1) for n in (1, 2, 3)})
    asyncio.run(first.keep())
    again = AddressBook(store)
    assert again.address_of(3) == "p3"
    nodes = {NodeId(1): Node(NodeId(1), "old", "pg")}
    again.learn_catalog(replace(Catalog(), nodes=nodes, next_node_id=3))
    # Node 3 may be newer than this copy of the catalog.
    assert sorted(again.announcements) == [1, 3]
    # Who is forgotten has yet to be told so, until somebody else is found there.
    assert [again.address_of(n) for n in (1, 2, 3)] == ["p1", "p2", "p3"]
    again.learn({4: Announcement("p2", 2)})
    assert [again.address_of(n) for n in (2, 4)] == [None, "p2"]
    asyncio.run(again.keep())
    assert [AddressBook(store).address_of(n) for n in (1, 2, 3)] == ["p1", None, "p3"]


def test_nodes_that_swap_their_addresses_find_each_other() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        for name in ("n2", "n3"):
            await world.nodes[name].crash()
        # Each comes back where the other was.
        world.disks["n2"], world.disks["n3"] = world.disks["n3"], world.disks["n2"]
        swapped = [await world.start("n2"), await world.start("n3")]
        for service in swapped:
            await service.ready(60)
        await world.until(lambda: [services[0].liveness.is_live(n) for n in (2, 3)] == [True, True])
        book_of = world.nodes["n1"].book
        await world.until(lambda: [book_of.address_of(n) for n in (2, 3)] == ["n3:1", "n2:1"])

    run_world(11, scenario)


def test_a_damaged_book_is_gathered_anew(tmp_path: Path) -> None:
    async def scenario(runtime: ProductionRuntime) -> None:
        path = tmp_path / "addresses"
        first = AddressBook(KeptFile(runtime, path))
        first.learn({2: Announcement("p2", 1)})
        await first.keep()
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 1
        path.write_bytes(damaged)
        again = AddressBook(KeptFile(runtime, path))
        assert not again.announcements
        again.learn({2: Announcement("p2", 1)})
        await again.keep()
        assert AddressBook(KeptFile(runtime, path)).address_of(2) == "p2"
        await runtime.close()

    asyncio.run(scenario(ProductionRuntime()))
