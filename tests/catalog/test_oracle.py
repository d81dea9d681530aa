"""The oracle over failovers: numbers rise whatever the clocks and the log do (T1, T2, T4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from catalog.codec import decode_envelope
from catalog.oracle import (
    CEILING_AHEAD_MS,
    TimestampOracle,
    milliseconds_of,
    timestamp_at,
)
from catalog.oracle_service import OracleService
from catalog.state import CatalogStateMachine
from catalog.timestamp_client import TakeTimestamps, TimestampClient, TimestampsTaken
from cluster.errors import CannotConnectNow, ProgramLimitExceeded
from cluster.rpc import RpcNode
from cluster.runtime import ProductionRuntime
from cluster.simulation.loop import run_simulation
from cluster.simulation.network import SimulatedNetwork
from cluster.simulation.runtime import SimulatedRuntime

NODES = 3


class OracleOverFailovers(RuleBasedStateMachine):
    """Three nodes with clocks of their own over one logged ceiling.

    Only the elected node's ceilings reach the log. A deposed node goes on taking numbers, but
    its lease check fails, so they are not answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.oracles = [TimestampOracle() for _ in range(NODES)]
        self.clocks_ms = [1_000_000] * NODES
        self.leader = 0
        self.logged = 0
        self.proposed: dict[int, int] = {}
        self.answers: list[int] = []
        self.oracles[0].start(0)

    @rule(node=st.integers(0, NODES - 1), ms=st.integers(-5000, 5000))
    def move_clock(self, node: int, ms: int) -> None:
        self.clocks_ms[node] = max(0, self.clocks_ms[node] + ms)

    @rule(node=st.integers(0, NODES - 1))
    def elect(self, node: int) -> None:
        self.leader = node
        self.oracles[node].stop()
        self.proposed.pop(node, None)
        self.oracles[node].start(self.logged)

    @rule(node=st.integers(0, NODES - 1))
    def restart(self, node: int) -> None:
        self.oracles[node] = TimestampOracle()
        self.proposed.pop(node, None)
        if node == self.leader:
            self.oracles[node].start(self.logged)

    @rule(node=st.integers(0, NODES - 1))
    def propose_ceiling(self, node: int) -> None:
        wanted = self.oracles[node].wanted_ceiling(self.clocks_ms[node])
        if wanted is not None:
            self.proposed[node] = wanted

    @precondition(lambda self: self.leader in self.proposed)
    @rule(answer_arrives=st.booleans())
    def log_ceiling(self, answer_arrives: bool) -> None:
        ceiling = self.proposed.pop(self.leader)
        self.logged = max(self.logged, ceiling)
        if answer_arrives:
            self.oracles[self.leader].ceiling_logged(ceiling)

    @rule(node=st.integers(0, NODES - 1), count=st.integers(1, 300_000))
    def take(self, node: int, count: int) -> None:
        first = self.oracles[node].take(min(count, 100_000), self.clocks_ms[node])
        if first is not None and node == self.leader:
            self.answers += [first, first + min(count, 100_000) - 1]

    @invariant()
    def numbers_rise(self) -> None:
        recent = self.answers[-4:]
        assert recent == sorted(recent)
        assert len(recent) < 4 or recent[1] < recent[2]

    @invariant()
    def nothing_above_the_logged_ceiling(self) -> None:
        assert not self.answers or self.answers[-1] <= self.logged


TestOracleOverFailovers = OracleOverFailovers.TestCase
TestOracleOverFailovers.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_number_tells_its_millisecond() -> None:
    oracle = TimestampOracle()
    oracle.start(0)
    ceiling = oracle.wanted_ceiling(5_000)
    assert ceiling == timestamp_at(5_000 + CEILING_AHEAD_MS)
    assert oracle.take(1, 5_000) is None
    oracle.ceiling_logged(ceiling)
    first = oracle.take(2, 5_000)
    assert first is not None
    assert milliseconds_of(first) == 5_000
    assert oracle.take(1, 4_000) == first + 2


