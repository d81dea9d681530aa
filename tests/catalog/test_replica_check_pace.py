"""How often a leader compares replicas by itself, and how little of its time that takes."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from catalog.model import ColocationId, NodeId, Tablet, TabletId
from catalog.replica_checks import AGAIN_S, PACE_S, REST, ReplicaChecker
from catalog.replica_results import ReplicaResult
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime

TABLETS = 40


class TimedChecker(ReplicaChecker):
    """Notes when it looks at which tablet, which takes some time."""

    def __init__(self, took_s: float, tablets: list[Tablet]) -> None:
        self.runtime = SimulatedRuntime(5)
        by_id = {tablet.id: tablet for tablet in tablets}
        catalog: Any = SimpleNamespace(current=SimpleNamespace(tablets=by_id))
        groups: Any = SimpleNamespace(group=lambda _: SimpleNamespace(is_leader=True))
        rpc: Any = SimpleNamespace(handle=lambda *_: None)
        storage: Any = SimpleNamespace()
        super().__init__(self.runtime, rpc, storage, catalog, groups, NodeId(1))
        self.took_s = took_s
        self.looked: list[tuple[float, TabletId]] = []

    async def check(self, tablet_id: TabletId) -> tuple[ReplicaResult, ...]:
        self.looked.append((self.runtime.monotonic(), tablet_id))
        await asyncio.sleep(self.took_s)
        return ()


def looked_at(took_s: float, hours: float, count: int = TABLETS) -> list[tuple[float, TabletId]]:
    """When each tablet was looked at, in seconds from the start."""

    async def main() -> list[tuple[float, TabletId]]:
        nodes = (NodeId(1), NodeId(2))
        tablets = [Tablet(TabletId(n), ColocationId(1), nodes, 2) for n in range(count)]
        checker = TimedChecker(took_s, tablets)
        began_s = checker.runtime.monotonic()
        checker.start()
        await asyncio.sleep(hours * 3600)
        checker.close()
        return [(at_s - began_s, tablet_id) for at_s, tablet_id in checker.looked]

    return run_simulation(main())


def test_each_tablet_has_its_turn_about_every_hour() -> None:
    looked = looked_at(0.05, hours=4)
    for number in range(TABLETS):
        times = [at_s for at_s, tablet_id in looked if tablet_id == number]
        assert times[0] <= AGAIN_S + TABLETS * PACE_S
        gaps = [after - before for before, after in pairwise(times)]
        assert all(AGAIN_S <= gap <= AGAIN_S + TABLETS * PACE_S for gap in gaps)
        assert len(gaps) >= 2


def test_what_was_just_loaded_is_not_read_at_once() -> None:
    first = [at_s for at_s, _ in looked_at(0.05, hours=1)]
    assert len([at_s for at_s in first if at_s < AGAIN_S / 4]) < TABLETS / 2


def test_large_tablets_come_round_more_rarely() -> None:
    took_s, hours = 20.0, 24
    looked = looked_at(took_s, hours)
    assert len(looked) * took_s <= hours * 3600 / REST
    assert {tablet_id for _, tablet_id in looked} == set(range(TABLETS))
