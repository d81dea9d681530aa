"""Remembers how far the log of every other node was, so that none comes back with less (rule G3).

Problem: a data directory restored from an older copy opens without complaint, and its node would
vote and acknowledge as if it still held what it had promised since. What was committed with its
vote could be lost.

Idea: each node tells, by gossip, which log it writes and up to where that is durable; that only
ever grows. The others remember the highest they heard, in memory and in their data directories.
Before a node that comes back opens a Raft group it asks all it can reach what they remember of
it. If anybody remembers more than its log holds, or another log, it does not start: the directory
is to be emptied, and the node to join as a new one. Who hears of such a thing only later tells
the node, which stops. The answers also say which incarnation of the catalog is followed
(`catalog.catalog_incarnations`).

Invariant: what is told was durable, so a crash never takes a node below it.

Left out: what was written in the last `TELL_S` before the node stopped, and nodes that come back
when nobody who knew them is there. A copy that runs beside its original is noticed by gossip
(`cluster.gossip`, `Twin`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from catalog.addresses import AddressBook
from catalog.catalog_incarnations import CatalogIncarnation
from cluster.errors import (
    DataCorrupted,
    DqeError,
    ObjectNotInPrerequisiteState,
    UndefinedFunction,
)
from cluster.raft.state_machine import SnapshotStore
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

ASK_METHOD = "log.remembered"
OLDER_METHOD = "log.is_older"
# A node tells how far it is this often; what was heard is written down this often.
TELL_S = 2.0
KEEP_S = 10.0
ASK_TIMEOUT_S = 2.0
ASK_AGAIN_S = 0.1


class LogPosition(msgspec.Struct, frozen=True, array_like=True):
    """Which log, and up to where it is durable. Log 0: nothing is known."""

    log_id: int = 0
    position: int = 0


class AskRemembered(msgspec.Struct, frozen=True):
    """What do you remember of that node's log?"""

    node_id: int


class Remembered(msgspec.Struct, frozen=True):
    """How far the asking node's log was, and the incarnation of the catalog that is followed."""

    position: LogPosition
    incarnation: CatalogIncarnation


class IsOlder(msgspec.Struct, frozen=True):
    """You are not what you were: this is remembered of you."""

    node_id: int
    remembered: LogPosition


class LogWitness:
    """One a node. `verify` before any Raft group is opened."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        book: AddressBook,
        store: SnapshotStore,
        node_id: int,
        own: Callable[[], LogPosition],
        on_older: Callable[[DqeError], None],
        incarnation: Callable[[], CatalogIncarnation],
    ) -> None:
        """`on_older` is called when the node runs already and must stop; `incarnation` says
        which of the catalog this node follows."""
        self._runtime = runtime
        self._rpc = rpc
        self._book = book
        self._store = store
        self._node_id = node_id
        self._own = own
        self._on_older = on_older
        self._incarnation = incarnation
        try:
            kept = store.load()
        except DataCorrupted as error:
            # The other nodes remember, too, and tell again how far they are.
            logger.error("%s; what was remembered of other nodes' logs is lost", error)
            kept = None
        self._remembered: dict[int, LogPosition] = {}
        if kept is not None:
            self._remembered = msgspec.msgpack.decode(kept[1], type=dict[int, LogPosition])
        self._changed = False
        self._kept_s = runtime.monotonic()
        self._told: dict[int, float] = {}
        rpc.handle(ASK_METHOD, AskRemembered, self._serve)
        rpc.handle_notice(OLDER_METHOD, IsOlder, self._hear_older)

    def own(self) -> LogPosition:
        """What this node tells of its own log."""
        return self._own()

    def heard(self, node_id: int, position: LogPosition) -> None:
        """A node told how far its log is."""
        known = self._remembered.get(node_id)
        if known is not None and _is_behind(position, known):
            self._object(node_id, position, known)
        elif position.log_id and position != known:
            self._remembered[node_id] = position
            self._changed = True

    async def keep(self) -> None:
        """Writes down what was heard, now and then."""
        now_s = self._runtime.monotonic()
        if self._changed and now_s - self._kept_s >= KEEP_S:
            self._changed, self._kept_s = False, now_s
            try:
                await self._store.save(0, msgspec.msgpack.encode(self._remembered))
            except OSError:
                self._changed = True
                raise

    async def verify(self) -> CatalogIncarnation:
        """The newest incarnation of the catalog that anybody follows; 55000 if somebody
        remembers more of this node's log than it holds.

        Asks every known address at once; who does not answer soon has no say.
        """
        others = [n for n in sorted(self._book.announcements) if n != self._node_id]
        newest = self._incarnation()
        for told in await asyncio.gather(*map(self._ask, others)):
            if told is not None:
                self._check(told[0], told[1].position)
                newest = max(newest, told[1].incarnation)
        return newest

    async def _ask(self, node_id: int) -> tuple[int, Remembered] | None:
        ends_s = self._runtime.monotonic() + ASK_TIMEOUT_S
        while True:
            try:
                reply = await self._rpc.call(
                    self._book.address_of(node_id) or "",
                    ASK_METHOD,
                    AskRemembered(self._node_id),
                    Remembered,
                    deadline_s=max(ends_s - self._runtime.monotonic(), ASK_AGAIN_S),
                )
                return node_id, reply.header
            except UndefinedFunction:
                # It listens and is being put together itself: the cluster comes up as a whole.
                if self._runtime.monotonic() >= ends_s:
                    return None
                await self._runtime.sleep(ASK_AGAIN_S)
            except DqeError:
                return None

    def _check(self, witness: int, remembered: LogPosition) -> None:
        own = self._own()
        if _is_behind(own, remembered):
            raise _older(witness, own, remembered)

    def _object(self, node_id: int, told: LogPosition, known: LogPosition) -> None:
        address = self._book.address_of(node_id)
        now_s = self._runtime.monotonic()
        if address is None or now_s - self._told.get(node_id, float("-inf")) < KEEP_S:
            return
        self._told[node_id] = now_s
        logger.error(
            "node %d came back with an older log: it ends at %d, and was at %d",
            node_id,
            told.position,
            known.position,
        )
        self._rpc.notify(address, OLDER_METHOD, IsOlder(node_id, known))

    async def _serve(
        self, context: CallContext, request: AskRemembered, body: bytes | memoryview
    ) -> Remembered:
        position = self._remembered.get(request.node_id, LogPosition())
        return Remembered(position, self._incarnation())

    def _hear_older(self, context: CallContext, told: IsOlder, body: bytes | memoryview) -> None:
        own = self._own()
        if told.node_id == self._node_id and _is_behind(own, told.remembered):
            self._on_older(_older(context.peer_node_id, own, told.remembered))


def _is_behind(position: LogPosition, remembered: LogPosition) -> bool:
    if not remembered.log_id:
        return False
    return position.log_id != remembered.log_id or position.position < remembered.position


def _older(witness: int, own: LogPosition, remembered: LogPosition) -> DqeError:
    if own.log_id != remembered.log_id:
        found = f"node {witness} knows this node by another log"
    else:
        found = (
            f"node {witness} remembers this node's log up to position {remembered.position},"
            f" and it ends at {own.position}"
        )
    return ObjectNotInPrerequisiteState(
        "this node's data directory is an older copy of itself",
        detail=f"It would break what it has promised since: {found}.",
        hint="Start the node with an empty data directory and --join: it joins as a new node.",
    )
