"""The catalog on one node: the local copy, changing it, and waiting for it.

    execute(command) --(leader)--> log --> CatalogStateMachine on every node --> `current`

Every node holds the whole catalog and plans from its own copy, `current`, an immutable value.
Changes go to the leader of the catalog tablet, wherever the statement runs. A command carries
an id, so it is retried until its outcome is known or the deadline passes, and applied once.

Promises:
- When `execute` returns, this node's copy has the change.
- When `ensure_everywhere` returns, so has the copy of every node that is live, and their
  tablets are as it says. A node not heard of for `liveness.LIVE_FOR_S` is not waited for: it
  catches up before it serves, since every timestamp names the version to plan with (T3).
- A node whose addresses changed over a restart says so by itself.

Left out: reading the catalog linearizably without a timestamp; nothing needs it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from catalog.addresses import AddressBook
from catalog.catalog_group import CatalogGroup
from catalog.catalog_incarnations import CatalogIncarnation
from catalog.codec import Outcome, decode_envelope, encode_envelope, outcome_of
from catalog.commands import (
    AddNode,
    AnyCommand,
    AttachPart,
    CommandResult,
    CreateCluster,
    CreateTable,
    DetachPart,
    Envelope,
    FinishRecut,
    SetNodeAddresses,
)
from catalog.definition_service import DefinitionService
from catalog.joining import METHOD as JOIN_METHOD
from catalog.joining import Joined, JoinRequest
from catalog.liveness import Liveness
from catalog.membership import Membership
from catalog.model import Catalog, Node, NodeId, NodeState
from catalog.oracle_service import METHOD as TAKE_METHOD
from catalog.oracle_service import OracleService
from catalog.sequence_service import METHOD as SEQUENCE_METHOD
from catalog.sequence_service import NumbersTaken, SequenceService, TakeNumbers
from catalog.state import CatalogStateMachine
from catalog.timestamp_client import TakeTimestamps, TimestampClient, TimestampsTaken
from cluster.errors import CannotConnectNow, DqeError, ProtocolViolation, StatementCompletionUnknown
from cluster.errors import Outcome as ErrorOutcome
from cluster.raft.group import RaftGroup
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration
from cluster.raft.state_machine import SnapshotStore
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

EXECUTE_METHOD = "catalog.execute"
WAIT_METHOD = "catalog.wait_version"

FOUNDER = NodeId(1)
ATTEMPT_TIMEOUT_S = 3.0
# A node silent for this long is not given replicas of new tables if others can have them.
UNREACHABLE_S = 1.0
RETRY_PAUSE_S = 0.05
DEFAULT_DEADLINE_S = 30.0

# What makes fragments, or gives a table others.
_DEFINING = (CreateTable, FinishRecut, AttachPart, DetachPart)

# Called with a version and the seconds left; returns when something that follows the catalog
# has caught up with that version.
Barrier = Callable[[int, float], Awaitable[None]]


class ExecuteRequest(msgspec.Struct, frozen=True):
    """An encoded envelope for the leader."""

    envelope: bytes


class WaitVersion(msgspec.Struct, frozen=True):
    """Answered with the same struct once the node's copy has that version."""

    version: int


