"""Compares the replicas of each tablet, and has those that are wrong rebuilt (rule G6).

    ReplicaChecker.check(tablet) --(here or by RPC)--> its leader --RPC--> every replica's sums
                                 <-- judgements <-- judge <--

The leader of a tablet asks every replica for checksums at one timestamp (`storage.checksum`). A
replica that differs from a majority is looked at again, at a later timestamp; if it still
differs its node rebuilds it (`TabletManager.rebuild`); a leader that finds itself wrong steps
down in doing so. Where no majority says who is right, that is reported and nothing is touched.

In the background each leader checks one tablet every `PACE_S`, each again after `AGAIN_S`, and
rests `REST` times as long as a check took, so that the reading costs little: large tablets come
round more rarely. What a leader has not looked at yet has its first turn somewhere within
`AGAIN_S`: a load, or an election, is no reason to read all there is. `check_all` is what
`dqe check` asks for.

Left out: the catalog tablet, whose copies are compared by tests.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from catalog.liveness import ReplicaTroubles
from catalog.model import NodeId, Tablet, TabletId
from catalog.replica_results import ReplicaResult
from catalog.replica_verdicts import Answer, Judgement, Verdict, judge
from catalog.service import CatalogService
from catalog.tablets import TabletManager
from cluster.errors import CannotConnectNow, DataCorrupted, DqeError
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime
from storage.checksum import ENGINE, FragmentChecksum, tablet_checksums
from storage.node import NodeStorage

logger = logging.getLogger(__name__)

SUMS_METHOD = "replica.checksums"
CHECK_METHOD = "replica.check"
REBUILD_METHOD = "replica.rebuild"

PACE_S = 10.0
AGAIN_S = 3600.0
REST = 50
SUMS_TIMEOUT_S = 60.0
CHECK_TIMEOUT_S = 150.0
REBUILD_TIMEOUT_S = 5.0
# A follower that lacks so many entries is said to lag.
LAGGING_ENTRIES = 1000
# Tablets that `check_all` has compared at once.
AT_ONCE = 4

WRONG = (Verdict.DIFFERS, Verdict.DAMAGED)


class AskSums(msgspec.Struct, frozen=True):
    """Asks a node for the checksums of its replica at a timestamp, with what ended since the
    horizon (0 for its own)."""

    tablet_id: int
    timestamp: int
    horizon: int = 0


class Sums(msgspec.Struct, frozen=True):
    sums: tuple[FragmentChecksum, ...]
    engine: str


class AskCheck(msgspec.Struct, frozen=True):
    """Asks a tablet's leader to compare its replicas."""

    tablet_id: int


class CheckResults(msgspec.Struct, frozen=True):
    results: tuple[ReplicaResult, ...]


class AskRebuild(msgspec.Struct, frozen=True):
    """Tells a node that its replica is wrong. Answered with the same struct."""

    tablet_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Round:
    """One comparison of one tablet."""

    judgements: dict[NodeId, Judgement]

    @property
    def wrong(self) -> dict[NodeId, Judgement]:
        return {n: j for n, j in self.judgements.items() if j.verdict in WRONG}


