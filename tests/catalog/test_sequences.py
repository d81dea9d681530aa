"""Sequences: defined, drawn from over failovers, never the same number twice (rule S4)."""

from __future__ import annotations

import asyncio

import pytest
from catalog_cluster import CatalogCluster
from catalog_nodes import World, run_world

from catalog import commands as c
from catalog.definition import ColumnDefinition, SequenceDefinition, TableDefinition
from catalog.model import ColumnId, Sequence, TableId
from catalog.sequence_service import RANGE, TakeNumbers
from catalog.service import CatalogService
from catalog.state import CatalogState
from cluster.errors import (
    DependentObjectsStillExist,
    DuplicateTable,
    SequenceGeneratorLimitExceeded,
    UndefinedTable,
)
from storage.types import INT4, INT8

TEN = SequenceDefinition(INT8, 1, 1, 1, 10)
MANY = SequenceDefinition(INT8, 1, 1, 1, 2**63 - 1)


def serial_table(cluster: CatalogCluster) -> None:
    columns = (ColumnDefinition("id", INT4, True, sequence=MANY), ColumnDefinition("v", INT4))
    cluster.run(c.CreateTable(TableDefinition("public", "t", columns)))


def sequence(cluster: CatalogCluster, name: str) -> Sequence:
    found = cluster.catalog.find_sequence(name)
    assert found is not None
    return found


def test_a_serial_column_has_a_sequence_that_goes_with_its_table() -> None:
    cluster = CatalogCluster()
    serial_table(cluster)
    table = cluster.catalog.find_table("t")
    assert table is not None
    column = table.column_named("id")
    owned = sequence(cluster, "t_id_seq")
    assert column is not None
    assert column.sequence == owned.id
    assert owned.owner == (table.id, column.id)
    with pytest.raises(DependentObjectsStillExist, match="cannot drop sequence t_id_seq"):
        cluster.run(c.DropSequence((("public", "t_id_seq"),)))
    with pytest.raises(DuplicateTable):
        cluster.run(c.CreateSequence("public", "t", TEN))
    cluster.run(c.DropTable((("public", "t"),)))
    assert not cluster.catalog.sequences


def test_dropped_with_cascade_the_column_has_no_default() -> None:
    cluster = CatalogCluster()
    serial_table(cluster)
    cluster.run(c.DropSequence((("public", "t_id_seq"),), cascade=True))
    table = cluster.catalog.find_table("t")
    assert table is not None
    assert table.column_named("id").sequence is None  # type: ignore[union-attr]


def test_positions_survive_a_snapshot_and_restart_begins_an_epoch() -> None:
    cluster = CatalogCluster()
    cluster.run(c.CreateSequence("public", "q", TEN))
    made = sequence(cluster, "q")
    before = cluster.catalog.version
    cluster.run(c.AdvanceSequence(made.id, made.epoch, 7))
    assert cluster.catalog.version == before
    copy = CatalogState()
    copy.replace_by(cluster.state.encode())
    assert copy.next_number(made) == 7
    cluster.run(c.AlterSequence(made.id, TEN, restart=3))
    cluster.run(c.AdvanceSequence(made.id, made.epoch, 9))  # of the epoch before: too late
    assert cluster.state.next_number(sequence(cluster, "q")) == 3
    cluster.run(c.AlterSequence(made.id, TEN, owner=(TableId(1), ColumnId(2))))
    assert sequence(cluster, "q").owner == (1, 2)
    cluster.run(c.AlterSequence(made.id, TEN, disowned=True))
    assert sequence(cluster, "q").owner is None


async def drawn(service: CatalogService, sequence_id: TableId, count: int = 1) -> list[int]:
    taken = await service.take_numbers(TakeNumbers(sequence_id, count))
    return [taken.first + place * taken.increment for place in range(taken.count)]


@pytest.mark.parametrize("seed", range(4))
def test_no_number_comes_twice_when_the_leader_dies(seed: int) -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        await services[1].execute(c.CreateSequence("public", "q", MANY))
        found = services[1].current.find_sequence("q")
        assert found is not None
        numbers = [n for s in services for n in await drawn(s, found.id)]
        assert numbers == [1, 2, 3]
        leader = world.leader()
        name = next(n for n, node in world.nodes.items() if node.catalog is leader)
        survivors = [n.catalog for m, n in world.nodes.items() if m != name]
        at_once = asyncio.gather(*(drawn(s, found.id, 5) for s in survivors))
        await world.nodes[name].crash()
        numbers += [n for some in await at_once for n in some]
        numbers += await drawn(survivors[0], found.id)
        assert len(set(numbers)) == len(numbers)
        assert max(numbers) <= 3 * RANGE + len(numbers)

    run_world(seed, scenario)


def test_a_sequence_ends_at_its_limit_and_setval_goes_back() -> None:
    async def scenario(world: World) -> None:
        services = await world.three()
        await services[0].execute(c.CreateSequence("public", "q", TEN))
        found = services[0].current.find_sequence("q")
        assert found is not None
        numbers: list[int] = []
        while len(numbers) < 10:
            numbers += await drawn(services[len(numbers) % 3], found.id, 4)
        assert numbers == list(range(1, 11))
        with pytest.raises(SequenceGeneratorLimitExceeded, match="reached maximum value"):
            await drawn(services[2], found.id)
        await services[1].take_numbers(TakeNumbers(found.id, 0, set_to=5))
        assert await drawn(services[2], found.id) == [5]
        await services[1].execute(c.DropSequence((("public", "q"),)))
        with pytest.raises(UndefinedTable):
            await drawn(services[2], found.id)

    run_world(7, scenario)
