"""What became of each proposal: the promises `RaftGroup.propose` makes about failure.

A proposal is known by the index and term its entry was given. When an entry is applied at
that index, either it is that entry, and the proposer gets its result, or it is another, and
the proposer's can never be committed (it *did not happen*). Until then nothing is known: a
leader that has lost its office may have got the entry to a majority all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from cluster.errors import DqeError, StatementCompletionUnknown
from cluster.probes import Probe, reached
from cluster.raft.errors import not_leader
from cluster.raft.log import Entry, GroupId, NodeId
from cluster.raft.log_view import ENTRY_OVERHEAD_BYTES


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """One caller waiting for one entry."""

    term: int
    size_bytes: int
    future: asyncio.Future[object]


class Proposals:
    """The proposals of one replica whose fate is open, by index."""

    def __init__(self, group_id: GroupId, node_id: NodeId) -> None:
        self._group_id = group_id
        self._node_id = node_id
        self._open: dict[int, list[Proposal]] = {}
        self.open_bytes = 0

    def add(self, index: int, term: int, size_bytes: int) -> asyncio.Future[object]:
        """A future for the outcome of the entry (index, term)."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        proposal = Proposal(term, size_bytes + ENTRY_OVERHEAD_BYTES, future)
        self._open.setdefault(index, []).append(proposal)
        self.open_bytes += proposal.size_bytes
        return future

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

    def skipped_to(self, index: int) -> None:
        """A snapshot took the place of all entries up to there: their results are lost."""
        for known in [known for known in self._open if known <= index]:
            self._fail(known, "another replica's snapshot covers it")

    def fail_all(self, reason: str) -> None:
        """This replica will not learn of any outcome any more."""
        for index in list(self._open):
            self._fail(index, reason)

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