class ReplicaChecker:
    """One a node. `start` once catalog and tablets are."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        storage: NodeStorage,
        catalog: CatalogService,
        tablets: TabletManager,
        node_id: NodeId,
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._storage = storage
        self._catalog = catalog
        self._tablets = tablets
        self._node_id = node_id
        # When each tablet's turn comes, on this node's clock.
        self._due_s: dict[TabletId, float] = {}
        # Replicas in doubt or wrong at the last comparison led here, to be shown.
        self._found: dict[TabletId, tuple[ReplicaResult, ...]] = {}
        self._task: asyncio.Task[None] | None = None
        rpc.handle(SUMS_METHOD, AskSums, self._serve_sums)
        rpc.handle(CHECK_METHOD, AskCheck, self._serve_check)
        rpc.handle(REBUILD_METHOD, AskRebuild, self._serve_rebuild)
        storage.on_damage = self._damaged

    def start(self) -> None:
        self._task = self._runtime.spawn(self._check_forever(), "replica checks")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def troubles(self) -> ReplicaTroubles:
        """What this node tells the others of its replicas, and of those that follow it."""
        fenced = {int(t): reason for t, reason in self._tablets.out_of_service().items()}
        in_doubt = tuple(
            (int(tablet_id), result.node_id)
            for tablet_id, found in sorted(self._found.items())
            for result in found
            if result.verdict == Verdict.IN_DOUBT
        )
        return ReplicaTroubles(fenced, self._lagging(), in_doubt)

    def _lagging(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for tablet_id in self._catalog.current.tablets:
            group = self._tablets.group(tablet_id)
            if group is None or not group.is_leader:
                continue
            for node_id in group.configuration.members:
                behind = group.last_index - group.match_index(node_id)
                if node_id != self._node_id and behind >= LAGGING_ENTRIES:
                    found.append((int(tablet_id), node_id, behind))
        return tuple(found)

    # --- On request ----------------------------------------------------------------------------

    async def check_all(self) -> list[ReplicaResult]:
        """Has the leader of every tablet compare its replicas; a result a replica."""
        tablets = list(self._catalog.current.tablets.values())
        results: list[ReplicaResult] = []
        for start in range(0, len(tablets), AT_ONCE):
            batch = tablets[start : start + AT_ONCE]
            for found in await asyncio.gather(*map(self._check_at_leader, batch)):
                results += found
        return results

    async def _check_at_leader(self, tablet: Tablet) -> tuple[ReplicaResult, ...]:
        leader = self._tablets.leader_of(tablet.id) or self._catalog.liveness.leader_of(tablet.id)
        try:
            if leader is None:
                raise CannotConnectNow(f"tablet {tablet.id} has no leader now")
            reply = await self._rpc.call(
                self._catalog.address_of(leader),
                CHECK_METHOD,
                AskCheck(tablet.id),
                CheckResults,
                deadline_s=CHECK_TIMEOUT_S,
            )
        except DqeError as error:
            return tuple(
                ReplicaResult(tablet.id, n, Verdict.NOT_COMPARED, trouble=error.message)
                for n in tablet.replicas
            )
        return reply.header.results

    async def _serve_check(
        self, context: CallContext, request: AskCheck, body: bytes | memoryview
    ) -> CheckResults:
        return CheckResults(await self.check(TabletId(request.tablet_id)))

    # --- At the leader -------------------------------------------------------------------------

    async def _check_forever(self) -> None:
        rest_s = PACE_S
        while True:
            await self._runtime.sleep(rest_s)
            began_s = self._runtime.monotonic()
            await self._check_next()
            rest_s = max(PACE_S, REST * (self._runtime.monotonic() - began_s))

    async def _check_next(self) -> None:
        tablet_id = self._next_due()
        if tablet_id is None:
            return
        self._due_s[tablet_id] = self._runtime.monotonic() + AGAIN_S
        try:
            await self.check(tablet_id)
        except DqeError as error:
            logger.info("tablet %d is not compared now: %s", tablet_id, error)

    def _next_due(self) -> TabletId | None:
        """Of the tablets led here that have several replicas, the one whose turn came first."""
        now_s = self._runtime.monotonic()
        tablets = self._catalog.current.tablets
        self._due_s = {t: s for t, s in self._due_s.items() if t in tablets}
        self._found = {t: found for t, found in self._found.items() if self._leads(t)}
        led = [t.id for t in tablets.values() if len(t.replicas) > 1 and self._leads(t.id)]
        for tablet_id in led:
            if tablet_id not in self._due_s:
                self._due_s[tablet_id] = now_s + self._runtime.random.uniform(0, AGAIN_S)
        first = min(((self._due_s[t], t) for t in led), default=None)
        return first[1] if first is not None and first[0] <= now_s else None

    def _leads(self, tablet_id: TabletId) -> bool:
        group = self._tablets.group(tablet_id)
        return group is not None and group.is_leader

    async def check(self, tablet_id: TabletId) -> tuple[ReplicaResult, ...]:
        """Compares the replicas of a tablet that is led here, and has wrong ones rebuilt.

        57P03 where this node does not lead it.
        """
        tablet = self._catalog.current.tablets.get(tablet_id)
        if tablet is None or not self._leads(tablet_id):
            raise CannotConnectNow(f"node {self._node_id} does not lead tablet {tablet_id} now")
        first = await self._compare(tablet)
        rebuilt: set[NodeId] = set()
        if first.wrong:
            # Nothing is thrown away on one look.
            second = await self._compare(tablet)
            first = _Round(first.judgements | second.judgements)
            rebuilt = {n for n in second.wrong if await self._have_rebuilt(tablet, n, second)}
        results = tuple(
            ReplicaResult(tablet.id, n, j.verdict, j.rows, j.digest, j.trouble, n in rebuilt)
            for n, j in sorted(first.judgements.items())
        )
        self._note(tablet_id, results)
        return results

    def _note(self, tablet_id: TabletId, results: tuple[ReplicaResult, ...]) -> None:
        bad = tuple(r for r in results if r.verdict in (*WRONG, Verdict.IN_DOUBT))
        self._found.pop(tablet_id, None)
        if bad:
            self._found[tablet_id] = bad
        for result in bad:
            logger.error(
                "tablet %d: the replica on node %d is %s%s",
                tablet_id,
                result.node_id,
                "in doubt, it differs from another"
                if result.verdict == Verdict.IN_DOUBT
                else "wrong: " + (result.trouble or "its rows differ from the majority's"),
                "; it is rebuilt" if result.rebuilt else "",
            )

    async def _compare(self, tablet: Tablet) -> _Round:
        timestamp, _ = await self._catalog.timestamps.snapshot()
        members = [n for n in tablet.replicas if n not in tablet.joining]
        horizon = max(self._catalog.horizon, self._storage.tablet(tablet.id).horizon)
        asked = AskSums(tablet.id, timestamp, horizon)
        answers = await asyncio.gather(*(self._ask(asked, n) for n in members))
        return _Round(judge(dict(zip(members, answers, strict=True))))

    async def _ask(self, asked: AskSums, node_id: NodeId) -> Answer:
        if not self._catalog.liveness.is_live(node_id):
            return Answer(trouble=f"node {node_id} does not answer")
        try:
            reply = await self._rpc.call(
                self._catalog.address_of(node_id),
                SUMS_METHOD,
                asked,
                Sums,
                deadline_s=SUMS_TIMEOUT_S,
            )
        except DqeError as error:
            return Answer(trouble=error.message, damaged=isinstance(error, DataCorrupted))
        return Answer(reply.header.sums, reply.header.engine)

    async def _have_rebuilt(self, tablet: Tablet, node_id: NodeId, found: _Round) -> bool:
        """Tells the node; whether it was told."""
        judgement = found.judgements[node_id]
        reason = judgement.trouble or "its rows differ from those of most replicas"
        try:
            await self._rpc.call(
                self._catalog.address_of(node_id),
                REBUILD_METHOD,
                AskRebuild(tablet.id, reason),
                AskRebuild,
                deadline_s=REBUILD_TIMEOUT_S,
            )
        except DqeError as error:
            logger.error("node %d was not told to rebuild tablet %d: %s", node_id, tablet.id, error)
            return False
        return True

    # --- At every replica ----------------------------------------------------------------------

    async def _serve_sums(
        self, context: CallContext, request: AskSums, body: bytes | memoryview
    ) -> Sums:
        sums = await tablet_checksums(
            self._runtime,
            self._storage,
            request.tablet_id,
            request.timestamp,
            context.remaining_s(),
            request.horizon,
        )
        return Sums(sums, ENGINE)

    async def _serve_rebuild(
        self, context: CallContext, request: AskRebuild, body: bytes | memoryview
    ) -> AskRebuild:
        self._tablets.rebuild(TabletId(request.tablet_id), request.reason)
        return request

    def _damaged(self, tablet_id: int, error: DqeError) -> None:
        self._tablets.rebuild(TabletId(tablet_id), f"{error.message} ({error.detail})")
