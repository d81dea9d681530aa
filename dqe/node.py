"""A node: the floors put together, in the order in which each needs the one before.

    data directory and log -> RPC -> identity (found a cluster, or join one) -> Raft host
    -> catalog -> tablets -> executor -> PostgreSQL port

The PostgreSQL port is bound early, so that its address can be told to the others, and opened
last. A node whose catalog has no majority opens it all the same after `READY_TIMEOUT_S`: what
it can answer it does, and the rest fails with 57P03.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import duckdb

from catalog.addresses import AddressBook
from catalog.joining import JoinRequest, join_cluster
from catalog.liveness import NodeLoad
from catalog.log_witness import LogPosition, LogWitness
from catalog.model import Catalog, NodeId
from catalog.model import Node as NodeRecord
from catalog.point_reads import PointReads
from catalog.recovery import RecoveryServer
from catalog.repair import set_dead_after
from catalog.repair_settings import check_dead_after
from catalog.replica_checks import ReplicaChecker
from catalog.service import FOUNDER, CatalogService
from catalog.tablet_rpc import TabletClient
from catalog.tablet_server import TabletServer
from catalog.tablets import TabletManager
from catalog.transaction_watch import TransactionWatch
from cluster.errors import (
    CannotConnectNow,
    InvalidParameterValue,
    IoError,
    ObjectNotInPrerequisiteState,
)
from cluster.raft.host import RaftHost
from cluster.rpc import RpcNode
from cluster.runtime import Runtime
from cluster.transport import split_address
from dqe.configuration import NodeConfiguration
from dqe.machine import Machine, OsMachine
from dqe.wire.backend import Session as WireSession
from executor.coordinator import Coordinator
from executor.exchange import DEFAULT_CREDIT_BYTES
from executor.sequences import Sequences
from executor.services import ExecutorServices
from executor.session import Session
from executor.spill import SpillSpace
from executor.stage_runner import StageRunner
from executor.temporary import drop_left_behind
from executor.writes_ids import UniqueIds
from planner import macros, udfs
from storage.duckdb_node import DuckDbLimits
from storage.node import NodeStorage

logger = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 20.0
READY_TIMEOUT_S = 10.0
# A stopping node's tablets have other leaders within milliseconds, where there is anybody.
HAND_OVER_TIMEOUT_S = 1.0
# A node told to listen everywhere would tell the others this instead of where it is.
_EVERY_ADDRESS = ("0.0.0.0", "::")
_MIB = 1 << 20


def set_up_duckdb(connection: duckdb.DuckDBPyConnection) -> None:
    """Gives DuckDB PostgreSQL's functions."""
    for statement in macros.SETUP_SQL:
        connection.execute(statement)
    udfs.register(connection)


@dataclass(slots=True)
class Parts:
    """What `start` has put together, for `stop` to take apart."""

    storage: NodeStorage
    rpc: RpcNode
    host: RaftHost
    catalog: CatalogService
    tablets: TabletManager
    checker: ReplicaChecker
    runner: StageRunner
    coordinator: Coordinator
    services: ExecutorServices


