"""The worlds of the simulation of transactions over tablets: which faults, how bad a network.

Each world has one kind of trouble in plenty, so that what goes wrong seldom does so often there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from dqe.simulation.dependencies import Level
from storage import doubts, drafts, tablet_changes

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

    @contextmanager
    def bounds(self) -> Iterator[None]:
        """Sets the product's bounds small, for the length of the block."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(doubts, "IN_DOUBT_S", self.in_doubt_s)
            patch.setattr(drafts, "CHUNK_BYTES", self.chunk_bytes)
            patch.setattr(tablet_changes, "CHUNK_BYTES", self.chunk_bytes)
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
}
