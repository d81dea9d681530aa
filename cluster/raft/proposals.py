"""What became of each proposal: the promises `RaftGroup.propose` makes about failure.

A proposal is known by the index and term its entry was given. When an entry is applied at
that index, either it is that entry, and the proposer gets its result, or it is another, and
the proposer's can never be committed (it *did not happen*). Until then nothing is known: a
leader that has lost its office may have got the entry to a majority all the same. Whoever waits
is told so at his deadline; the host's timers look for that, since a timer for each proposal would
cost more than noting it does.

What is open is bounded by its bytes; further proposals wait for room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from cluster.errors import CannotConnectNow, DqeError, StatementCompletionUnknown
from cluster.probes import Probe, reached
from cluster.raft.errors import not_leader
from cluster.raft.log import Entry, GroupId, NodeId
from cluster.raft.log_view import ENTRY_OVERHEAD_BYTES
from cluster.raft.settings import MIB

# Of one group's proposals whose outcome is open; further ones wait.
MAX_OPEN_BYTES = 64 * MIB

NEVER_S = float("inf")


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """One caller waiting for one entry."""

    term: int
    size_bytes: int
    expires_s: float
    future: asyncio.Future[object]


class Proposals:
    """The proposals of one replica whose fate is open, by index."""

    def __init__(self, group_id: GroupId, node_id: NodeId) -> None:
        self._group_id = group_id
        self._node_id = node_id
        self._open: dict[int, list[Proposal]] = {}
        self._room = asyncio.Event()
        self.open_bytes = 0
        self.due_s = NEVER_S  # a time not after the first deadline of those that are open

    @property
    def has_room(self) -> bool:
        """Whether another one may be added."""
        return self.open_bytes < MAX_OPEN_BYTES

    async def wait_for_room(self, deadline_s: float) -> None:
        """Return once there is room; CannotConnectNow where there is none in time."""
        try:
            async with asyncio.timeout(deadline_s):
                while not self.has_room:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise CannotConnectNow(
                f"tablet {self._group_id} has more changes under way than it can take"
            ) from None

    def add(
        self, index: int, term: int, size_bytes: int, expires_s: float
    ) -> asyncio.Future[object]:
        """A future for the outcome of the entry (index, term), unknown after `expires_s`."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        proposal = Proposal(term, size_bytes + ENTRY_OVERHEAD_BYTES, expires_s, future)
        self._open.setdefault(index, []).append(proposal)
        self.open_bytes += proposal.size_bytes
        if expires_s < self.due_s:
            self.due_s = expires_s
        return future

    def expire(self, now_s: float) -> None:
        """Tell those whose time is up that the outcome is not known. It stays open all the same,
        and takes its room: the entry may yet be committed."""
        if now_s < self.due_s:
            return
        self.due_s = NEVER_S
        for proposal in [known for at_index in self._open.values() for known in at_index]:
            if proposal.future.done():
                continue
            if proposal.expires_s > now_s:
                self.due_s = min(self.due_s, proposal.expires_s)
            else:
                error = unknown_outcome(self._group_id, "no majority confirmed it in time")
                proposal.future.set_exception(error)

    def applied(self, entries: Sequence[Entry], results: Sequence[object]) -> None:
        """These entries have been applied, with these results."""
        if not self._open:
            return
        for entry, result in zip(entries, results, strict=True):
            for proposal in self._take(entry.index):
                if proposal.future.done():
                    continue  # its caller has gone
                if proposal.term != entry.term:
                    proposal.future.set_exception(self._did_not_happen())
                elif isinstance(result, DqeError):
                    proposal.future.set_exception(result)
                else:
                    proposal.future.set_result(result)
        self._gone()

    def skipped_to(self, index: int) -> None:
        """A snapshot took the place of all entries up to there: their results are lost."""
        for known in [known for known in self._open if known <= index]:
            self._fail(known, "another replica's snapshot covers it")
        self._gone()

    def fail_all(self, reason: str) -> None:
        """This replica will not learn of any outcome any more."""
        for index in list(self._open):
            self._fail(index, reason)
        self._gone()

    def _gone(self) -> None:
        """Some are open no more."""
        if not self._open:
            self.due_s = NEVER_S
        if self.has_room:
            self._room.set()

    def _fail(self, index: int, reason: str) -> None:
        for proposal in self._take(index):
            if not proposal.future.done():
                proposal.future.set_exception(unknown_outcome(self._group_id, reason))

    def _take(self, index: int) -> list[Proposal]:
        taken = self._open.pop(index, [])
        for proposal in taken:
            self.open_bytes -= proposal.size_bytes
        return taken

    def _did_not_happen(self) -> DqeError:
        return not_leader(self._group_id, self._node_id, None)


def unknown_outcome(group_id: GroupId, reason: str) -> StatementCompletionUnknown:
    """The error for a proposal that may have been, or may yet be, committed."""
    reached(Probe.OUTCOME_UNKNOWN)
    return StatementCompletionUnknown(
        f"it is not known whether the change of tablet {group_id} was committed", detail=reason
    )