class Node:
    """One member of a cluster, in this process."""

    def __init__(
        self, configuration: NodeConfiguration, runtime: Runtime, machine: Machine | None = None
    ) -> None:
        self._configuration = configuration
        self._runtime = runtime
        self._machine = machine or OsMachine(runtime)
        self._server = self._machine.client_server(self._open_session)
        self._parts: Parts | None = None
        # Called once when the cluster has let this node go for good.
        self.on_forgotten: Callable[[], None] = lambda: None
        self.pg_address = ""
        self.rpc_address = ""

    @property
    def parts(self) -> Parts:
        """The floors put together; known after `start`."""
        assert self._parts is not None
        return self._parts

    @property
    def node_id(self) -> int:
        """The node's number in its cluster; known after `start`."""
        assert self._parts is not None
        return self._parts.storage.identity.node_id

    async def start(self) -> None:
        """Everything, up to answering clients. Raises a DqeError that says what is wrong."""
        configuration = self._configuration
        _check(configuration)
        storage = await self._machine.open_storage(
            configuration.data_directory, _duckdb_limits(configuration), set_up_duckdb
        )
        try:
            await self._start_on(storage)
        except BaseException:
            if self._parts is None:
                await storage.close()
            raise

    async def _start_on(self, storage: NodeStorage) -> None:
        rpc = RpcNode(
            self._runtime,
            self._machine.transport(),
            cluster_id=lambda: storage.identity.cluster_id,
            node_id=lambda: storage.identity.node_id,
        )
        rpc.is_starting = True
        pg, listen = self._configuration.pg, self._configuration.listen
        with _listening(pg, "PostgreSQL clients"):
            host, port = await self._server.bind(*split_address(pg))
        self.pg_address = f"{host}:{port}"
        with _listening(listen, "other nodes"):
            self.rpc_address = await rpc.start(listen)
        book = AddressBook(storage.kept_file("addresses"))
        await self._identify(storage, rpc, book)
        parts = self._assemble(storage, rpc, book)
        self._parts = parts
        assert parts.catalog.liveness.witness is not None
        newest = await parts.catalog.liveness.witness.verify()
        await parts.host.start()
        await parts.catalog.start(newest)
        _refuse_forgotten(parts.catalog.current, self.node_id)
        parts.tablets.start()
        rpc.is_starting = False
        # The catalog may still follow its log while the node stops.
        parts.catalog.follow(partial(self._notice_forgotten, self.node_id))
        parts.checker.start()
        await self._wait_ready(parts.catalog)
        drop_left_behind(parts.services)
        if self._configuration.dead_after is not None:
            setting = set_dead_after(self._runtime, parts.catalog, self._configuration.dead_after)
            self._runtime.spawn(setting, "set dead_after")
        await self._server.open()
        logger.info(
            "node %d answers: PostgreSQL on %s, nodes on %s",
            self.node_id,
            self.pg_address,
            self.rpc_address,
        )

    async def _identify(self, storage: NodeStorage, rpc: RpcNode, book: AddressBook) -> None:
        """Sees to it that the data directory belongs to a cluster: founds one or joins one."""
        if storage.identity.cluster_id:
            return
        if not self._configuration.join:
            storage.set_identity(self._runtime.uuid().hex, FOUNDER)
            return
        request = JoinRequest(
            await self._join_id(storage),
            self.rpc_address,
            self.pg_address,
            self._configuration.region,
            self._configuration.zone,
        )
        joined = await join_cluster(
            self._runtime, rpc, self._configuration.join, request, JOIN_TIMEOUT_S
        )
        storage.set_identity(joined.cluster_id, joined.node_id)
        book.learn(joined.known)

    async def _join_id(self, storage: NodeStorage) -> str:
        """The same at every try of this directory, so that asking twice makes one node."""
        kept = storage.kept_file("join_id")
        known = kept.load()
        if known is not None:
            return known[1].decode()
        join_id = self._runtime.uuid().hex
        await kept.save(0, join_id.encode())
        return join_id

    def _assemble(self, storage: NodeStorage, rpc: RpcNode, book: AddressBook) -> Parts:
        configuration = self._configuration
        node_id = NodeId(storage.identity.node_id)
        host = RaftHost(
            self._runtime,
            rpc,
            storage.log,
            node_id,
            book.address_of,
            settings=self._machine.raft_settings,
            on_fatal=self._machine.end_process,
        )
        me = NodeRecord(
            node_id,
            self.rpc_address,
            self.pg_address,
            configuration.region,
            configuration.zone,
        )
        catalog = CatalogService(
            self._runtime,
            rpc,
            host,
            storage.kept_file("catalog"),
            storage.kept_file("catalog_incarnation"),
            book,
            me,
            cluster_id=storage.identity.cluster_id,
            seeds=configuration.join,
        )
        tablets = TabletManager(self._runtime, storage, host, catalog, node_id)
        RecoveryServer(rpc, storage, tablets, catalog)
        server = TabletServer(rpc, storage, tablets, catalog)
        client = TabletClient(self._runtime, rpc, catalog, tablets, server, node_id)
        storage.peers = client
        catalog.liveness.measure_tablets = storage.tablet_bytes
        catalog.liveness.list_led = host.led_groups
        catalog.liveness.measure_load = lambda: NodeLoad(storage.log.size_bytes)
        catalog.liveness.witness = LogWitness(
            self._runtime,
            rpc,
            book,
            storage.kept_file("witness"),
            node_id,
            lambda: LogPosition(storage.log.log_id, storage.log.durable_position),
            self._machine.end_process,
            lambda: catalog.incarnation,
        )
        catalog.liveness.on_twin = self._machine.end_process
        checker = ReplicaChecker(self._runtime, rpc, storage, catalog, tablets, node_id)
        catalog.liveness.report_troubles = checker.troubles
        sequences = Sequences(rpc, catalog, node_id)
        sequences.define(storage.duckdb.cursor())
        services = ExecutorServices(
            self._runtime,
            rpc,
            storage,
            catalog,
            catalog.timestamps,
            node_id,
            client,
            UniqueIds(self._runtime, node_id),
            leader_of=tablets.leader_of,
            check_replicas=checker.check_all,
            watch_transactions=TransactionWatch(
                rpc, storage, catalog.liveness.live_nodes, catalog.address_of
            ),
            sequences=sequences,
            point_reads=PointReads(rpc, storage, catalog, tablets, client.watch, node_id),
        )
        runner = StageRunner(
            services,
            SpillSpace(storage.path / "spill" / "exchanges"),
            self._machine.stage_threads(),
            DEFAULT_CREDIT_BYTES,
        )
        return Parts(
            storage,
            rpc,
            host,
            catalog,
            tablets,
            checker,
            runner,
            Coordinator(runner),
            services,
        )

    async def _wait_ready(self, catalog: CatalogService) -> None:
        try:
            await catalog.ready(READY_TIMEOUT_S)
        except CannotConnectNow as error:
            logger.warning("answering clients without the catalog's leader: %s", error.message)

    def _notice_forgotten(self, node_id: int, catalog: Catalog) -> None:
        try:
            _refuse_forgotten(catalog, node_id)
        except ObjectNotInPrerequisiteState as error:
            logger.warning("%s", error.message)
            self.on_forgotten()

    async def stop(self) -> None:
        """Ends in good order: clients first, then others lead its tablets, then the rest."""
        await self._server.close()
        parts = self._parts
        if parts is None:
            return
        self._parts = None
        live = frozenset(parts.catalog.liveness.live_nodes())
        await parts.host.hand_over(live, deadline_s=HAND_OVER_TIMEOUT_S)
        parts.runner.threads.close()
        if parts.services.sequences is not None:
            parts.services.sequences.close()
        parts.checker.close()
        parts.tablets.close()
        parts.catalog.close()
        await parts.host.close()
        await parts.rpc.close()
        await parts.storage.close()

    async def _open_session(
        self, process_id: int, user: str, settings: dict[str, str]
    ) -> WireSession:
        parts = self._parts
        if parts is None:
            raise CannotConnectNow("the database system is starting up")
        return Session(
            parts.services,
            parts.coordinator,
            user=user,
            startup=settings,
            process_id=process_id,
        )


