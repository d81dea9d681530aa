"""What a replica knows of the transactions that have no outcome yet, for people to look at.

A leader knows them all, with their locks. Any replica knows from its log which are prepared, so
those of a tablet that has no leader are told, too; where there is one, its word alone counts:
others hear of the end a little later.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from storage.fragments import FragmentId, TabletId, Timestamp, TransactionId
from storage.locks import LockRequest, LockTable, Resource
from storage.participant import Participant, Phase

# Of one tablet's locks no more than these are told.
LOCKS_TOLD = 10_000


class TransactionFact(msgspec.Struct, frozen=True, array_like=True):
    """One without outcome at a tablet; `led` says that its leader tells. `home_tablet` counts for
    one that is prepared, `precommit_ts` in three-phase commit."""

    transaction_id: TransactionId
    tablet_id: TabletId
    led: bool
    phase: str
    home_tablet: TabletId
    precommit_ts: Timestamp = 0
    locks: int = 0


class DecisionFact(msgspec.Struct, frozen=True, array_like=True):
    """A home has decided to commit, and these participants have not confirmed that they have."""

    transaction_id: TransactionId
    tablet_id: TabletId
    unconfirmed: tuple[TabletId, ...]


class LockFact(msgspec.Struct, frozen=True, array_like=True):
    """A lock held or waited for; without `fragment_id` (0) the whole tablet's. `key` is as it is
    compared, a unique constraint's name in front of its values."""

    transaction_id: TransactionId
    tablet_id: TabletId
    fragment_id: FragmentId
    key: str
    mode: str
    granted: bool


class TransactionFacts(msgspec.Struct, frozen=True):
    """Of one replica, one node or all nodes; `led` are the tablets whose leaders have told."""

    transactions: tuple[TransactionFact, ...] = ()
    decisions: tuple[DecisionFact, ...] = ()
    locks: tuple[LockFact, ...] = ()
    led: tuple[TabletId, ...] = ()


NO_FACTS = TransactionFacts()


def facts_of(tablet_id: TabletId, participant: Participant, *, leads: bool) -> TransactionFacts:
    """What one replica tells; of one that does not lead, what its log says."""
    transactions = tuple(
        TransactionFact(
            t.id,
            tablet_id,
            leads,
            t.phase.value,
            t.home_tablet,
            t.precommit_ts,
            participant.locks.count_of(t.id),
        )
        for t in participant.transactions.values()
        if leads or t.phase is Phase.PREPARED
    )
    if not leads:
        return TransactionFacts(transactions)
    decisions = tuple(
        DecisionFact(transaction_id, tablet_id, tablets)
        for transaction_id, (_, tablets) in participant.unconfirmed().items()
    )
    locks = tuple(_locks(tablet_id, participant.locks))
    return TransactionFacts(transactions, decisions, locks, (tablet_id,))


def joined(every: list[TransactionFacts]) -> TransactionFacts:
    """All of them in one; of a tablet whose leader has told, only what the leader says."""
    led = dict.fromkeys(tablet_id for facts in every for tablet_id in facts.led)
    transactions: dict[tuple[TransactionId, TabletId], TransactionFact] = {}
    for facts in every:
        for fact in facts.transactions:
            if fact.led or fact.tablet_id not in led:
                transactions[fact.transaction_id, fact.tablet_id] = fact
    return TransactionFacts(
        tuple(transactions[key] for key in sorted(transactions)),
        tuple(fact for facts in every for fact in facts.decisions),
        tuple(fact for facts in every for fact in facts.locks),
        tuple(led),
    )


def _locks(tablet_id: TabletId, locks: LockTable) -> Iterator[LockFact]:
    for count, (transaction_id, resource, mode) in enumerate(locks.held()):
        if count == LOCKS_TOLD:
            break
        yield LockFact(transaction_id, tablet_id, *_named(resource), mode.value, granted=True)
    for request in locks.waiting()[:LOCKS_TOLD]:
        yield _wish(tablet_id, request)


def _wish(tablet_id: TabletId, request: LockRequest) -> LockFact:
    named = _named(request.resource)
    return LockFact(request.transaction_id, tablet_id, *named, request.mode.value, granted=False)


def _named(resource: Resource) -> tuple[FragmentId, str]:
    if not resource:
        return 0, ""
    fragment_id, key = resource
    return fragment_id, ", ".join(map(str, key))
