"""A replica that differs from the others is found, fenced and rebuilt, a leader too (rule G6).

In whole simulated clusters, and with the rule left out in two ways, each of which is seen.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from repair_story import Story, tell

from catalog.model import TabletId
from catalog.replica_checks import ReplicaChecker, _Round
from catalog.replica_verdicts import Verdict
from catalog.tablets import TabletManager
from dqe.simulation.checks import check_replicas
from dqe.simulation.errors import Violation
from dqe.simulation.machine import SimulatedMachine

CREATE = (
    "CREATE TABLE t (k bigint PRIMARY KEY, v text) PARTITION BY HASH (k) PARTITIONS 1 USING row"
    " WITH (replicas = 3)"
)
FILL = "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) g(i)"
READ = "SELECT count(*), sum(k) FROM t"
FILLED = [(50, 1275)]


def leader_of(story: Story, tablet_id: TabletId) -> SimulatedMachine:
    return next(
        machine
        for machine in story.cluster.machines
        if machine.is_serving and machine.parts.storage.tablets[tablet_id].is_leader
    )


async def lose_a_row(machine: SimulatedMachine, tablet_id: TabletId) -> None:
    """In the file, behind everybody's back."""
    tablet: Any = machine.parts.storage.tablets[tablet_id]
    applier = tablet._rows.applier
    assert machine.life is not None
    await machine.life.run_here(applier.flush())
    applier.store.settle()
    connection = applier.store._connection
    [(table,)] = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'f[0-9]*'"
        " ORDER BY length(name) LIMIT 1"
    ).fetchall()
    connection.execute(f'DELETE FROM "{table}" WHERE rowid = 17')
    assert connection.changes() == 1


async def all_equal(story: Story) -> None:
    """Replicas are compared, and rebuilt, until none differs."""
    for _ in range(20):
        wrong = await story.ask("SELECT node_id FROM dqe.replica_checks WHERE verdict <> 'equal'")
        if not wrong:
            return
        await asyncio.sleep(1.0)
    raise Violation(f"replicas stay wrong: {wrong}")


async def leader_differs(story: Story) -> None:
    """And is found; then everything is as it was."""
    await story.ask(CREATE)
    await story.ask(FILL)
    await story.until(story.is_whole, 60, "all replicas are there")
    [tablet_id] = story.catalog.tablets
    wrong = leader_of(story, tablet_id)
    await lose_a_row(wrong, tablet_id)
    await all_equal(story)
    await check_replicas(story.cluster)
    for machine in story.cluster.machines:
        found = (await story.client.ask(READ, machine)).rows
        if found != FILLED:
            raise Violation(f"{machine.name} has {found}")


@pytest.mark.slow
def test_a_leader_that_differs_is_rebuilt() -> None:
    tell(3, leader_differs)


def the_leader_is_right(patch: pytest.MonkeyPatch) -> None:
    """Those that differ from the leader are rebuilt, however many they are."""
    original = ReplicaChecker._compare

    async def compare(self: ReplicaChecker, tablet: Any) -> _Round:
        found = (await original(self, tablet)).judgements
        own = found[self._node_id].digest
        verdicts = {
            n: Verdict.EQUAL if j.digest == own else Verdict.DIFFERS for n, j in found.items()
        }
        return _Round({n: dataclasses.replace(j, verdict=verdicts[n]) for n, j in found.items()})

    patch.setattr(ReplicaChecker, "_compare", compare)


def nothing_is_rebuilt(patch: pytest.MonkeyPatch) -> None:
    """What is wrong is told, and left as it is."""
    patch.setattr(TabletManager, "rebuild", lambda self, tablet_id, reason: None)


@pytest.mark.long
@pytest.mark.parametrize("plant", [the_leader_is_right, nothing_is_rebuilt])
def test_without_the_rule_a_replica_stays_wrong(
    plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(Violation):
        tell(3, leader_differs)