def _check(configuration: NodeConfiguration) -> None:
    """22023 for what no node can be started with."""
    host, port = split_address(configuration.listen)
    for address in (configuration.pg, *configuration.join):
        split_address(address)
    if host in _EVERY_ADDRESS:
        raise InvalidParameterValue(
            f'"{configuration.listen}" is no address at which other nodes could reach this one',
            hint="Listen on the one of the machine's addresses that they know.",
        )
    if port and configuration.listen == configuration.pg:
        raise InvalidParameterValue(
            f'"{configuration.pg}" cannot be for other nodes and for PostgreSQL clients at once'
        )
    if configuration.dead_after is not None:
        check_dead_after(configuration.dead_after)


def _refuse_forgotten(catalog: Catalog, node_id: int) -> None:
    """55000 for a node that was decommissioned."""
    if node_id < catalog.next_node_id and node_id not in catalog.nodes:
        raise ObjectNotInPrerequisiteState(
            f"node {node_id} was decommissioned and is no member of the cluster any more",
            hint="With an empty data directory and --join it can become a new one.",
        )


@contextmanager
def _listening(address: str, whom: str) -> Iterator[None]:
    """Says which address could not be taken, and what for."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise IoError(f'could not listen on "{address}" for {whom}: {reason}') from error


def _duckdb_limits(configuration: NodeConfiguration) -> DuckDbLimits:
    memory_bytes = configuration.memory_limit_mib * _MIB
    return DuckDbLimits(memory_bytes or None, configuration.threads or None)
