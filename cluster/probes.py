"""Marks at rare paths, so that a sweep of simulations can show that it went there.

A simulation that never cut a torn tail has said nothing of cutting torn tails. Each rare path
has a name here, with the sentence that a report shows; code says `reached(Probe.X)` there. In
a running node that is one comparison; a simulation installs a counter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Probe(Enum):
    """A rare path; the value says what happened."""

    # The log.
    TORN_TAIL_CUT = "a torn tail of the log was cut"
    SEGMENT_REMOVED = "a segment of the log was removed"
    LOG_FAILED = "the log failed and ended its node"

    # Gossip.
    NODE_HELD_DOWN = "a node was held for down"
    SUSPECT_OBJECTED = "a suspect objected in time"

    # Replication.
    LEADER_DEPOSED = "a leader gave way"
    OUTCOME_UNKNOWN = "a proposal's fate was not known in time"
    LOG_COMPACTED = "a group's log was cut"
    RESTARTED_BEHIND_LOG = "a replica restarted behind its own log"
    SNAPSHOT_MADE = "a snapshot was made for another replica"
    SNAPSHOT_INSTALLED = "a snapshot was installed"
    SNAPSHOT_INSTALLED_LATE = "a snapshot was installed once there was room for it"
    LEASE_LOST = "the oracle took a number and had lost its lease"

    # Transactions over several tablets.
    LEADER_CHANGED_IN_TRANSACTION = "a transaction met another leader than it began with"
    LEADER_FOLLOWED_IN_TRANSACTION = "an open transaction came along to a tablet's new leader"
    OPTIMISTIC_VALIDATED = "an optimistic transaction locked at its end what it had changed"
    OPTIMISTIC_REFUSED = "an optimistic transaction found at its end that another came first"
    HOME_ASKED = "a participant in doubt asked the home"
    HOME_SAID_COMMITTED = "the home said: committed"
    HOME_SAID_ABORTED = "the home said: aborted"
    PARTICIPANTS_TOLD_AGAIN = "a home told its participants again"
    READ_WAITED = "a read waited for a transaction that might commit below it"
    FATE_TOLD = "a client was told what became of its transaction"

    # Stores.
    CHECKPOINT_IN_TRANSACTION = "a checkpoint was made with transactions under way"
    REPLAYED_UNRESOLVED = "an entry before the checkpoint was replayed for its transaction"
    STORE_REOPENED_BEHIND_CHECKPOINT = "a store reopened behind its last checkpoint"


_counter: Counter[Probe] | None = None


def reached(probe: Probe) -> None:
    """The path was taken."""
    if _counter is not None:
        _counter[probe] += 1


@contextmanager
def counting() -> Iterator[Counter[Probe]]:
    """Counts for the length of the block."""
    global _counter
    before, counter = _counter, Counter[Probe]()
    _counter = counter
    try:
        yield counter
    finally:
        _counter = before
