"""Inboxes between threads: order, holding back, spilling, and endings that free everything."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import DiskFull, InternalError, QueryCanceled
from executor.cancellation import Cancellation
from executor.inbox import Chunk, Offer, TaskInputs
from executor.outbox import LocalSink, TaskOutput
from executor.spill import SpillFile, SpillSpace
from planner.plan import ExchangeKind

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch([list(numbers), [f"text {n}" for n in numbers]], schema=SCHEMA)


def encoded(*numbers: int) -> Chunk:
    return Chunk(SCHEMA, memoryview(batch(*numbers).serialize()))


@pytest.fixture
def space(tmp_path: Path) -> SpillSpace:
    return SpillSpace(tmp_path / "spill")


def numbers_of(batches: Iterator[pa.RecordBatch]) -> list[int]:
    return [n for one in batches for n in one.column(0).to_pylist()]


def test_chunks_come_out_in_order_from_memory_and_disk(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 1, 2: 1}, space, credit_bytes=1)
    reader = threading.Thread(target=lambda: inputs.take(2))
    reader.start()
    assert inputs.offer(1, encoded(0)) is Offer.TAKEN
    pause = threading.Event()
    while not inputs.would_spill(1):  # until the reader waits at the other inbox
        pause.wait(0.001)
    for n in range(1, 50):
        assert inputs.offer(1, encoded(n)) is Offer.TAKEN
    assert inputs.spilled_bytes > 0
    inputs.producer_finished(2)
    reader.join()
    inputs.producer_finished(1)
    numbers = numbers_of(inputs.read(1))
    assert numbers == list(range(50))
    inputs.close()
    assert space.used_bytes == 0


def test_a_full_inbox_holds_until_it_is_read(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 1}, space, credit_bytes=1)
    assert inputs.offer(1, encoded(1)) is Offer.TAKEN
    assert inputs.offer(1, encoded(2)) is Offer.HELD
    released = threading.Event()
    inputs.when_released(1, released.set)
    assert not released.is_set()
    assert numbers_of(iter([inputs.take(1)])) == [1]
    assert released.is_set()
    assert inputs.offer(1, encoded(2)) is Offer.TAKEN


def test_failing_wakes_readers_and_held_producers(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 1, 2: 1}, space, credit_bytes=1)
    inputs.offer(1, encoded(1))
    assert inputs.offer(1, encoded(2)) is Offer.HELD
    released = threading.Event()
    inputs.when_released(1, released.set)
    found: list[BaseException] = []

    def read() -> None:
        try:
            inputs.take(2)
        except QueryCanceled as error:
            found.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    error = QueryCanceled("canceled")
    inputs.fail(error)
    reader.join()
    assert found == [error]
    assert released.is_set()
    with pytest.raises(QueryCanceled):
        inputs.offer(1, encoded(3))


def test_a_closed_inbox_takes_nothing(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 1}, space)
    inputs.close()
    assert inputs.offer(1, encoded(1)) is Offer.CLOSED
    assert inputs.take(1) is None


def test_the_schema_comes_before_rows_or_with_them(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 1, 2: 1}, space)
    inputs.announce(1, SCHEMA)
    inputs.offer(2, encoded(1))
    assert inputs.schema(1) == SCHEMA
    assert inputs.schema(2) == SCHEMA


def test_producers_that_differ_in_type_are_cast(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 2}, space)
    inputs.announce(1, pa.schema([("n", pa.int64())]))
    narrow = pa.record_batch([pa.array([5], pa.int32())], names=["n"])
    inputs.offer(1, Chunk(narrow.schema, narrow))
    taken = inputs.take(1)
    assert taken is not None
    assert taken.schema.field(0).type == pa.int64()


def test_many_producers_and_one_reader(space: SpillSpace) -> None:
    """Threads that send as fast as they are let; all arrives, in order a producer."""
    producers, rows = 4, 300
    inputs = TaskInputs({1: producers}, space, credit_bytes=2000)
    cancellation = Cancellation()

    def produce(number: int) -> None:
        output = TaskOutput(ExchangeKind.GATHER, [[LocalSink(inputs, 1, cancellation)]])
        output.announce(SCHEMA)
        for n in range(rows):
            assert output.send(batch(number * rows + n))
        output.finish()

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(producers)]
    for thread in threads:
        thread.start()
    numbers = numbers_of(inputs.read(1))
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(producers * rows))
    for number in range(producers):
        own = [n for n in numbers if n // rows == number]
        assert own == sorted(own)


def test_cancelling_wakes_a_held_producer(space: SpillSpace) -> None:
    inputs = TaskInputs({1: 1}, space, credit_bytes=1)
    cancellation = Cancellation()
    output = TaskOutput(ExchangeKind.GATHER, [[LocalSink(inputs, 1, cancellation)]])
    held = threading.Event()
    found: list[BaseException] = []

    def produce() -> None:
        output.send(batch(1))
        held.set()
        try:
            output.send(batch(2))
        except QueryCanceled as error:
            found.append(error)

    thread = threading.Thread(target=produce)
    thread.start()
    held.wait()
    cancellation.fail(QueryCanceled("canceled"))
    thread.join(10)
    assert len(found) == 1


def test_the_first_error_stays_and_late_wakers_are_called() -> None:
    cancellation = Cancellation()
    first = InternalError("first")
    cancellation.fail(first)
    cancellation.fail(InternalError("second"))
    assert cancellation.error is first
    called: list[int] = []
    with cancellation.waking(lambda: called.append(1)):
        assert called == [1]
    cancellation.wake()
    assert called == [1]


# -- spill files ------------------------------------------------------------------------------


def test_spill_files_give_back_what_they_took(space: SpillSpace, tmp_path: Path) -> None:
    chance = random.Random(1)
    file = SpillFile(space)
    chunks = [chance.randbytes(chance.randrange(0, 5000)) for _ in range(100)]
    references = [file.append(chunk) for chunk in chunks]
    assert space.used_bytes == sum(map(len, chunks))
    for index in chance.sample(range(100), 100):
        assert file.read(references[index]) == chunks[index]
    # The file has no name: nothing is left behind by a crash.
    assert list((tmp_path / "spill").iterdir()) == []
    file.close()
    file.close()
    assert space.used_bytes == 0


def test_spilling_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    space = SpillSpace(tmp_path, limit_bytes=10)
    file = SpillFile(space)
    file.append(b"12345678")
    with pytest.raises(DiskFull):
        file.append(b"123")
    file.close()
    assert space.used_bytes == 0
