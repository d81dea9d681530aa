"""The worlds of the simulation of transactions over tablets: which faults, how bad a network.

Each world has one kind of trouble in plenty, so that what goes wrong seldom does so often there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from catalog import timestamp_client
from dqe.simulation.dependencies import Level
from executor import transaction_tokens
from storage import doubts, drafts, participant, tablet_changes

LISTS = 6

FAULTS = ("move", "depose", "depose oracle", "kill", "cut", "pause", "kill at a step")


@dataclass(frozen=True, slots=True)
class World:
    """What a seed meets."""

    faults: tuple[str, ...] = FAULTS
    fault_every_s: float = 0.3
    clients: int = 5
    tablets: int = 3
    replicas: int = 2
    nodes: int = 3
    seconds: float = 4.0
    loss: float = 0.01
    lists: int = LISTS
    levels: tuple[Level, ...] = tuple(Level)
    # Of a client's transactions: those that only read, in the past too.
    readers: float = 0.4
    # Changes beyond this are logged before their transaction ends (rule L6).
    chunk_bytes: int = 4 << 20
    in_doubt_s: float = 0.4
    three_phase: float = 0.2
    optimistic: float = 0.2
    # A message takes up to so long; replicas that do not lead are so far behind.
    network_s: float = 0.003
    lag_s: float = 0.002
    late: float = 0.0
    tick_s: float = 1.0
    close_every_s: float = 0.2
    # The past is read up to so long ago.
    past_ms: int = 400
    # Of the clients: who does not wait for the end of a commit.
    impatient: float = 0.1
    # The future is asked for, up to so far ahead.
    ahead_ms: int = 0
    # Of a transaction's reads: those whose row is to stay as it is until the commit (rule I5).
    guards: float = 0.0
    # Of a SERIALIZABLE transaction's reads: those by ranges of values, not of whole fragments.
    ranges: float = 0.0
    # Gossip says who leads, and is so late; 0 for no gossip.
    hearsay_s: float = 0.0
    # So many tablets, the first ones, may lose what they acknowledged (rules C10 and G5).
    asynchronous: int = 0
    # Of a transaction's changes: those that are one call to the row's leader.
    in_a_call: float = 0.0
    # Of the replicas on nodes that start: those that begin with a snapshot, not with the log.
    snapshots: float = 0.0
    # How many requests for timestamps a node has out at once.
    asked_at_once: int = timestamp_client.MAX_IN_FLIGHT
    # How long outcomes are remembered (rules C6 and C8).
    remembered_ms: int = participant.OUTCOME_RETENTION_MS
    # How long a transaction lives without a word, and what a log has not committed is waited for.
    lease_s: float = participant.LEASE_S
    log_deadline_s: float = 2.0

    @property
    def forgets(self) -> bool:
        """Whether outcomes are forgotten within a run."""
        return self.remembered_ms < 1000 * self.seconds

    @contextmanager
    def bounds(self) -> Iterator[None]:
        """Sets the product's bounds small, for the length of the block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(doubts, "IN_DOUBT_S", self.in_doubt_s)
            patch.setattr(drafts, "CHUNK_BYTES", self.chunk_bytes)
            patch.setattr(tablet_changes, "CHUNK_BYTES", self.chunk_bytes)
            patch.setattr(timestamp_client, "MAX_IN_FLIGHT", self.asked_at_once)
            patch.setattr(participant, "LEASE_S", self.lease_s)
            patch.setattr(participant, "OUTCOME_RETENTION_MS", self.remembered_ms)
            patch.setattr(transaction_tokens, "OUTCOME_RETENTION_MS", self.remembered_ms)
            yield


