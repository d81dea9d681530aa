"""A tablet alone: commits, unique keys, locks, reads at any time, restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from storage_doubles import (
    Bench,
    MemoryGroup,
    delete,
    fragment,
    insert,
    rows,
    run,
    update,
)

from cluster.errors import (
    CannotConnectNow,
    CharacterNotInRepertoire,
    InvalidTextRepresentation,
    LockNotAvailable,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    StatementCompletionUnknown,
    UniqueViolation,
)
from cluster.raft.log import Entry
from cluster.raft.snapshot_data import FileSnapshot, SnapshotData
from cluster.runtime import ProductionRuntime
from storage import key_overlay, participant, replica, types
from storage.columnar import ColumnarStore
from storage.fragments import FragmentChange, FragmentSchema, StoreColumn, UniqueKey
from storage.locks import LockMode
from storage.tablet import Tablet

pytestmark = pytest.mark.usefixtures("method")

BIG = "x" * 1000


def big_insert(first: int, count: int, fragment_id: int = 12) -> FragmentChange:
    """About `count` kilobytes of rows."""
    return insert(*((i, BIG) for i in range(first, first + count)), fragment_id=fragment_id)


def test_rows_appear_at_their_commit_and_the_past_stays(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        before = bench.oracle.now()
        first = await bench.write(tablet, insert((1, "a"), (2, "b")))
        second = await bench.write(tablet, update((1, "A")), delete(2))
        third = await bench.write(tablet, FragmentChange(12, truncate=True), insert((9, "z")))
        assert await bench.read(tablet, before) == []
        assert await bench.read(tablet, first) == [(1, "a"), (2, "b")]
        assert await bench.read(tablet, second) == [(1, "A")]
        assert await bench.read(tablet, third) == [(9, "z")]
        assert await bench.read(tablet) == [(9, "z")]
        await bench.close()

    run(main)


@pytest.mark.parametrize("apply_first", [False, True])
def test_a_key_is_taken_once(tmp_path: Path, apply_first: bool) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a"), (2, "b")))
        if apply_first:
            await bench.read(tablet)
        with pytest.raises(UniqueViolation) as caught:
            await bench.write(tablet, insert((3, "c"), (2, "again")))
        assert caught.value.message == 'duplicate key value violates unique constraint "t_pkey"'
        assert caught.value.detail == "Key (id)=(2) already exists."
        assert (caught.value.table, caught.value.constraint) == ("t", "t_pkey")
        with pytest.raises(UniqueViolation):
            await bench.write(tablet, insert((4, "c"), (4, "d")))
        await bench.write(tablet, update((1, "A")))
        await bench.write(tablet, delete(2), insert((2, "new")))
        with pytest.raises(UniqueViolation):
            await bench.write(tablet, insert((5, "c")), insert((2, "again")))
        await bench.write(tablet, delete(2))
        await bench.write(tablet, insert((2, "newer")))
        with pytest.raises(UniqueViolation):
            await bench.write(tablet, insert((2, "again")))
        assert await bench.read(tablet) == [(1, "A"), (2, "newer")]
        await bench.close()

    run(main)


def test_small_checks_do_not_apply_the_queue(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await bench.read(tablet)
        applied = tablet._applier.store.position.applied_index
        for i in range(5):
            await bench.write(tablet, insert((i, "a")))
        with pytest.raises(UniqueViolation):
            await bench.write(tablet, insert((3, "a")))
        assert tablet._applier.store.position.applied_index == applied
        await bench.close()

    run(main)


def test_large_changes_are_checked_in_the_store(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        many = key_overlay.SMALL_ROWS + 1
        await bench.write(tablet, insert(*((i, "a") for i in range(many))))
        with pytest.raises(UniqueViolation, match="t_pkey"):
            await bench.write(tablet, insert((many - 1, "b")))
        with pytest.raises(UniqueViolation, match="t_pkey"):
            await bench.write(tablet, insert(*((i, "b") for i in range(many - 1, 2 * many))))
        await bench.write(tablet, update(*((i, "c") for i in range(many))))
        await bench.write(tablet, FragmentChange(12, truncate=True), insert((0, "z")))
        assert await bench.read(tablet) == [(0, "z")]
        await bench.close()

    run(main)


def test_what_was_not_looked_into_is_not_overlooked(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await tablet.checkpoint()
        await bench.write(tablet, big_insert(0, 400))  # too long an entry
        with pytest.raises(UniqueViolation):
            await bench.write(tablet, insert((399, "again")))
        await bench.write(tablet, insert((1000, "a")))
        await bench.write(tablet, delete(1000, *range(300)))  # too many rows
        await bench.read(tablet)
        await bench.write(tablet, insert((1000, "b")))
        await bench.crash()  # the queue is replayed under another leader
        tablet = await bench.open()
        with pytest.raises(UniqueViolation):
            await bench.write(tablet, insert((1000, "c")))
        await bench.close()

    run(main)


def test_every_constraint_counts_and_nulls_do_not(tmp_path: Path) -> None:
    numeric = types.SqlType(types.Kind.NUMERIC)
    columns = (
        StoreColumn("c1", types.INT8, "id"),
        StoreColumn("c2", numeric, "price"),
        StoreColumn("c3", types.BOOL, "flag"),
    )
    unique = (UniqueKey("t_pkey", ("c1",)), UniqueKey("t_price_flag_key", ("c2", "c3")))
    schema = FragmentSchema(12, columns, ("c1",), unique, "t")

    def row(key: int, price: str | None, flag: bool | None) -> FragmentChange:
        price_column = pa.array([price], pa.string()).cast(pa.decimal128(38, 16))
        arrays = [pa.array([key], pa.int64()), price_column, pa.array([flag], pa.bool_())]
        batch = pa.RecordBatch.from_arrays(arrays, names=["c1", "c2", "c3"])
        return FragmentChange(12, insert_rows=batch)

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, schema)
        await bench.write(tablet, row(1, "1.50", True))
        await bench.write(tablet, row(2, None, True), row(3, None, True))
        with pytest.raises(UniqueViolation) as caught:
            await bench.write(tablet, row(4, "1.5", True))
        assert caught.value.constraint == "t_price_flag_key"
        assert caught.value.detail == "Key (price, flag)=(1.5, t) already exists."
        await bench.write(tablet, row(4, "1.5", False))
        await bench.write(tablet, delete(1))
        await bench.write(tablet, row(5, "1.5", True))
        await bench.close()

    run(main)


def test_concurrent_inserts_of_one_key_leave_one(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        results = await asyncio.gather(
            *(bench.write(tablet, insert((1, str(i)))) for i in range(8)), return_exceptions=True
        )
        assert sum(isinstance(r, UniqueViolation) for r in results) == 7
        assert len(await bench.read(tablet)) == 1
        await bench.close()

    run(main)


def test_inserts_without_unique_keys_wait_for_no_lock(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, fragment(unique=False))
        holder = bench.begin()
        await tablet.lock(holder, LockMode.EXCLUSIVE)
        await asyncio.wait_for(bench.write(tablet, insert((1, "a"))), 30)
        await tablet.abort(holder)
        await bench.close()

    run(main)


def test_a_lock_is_held_until_the_outcome(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        first, second = bench.begin(), bench.begin()
        await tablet.lock(first)
        with pytest.raises(LockNotAvailable, match="lock timeout"):
            await tablet.lock(second, deadline_s=0.01)
        waiting = asyncio.ensure_future(tablet.lock(bench.begin()))
        await asyncio.sleep(0)
        await tablet.stage(first, insert((1, "a")))
        assert not waiting.done()
        await tablet.write(first, bench.oracle.now(), bench.oracle.draw)
        await asyncio.wait_for(waiting, 30)
        await bench.close()

    run(main)


def test_a_silent_coordinator_loses_its_lock(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        silent, next_one = bench.begin(), bench.begin()
        await tablet.lock(silent)
        await tablet.stage(silent, insert((1, "a")))
        waiting = asyncio.ensure_future(tablet.lock(next_one))
        await asyncio.sleep(0)
        tablet.tick()
        assert not waiting.done()
        tablet._participant.transactions[silent].expires_at = 0.0
        tablet.tick()
        await asyncio.wait_for(waiting, 30)
        with pytest.raises(SerializationFailure, match="aborted"):
            await tablet.stage(silent, insert((2, "b")))  # it must not come back without its lock
        with pytest.raises(SerializationFailure):
            await tablet.write(silent, bench.oracle.now(), bench.oracle.draw)
        assert await bench.read(tablet) == []
        await bench.close()

    run(main)


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30], ids=["on disk", "in memory"])
def test_a_large_load_is_all_or_nothing(tmp_path: Path, memory_bytes: int) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        bench.budget.limit_bytes = memory_bytes
        tablet = await bench.open(7, fragment(unique=False))
        given_up, kept = bench.begin(), bench.begin()
        for start in range(0, 9000, 1000):
            await tablet.stage(given_up, big_insert(start, 1000))
            await tablet.stage(kept, big_insert(start, 1000))
        assert await bench.read(tablet) == []
        assert bool(list((tmp_path / "staging-7").iterdir())) == (memory_bytes == 0)
        await tablet.abort(given_up)
        await tablet.write(kept, bench.oracle.now(), bench.oracle.draw)
        assert len(await bench.read(tablet)) == 9000
        await tablet.checkpoint()  # every store has it
        assert not list((tmp_path / "staging-7").iterdir())
        assert bench.budget.used_bytes == 0
        with pytest.raises(SerializationFailure):
            await tablet.stage(given_up, big_insert(0, 1))
        await bench.close()

    run(main)


def test_a_chunk_that_fails_fails_the_transaction(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, fragment(unique=False))
        transaction_id = bench.begin()
        calls = 0

        def refuse_second(_: bytes) -> bool:
            nonlocal calls
            calls += 1
            return calls == 2

        bench.groups[7].refuse = refuse_second

        async def load() -> None:
            for start in range(0, 20_000, 1000):
                await tablet.stage(transaction_id, big_insert(start, 1000))
            await tablet.write(transaction_id, bench.oracle.now(), bench.oracle.draw)

        with pytest.raises(CannotConnectNow, match="refused by the test"):
            await load()
        bench.groups[7].refuse = lambda _: False
        await tablet.abort(transaction_id)
        assert await bench.read(tablet) == []
        await bench.close()

    run(main)


def test_one_change_larger_than_a_chunk_is_cut(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, fragment(unique=False))
        await bench.write(tablet, insert((1, "old")))
        change = FragmentChange(12, truncate=True, insert_rows=big_insert(0, 10_000).insert_rows)
        await bench.write(tablet, change)
        assert len(await bench.read(tablet)) == 10_000
        assert all(len(entry.data) < 6_000_000 for entry in bench.logs[7])
        await bench.close()

    run(main)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_after_a_crash_exactly_the_acknowledged_is_there(tmp_path: Path, checkpoint: bool) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        first = await bench.write(tablet, insert((1, "a"), (2, "b")))
        under_way = bench.begin()
        await tablet.stage(under_way, big_insert(100, 6000))
        if checkpoint:
            await tablet.checkpoint()
            # The log of the transaction under way is still needed.
            assert tablet.durable_index < tablet.applied_index
            assert bench.groups[7].compacted_to == tablet.durable_index
        second = await bench.write(tablet, update((1, "A")))
        await bench.crash()
        tablet = await bench.open()
        assert tablet.applied_index == len(bench.logs[7])
        assert await bench.read(tablet, first) == [(1, "a"), (2, "b")]
        assert await bench.read(tablet, second) == [(1, "A"), (2, "b")]
        # It was begun under another leader: the new one drops it.
        with pytest.raises(SerializationFailure):
            await tablet.write(under_way, bench.oracle.now(), bench.oracle.draw)
        while under_way in tablet._participant.transactions:
            await asyncio.sleep(0.001)  # its abort is being logged
        await tablet.checkpoint()
        assert tablet.durable_index == tablet.applied_index
        await bench.crash()
        tablet = await bench.open()
        assert await bench.read(tablet) == [(1, "A"), (2, "b")]
        await bench.close()

    run(main)


def test_a_checkpoint_while_a_store_is_ahead_forgets_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash the stores may be ahead of the participant, which catches up from the log."""
    usual = replica.TabletReplica._apply_entry

    async def with_checkpoint(self: replica.TabletReplica, entry: Entry) -> object:
        result = await usual(self, entry)
        if entry.index == behind:
            for applier in (self._applier, self._rows.applier if self._rows.store else None):
                if applier is not None:  # as one that had been further than the log's driver is
                    applier.seen(last)
            await self.checkpoint()
        return result

    behind = last = 0

    async def main(runtime: ProductionRuntime) -> None:
        nonlocal behind, last
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        await tablet.checkpoint()
        behind = tablet.applied_index + 1
        for key in range(4):
            await bench.write(tablet, insert((key, "a")))
        last = tablet.applied_index
        await bench.crash()
        with monkeypatch.context() as patched:
            patched.setattr(replica.TabletReplica, "_apply_entry", with_checkpoint)
            await bench.open()
        await bench.crash()
        tablet = await bench.open()
        for transaction_id in range(1, 5):
            status = await tablet.status(transaction_id)
            assert status is not None
            assert status.committed
        await bench.close()

    run(main)


