"""Tablets follow the catalog, and requests find their leaders: real stores, simulated network."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog import commands as c
from catalog.addresses import AddressBook
from catalog.definition import (
    ColumnDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.fragment_schemas import store_name
from catalog.joining import JoinRequest, join_cluster
from catalog.model import Fragment, Node, NodeId, PartitionMethod, Table, TabletId
from catalog.service import CatalogService
from catalog.tablet_rpc import TabletClient, TabletServer
from catalog.tablets import TabletManager
from cluster.errors import CannotConnectNow, SerializationFailure, UniqueViolation
from cluster.raft.host import RaftHost
from cluster.rpc import RpcNode
from cluster.simulation.loop import run_simulation
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime
from storage.fragments import FragmentChange
from storage.node import NodeStorage
from storage.types import INT8, TEXT


class StoreNode:
    """A node with its data directory, catalog and tablets, without planner and executor."""

    def __init__(self, name: str, directory: Path, network: SimulatedNetwork, start: int) -> None:
        self.name = name
        self.directory = directory
        self.network = network
        self.runtime = SimulatedRuntime(1, f"{name}/{start}")

    async def start(self, seeds: tuple[str, ...] = ()) -> StoreNode:
        runtime = self.runtime
        self.storage = storage = await NodeStorage.open(runtime, self.directory)
        self.rpc = RpcNode(
            runtime,
            self.network.transport(self.name),
            cluster_id=lambda: storage.identity.cluster_id,
            node_id=lambda: storage.identity.node_id,
        )
        address = await self.rpc.start(f"{self.name}:1")
        book = AddressBook(storage.kept_file("addresses"))
        if not storage.identity.cluster_id and not seeds:
            storage.set_identity("cluster-1", 1)
        elif not storage.identity.cluster_id:
            request = JoinRequest(self.name, address, f"{self.name}:2")
            joined = await join_cluster(runtime, self.rpc, seeds, request, 30.0)
            storage.set_identity(joined.cluster_id, joined.node_id)
            book.learn(joined.known)
        self.id = NodeId(storage.identity.node_id)
        self.host = RaftHost(runtime, self.rpc, storage.log, self.id, book.address_of)
        await self.host.start()
        self.catalog = CatalogService(
            runtime,
            self.rpc,
            self.host,
            storage.kept_file("catalog"),
            book,
            Node(self.id, address, f"{self.name}:2"),
            cluster_id=storage.identity.cluster_id,
            seeds=seeds,
        )
        await self.catalog.start()
        self.tablets = TabletManager(runtime, storage, self.host, self.catalog, self.id)
        server = TabletServer(self.rpc, storage, self.tablets, self.catalog)
        self.client = TabletClient(runtime, self.rpc, self.catalog, self.tablets, server, self.id)
        storage.peers = self.client
        self.tablets.start()
        return self

    async def stop(self) -> None:
        self.tablets.close()
        self.catalog.close()
        await self.host.close()
        await self.rpc.close()
        await self.storage.close()
        await self.runtime.stop()

    async def define(self, command: c.AnyCommand) -> None:
        done = await self.catalog.execute(command)
        await self.catalog.ensure_everywhere(done.version)

    async def table(self, name: str, scheme: SchemeDefinition) -> Table:
        columns = (ColumnDefinition("k", INT8), ColumnDefinition("v", TEXT))
        definition = TableDefinition(
            "public", name, columns, UniqueDefinition(("k",)), scheme=scheme
        )
        await self.define(c.CreateTable(definition))
        found = self.catalog.current.find_table(name)
        assert found is not None
        return found

    async def read(self, table: Table, fragment: Fragment) -> list[tuple[int, str]]:
        """The fragment's rows here, at a fresh snapshot."""
        timestamp, _ = await self.catalog.timestamps.snapshot()
        reads = [(fragment.tablet_id, fragment.id)]
        snapshot = await self.storage.open_snapshot(reads, timestamp)
        try:
            names = [store_name(column.id) for column in table.columns]
            relation = snapshot.relation_sql(fragment.tablet_id, fragment.id, names)
            return snapshot.cursor.execute(f"SELECT * FROM {relation} ORDER BY 1").fetchall()
        finally:
            snapshot.close()


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = SimulatedNetwork(random.Random(1))
        self.nodes: list[StoreNode] = []
        self.starts = 0

    async def start(self, count: int) -> list[StoreNode]:
        for number in range(1, count + 1):
            self.starts += 1
            directory = self.directory / f"n{number}"
            node = StoreNode(f"n{number}", directory, self.network, self.starts)
            self.nodes.append(await node.start(("n1:1",) if number > 1 else ()))
            if number == 1:
                await node.catalog.ready(30)
        for node in self.nodes:
            await node.catalog.ready(30)
        return self.nodes

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()
        self.nodes = []


def run_cluster(directory: Path, scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        cluster = Cluster(directory)
        try:
            await scenario(cluster)
            for node in cluster.nodes:
                assert not node.runtime.failures, list(node.runtime.failures)
        finally:
            await cluster.stop()

    run_simulation(main())


def insertion(table: Table, fragment: Fragment, rows: dict[int, str]) -> FragmentChange:
    names = [store_name(column.id) for column in table.columns]
    arrays = [pa.array(list(rows), pa.int64()), pa.array(list(rows.values()))]
    return FragmentChange(fragment.id, insert_rows=pa.record_batch(arrays, names))


def hashed(count: int) -> SchemeDefinition:
    return SchemeDefinition(PartitionMethod.HASH, ("k",), part_count=count)


def home_node(cluster: Cluster, tablet_id: TabletId) -> StoreNode:
    """The node that holds the tablet's first replica."""
    record = cluster.nodes[0].catalog.current.tablets[tablet_id]
    return next(node for node in cluster.nodes if node.id == record.replicas[0])


async def write_one(node: StoreNode, tablet_id: TabletId, change: FragmentChange, id: int) -> int:
    floor, _ = await node.catalog.timestamps.snapshot()
    await node.client.lock(tablet_id, id, "exclusive")
    await node.client.stage(tablet_id, id, change)
    return await node.client.write(tablet_id, id, floor)


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
        with pytest.raises(CannotConnectNow, match="is not on this node"):
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
