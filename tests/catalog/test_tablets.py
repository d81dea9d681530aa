"""Tablets follow the catalog, and requests find their leaders: real stores, simulated network."""

from __future__ import annotations

from pathlib import Path

import pytest
from tablet_cluster import (
    Cluster,
    StoreNode,
    hashed,
    home_node,
    insertion,
    run_cluster,
    write_one,
)

from catalog import commands as c
from catalog.definition import ColumnDefinition, SchemeDefinition
from catalog.model import PartitionMethod
from cluster.errors import ObjectNotInPrerequisiteState, SerializationFailure, UniqueViolation
from storage.types import INT8


def test_rows_are_written_through_any_node_and_survive_a_restart(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(3)
        table = await nodes[1].table("t", hashed(3))
        for number, part in enumerate(table.parts):
            fragment = part.fragments[0]
            change = insertion(table, fragment, {number: "x"})
            await write_one(nodes[2], fragment.tablet_id, change, 100 + number)
        await cluster.stop()
        nodes = await cluster.start(3)
        for number, part in enumerate(table.parts):
            fragment = part.fragments[0]
            home = home_node(cluster, fragment.tablet_id)
            assert await home.read(table, fragment) == [(number, "x")]

    run_cluster(tmp_path, scenario)


def test_two_tablets_commit_together(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(2)
        table = await nodes[0].table("t", hashed(2))
        first, second = (part.fragments[0] for part in table.parts)
        client = nodes[0].client
        floor, _ = await nodes[0].catalog.timestamps.snapshot()
        for fragment in (first, second):
            await client.lock(fragment.tablet_id, 7, "exclusive")
            change = insertion(table, fragment, {int(fragment.id): "both"})
            await client.stage(fragment.tablet_id, 7, change)
        await client.prepare(second.tablet_id, 7, floor, first.tablet_id)
        await client.mark_home(first.tablet_id, 7, floor)
        stamp = await nodes[0].catalog.timestamps.commit_timestamp()
        decided = await client.decide(first.tablet_id, 7, stamp, [second.tablet_id])
        assert decided == stamp
        # The participant is not told: it asks the home by itself (rule C5).
        home = home_node(cluster, second.tablet_id)
        assert await home.read(table, second) == [(int(second.id), "both")]
        outcome = await nodes[1].client.status(first.tablet_id, 7)
        assert outcome is not None
        assert outcome.commit_ts == stamp

    run_cluster(tmp_path, scenario)


def test_error_of_a_tablet_reaches_the_coordinator(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(2)
        table = await nodes[0].table("t", hashed(2))
        for part in table.parts:
            fragment = part.fragments[0]
            change = insertion(table, fragment, {1: "x"})
            await write_one(nodes[0], fragment.tablet_id, change, int(fragment.id))
            with pytest.raises(UniqueViolation, match='"t_pkey"'):
                await write_one(nodes[0], fragment.tablet_id, change, int(fragment.id) + 1000)

    run_cluster(tmp_path, scenario)


def test_replicated_table_is_read_everywhere_also_where_a_node_joined_later(
    tmp_path: Path,
) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(1)
        table = await nodes[0].table("r", SchemeDefinition(PartitionMethod.REPLICATED))
        fragment = table.parts[0].fragments[0]
        change = insertion(table, fragment, {1: "x"})
        await write_one(nodes[0], fragment.tablet_id, change, 5)
        cluster.nodes = []
        first = nodes[0]
        second = await StoreNode("n2", tmp_path / "n2", cluster.network, 9).start(("n1:1",))
        cluster.nodes = [first, second]
        await second.catalog.ready(30)
        await first.catalog.ensure_everywhere(first.catalog.current.version)
        assert await second.read(table, fragment) == [(1, "x")]
        change = insertion(table, fragment, {2: "y"})
        await write_one(second, fragment.tablet_id, change, 6)
        assert await second.read(table, fragment) == [(1, "x"), (2, "y")]

    run_cluster(tmp_path, scenario)


def test_dropped_tables_leave_no_files(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(2)
        await nodes[0].table("t", hashed(4))
        assert sum(len(node.storage.stored_tablets()) for node in nodes) == 4
        await nodes[1].define(c.DropTable((("public", "t"),)))
        assert sum(len(node.storage.stored_tablets()) for node in nodes) == 0
        assert [node.host.group(1) for node in nodes] == [None, None]

    run_cluster(tmp_path, scenario)


def test_fragments_of_a_new_shape_are_there_when_ddl_returns(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(2)
        table = await nodes[0].table("t", hashed(2))
        fragment = table.parts[0].fragments[0]
        await write_one(nodes[0], fragment.tablet_id, insertion(table, fragment, {1: "x"}), 5)
        await nodes[1].define(c.AddColumn(table.id, ColumnDefinition("w", INT8)))
        grown = nodes[1].catalog.current.recuts[table.id]
        prepared = grown.parts[0].fragments[0]
        home = home_node(cluster, fragment.tablet_id)
        assert await home_node(cluster, prepared.tablet_id).read(grown, prepared) == []
        assert await home.read(table, fragment) == [(1, "x")]
        await nodes[1].define(c.FinishRecut(table.id, table.schema_version))
        with pytest.raises(ObjectNotInPrerequisiteState, match="is not on this node"):
            await home.read(table, fragment)

    run_cluster(tmp_path, scenario)


def test_transaction_does_not_go_on_under_another_term(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(1)
        node = nodes[0]
        table = await node.table("t", hashed(1))
        fragment = table.parts[0].fragments[0]
        await node.client.lock(fragment.tablet_id, 5, "exclusive")
        terms = node.client._terms
        assert terms[5, fragment.tablet_id] > 0
        terms[5, fragment.tablet_id] += 1  # as if the lock were from another leader
        with pytest.raises(SerializationFailure, match="changed its leader"):
            await node.client.stage(fragment.tablet_id, 5, insertion(table, fragment, {1: "x"}))

    run_cluster(tmp_path, scenario)
