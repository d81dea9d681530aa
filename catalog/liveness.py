"""Who answers, where the nodes are, what they hold and how they fare: this node's view.

It is fed by gossip (`cluster.gossip`), and all of it is hints (G4): the planner prefers nodes
that answer, DDL does not wait for those that do not, the leader's loops act on those that have
been silent for long, and write what they decide into the catalog's log.

What a node says of itself, under these keys:

    v        the catalog version it holds
    i        the incarnation of the catalog it follows (`catalog.catalog_incarnations`)
    ~l       `NodeLoad`
    ~p       how far its log is (`catalog.log_witness`)
    ~r       `ReplicaTroubles`: replicas here that are fenced, and followers that lag
    ~t<n>    its replicas with ids from 256 n on: what each occupies, and whether it leads it

A size is said anew when it has changed by a sixteenth, so an idle cluster is quiet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from catalog.addresses import AddressBook, Announcement
from catalog.catalog_incarnations import CatalogIncarnation
from catalog.log_witness import TELL_S, LogPosition, LogWitness
from catalog.model import Catalog, NodeId
from cluster.errors import DqeError, ObjectNotInPrerequisiteState
from cluster.gossip.driver import GossipDriver
from cluster.gossip.members import Status
from cluster.gossip.protocol import Event, Gossip, Impostor, StatusChanged, Twin, ValuesChanged
from cluster.gossip.settings import GossipSettings
from cluster.rpc import RpcNode
from cluster.runtime import Runtime

T = TypeVar("T")

logger = logging.getLogger(__name__)

# In a cluster of a few nodes, one that dies is known to be silent after about this long.
LIVE_FOR_S = 2.5
# For so long a node counts as not live after a connection to it broke, or was refused.
BROKEN_FOR_S = 1.0
# What costs a look at files is measured this seldom.
SIZES_S = 5.0
REPORT_S = 1.0
# A size that has changed by less than this share is not told.
TOLD_SHARE = 16

_VERSION = "v"
_INCARNATION = "i"
_LOAD = "~l"
_POSITION = "~p"
_TROUBLES = "~r"
_TABLETS = "~t"
_TABLETS_A_CHUNK = 256


class NodeLoad(msgspec.Struct, frozen=True, array_like=True):
    """How a node fares. Zeros where it did not say."""

    log_bytes: int = 0


class ReplicaTroubles(msgspec.Struct, frozen=True, array_like=True):
    """Replicas on this node that serve nothing, with the reason; and, of the tablets it leads,
    the members that lag, as (tablet, node, entries behind), and those that differ from others
    without a majority to say which are right, as (tablet, node)."""

    fenced: dict[int, str] = {}
    lagging: tuple[tuple[int, int, int], ...] = ()
    in_doubt: tuple[tuple[int, int], ...] = ()


class HeldTablet(msgspec.Struct, frozen=True, array_like=True):
    """One replica: the bytes of its file, and whether it leads."""

    size_bytes: int
    leads: bool


_Chunk = dict[int, HeldTablet]


class Liveness:
    """See the module. Made with the node's services; of use from `start` on."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        book: AddressBook,
        node_id: int,
        catalog_version: Callable[[], int],
        seeds: tuple[str, ...] = (),
        *,
        settings: GossipSettings | None = None,
    ) -> None:
        self._runtime = runtime
        self._book = book
        self._node_id = node_id
        self._catalog_version = catalog_version
        self._seeds = seeds
        self._settings = settings or GossipSettings()
        self._gossip: Gossip | None = None
        self._catalog = Catalog()
        self._driver = GossipDriver(runtime, rpc, self._before_tick, self._on_event)
        self._started_s = runtime.monotonic()
        self._sizes: dict[int, int] = {}
        self._measured_s = self._reported_s = float("-inf")
        self._complained: dict[Impostor | str, None] = {}
        # Nodes to which a connection broke or was refused, and until when that counts.
        self._broken_until_s: dict[int, float] = {}
        rpc.on_lost(self._on_lost)
        # Decoded from the members' values; dropped when they change.
        self._held: dict[int, dict[int, HeldTablet]] = {}
        # Set by the node: what its own replicas occupy, which it leads, what ails them, its load.
        self.measure_tablets: Callable[[], dict[int, int]] = dict
        self.list_led: Callable[[], Iterable[int]] = tuple
        self.report_troubles: Callable[[], ReplicaTroubles] = ReplicaTroubles
        self.measure_load: Callable[[], NodeLoad] = NodeLoad
        # Set by the node: who remembers how far the logs of others are.
        self.witness: LogWitness | None = None
        self._told_position_s = float("-inf")
        self._keeping_fails = False
        # Set by the catalog: which incarnation it is of, and what follows from another's.
        self.incarnation: Callable[[], CatalogIncarnation] = CatalogIncarnation
        self.on_incarnation: Callable[[CatalogIncarnation], None] = lambda incarnation: None
        # Called when another process claims this node's identity.
        self.on_twin: Callable[[DqeError], None] = lambda error: None

    def start(self, own_address: str) -> None:
        """Announces this node and begins to gossip."""
        known = self._book.announcements.get(self._node_id)
        started_ms = self._runtime.wall_ms()
        if known is not None and known.started_ms >= started_ms:
            started_ms = known.started_ms + 1  # the clock went back
        self._book.learn({self._node_id: Announcement(own_address, started_ms)})
        gossip = Gossip(
            self._node_id,
            own_address,
            started_ms,
            self._runtime.random,
            self._settings,
            self._seeds,
        )
        self._gossip = gossip
        gossip.members.accepts = self._is_member
        self._learn_names()
        self._driver.start(gossip)

    def close(self) -> None:
        self._driver.close()

    def learn_catalog(self, catalog: Catalog) -> None:
        """Takes the members the catalog knows of by name, and lets go of those it has forgotten."""
        self._catalog = catalog
        if self._gossip is None:
            return
        for node_id in [m.node_id for m in self._gossip.members]:
            if not self._is_member(node_id):
                self._gossip.forget(node_id)
        self._learn_names()

    def _is_member(self, node_id: int) -> bool:
        """False for nodes that the catalog has forgotten; one it does not know yet may be new."""
        return node_id in self._catalog.nodes or node_id >= self._catalog.next_node_id

    def _learn_names(self) -> None:
        """Takes members the address book knows of, to be visited."""
        assert self._gossip is not None
        for node_id, announcement in sorted(self._book.announcements.items()):
            if node_id != self._node_id and self._is_member(node_id):
                self._gossip.members.add(node_id, announcement.address, announcement.started_ms)

    # --- What others ask -----------------------------------------------------------------------

    def _on_lost(self, address: str) -> None:
        """A process that was killed shows at once, long before gossip misses it."""
        until_s = self._runtime.monotonic() + BROKEN_FOR_S
        for member in () if self._gossip is None else self._gossip.members:
            if member.address == address:
                self._broken_until_s[member.node_id] = until_s

    def is_live(self, node_id: int) -> bool:
        """Whether the node is thought to answer; this node always is."""
        if node_id == self._node_id:
            return True
        if self._broken_until_s.get(node_id, float("-inf")) > self._runtime.monotonic():
            return False
        member = self._gossip.members.get(node_id) if self._gossip is not None else None
        return member is not None and member.is_live

    def live_nodes(self) -> tuple[NodeId, ...]:
        """Those that are live, by id."""
        others = self._gossip.members if self._gossip is not None else ()
        ids = sorted({self._node_id, *(member.node_id for member in others)})
        return tuple(NodeId(node_id) for node_id in ids if self.is_live(node_id))

    def silent_s(self, node_id: int) -> float:
        """For how long the node has not been heard of; 0 while it is live.

        Of a node never heard of, since this node began to listen.
        """
        member = self._gossip.members.get(node_id) if self._gossip is not None else None
        if node_id == self._node_id or (member is not None and member.is_live):
            return 0.0
        heard = member is not None and member.status is not Status.UNHEARD
        since_s = member.since_s if member is not None and heard else self._started_s
        return self._runtime.monotonic() - since_s

    def version_of(self, node_id: int) -> int:
        """The catalog version the node said it holds; 0 when it never did."""
        value = self._value(node_id, _VERSION)
        return int(value) if value.isdigit() else 0

    def tablet_bytes(self, node_id: int) -> Mapping[int, int]:
        """What the node's replicas occupied lately, by tablet; empty when not known."""
        if node_id == self._node_id:
            return self._sizes
        return {tablet_id: held.size_bytes for tablet_id, held in self.held(node_id).items()}

    def held(self, node_id: int) -> Mapping[int, HeldTablet]:
        """The replicas on a node as it told, by tablet."""
        found = self._held.get(node_id)
        if found is None:
            found = self._held[node_id] = self._decode_held(node_id)
        return found

    def leader_of(self, tablet_id: int) -> NodeId | None:
        """The live node that says it leads the tablet, or None. Late by a second or more."""
        for node_id in self.live_nodes():
            held = self.held(node_id).get(tablet_id)
            if held is not None and held.leads:
                return node_id
        return None

    def load_of(self, node_id: int) -> NodeLoad:
        """How the node fares, as it told."""
        return _decode(self._value(node_id, _LOAD), NodeLoad) or NodeLoad()

    def troubles_of(self, node_id: int) -> ReplicaTroubles:
        """What ails the replicas the node holds or leads, as it told."""
        return _decode(self._value(node_id, _TROUBLES), ReplicaTroubles) or ReplicaTroubles()

    def _value(self, node_id: int, key: str) -> bytes:
        member = self._gossip.member(node_id) if self._gossip is not None else None
        return member.value(key) if member is not None else b""

    def _decode_held(self, node_id: int) -> dict[int, HeldTablet]:
        member = self._gossip.member(node_id) if self._gossip is not None else None
        held: dict[int, HeldTablet] = {}
        for entry in [] if member is None else member.after(0):
            if entry.key.startswith(_TABLETS):
                held |= _decode(entry.value, _Chunk) or {}
        return held

    # --- What this node says -------------------------------------------------------------------

    async def _before_tick(self) -> None:
        gossip = self._gossip
        assert gossip is not None
        await self._keep_heard()
        gossip.set(_VERSION, str(self._catalog_version()).encode())
        gossip.set(_INCARNATION, msgspec.msgpack.encode(self.incarnation()))
        now_s = self._runtime.monotonic()
        if self.witness is not None and now_s - self._told_position_s >= TELL_S:
            self._told_position_s = now_s
            gossip.set(_POSITION, msgspec.msgpack.encode(self.witness.own()))
        if now_s - self._measured_s >= SIZES_S:
            self._measured_s = now_s
            self._sizes = self.measure_tablets()
            gossip.set(_LOAD, msgspec.msgpack.encode(self.measure_load()))
        if now_s - self._reported_s >= REPORT_S:
            self._reported_s = now_s
            self._tell_tablets(gossip)
            gossip.set(_TROUBLES, msgspec.msgpack.encode(self.report_troubles()))

    async def _keep_heard(self) -> None:
        """Writes down what was heard. A full disk silences nobody: it is tried again."""
        try:
            await self._book.keep()
            if self.witness is not None:
                await self.witness.keep()
        except OSError as error:
            if not self._keeping_fails:
                logger.error("what other nodes told cannot be kept: %s; trying again", error)
            self._keeping_fails = True
        else:
            self._keeping_fails = False

    def _tell_tablets(self, gossip: Gossip) -> None:
        led = set(self.list_led())
        told = self.held(self._node_id)
        chunks: dict[str, _Chunk] = {}
        for tablet_id in sorted({*self._sizes, *told}):
            key = f"{_TABLETS}{tablet_id // _TABLETS_A_CHUNK}"
            chunk = chunks.setdefault(key, {})
            size = self._sizes.get(tablet_id)
            if size is not None:
                before = told.get(tablet_id)
                shown = _told_size(size, None if before is None else before.size_bytes)
                chunk[tablet_id] = HeldTablet(shown, tablet_id in led)
        before_version = gossip.me.newest
        for key, chunk in chunks.items():
            gossip.set(key, msgspec.msgpack.encode(chunk))
        if gossip.me.newest != before_version:
            self._held.pop(self._node_id, None)

    # --- What happens --------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ValuesChanged):
            self._held.pop(event.node_id, None)
            self._learn_address(event.node_id)
            if _INCARNATION in event.keys:
                told = _decode(self._value(event.node_id, _INCARNATION), CatalogIncarnation)
                self.on_incarnation(told or CatalogIncarnation())
            if _POSITION in event.keys and self.witness is not None:
                position = _decode(self._value(event.node_id, _POSITION), LogPosition)
                if position is not None:
                    self.witness.heard(event.node_id, position)
        elif isinstance(event, StatusChanged):
            self._learn_address(event.node_id)
            if event.status is Status.DOWN:
                logger.warning("node %d does not answer", event.node_id)
        elif isinstance(event, Impostor):
            if event not in self._complained:
                self._complained[event] = None
                logger.error(
                    "node %d answers at %s, where node %d was thought to be",
                    event.found,
                    event.address,
                    event.expected,
                )
        else:
            self._meet_twin(event)

    def _learn_address(self, node_id: int) -> None:
        assert self._gossip is not None
        member = self._gossip.members.get(node_id)
        if member is not None and member.address:
            self._book.learn({node_id: Announcement(member.address, member.incarnation)})

    def _meet_twin(self, twin: Twin) -> None:
        error = ObjectNotInPrerequisiteState(
            f"another process, at {twin.address}, says it is node {self._node_id}, too",
            detail="One of the two runs on a copy of the other's data directory.",
            hint="Keep one of them; start the other with an empty directory.",
        )
        if twin.address not in self._complained:
            self._complained[twin.address] = None
            logger.error("%s", error)
        self.on_twin(error)


def _told_size(size: int, told: int | None) -> int:
    if told is None or abs(size - told) * TOLD_SHARE > told:
        return size
    return told


def _decode(value: bytes, kind: type[T]) -> T | None:
    """A member's value; None for one that cannot be read."""
    if not value:
        return None
    try:
        return msgspec.msgpack.decode(value, type=kind)
    except msgspec.DecodeError:
        return None