def test_ceiling_is_raised_before_it_is_reached() -> None:
    oracle = TimestampOracle()
    oracle.start(0)
    oracle.ceiling_logged(timestamp_at(10_000))
    assert oracle.wanted_ceiling(8_000) is None
    assert oracle.wanted_ceiling(8_501) == timestamp_at(8_501 + CEILING_AHEAD_MS)
    oracle.stop()
    assert oracle.take(1, 8_000) is None


def test_a_batch_ends_at_the_ceiling_at_the_latest() -> None:
    oracle = TimestampOracle()
    oracle.start(0)
    oracle.ceiling_logged(timestamp_at(10_000) + 9)
    assert oracle.take(11, 10_000) is None
    assert oracle.take(10, 10_000) == timestamp_at(10_000)
    assert oracle.take(1, 10_000) is None


# --- The client ----------------------------------------------------------------------------


class FakeLeader:
    """Answers after a turn of the loop, and keeps what it was asked."""

    def __init__(self) -> None:
        self.next = 1000
        self.requests: list[TakeTimestamps] = []
        self.failures = 0
        self.gate: asyncio.Event | None = None

    async def take(self, request: TakeTimestamps, deadline_s: float) -> TimestampsTaken:
        first = self.next
        self.next += request.count
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise CannotConnectNow("not the leader")
        return TimestampsTaken(first, 7)


async def client_of(leader: FakeLeader) -> TimestampClient:
    return TimestampClient(ProductionRuntime(), 2, leader)