def test_a_lost_answer_is_unknown_and_the_log_decides(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        transaction_id = bench.begin()
        await tablet.stage(transaction_id, insert((1, "a")))
        bench.groups[7].lose_answer = True
        with pytest.raises(StatementCompletionUnknown):
            await tablet.write(transaction_id, bench.oracle.now(), bench.oracle.draw)
        status = await tablet.status(transaction_id)
        assert status is not None
        assert status.committed
        assert await bench.read(tablet) == [(1, "a")]
        await bench.close()

    run(main)


def test_an_unknown_transaction_is_aborted_before_it_is_said_to_be(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        entries = len(bench.logs[7])
        assert await tablet.status(77) == participant.ABORTED
        assert len(bench.logs[7]) == entries + 1
        with pytest.raises(SerializationFailure):
            await tablet.stage(77, insert((1, "a")))
        running = bench.begin()
        await tablet.stage(running, insert((1, "a")))
        assert await tablet.status(running) is None
        await bench.close()

    run(main)


def test_a_reader_waits_for_a_commit_below_its_timestamp(tmp_path: Path) -> None:
    """Rule C1: between drawing C and logging it, a reader above C must not go past."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        drawn = asyncio.Event()
        go_on = asyncio.Event()

        async def draw_slowly() -> int:
            timestamp = bench.oracle.now()
            drawn.set()
            await go_on.wait()
            return timestamp

        transaction_id = bench.begin()
        await tablet.stage(transaction_id, insert((1, "a")))
        floor = bench.oracle.now()
        writing = asyncio.ensure_future(tablet.write(transaction_id, floor, draw_slowly))
        await drawn.wait()
        assert await bench.read(tablet, floor) == []  # at or below the floor nobody waits
        reading = asyncio.ensure_future(bench.read(tablet))
        await asyncio.sleep(0.01)
        assert not reading.done()
        go_on.set()
        assert await reading == [(1, "a")]
        await writing
        await bench.close()

    run(main)


def test_a_cancelled_client_leaves_no_mark_behind(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        drawing = asyncio.Event()

        async def draw() -> int:
            drawing.set()
            await asyncio.sleep(0)
            return bench.oracle.now()

        transaction_id = bench.begin()
        await tablet.stage(transaction_id, insert((1, "a")))
        writing = asyncio.ensure_future(tablet.write(transaction_id, bench.oracle.now(), draw))
        await drawing.wait()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert await bench.read(tablet) == [(1, "a")]  # it went on to its end

        async def fail() -> int:
            raise CannotConnectNow("no oracle")

        transaction_id = bench.begin()
        await tablet.stage(transaction_id, insert((2, "b")))
        with pytest.raises(CannotConnectNow, match="no oracle"):
            await tablet.write(transaction_id, bench.oracle.now(), fail)
        assert not tablet._participant.transactions
        await bench.write(tablet, insert((2, "c")))
        await bench.close()

    run(main)


def test_a_replica_that_does_not_lead_refuses_and_follows(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        leader = await bench.open(7)
        follower = await bench.open(8, alter=False)
        follower.tablet_id = 7  # reads ask for the leader of 7
        bench.groups[8].stop()
        await bench.write(leader, insert((1, "a")))

        async def replicate() -> None:
            await follower.apply(bench.logs[7][follower.applied_index :])

        reading = asyncio.ensure_future(
            follower.prepare_read([12], bench.oracle.now(), 5.0),
        )
        await asyncio.sleep(0.01)
        assert not reading.done()  # the leader knows more than is here
        await replicate()
        assert 12 in await reading
        with pytest.raises(CannotConnectNow):
            await asyncio.wait_for(follower.lock(bench.begin(), deadline_s=0.05), 30)
        follower.tablet_id = 8
        await bench.close()

    run(main)


async def moved(data: FileSnapshot, copy: Tablet) -> SnapshotData:
    """The snapshot at another replica, after the way there piece by piece."""
    sink = copy.receive_snapshot()
    while sink.received_bytes < data.size_bytes:
        sink.add(data.read(sink.received_bytes, 1000))
    data.close()
    return sink.finish()


def test_a_snapshot_carries_everything(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, fragment(unique=False))
        first = await bench.write(tablet, insert((1, "a")))
        second = await bench.write(tablet, update((1, "b")))
        prepared = bench.begin()
        await tablet.stage(prepared, big_insert(10, 5000))
        await tablet.stage(prepared, insert((2, "c")))
        await tablet.prepare(prepared, bench.oracle.now(), home_tablet=1)
        index, data = await tablet.open_snapshot()
        assert index == tablet.applied_index

        # Another node's replica of the same tablet.
        other = Bench(runtime, tmp_path / "other")
        other.oracle = bench.oracle
        copy = await other.open(7, alter=False)
        other.groups[7].stop()
        await copy.install_snapshot(index, await moved(data, copy))
        assert not data.path.exists()
        assert copy.applied_index == copy.durable_index == index
        other.logs[7][:] = bench.logs[7]
        await other.crash()  # what came by a snapshot is not in this node's log
        assert (tmp_path / "other" / "7.duckdb").exists()
        copy = await other.open(7, alter=False)
        await copy.checkpoint()
        await other.crash()
        copy = await other.open(7, alter=False)
        assert await other.read(copy, first) == [(1, "a")]
        assert await other.read(copy, second) == [(1, "b")]
        await copy.commit(prepared, bench.oracle.now())
        assert len(await other.read(copy)) == 5002
        await other.close()
        await bench.close()

    run(main)


def test_a_fragment_that_is_not_there(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        with pytest.raises(ObjectNotInPrerequisiteState, match="fragment 99 of tablet 7"):
            await tablet.stage(bench.begin(), insert((1, "a"), fragment_id=99))
        transaction_id = bench.begin()
        await tablet.stage(transaction_id, insert((1, "a")))
        await tablet.alter([fragment(13)], 2)
        with pytest.raises(ObjectNotInPrerequisiteState, match="fragment 12 of tablet 7"):
            await tablet.write(transaction_id, bench.oracle.now(), bench.oracle.draw)
        assert await bench.read(tablet, fragment_id=13) == []
        assert tablet.schema_version == 2
        await bench.close()

    run(main)


def test_batches_get_the_fragments_columns_and_types(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        odd = pa.record_batch({"c2": ["a"], "more": [1], "c1": pa.array([1], pa.int32())})
        await bench.write(tablet, FragmentChange(12, insert_rows=odd))
        assert await bench.read(tablet) == [(1, "a")]
        with pytest.raises(KeyError):
            await tablet.stage(
                bench.begin(), FragmentChange(12, insert_rows=rows((1, "a")).select(["c1"]))
            )
        await bench.close()

    run(main)


def test_what_no_store_takes_never_reaches_the_log(tmp_path: Path) -> None:
    columns = (StoreColumn("c1", types.INT8, "id"), StoreColumn("c2", types.JSONB, "j"))
    schema = FragmentSchema(12, columns, ("c1",), (), "t")
    text = pa.py_buffer(b"\xff\xfe")
    offsets = pa.array([0, 2], pa.int32()).buffers()[1]
    not_utf8 = pa.Array.from_buffers(pa.string(), 1, [None, offsets, text])
    broken = pa.record_batch({"c1": pa.array([1], pa.int64()), "c2": not_utf8})

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, schema, fragment(13))
        with pytest.raises(InvalidTextRepresentation, match="for type jsonb"):
            await tablet.stage(bench.begin(), insert((1, '{"a": 1}'), (2, "{oops")))
        for fragment_id in (12, 13):
            with pytest.raises(CharacterNotInRepertoire):
                await tablet.stage(bench.begin(), FragmentChange(fragment_id, insert_rows=broken))
        await bench.write(tablet, insert((1, '{"a": 1}'), (2, None)))
        assert await bench.read(tablet) == [(1, '{"a": 1}'), (2, None)]
        await bench.close()

    run(main)


def test_a_write_in_the_log_of_another_term_does_nothing(tmp_path: Path) -> None:
    """Rule C2: the log's own term tells whether the locks still held."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open()
        group: MemoryGroup = bench.groups[7]
        transaction_id = bench.begin()
        await tablet.stage(transaction_id, insert((1, "a")))

        async def hear_of_it() -> None:
            for started, stopped in group._callbacks:
                stopped()
                started(group.term)

        hearing: list[asyncio.Task[None]] = []

        async def draw_while_the_leader_changes() -> int:
            group.term += 1  # before its users hear of it
            hearing.append(asyncio.ensure_future(hear_of_it()))
            return bench.oracle.now()

        with pytest.raises(SerializationFailure):
            await tablet.write(transaction_id, bench.oracle.now(), draw_while_the_leader_changes)
        await asyncio.gather(*hearing)
        bench.groups[7].stop()
        await bench.groups[7].start()
        assert await bench.read(tablet) == []
        await bench.close()

    run(main)


def test_a_snapshot_is_taken_in_once_there_is_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are in the store when the disk turns out to be full, the rest of it is not."""
    full = [True]
    original = ColumnarStore.checkpoint
    monkeypatch.setattr(replica, "INSTALL_AGAIN_S", 0.01)
    monkeypatch.setattr(replica, "INSTALL_TRIES", 10_000)

    def checkpoint(store: ColumnarStore, image: bytes, image_index: int) -> None:
        if full[0]:
            raise duckdb.IOException("no space left on device")
        original(store, image, image_index)

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, fragment(unique=False))
        await bench.write(tablet, insert((1, "a")))
        index, data = await tablet.open_snapshot()
        other = Bench(runtime, tmp_path / "other")
        other.oracle = bench.oracle
        copy = await other.open(7, alter=False)
        other.groups[7].stop()
        received = await moved(data, copy)
        monkeypatch.setattr(ColumnarStore, "checkpoint", checkpoint)
        installing = asyncio.ensure_future(copy.install_snapshot(index, received))
        while copy._applier.store.position.applied_index < index:
            await asyncio.sleep(0)
        # What comes between finds nothing to apply, and makes nothing durable.
        await copy._applier.run(lambda: None)
        await copy.checkpoint()
        assert copy.durable_index < index
        full[0] = False
        await installing
        assert copy.durable_index == copy.applied_index == index
        other.logs[7][:] = bench.logs[7]
        await other.crash()
        copy = await other.open(7, alter=False)
        assert await other.read(copy) == [(1, "a")]
        await other.close()
        await bench.close()

    run(main)