class CatalogService:
    """One a node. `start` once the RPC server listens and the Raft host runs."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        host: RaftHost,
        snapshots: SnapshotStore,
        incarnations: SnapshotStore,
        book: AddressBook,
        me: Node,
        *,
        cluster_id: str,
        seeds: tuple[str, ...] = (),
    ) -> None:
        """`me` is this node as it is to stand in the catalog; `seeds` are --join addresses."""
        self._runtime = runtime
        self._rpc = self.rpc = rpc
        self._host = host
        self._book = self.book = book
        rpc.node_at = book.node_at
        self._me = me
        self._cluster_id = cluster_id
        self._machine = CatalogStateMachine(self._applied)
        self._group: RaftGroup | None = None
        self._opened = CatalogGroup(
            runtime,
            rpc,
            host,
            self._machine,
            snapshots,
            incarnations,
            me.id,
            self._use,
            lambda node_id: self.liveness.is_live(node_id),
        )
        self._membership: Membership | None = None
        self._oracle: OracleService | None = None
        self._sequences: SequenceService | None = None
        self._definitions: DefinitionService | None = None
        self._followers: list[Callable[[Catalog], None]] = []
        self._barriers: list[Barrier] = []
        self._changed = asyncio.Event()
        self._known_version = 0
        self._registering: asyncio.Task[None] | None = None
        self._confirming: asyncio.Task[None] | None = None
        # Whether the copy has been as new as the leader's since it was read back from disk.
        self.has_been_current = False
        self.liveness = Liveness(runtime, rpc, book, me.id, lambda: self.current.version, seeds)
        self.liveness.incarnation = lambda: self._opened.incarnation
        self.liveness.on_incarnation = self._opened.hear
        self.timestamps = TimestampClient(runtime, me.id, self)

    # --- Life --------------------------------------------------------------------------------

    async def start(self, newest: CatalogIncarnation | None = None) -> None:
        """Opens the catalog's group and begins to follow, ping and (re-)register; `newest` is
        the incarnation that others follow, where it is known."""
        bootstrap = Configuration((FOUNDER,)) if self._me.id == FOUNDER else None
        await self._opened.open(bootstrap, newest or CatalogIncarnation())
        group = self.group
        self._rpc.handle(EXECUTE_METHOD, ExecuteRequest, self._serve_execute)
        self._rpc.handle(WAIT_METHOD, WaitVersion, self._serve_wait)
        self._rpc.handle(JOIN_METHOD, JoinRequest, self._serve_join, before_join=True)
        self._oracle = OracleService(
            self._runtime, self._rpc, group, self._machine, lambda: self.current.version
        )
        self._sequences = SequenceService(self._rpc, group, self._machine)
        self._definitions = DefinitionService(
            self._runtime,
            self._rpc,
            group,
            self._machine,
            self._oracle,
            self.address_of,
            self.liveness.silent_s,
        )
        self._membership = Membership(self._runtime, group, self._machine, self.liveness)
        self._membership.start()
        self.liveness.start(self._me.rpc_address)
        self._registering = self._runtime.spawn(self._register(), "register node")
        self._confirming = self._runtime.spawn(self._confirm_current(), "catalog is current")

    async def ready(self, deadline_s: float) -> None:
        """Returns when this node stands in the catalog as it is, and its copy is current.

        A copy read back from disk may lag behind what was acknowledged before the restart.
        """
        ends_s = self._runtime.monotonic() + deadline_s
        while not self._is_registered():
            await self._wait_change(ends_s, "this node is not registered in the catalog yet")
        left_s = max(ends_s - self._runtime.monotonic(), 0.001)
        await self.group.remote_read_index(deadline_s=left_s)

    def _use(self, group: RaftGroup) -> None:
        """The catalog goes on as this group."""
        self._group = group
        for user in (self._oracle, self._sequences, self._definitions, self._membership):
            if user is not None:
                user.use(group)

    @property
    def incarnation(self) -> CatalogIncarnation:
        """Which incarnation of the catalog this node follows."""
        return self._opened.incarnation

    def close(self) -> None:
        """Stops the background work; the host closes the group."""
        self.liveness.close()
        if self._membership is not None:
            self._membership.close()
        if self._oracle is not None:
            self._oracle.close()
        if self._definitions is not None:
            self._definitions.close()
        for task in (self._registering, self._confirming):
            if task is not None:
                task.cancel()

    async def _confirm_current(self) -> None:
        """A copy read back from disk may lack what this node was told, and did, before."""
        while not self.has_been_current:
            try:
                await self.group.remote_read_index(deadline_s=ATTEMPT_TIMEOUT_S)
                self.has_been_current = True
            except CannotConnectNow:
                await self._runtime.sleep(RETRY_PAUSE_S)
        for follower in self._followers:
            follower(self.current)

    def _is_registered(self) -> bool:
        known = self.current.nodes.get(self._me.id)
        return known is not None and known == self._as_registered(known)

    def _as_registered(self, known: Node) -> Node:
        """This node as the catalog will hold it; a region left out at restart stays."""
        return Node(
            self._me.id,
            self._me.rpc_address,
            self._me.pg_address,
            self._me.region if self._me.region is not None else known.region,
            self._me.zone if self._me.zone is not None else known.zone,
            NodeState.ACTIVE if known.state is NodeState.DEAD else known.state,
        )

    async def _register(self) -> None:
        """Founds the cluster, or says where this node is, until the catalog has it right."""
        me = self._me
        while not self._is_registered():
            try:
                if me.id == FOUNDER and self.group.is_leader and not self.current.cluster_id:
                    found = CreateCluster(
                        self._cluster_id, me.rpc_address, me.pg_address, me.region, me.zone
                    )
                    await self._execute_envelope(Envelope("found", found), DEFAULT_DEADLINE_S)
                elif me.id in self.current.nodes:
                    await self.execute(
                        SetNodeAddresses(me.id, me.rpc_address, me.pg_address, me.region, me.zone)
                    )
            except (CannotConnectNow, StatementCompletionUnknown) as error:
                logger.info("cannot register this node yet: %s", error)
            await self._runtime.sleep(RETRY_PAUSE_S)

    # --- The local copy ----------------------------------------------------------------------

    @property
    def current(self) -> Catalog:
        """This node's copy; the value never changes, the property moves on."""
        return self._machine.state.catalog

    @property
    def horizon(self) -> int:
        """The timestamp below which nobody may read, as far as this node's copy knows."""
        return self._machine.state.horizon

    @property
    def timestamp_ceiling(self) -> int:
        """Timestamps up to here may have been handed out, as far as this node's copy knows."""
        return self._machine.state.timestamp_ceiling

    @property
    def definitions(self) -> DefinitionService:
        """Transactions that define something."""
        assert self._definitions is not None, "the catalog is used before it was started"
        return self._definitions

    @property
    def group(self) -> RaftGroup:
        assert self._group is not None, "the catalog is used before it was started"
        return self._group

    def follow(self, follower: Callable[[Catalog], None], barrier: Barrier | None = None) -> None:
        """Calls `follower` at once and at every new version; `barrier` is waited for by
        `ensure_everywhere`, on every node."""
        self._followers.append(follower)
        if barrier is not None:
            self._barriers.append(barrier)
        follower(self.current)

    def _applied(self) -> None:
        catalog = self.current
        if catalog.version == self._known_version:
            return
        self._known_version = catalog.version
        self._book.learn_catalog(catalog)
        self.liveness.learn_catalog(catalog)
        for follower in self._followers:
            follower(catalog)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_version(self, version: int, deadline_s: float = 10.0) -> Catalog:
        """This node's copy once it has that version; 57P03 when it does not get there."""
        ends_s = self._runtime.monotonic() + deadline_s
        while self.current.version < version:
            await self._wait_change(
                ends_s, f"this node's catalog has not reached version {version}"
            )
        return self.current

    async def _wait_change(self, ends_s: float, complaint: str) -> None:
        left_s = ends_s - self._runtime.monotonic()
        try:
            async with asyncio.timeout(max(left_s, 0)):
                await self._changed.wait()
        except TimeoutError:
            raise CannotConnectNow(
                complaint, hint="A majority of the catalog's voter nodes must be up."
            ) from None

    def address_of(self, node_id: NodeId) -> str:
        """Where to reach a node; CannotConnectNow when nobody ever said."""
        address = self._book.address_of(node_id)
        if address is None:
            raise CannotConnectNow(f"the address of node {node_id} is not known")
        return address

    # --- Changing it -------------------------------------------------------------------------

    async def execute(
        self, command: AnyCommand, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> CommandResult:
        """Applies the command once, wherever the leader is; this node's copy then has it.

        Raises the command's DqeError; CannotConnectNow when it surely was not applied by the
        deadline, StatementCompletionUnknown when that is not sure.
        """
        issued = 0
        if isinstance(command, _DEFINING):
            issued, _ = await self.timestamps.snapshot(deadline_s)
        envelope = Envelope(self._runtime.uuid().hex, command, self._unreachable(), issued)
        return await self._execute_envelope(envelope, deadline_s)

    def _unreachable(self) -> tuple[NodeId, ...]:
        """Active nodes that do not answer: new replicas had better lie elsewhere."""
        active = (n.id for n in self.current.nodes.values() if n.state is NodeState.ACTIVE)
        return tuple(n for n in active if self.liveness.silent_s(n) > UNREACHABLE_S)

    async def _execute_envelope(self, envelope: Envelope, deadline_s: float) -> CommandResult:
        ends_s = self._runtime.monotonic() + deadline_s
        outcome = await self._outcome_of(encode_envelope(envelope), ends_s)
        result = outcome.unwrap()
        try:
            await self.wait_version(result.version, max(ends_s - self._runtime.monotonic(), 1.0))
        except CannotConnectNow as error:
            # It has happened, and 57P03 would say that it has not.
            raise StatementCompletionUnknown(error.message, detail=error.detail) from error
        return result

    async def _outcome_of(self, envelope: bytes, ends_s: float) -> Outcome:
        """Asks whoever leads until the outcome is known."""
        last: DqeError
        maybe_applied: DqeError | None = None
        while True:
            attempt_s = min(ATTEMPT_TIMEOUT_S, ends_s - self._runtime.monotonic())
            try:
                return await self._attempt(envelope, max(attempt_s, 0.1))
            except (CannotConnectNow, StatementCompletionUnknown) as error:
                last = error
                if error.outcome is not ErrorOutcome.DID_NOT_HAPPEN:
                    maybe_applied = error
            if self._runtime.monotonic() >= ends_s:
                raise _gave_up(last, maybe_applied)
            await self._runtime.sleep(RETRY_PAUSE_S)

    async def _attempt(self, envelope: bytes, deadline_s: float) -> Outcome:
        if self.group.is_leader:
            return await self._propose(envelope, deadline_s)
        reply = await self._rpc.call(
            self._leader_address(),
            EXECUTE_METHOD,
            ExecuteRequest(envelope),
            Outcome,
            deadline_s=deadline_s,
        )
        return reply.header

    def _leader_address(self) -> str:
        leader_id = self.group.leader_id
        address = self._book.address_of(leader_id) if leader_id else None
        if address is None or leader_id == self._me.id:
            raise CannotConnectNow(
                "the catalog has no leader now",
                hint="A majority of the catalog's voter nodes must be up.",
            )
        return address

    async def _propose(self, envelope: bytes, deadline_s: float) -> Outcome:
        try:
            result = await self.group.propose(envelope, deadline_s=deadline_s)
        except (CannotConnectNow, StatementCompletionUnknown):
            raise
        except DqeError as error:
            return outcome_of(error)
        assert isinstance(result, CommandResult)
        return Outcome(result=result)

    async def _serve_execute(
        self, context: CallContext, request: ExecuteRequest, body: bytes | memoryview
    ) -> Outcome:
        try:
            decode_envelope(request.envelope)
        except msgspec.MsgspecError as error:
            raise ProtocolViolation("catalog command cannot be read", detail=str(error)) from error
        return await self._propose(request.envelope, context.remaining_s())

    # --- Everywhere --------------------------------------------------------------------------

    async def ensure_everywhere(self, version: int, deadline_s: float = 10.0) -> None:
        """Returns when every live node's copy, and what follows it there, has that version.

        A node that stops answering while it is waited for is given up when it is no longer
        live. Raises 57P03 naming a node that answers but does not get there.
        """
        ends_s = self._runtime.monotonic() + deadline_s
        nodes = [n for n in self.current.nodes.values() if n.state is not NodeState.DEAD]
        waits = (self._ensure_at(node, version, ends_s) for node in nodes)
        for outcome in await asyncio.gather(*waits, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _ensure_at(self, node: Node, version: int, ends_s: float) -> None:
        if node.id == self._me.id:
            await self._catch_up(version, ends_s - self._runtime.monotonic())
            return
        # Not `is_live`: a connection that broke does not tell a dead node from a bad network.
        while self.liveness.silent_s(node.id) == 0:
            left_s = ends_s - self._runtime.monotonic()
            if left_s <= 0:
                raise CannotConnectNow(
                    f"node {node.id} has not taken over catalog version {version} in time"
                )
            try:
                await self._rpc.call(
                    self.address_of(node.id),
                    WAIT_METHOD,
                    WaitVersion(version),
                    WaitVersion,
                    deadline_s=min(left_s, ATTEMPT_TIMEOUT_S),
                )
            except CannotConnectNow:
                await self._runtime.sleep(RETRY_PAUSE_S)
                continue
            return

    async def _catch_up(self, version: int, deadline_s: float) -> None:
        ends_s = self._runtime.monotonic() + deadline_s
        await self.wait_version(version, deadline_s)
        for barrier in self._barriers:
            await barrier(version, ends_s - self._runtime.monotonic())

    async def _serve_wait(
        self, context: CallContext, request: WaitVersion, body: bytes | memoryview
    ) -> WaitVersion:
        await self._catch_up(request.version, context.remaining_s())
        return request

    # --- Joining, timestamps -----------------------------------------------------------------

    async def _serve_join(
        self, context: CallContext, request: JoinRequest, body: bytes | memoryview
    ) -> Joined:
        if not self.current.cluster_id:
            raise CannotConnectNow("the cluster is still being founded")
        command = AddNode(request.rpc_address, request.pg_address, request.region, request.zone)
        envelope = Envelope(f"join-{request.join_id}", command)
        result = await self._execute_envelope(envelope, max(context.remaining_s() - 0.5, 1.0))
        assert result.node_id is not None
        logger.info("node %d joined from %s", result.node_id, request.rpc_address)
        return Joined(self.current.cluster_id, result.node_id, dict(self._book.announcements))

    async def take(self, request: TakeTimestamps, deadline_s: float) -> TimestampsTaken:
        """Carries a timestamp request to the leader (`timestamp_client.OracleTransport`)."""
        if self.group.is_leader:
            assert self._oracle is not None
            return await self._oracle.take(request)
        reply = await self._rpc.call(
            self._leader_address(), TAKE_METHOD, request, TimestampsTaken, deadline_s=deadline_s
        )
        return reply.header

    # --- Sequences ---------------------------------------------------------------------------

    async def take_numbers(
        self, request: TakeNumbers, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> NumbersTaken:
        """The next numbers of a sequence, wherever the leader is; those of a lost answer are
        never used."""
        ends_s = self._runtime.monotonic() + deadline_s
        while True:
            left_s = ends_s - self._runtime.monotonic()
            try:
                if self.group.is_leader:
                    assert self._sequences is not None
                    return await self._sequences.take(request)
                reply = await self._rpc.call(
                    self._leader_address(),
                    SEQUENCE_METHOD,
                    request,
                    NumbersTaken,
                    deadline_s=max(min(left_s, ATTEMPT_TIMEOUT_S), 0.1),
                )
                return reply.header
            except (CannotConnectNow, StatementCompletionUnknown):
                if left_s <= 0:
                    raise
            await self._runtime.sleep(RETRY_PAUSE_S)


def _gave_up(last: DqeError, maybe_applied: DqeError | None) -> DqeError:
    if maybe_applied is None:
        return last
    return StatementCompletionUnknown(
        "the catalog's leader did not say whether the change was made",
        detail=maybe_applied.message,
        hint="Look whether it is there before trying again.",
    )