def test_snapshots_share_a_number_and_commits_do_not() -> None:
    async def check() -> None:
        leader = FakeLeader()
        leader.gate = asyncio.Event()
        client = await client_of(leader)
        # The first four requests go out at once, the rest gathers in one batch.
        early = [asyncio.ensure_future(client.commit_timestamp()) for _ in range(4)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        snapshots = [asyncio.ensure_future(client.snapshot()) for _ in range(10)]
        commits = [asyncio.ensure_future(client.commit_timestamp()) for _ in range(5)]
        await asyncio.sleep(0)
        leader.gate.set()
        await asyncio.gather(*early)
        numbers = {timestamp for timestamp, _ in await asyncio.gather(*snapshots)}
        drawn = await asyncio.gather(*commits)
        assert len(numbers) == 1
        assert len({*drawn, *numbers}) == 6
        assert [request.count for request in leader.requests] == [1, 1, 1, 1, 6]
        assert {version for _, version in [await client.snapshot()]} == {7}

    asyncio.run(check())


def test_waiter_takes_only_an_answer_to_a_later_request() -> None:
    """T2: a snapshot asked for while a request is out must not get that request's number."""

    async def check() -> None:
        leader = FakeLeader()
        leader.gate = asyncio.Event()
        client = await client_of(leader)
        first = asyncio.ensure_future(client.snapshot())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        acknowledged = leader.next  # a commit drawn elsewhere, acknowledged before the next ask
        leader.next += 1
        second = asyncio.ensure_future(client.snapshot())
        await asyncio.sleep(0)
        leader.gate.set()
        assert (await first)[0] < acknowledged < (await second)[0]

    asyncio.run(check())


def test_deposed_leader_is_asked_again_until_there_is_one() -> None:
    async def check() -> None:
        leader = FakeLeader()
        leader.failures = 3
        client = await client_of(leader)
        timestamp, _ = await client.snapshot()
        assert timestamp == 1003
        leader.failures = 10**9
        with pytest.raises(CannotConnectNow, match="no timestamp could be had"):
            await client.snapshot(deadline_s=0.05)

    asyncio.run(check())


def test_requests_carry_the_oldest_snapshot_in_use() -> None:
    async def check() -> None:
        leader = FakeLeader()
        client = await client_of(leader)
        with client.held(50), client.held(40), client.held(40):
            await client.snapshot()
        await client.snapshot()
        assert [request.oldest_snapshot for request in leader.requests] == [40, 0]

    asyncio.run(check())


def test_cancelled_waiters_do_not_disturb_the_others() -> None:
    async def check() -> None:
        leader = FakeLeader()
        leader.gate = asyncio.Event()
        client = await client_of(leader)
        waiters = [asyncio.ensure_future(client.commit_timestamp()) for _ in range(20)]
        await asyncio.sleep(0)
        chosen = random.Random(3).sample(range(20), 8)
        for index in chosen:
            waiters[index].cancel()
        await asyncio.sleep(0)
        leader.gate.set()
        results = await asyncio.gather(*waiters, return_exceptions=True)
        numbers = [result for result in results if isinstance(result, int)]
        assert len(numbers) == len(set(numbers)) == 12

    asyncio.run(check())


# --- The service on the leader ----------------------------------------------------------------


class FakeGroup:
    """A Raft group that leads, until it is told otherwise."""

    def __init__(self, machine: CatalogStateMachine) -> None:
        self.machine = machine
        self.has_lease = True
        self.proposals_fail = False
        self.started: Callable[[int], None] = lambda term: None
        self.stopped: Callable[[], None] = lambda: None

    def on_leadership(self, started: Callable[[int], None], stopped: Callable[[], None]) -> None:
        self.started, self.stopped = started, stopped

    def lease_valid(self) -> bool:
        return self.has_lease

    async def propose(self, data: bytes, *, deadline_s: float) -> object:
        if self.proposals_fail:
            raise CannotConnectNow("no majority")
        return self.machine.state.apply_envelope(decode_envelope(data))


def serve(scenario: Callable[[OracleService, FakeGroup], Coroutine[Any, Any, None]]) -> None:
    """Runs a scenario on the oracle of a node that leads."""

    async def main() -> None:
        runtime = SimulatedRuntime(1)
        machine = CatalogStateMachine()
        group = FakeGroup(machine)
        rpc = RpcNode(
            runtime,
            SimulatedNetwork(random.Random(1)).transport("n1"),
            cluster_id=lambda: "c",
            node_id=lambda: 1,
        )
        service = OracleService(runtime, rpc, group, machine, lambda: 7)  # type: ignore[arg-type]
        group.started(1)
        try:
            await scenario(service, group)
        finally:
            service.close()
            await runtime.stop()

    run_simulation(main())


def test_lease_is_checked_after_the_number_is_taken() -> None:
    async def scenario(service: OracleService, group: FakeGroup) -> None:
        first = await service.take(TakeTimestamps(1, 1, 0))
        assert first.catalog_version == 7
        group.has_lease = False
        with pytest.raises(CannotConnectNow, match="does not lead"):
            await service.take(TakeTimestamps(1, 1, 0))
        group.has_lease = True
        later = await service.take(TakeTimestamps(1, 1, 0))
        assert later.first > first.first + 1, "the number that was not answered is never used"

    serve(scenario)


def test_a_ceiling_that_is_not_in_the_log_covers_nothing() -> None:
    async def scenario(service: OracleService, group: FakeGroup) -> None:
        group.proposals_fail = True
        taking = asyncio.ensure_future(service.take(TakeTimestamps(1, 1, 0)))
        await asyncio.sleep(5)
        assert not taking.done()
        group.proposals_fail = False
        assert (await taking).first <= group.machine.state.timestamp_ceiling

    serve(scenario)


def test_burst_beyond_the_ceiling_waits_for_the_log() -> None:
    async def scenario(service: OracleService, group: FakeGroup) -> None:
        last = 0
        for _ in range(20):
            taken = await service.take(TakeTimestamps(100_000, 1, 0))
            assert taken.first > last
            last = taken.first + 99_999
            assert last <= group.machine.state.timestamp_ceiling
        with pytest.raises(ProgramLimitExceeded):
            await service.take(TakeTimestamps(100_001, 1, 0))

    serve(scenario)


def test_deposed_leader_stops_and_a_new_term_starts_above() -> None:
    async def scenario(service: OracleService, group: FakeGroup) -> None:
        before = await service.take(TakeTimestamps(1, 1, 0))
        group.stopped()
        with pytest.raises(CannotConnectNow):
            await service.take(TakeTimestamps(1, 1, 0))
        ceiling = group.machine.state.timestamp_ceiling
        group.started(2)
        after = await service.take(TakeTimestamps(1, 1, 0))
        assert after.first > ceiling > before.first

    serve(scenario)
