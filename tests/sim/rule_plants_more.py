"""More rules of transactions, each left out by a patch; see `rule_plants`.

Those that need a world of their own: somebody reads the future, rows are held as they are, gossip
is late, a tablet loses what it has acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from model_consensus import Replica
from model_nodes import ORACLE

from catalog.timestamp_client import TimestampClient
from cluster.raft.log import Entry, EntryKind
from executor import past
from executor.transaction_driver import Transaction
from executor.transaction_end import TransactionEnd
from storage.entries import Abort, Write, decode_entry
from storage.fragments import TIMESTAMP_COUNTER_BITS
from storage.participant import ABORTED, Outcome, Participant, ParticipantImage
from storage.tablet import Tablet
from storage.tablet_commits import TabletCommits
from storage.tablet_leader import TabletLeader
from storage.tablet_rows import TabletRows
from storage.tablet_validation import TabletValidation
from storage.tasks import run_to_end
from storage.versions import RecentVersions


def future_not_refused(patch: pytest.MonkeyPatch) -> None:
    """T4: what the oracle has not issued yet is read like the past."""

    async def readable(services: Any, timestamp: int) -> int:
        return timestamp

    patch.setattr(past, "_readable", readable)


def who_comes_late_gets_the_batch(patch: pytest.MonkeyPatch) -> None:
    """T2: who began to wait when a request was out already is answered by it, too."""
    original = TimestampClient._note

    def note(self: Any, number: int) -> None:
        original(self, number)
        late, self._gathering.snapshots = self._gathering.snapshots, []
        for waiter in late:
            if not waiter.done():
                waiter.set_result((number, 1))

    patch.setattr(TimestampClient, "_note", note)


def marked_forgotten_in_silence(patch: pytest.MonkeyPatch) -> None:
    """C1: what is marked is forgotten with its lease, what commits it being on its way."""
    patch.setattr(Participant, "lapse", Participant.abandon)


def versions_unseen_in_a_call(patch: pytest.MonkeyPatch) -> None:
    """I3: a statement over single rows does not look whether others have changed them."""
    patch.setattr(TabletRows, "_check_version", lambda self, *arguments: None)


def later_outcome_wins(patch: pytest.MonkeyPatch) -> None:
    """C4: an abort that comes to the home's log behind the decision is taken in."""
    home_always_aborts(patch)
    original = Participant.apply

    def apply(self: Participant, entry: Any, term: int, chunk: Any = None) -> Any:
        if isinstance(entry, Abort) and self.outcome(entry.transaction_id) is not None:
            self._decisions.pop(entry.transaction_id, None)
            self._remember(entry.transaction_id, ABORTED.commit_ts)
            return ABORTED, []
        return original(self, entry, term, chunk)

    patch.setattr(Participant, "apply", apply)


def home_always_aborts(patch: pytest.MonkeyPatch) -> None:
    """Allowed, since the first outcome wins: a home that is asked logs an abort in any case, and
    says what has become of it."""

    async def status(self: Any, transaction_id: int) -> object:
        await self._lead()
        abort = self._propose(Abort(transaction_id, decided=False))
        found = await run_to_end(self._runtime, abort, "status")
        return found if isinstance(found, Outcome) else None

    patch.setattr(TabletCommits, "status", status)


def home_that_may_lose_its_decision(patch: pytest.MonkeyPatch) -> None:
    """C10: the first tablet that was written decides, whatever it promises to keep."""
    patch.setattr(Transaction, "home", property(lambda self: next(iter(self._written), None)))


def ranges_as_they_will_be(patch: pytest.MonkeyPatch) -> None:
    """I4: a range is looked at as it is at C, not at what has left it since the snapshot."""
    original = TabletValidation._has_been

    def has_been(self: Any, read: Any, key: Any, timestamps: Sequence[int]) -> bool:
        return original(self, read, key, timestamps[-1:])

    patch.setattr(TabletValidation, "_has_been", has_been)


def ranges_of_another_term(patch: pytest.MonkeyPatch) -> None:
    """I4: what a leader does not remember of a range is no conflict."""
    original = RecentVersions.changed_after

    def changed_after(self: Any, fragment_id: int, keys: Any, base: int) -> Any:
        return original(self, fragment_id, keys, base) or []

    def keys_after(self: Any, fragment_id: int, base: int, most: int) -> Any:
        rows = self._rows.items()
        return [key for (f, key), (at, _) in rows if f == fragment_id and at > base]

    patch.setattr(RecentVersions, "changed_after", changed_after)
    patch.setattr(RecentVersions, "keys_after", keys_after)


def held_rows_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """I5: nobody asks, once the timestamp is drawn, whether what was found is locked still."""
    original = TransactionEnd.commit

    async def commit(self: TransactionEnd, *arguments: Any, **named: Any) -> int:
        return await original(self, *arguments, **{**named, "held": ()})

    patch.setattr(TransactionEnd, "commit", commit)


def snapshot_without_decisions(patch: pytest.MonkeyPatch) -> None:
    """S2: a snapshot has no decisions that some participant has not confirmed."""
    original = Participant.image

    def image(self: Participant) -> ParticipantImage:
        return msgspec.structs.replace(original(self), decisions=())

    patch.setattr(Participant, "image", image)


def judged_where_it_is_applied(patch: pytest.MonkeyPatch) -> None:
    """L2: a change is in time or too late by the clock of whoever applies it."""
    original = Tablet.apply

    async def apply(self: Any, entries: Sequence[Entry]) -> list[object]:
        now_ms = self._runtime.wall_ms()
        return await original(self, [_unless_late(entry, now_ms) for entry in entries])

    patch.setattr(Tablet, "apply", apply)


def _unless_late(entry: Entry, now_ms: int) -> Entry:
    decoded = decode_entry(entry.data)[0] if entry.kind is EntryKind.COMMAND else None
    if not isinstance(decoded, Write) or decoded.commit_ts >> TIMESTAMP_COUNTER_BITS > now_ms - 400:
        return entry
    return Entry(entry.term, entry.index, EntryKind.NOOP, b"")


def leader_by_hearsay(patch: pytest.MonkeyPatch) -> None:
    """G4: whom gossip takes for the leader serves as one, whatever the terms say."""
    lease_valid, is_leader = Replica.lease_valid, TabletLeader.is_leader

    def said(replica: Replica) -> bool:
        return replica.consensus.said_to_lead == replica.node_id

    def valid(self: Replica) -> bool:
        known = self.consensus.tablet_id == ORACLE
        return lease_valid(self) if known else said(self)

    def leads(self: Any) -> bool:
        twin = self._group is None
        return bool(is_leader.__get__(self)) or (not twin and said(self._group))

    patch.setattr(Replica, "lease_valid", valid)
    patch.setattr(TabletLeader, "is_leader", property(leads))
