"""Nodes with real stores on a simulated network, without planner and executor."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pyarrow as pa

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
from catalog.tablet_rpc import TabletClient
from catalog.tablet_server import TabletServer
from catalog.tablets import TabletManager
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
            storage.kept_file("catalog_incarnation"),
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

    async def read(
        self,
        table: Table,
        fragment: Fragment,
        timestamp: int | None = None,
        deadline_s: float = 30.0,
    ) -> list[tuple[int, str]]:
        """The fragment's rows here, at a fresh snapshot where none is given."""
        if timestamp is None:
            timestamp, _ = await self.catalog.timestamps.snapshot()
        reads = [(fragment.tablet_id, fragment.id)]
        snapshot = await self.storage.open_snapshot(reads, timestamp, deadline_s)
        try:
            names = [store_name(column.id) for column in table.columns]
            relation = snapshot.relation_sql(fragment.tablet_id, fragment.id, names)
            return snapshot.cursor.execute(f"SELECT * FROM {relation} ORDER BY 1").fetchall()
        except Exception as error:
            snapshot.check_damage(error)  # as who runs stages does
            raise
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