WORLDS = {
    "all": World(),
    "quiet": World(faults=(), loss=0.0, seconds=2.0),
    "moving": World(faults=("move", "depose"), fault_every_s=0.15, loss=0.0),
    "oracles": World(faults=("depose oracle",), fault_every_s=0.2, loss=0.0, replicas=1),
    "dying": World(faults=("kill at a step", "kill"), fault_every_s=0.4),
    "followers": World(faults=("move",), replicas=3, readers=0.7, loss=0.0),
    "slow": World(faults=(), clients=10, network_s=0.04, loss=0.0, lists=4, tablets=2),
    "late": World(faults=(), clients=10, late=0.1, loss=0.0, lists=4),
    "late and moving": World(
        faults=("move",),
        fault_every_s=0.1,
        clients=8,
        late=0.1,
        loss=0.0,
        lists=3,
        tick_s=0.03,
        in_doubt_s=0.02,
    ),
    "late and closed": World(
        faults=(),
        clients=8,
        late=0.1,
        replicas=3,
        readers=0.7,
        loss=0.0,
        close_every_s=0.02,
        past_ms=60,
    ),
    "late and serializable": World(
        faults=(), clients=10, late=0.3, loss=0.0, lists=3, levels=(Level.SERIALIZABLE,)
    ),
    "slow followers": World(
        faults=("move",), clients=8, network_s=0.04, lag_s=0.15, replicas=3, readers=0.7, loss=0.0
    ),
    "in doubt": World(
        faults=("move", "depose", "kill at a step"),
        fault_every_s=0.15,
        clients=8,
        network_s=0.03,
        in_doubt_s=0.03,
        tick_s=0.03,
        lists=4,
        three_phase=0.5,
        impatient=0.3,
    ),
    "crowded": World(faults=(), lists=3, clients=8, loss=0.0, seconds=2.0, readers=0.3),
    "chunks": World(chunk_bytes=20, lists=3, faults=("depose", "kill at a step")),
    "pruned": World(
        faults=("prune",), fault_every_s=0.1, readers=0.6, lists=3, loss=0.0, seconds=2.0
    ),
    "serializable": World(
        faults=(), lists=4, clients=8, loss=0.0, seconds=2.0, levels=(Level.SERIALIZABLE,)
    ),
    "ranges": World(
        faults=("move",),
        fault_every_s=1.0,
        clients=12,
        network_s=0.01,
        loss=0.0,
        late=0.1,
        levels=(Level.SERIALIZABLE,),
        ranges=0.9,
        readers=0.1,
    ),
    "ahead": World(faults=(), clients=8, loss=0.0, seconds=2.0, ahead_ms=30, lists=3),
    "guarded": World(
        faults=("move",),
        fault_every_s=0.05,
        clients=8,
        late=0.2,
        lists=4,
        loss=0.0,
        guards=0.5,
        optimistic=0.0,
    ),
    "hearsay": World(
        faults=("move", "depose"), fault_every_s=0.15, loss=0.0, hearsay_s=0.5, seconds=2.0
    ),
    "asynchronous": World(
        faults=("lose a tail", "lose a decision", "lose a decision"),
        fault_every_s=0.15,
        clients=8,
        replicas=1,
        network_s=0.02,
        late=0.2,
        loss=0.0,
        in_doubt_s=0.03,
        tick_s=0.03,
        readers=0.2,
        asynchronous=1,
    ),
    "batches": World(
        faults=("depose oracle",),
        fault_every_s=0.1,
        clients=16,
        loss=0.0,
        replicas=1,
        network_s=0.01,
        late=0.05,
        asked_at_once=1,
    ),
    "stalled": World(
        faults=("stall", "move"),
        fault_every_s=0.3,
        clients=8,
        loss=0.0,
        lists=4,
        tick_s=0.1,
        readers=0.6,
        lease_s=0.4,
        log_deadline_s=0.3,
    ),
    "in a call": World(
        faults=("move", "depose", "kill at a step"),
        fault_every_s=0.15,
        clients=8,
        network_s=0.02,
        loss=0.0,
        lists=4,
        optimistic=0.0,
        in_a_call=0.7,
    ),
    "forgetful": World(
        faults=("kill at a step", "kill"),
        fault_every_s=0.1,
        clients=14,
        network_s=0.05,
        loss=0.0,
        in_doubt_s=0.3,
        tick_s=0.05,
        readers=0.1,
        impatient=0.3,
        snapshots=0.9,
        remembered_ms=200,
    ),
}
