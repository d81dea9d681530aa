"""The catalog as the home of transactions that define something (rules S1, C4, C5).

    coordinator --stage----> catalog's log: the transaction is registered as running
                --prepare--> tablets with rows of it (home: the catalog)
                --commit---> leader: draws C, logs CommitDefinitions
    tablets in doubt ask `outcome`: staged = running, decided = committed, neither = aborted

The entry that changes the catalog is the decision about the rows too, so no crash leaves one
without the other: before the entry nothing has happened, after it everything has. The first of
commit and abort takes the transaction out of what is staged, so the other comes to nothing.

The commit timestamp is drawn at the leader while the oracle gives nothing else out, until the
entry is applied. So whoever gets a later timestamp also gets a catalog version that has the
definitions (T3): nobody sees the rows of such a transaction without its tables, nor the reverse.
If the entry's fate is not known the oracle stays shut until it is, or until this leader is none.

Of a coordinator that died, or that says that it runs the transaction no more, the leader aborts
what is staged (`WATCH_S`); its tablets and locks are freed by that and by their leases.

Invariants: a timestamp for definitions is drawn behind every prepare, and only below it is
anything promised to readers without them; one commit at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from catalog.codec import Outcome, encode_envelope, outcome_of
from catalog.commands import (
    AbortDefinitions,
    AbortRecut,
    CommandResult,
    CommitDefinitions,
    Envelope,
)
from catalog.model import Catalog, NodeId, TabletId
from catalog.oracle_service import OracleService
from catalog.patches import Patch
from catalog.state import CatalogStateMachine
from cluster.errors import CannotConnectNow, DqeError, StatementCompletionUnknown
from cluster.errors import Outcome as ErrorOutcome
from cluster.raft.group import RaftGroup
from cluster.rpc import CallContext, RpcNode
from cluster.runtime import Runtime
from storage.participant import Outcome as TransactionOutcome
from storage.tasks import run_to_end

logger = logging.getLogger(__name__)

COMMIT_METHOD = "catalog.commit_definitions"
RUNNING_METHOD = "catalog.running_definitions"
ATTEMPT_TIMEOUT_S = 5.0
RETRY_PAUSE_S = 0.05
COMMIT_DEADLINE_S = 30.0
OUTCOME_DEADLINE_S = 5.0
# Between looks at what is staged; a coordinator is given up at the second look in a row that
# finds it silent for `SILENT_S`, or without the transaction.
WATCH_S = 2.0
SILENT_S = 8.0
LOOKS = 2


class CommitRequest(msgspec.Struct, frozen=True):
    """Asks the leader to commit; answered with an `Outcome`."""

    transaction_id: int
    patch: Patch
    participants: tuple[TabletId, ...]
    staged: bool = True


class RunningRequest(msgspec.Struct, frozen=True):
    """Which of these transactions does the node run?"""

    transaction_ids: tuple[int, ...]


class DefinitionService:
    """One a node: commits for this node's sessions, and serves as the home where it leads."""

    def __init__(
        self,
        runtime: Runtime,
        rpc: RpcNode,
        group: RaftGroup,
        machine: CatalogStateMachine,
        oracle: OracleService,
        address_of: Callable[[NodeId], str],
        silent_s: Callable[[int], float],
    ) -> None:
        self._runtime = runtime
        self._rpc = rpc
        self._group = group
        self._machine = machine
        self._oracle = oracle
        self._address_of = address_of
        self._silent_s = silent_s
        self._turn = asyncio.Lock()
        # With what each sees instead of the catalog.
        self._running: dict[int, Callable[[Catalog], Catalog]] = {}
        # How many looks in a row found a transaction without a coordinator.
        self._missed: dict[int, int] = {}
        rpc.handle(COMMIT_METHOD, CommitRequest, self._serve_commit)
        rpc.handle(RUNNING_METHOD, RunningRequest, self._serve_running)
        self._watching = runtime.spawn(self._watch(), "staged definitions")

    def use(self, group: RaftGroup) -> None:
        """The catalog goes on as this group."""
        self._group = group

    def close(self) -> None:
        """Stops the background work."""
        self._watching.cancel()

    # --- For this node's sessions ------------------------------------------------------------

    def begin(self, transaction_id: int, view: Callable[[Catalog], Catalog]) -> None:
        """A session here runs the transaction, until `end`; `view` has what it defines."""
        self._running[transaction_id] = view

    def seen_by(self, transaction_id: int, catalog: Catalog) -> Catalog:
        """The catalog as a transaction sees it that runs here; of any other, as it is."""
        view = self._running.get(transaction_id)
        return catalog if view is None else view(catalog)

    def end(self, transaction_id: int) -> None:
        """It runs no more; what is left staged of it may be dropped."""
        self._running.pop(transaction_id, None)

    async def commit(
        self,
        transaction_id: int,
        patch: Patch,
        participants: Sequence[TabletId],
        *,
        staged: bool,
    ) -> CommandResult:
        """Commits what was staged, if anything was, with the rows that the participants have
        prepared.

        Raises what kept it from that; StatementCompletionUnknown when nobody can tell.
        """
        assert staged or not participants, "nobody could ask how it ended"
        request = CommitRequest(transaction_id, patch, tuple(participants), staged)
        ends_s = self._runtime.monotonic() + COMMIT_DEADLINE_S
        lost: DqeError | None = None
        while True:
            try:
                return (await self._ask_leader(request)).unwrap()
            except (CannotConnectNow, StatementCompletionUnknown) as error:
                if error.outcome is not ErrorOutcome.DID_NOT_HAPPEN:
                    lost = error
                if self._runtime.monotonic() >= ends_s:
                    raise _unknown(lost) if lost is not None else error from error
            await self._runtime.sleep(RETRY_PAUSE_S)

    async def _ask_leader(self, request: CommitRequest) -> Outcome:
        if self._group.is_leader:
            return await self._commit_here(request)
        leader_id = self._group.leader_id
        if not leader_id:
            raise CannotConnectNow("the catalog has no leader now")
        try:
            reply = await self._rpc.call(
                self._address_of(NodeId(leader_id)),
                COMMIT_METHOD,
                request,
                Outcome,
                deadline_s=ATTEMPT_TIMEOUT_S,
            )
        except CannotConnectNow as error:
            raise StatementCompletionUnknown(error.message) from error  # it may have got there
        return reply.header

    async def outcome(
        self, transaction_id: int, deadline_s: float = OUTCOME_DEADLINE_S
    ) -> TransactionOutcome | None:
        """How a transaction ended whose home the catalog is, None while it runs."""
        await self._group.remote_read_index(deadline_s=deadline_s)
        state = self._machine.state
        if transaction_id in state.catalog.staged:
            return None
        return TransactionOutcome(state.decisions.get(transaction_id, 0))

    # --- Where it leads ----------------------------------------------------------------------

    async def _serve_commit(
        self, context: CallContext, request: CommitRequest, body: bytes | memoryview
    ) -> Outcome:
        # Once it is under way it is carried through, whether or not somebody waits for it.
        return await run_to_end(self._runtime, self._commit_here(request), "commit of definitions")

    async def _commit_here(self, request: CommitRequest) -> Outcome:
        async with self._turn:
            with self._oracle.shut():
                commit_ts = await self._oracle.draw()
                command = CommitDefinitions(
                    request.transaction_id,
                    request.patch,
                    commit_ts,
                    request.participants,
                    request.staged,
                )
                name = f"definitions-{request.transaction_id}"
                envelope = encode_envelope(Envelope(name, command, issued=commit_ts))
                return await self._logged(envelope)

    async def _logged(self, envelope: bytes) -> Outcome:
        """The entry's outcome, however long that takes while this node leads."""
        while True:
            try:
                result = await self._group.propose(envelope, deadline_s=ATTEMPT_TIMEOUT_S)
            except (CannotConnectNow, StatementCompletionUnknown):
                if not self._group.is_leader:
                    raise
                await self._runtime.sleep(RETRY_PAUSE_S)
                continue
            except DqeError as error:
                return outcome_of(error)
            assert isinstance(result, CommandResult)
            return Outcome(result=result)

    # --- Coordinators that are gone ----------------------------------------------------------

    async def _serve_running(
        self, context: CallContext, request: RunningRequest, body: bytes | memoryview
    ) -> RunningRequest:
        return RunningRequest(tuple(i for i in request.transaction_ids if i in self._running))

    async def _watch(self) -> None:
        while True:
            await self._runtime.sleep(WATCH_S)
            if not self._group.is_leader:
                self._missed = {}
                continue
            try:
                await self._look(self._machine.state.catalog)
            except DqeError as error:
                logger.info("what was staged is looked at later: %s", error)
            except Exception:  # the driver loop: without it what is staged would stay forever
                logger.exception("what was staged could not be looked at")

    async def _look(self, catalog: Catalog) -> None:
        for table_id in catalog.recuts:
            # Nobody prepares them in the catalog itself: a former version left it.
            command = AbortRecut(table_id)
            envelope = Envelope(f"left-behind-{table_id}-{catalog.version}", command)
            await self._group.propose(encode_envelope(envelope), deadline_s=ATTEMPT_TIMEOUT_S)
        gone = await self._without_coordinator(catalog)
        self._missed = {i: self._missed.get(i, 0) + 1 for i in gone}
        for transaction_id, looks in self._missed.items():
            if looks >= LOOKS:
                logger.warning("definitions of transaction %d are given up", transaction_id)
                given_up = AbortDefinitions(transaction_id)
                envelope = Envelope(f"give-up-{transaction_id}", given_up)
                await self._group.propose(encode_envelope(envelope), deadline_s=ATTEMPT_TIMEOUT_S)

    async def _without_coordinator(self, catalog: Catalog) -> list[int]:
        by_node: dict[NodeId, list[int]] = {}
        for transaction_id, staged in catalog.staged.items():
            by_node.setdefault(staged.node_id, []).append(transaction_id)
        found: list[int] = []
        for node_id, ids in by_node.items():
            running = await self._running_at(node_id, ids)
            found += [i for i in ids if running is not None and i not in running]
        return found

    async def _running_at(self, node_id: NodeId, ids: Sequence[int]) -> Sequence[int] | None:
        """Those that the node runs; None where it does not answer and may come back."""
        try:
            reply = await self._rpc.call(
                self._address_of(node_id),
                RUNNING_METHOD,
                RunningRequest(tuple(ids)),
                RunningRequest,
                deadline_s=WATCH_S,
            )
        except CannotConnectNow:
            return () if self._silent_s(node_id) > SILENT_S else None
        return reply.header.transaction_ids


def _unknown(lost: DqeError) -> StatementCompletionUnknown:
    return StatementCompletionUnknown(
        "it is not known whether the transaction was committed", detail=lost.message
    )
