"""Closed timestamps: what a replica keeps of them, and that it reads no sooner than they say."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from storage_doubles import Bench, insert, run, update

from cluster.runtime import ProductionRuntime
from storage.closed import KEPT, Answered, Closed, ClosedTimestamps


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=30))
def test_of_what_was_said_the_least_is_asked_for(said: list[tuple[int, int]]) -> None:
    """A log of 40 entries, whose index is the timestamp; who says more than needed is heard too."""
    closed = ClosedTimestamps()
    for timestamp, more in said:
        closed.learn(Closed(1, timestamp + more, timestamp))
    newest = max(timestamp for timestamp, _ in said)
    assert closed.timestamp == newest
    told = {(timestamp, timestamp + more) for timestamp, more in said}
    for wanted in range(45):
        index = closed.index_for(wanted)
        assert (index is None) == (wanted > newest)
        if index is not None:
            assert any(timestamp >= wanted and index == at for timestamp, at in told)
            assert index >= wanted
    assert len(closed._kept) <= KEPT


def test_what_needs_the_least_of_the_log_is_kept() -> None:
    closed = ClosedTimestamps()
    for number in range(1, 100):
        closed.learn(Closed(1, number, number * 10))
    assert closed.index_for(990 - 10 * (KEPT - 1)) == 99 - (KEPT - 1)
    closed.learn(Closed(2, 99, 5000))
    assert closed.index_for(4000) == 99, "nothing was logged since"
    closed.learn(Closed(1, 120, 4000))
    assert closed.index_for(4000) == 99


def test_nobody_is_asked_but_the_log_is_followed(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        leader = await bench.open(7)
        follower = await bench.open(8, alter=False)
        bench.groups[8].stop()
        await bench.write(leader, insert((1, "a")))
        await follower.apply(bench.logs[7][follower.applied_index :])
        past = bench.oracle.now()
        await bench.write(leader, update((1, "b")))
        closed = leader.close_timestamp(bench.oracle.now())
        assert closed is not None
        follower.closed.learn(closed)
        await follower._applier.flush()  # what comes has nothing to do on a thread
        reading = asyncio.ensure_future(follower.answer_read([12], past, 5.0))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not reading.done(), "it may lack a commit at or below the timestamp"
        await follower.apply(bench.logs[7][follower.applied_index :])
        answered, tables = await reading
        assert (answered, list(tables)) == (Answered.AS_CLOSED, [12])
        # The leader itself need not show that it still leads.
        assert (await leader.answer_read([12], past, 5.0))[0] is Answered.AS_CLOSED
        fresh = bench.oracle.now() + 1
        assert (await leader.answer_read([12], fresh, 5.0))[0] is Answered.BY_LEADER
        await bench.close()

    run(main)
