"""A snapshot never changes (promise 3): the same timestamp gives the same rows on every replica.

A story from a seed writes one table of three replicas, moves its leader, restarts nodes, cuts one
off, prunes, lets time pass, and reads all the while, at timestamps from anywhere in the story and
on any node. A plain model says what each timestamp must give. Only below a horizon that was set
may a read be refused, and only on a node that is cut off, above what it knows is closed, may it
not be answered.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from tablet_cluster import Cluster, StoreNode, hashed, run_cluster, write_one

from catalog.fragment_schemas import store_name
from catalog.model import Fragment, Table
from cluster.errors import CannotConnectNow, DqeError, Outcome, SnapshotTooOld
from storage.fragments import FragmentChange

pytestmark = pytest.mark.slow

KEYS = 5
STEPS = 70
Rows = list[tuple[int, str]]


@dataclass
class Model:
    """What was committed: the rows from each commit timestamp on."""

    states: list[tuple[int, dict[int, str]]] = field(default_factory=lambda: [(0, {})])
    horizon: int = 0

    def commit(self, timestamp: int, key: int, value: str | None) -> None:
        assert timestamp > self.states[-1][0]
        rows = dict(self.states[-1][1])
        rows.pop(key, None)
        if value is not None:
            rows[key] = value
        self.states.append((timestamp, rows))

    def rows_at(self, timestamp: int) -> Rows:
        found = next(rows for at, rows in reversed(self.states) if at <= timestamp)
        return sorted(found.items())


class Story:
    def __init__(self, cluster: Cluster, table: Table, fragment: Fragment, seed: int) -> None:
        self.cluster = cluster
        self.table = table
        self.fragment = fragment
        self.chance = random.Random(seed)
        self.model = Model()
        self.timestamps: list[int] = []
        self.cut: StoreNode | None = None
        self.writes = self.past_reads = self.refused = 0

    @property
    def nodes(self) -> list[StoreNode]:
        return self.cluster.nodes

    @property
    def connected(self) -> list[StoreNode]:
        return [node for node in self.nodes if node is not self.cut]

    async def leader(self) -> StoreNode:
        while True:
            for node in self.nodes:
                group = node.tablets.group(self.fragment.tablet_id)
                if group is not None and group.is_leader:
                    return node
            await self.nodes[0].runtime.sleep(0.05)

    async def run(self) -> None:
        actions = (
            (self.write, 6),
            (self.read, 10),
            (self.note_timestamp, 3),
            (self.pass_time, 3),
            (self.move_leader, 1),
            (self.restart, 1),
            (self.prune, 1),
            (self.cut_or_heal, 1),
        )
        await self.note_timestamp()
        for _ in range(STEPS):
            (action,) = self.chance.choices([a for a, _ in actions], [w for _, w in actions])
            await action()
        await self.heal()
        for node in self.nodes:
            for timestamp in self.timestamps:
                await self.read_at(node, timestamp)
        assert self.writes > 5
        assert self.past_reads > 30

    async def note_timestamp(self) -> None:
        snapshot, _ = await self.chance.choice(self.connected).catalog.timestamps.snapshot()
        self.timestamps.append(snapshot)

    async def write(self) -> None:
        key = self.chance.randrange(KEYS)
        value = None if self.chance.random() < 0.3 else f"v{self.writes}"
        names = [store_name(column.id) for column in self.table.columns]
        keys = pa.record_batch([pa.array([key], pa.int64())], names[:1])
        rows = pa.record_batch([pa.array([key], pa.int64()), pa.array([value])], names)
        change = FragmentChange(self.fragment.id, keys, None if value is None else rows)
        number = 1000 + len(self.timestamps) * 1000 + self.chance.randrange(10**6) * 10**6
        try:
            node = self.chance.choice(self.connected)
            timestamp = await write_one(node, self.fragment.tablet_id, change, number)
        except DqeError as error:
            if error.outcome is not Outcome.DID_NOT_HAPPEN:
                raise
            return
        self.writes += 1
        self.model.commit(timestamp, key, value)
        self.timestamps += [timestamp, timestamp - 1]

    async def read(self) -> None:
        node = self.chance.choice(self.nodes)
        await self.read_at(node, self.chance.choice(self.timestamps))

    async def read_at(self, node: StoreNode, timestamp: int) -> None:
        expected = self.model.rows_at(timestamp)
        try:
            found = await node.read(self.table, self.fragment, timestamp, deadline_s=2.0)
        except SnapshotTooOld:
            assert timestamp < self.model.horizon
            self.refused += 1
        except CannotConnectNow:
            assert node is self.cut
        else:
            assert found == expected, (node.name, timestamp)
            self.past_reads += 1

    async def pass_time(self) -> None:
        await self.nodes[0].runtime.sleep(self.chance.uniform(0.1, 3.0))

    async def move_leader(self) -> None:
        leader = await self.leader()
        others = [node for node in self.connected if node is not leader]
        group = leader.tablets.group(self.fragment.tablet_id)
        assert group is not None
        try:
            await group.transfer_leadership(self.chance.choice(others).id, deadline_s=3.0)
        except DqeError:
            return  # it leads on

    async def restart(self) -> None:
        await self.heal()
        place = self.chance.randrange(3)
        old = self.nodes[place]
        await old.stop()
        self.cluster.starts += 1
        new = StoreNode(old.name, old.directory, self.cluster.network, self.cluster.starts)
        self.nodes[place] = await new.start()
        await new.catalog.ready(30)
        while new.tablets.group(self.fragment.tablet_id) is None:
            await new.runtime.sleep(0.05)

    async def prune(self) -> None:
        leader = await self.leader()
        horizon = self.chance.choice(self.timestamps)
        self.model.horizon = max(self.model.horizon, horizon)
        try:
            await leader.storage.tablet(self.fragment.tablet_id).set_horizon(horizon)
        except DqeError:
            return
        for node in self.nodes:
            while await node.storage.tablet(self.fragment.tablet_id).prune(1):
                pass

    async def cut_or_heal(self) -> None:
        if self.cut is not None:
            await self.heal()
            return
        leader = await self.leader()
        # Not one that leads the tablet or the catalog: who may answer stays plain.
        free = [n for n in self.nodes if n is not leader and not n.catalog.group.is_leader]
        if free:
            self.cut = self.chance.choice(free)
            others = [node.name for node in self.nodes if node is not self.cut]
            self.cluster.network.partition([self.cut.name], others)

    async def heal(self) -> None:
        self.cluster.network.heal()
        self.cut = None
        await self.nodes[0].runtime.sleep(1.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_timestamp_gives_the_same_rows_everywhere_for_ever(tmp_path: Path, seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        nodes = await cluster.start(3)
        while len(nodes[0].catalog.group.configuration.voters) < 3:
            await nodes[0].runtime.sleep(0.1)
        table = await nodes[0].table("t", hashed(1))
        await Story(cluster, table, table.parts[0].fragments[0], seed).run()

    run_cluster(tmp_path, scenario)
