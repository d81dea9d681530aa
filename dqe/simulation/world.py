"""The world a seed draws: how bad the network is, which faults come, how small bounds are.

Each seed has a mixture of its own, so that rare paths get seeds in which they are common: one
has only partitions, another no loss at all but crashes every few seconds. Bounds of the
product that only large clusters or long runs would reach are drawn small.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType

from cluster.raft import retention, state_machine
from cluster.simulation.network import NetworkFaults
from storage import node
from storage.wal import WalSettings

FAULTS = (
    "crash",
    "crash in a sync",
    "power cut for all",
    "partition",
    "one-way cut",
    "cut links",
    "isolate",
    "isolate the oracle",
    "pause",
    "pause the oracle",
    "slow disk",
    "full disk",
    "clock step",
    "move a leader",
)


@dataclass(frozen=True, slots=True)
class World:
    """One seed's mixture. Chances are a frame's, times are seconds."""

    network: NetworkFaults
    faults: tuple[str, ...]
    fault_every_s: float
    log: WalSettings
    checkpoint_age_s: float
    compact_at_entries: int
    retained_entries: int
    clock_drift: float
    think_s: float
    # When replicas of a silent node are rebuilt elsewhere; None for the product's own time.
    dead_after: str | None = None
    # Until then the catalog's entries keep the log's segments.
    catalog_saved_every: int = state_machine.SAVED_EVERY_ENTRIES

    @classmethod
    def draw(cls, chance: random.Random) -> World:
        """A world of this seed: a quarter of the seeds live in one made for some trouble."""
        if chance.random() < 0.25:
            return WORLDS[chance.choice(DRAWN)]
        count = chance.choice((1, 2, 3, 5, len(FAULTS)))
        return cls(
            network=_draw_network(chance),
            faults=tuple(chance.sample(FAULTS, count)),
            fault_every_s=chance.choice((2.0, 5.0, 10.0)),
            log=WalSettings(
                segment_bytes=chance.choice((8, 32, 256)) << 10,
                inline_sync_s=0.0,
                idle_s=0.1,
            ),
            checkpoint_age_s=chance.choice((1.0, 5.0, 20.0)),
            compact_at_entries=chance.choice((4, 32, 256)),
            retained_entries=chance.choice((16, 200, 65_536)),
            clock_drift=chance.choice((0.0, 0.02)),
            think_s=chance.choice((0.2, 0.5, 1.5)),
        )

    def calm(self) -> World:
        """The same without faults."""
        return replace(self, network=NetworkFaults(), faults=())

    @contextmanager
    def bounds(self) -> Iterator[None]:
        """Sets the product's bounds as this world has them, for the length of the block."""
        values: list[tuple[ModuleType, str, float]] = [
            (node, "CHECKPOINT_AGE_S", self.checkpoint_age_s),
            (retention, "COMPACT_AT_ENTRIES", self.compact_at_entries),
            (retention, "MAX_RETAINED_ENTRIES", self.retained_entries),
            (state_machine, "SAVED_EVERY_ENTRIES", self.catalog_saved_every),
        ]
        before = [(module, name, getattr(module, name)) for module, name, _ in values]
        try:
            for module, name, value in values:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)


_BUSY = World(
    network=NetworkFaults(),
    faults=(),
    fault_every_s=2.0,
    log=WalSettings(segment_bytes=32 << 10, inline_sync_s=0.0, idle_s=0.1),
    checkpoint_age_s=1.0,
    compact_at_entries=4,
    retained_entries=16,
    clock_drift=0.0,
    think_s=0.3,
)

# Worlds made for one kind of trouble, with short logs and busy clients.
WORLDS = {
    # What was acknowledged must lie on disks, not in memories.
    "power cuts": replace(_BUSY, faults=("power cut for all",), fault_every_s=3.0),
    # Logs end in the middle of a record.
    "torn tails": replace(_BUSY, faults=("crash in a sync",), fault_every_s=1.5),
    # Leaders are deposed without knowing it.
    "cut off": replace(
        _BUSY, faults=("cut links", "cut links", "isolate the oracle"), fault_every_s=5.0
    ),
    # Replicas come back behind the beginning of the logs of the others.
    "left behind": replace(_BUSY, faults=("crash", "isolate"), fault_every_s=4.0),
    # Snapshots meet disks that have no room for them, and crashes while they are taken in.
    "full disks": replace(
        _BUSY,
        log=WalSettings(segment_bytes=8 << 10, inline_sync_s=0.0, idle_s=0.1),
        faults=("full disk", "isolate", "slow disk", "crash"),
    ),
    # Segments go as soon as they are full, and replicas crash with half of a snapshot taken in.
    "half taken in": replace(
        _BUSY,
        log=WalSettings(segment_bytes=4 << 10, inline_sync_s=0.0, idle_s=0.1),
        faults=("isolate", "slow disk", "slow disk", "crash", "crash"),
        fault_every_s=0.7,
        catalog_saved_every=4,
    ),
    # Machines come back with nothing, as new nodes, while leaders move; for five of them.
    "wiped": replace(
        _BUSY, faults=("wipe", "move a leader", "crash"), fault_every_s=2.0, dead_after="10s"
    ),
}
# Those that a seed may draw, whatever it runs.
DRAWN = [name for name in WORLDS if name not in ("half taken in", "wiped")]


def name_of(world: World) -> str | None:
    """What `WORLDS` calls it; None for one that a seed has drawn."""
    return next((name for name, named in WORLDS.items() if named == world), None)


def _draw_network(chance: random.Random) -> NetworkFaults:
    return NetworkFaults(
        min_delay_s=0.0002,
        max_delay_s=chance.choice((0.001, 0.005, 0.05)),
        loss=chance.choice((0.0, 0.0, 0.01, 0.1)),
        duplication=chance.choice((0.0, 0.02, 0.1)),
        reordering=chance.choice((0.0, 0.02, 0.1)),
        reordering_s=0.3,
        reset=chance.choice((0.0, 0.0, 0.0001, 0.001)),
    )
