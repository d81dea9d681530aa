"""The flow control of exchanges as a state machine, alone and in a model of whole queries."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.exchange import Place, TaskFlow


def test_memory_up_to_the_credit_then_hold() -> None:
    flow = TaskFlow([(1, 1)], credit_bytes=100)
    assert flow.arrived(1, 60) is Place.MEMORY
    assert not flow.held(1)
    assert flow.arrived(1, 60) is Place.MEMORY
    assert flow.held(1)
    flow.taken(1, 60, Place.MEMORY)
    assert not flow.held(1)


def test_waiting_elsewhere_lets_producers_go_on_to_disk() -> None:
    flow = TaskFlow([(1, 1), (2, 1)], credit_bytes=100)
    flow.arrived(1, 100)
    assert flow.held(1)
    assert flow.wait_began(2) == (1,)
    assert flow.arrived(1, 100) is Place.DISK
    assert not flow.held(1)
    flow.wait_ended(2)
    assert flow.held(1)


def test_waiting_here_frees_nobody_else() -> None:
    flow = TaskFlow([(1, 1), (2, 1)], credit_bytes=100)
    flow.arrived(1, 100)
    assert flow.wait_began(1) == ()
    assert flow.held(1)


def test_a_closed_inbox_holds_nobody() -> None:
    flow = TaskFlow([(1, 1)], credit_bytes=1)
    flow.arrived(1, 5)
    assert flow.held(1)
    flow.close(1)
    assert not flow.held(1)


def test_the_end_comes_with_the_last_producer() -> None:
    flow = TaskFlow([(1, 2)], credit_bytes=1)
    assert not flow.producer_finished(1)
    assert flow.producer_finished(1)
    with pytest.raises(AssertionError):
        flow.producer_finished(1)


# -- a model of queries -----------------------------------------------------------------------


@dataclass
class ModelTask:
    """A task that reads its inputs one after the other, each to its end, and sends every row
    it reads to one place, chosen by the row; like DuckDB, it holds one row in hand."""

    name: str
    inputs: list[int]  # exchange ids in the order in which they are drained
    flow: TaskFlow
    queues: dict[int, deque[tuple[str, int]]]
    consumers: list[tuple[ModelTask, int]]  # (task, exchange)
    own_rows: deque[int]
    waiting_at: int | None = None
    in_hand: list[tuple[ModelTask, int, tuple[str, int]]] = field(default_factory=list)
    received: list[tuple[int, tuple[str, int]]] = field(default_factory=list)
    finished: bool = False

    def step(self) -> bool:
        """Does one thing if it can; false when it is stuck or done."""
        if self.finished:
            return False
        if self.in_hand:
            return self._send()
        if self._next_row():
            return True
        return self._end() if self._drained() else False

    def _send(self) -> bool:
        for place, (task, exchange, row) in enumerate(self.in_hand):
            if not task.flow.held(exchange):
                del self.in_hand[place]
                task.flow.arrived(exchange, 1)
                task.queues[exchange].append(row)
                task.flow.validate(largest_chunk_bytes=1)
                return True
            # A thread sends to its consumers in order: the first that holds it stops it.
            return False
        return False

    def _next_row(self) -> bool:
        for exchange in self.inputs:
            queue = self.queues[exchange]
            state = self.flow.inboxes[exchange]
            if queue:
                self._stop_waiting()
                place = Place.MEMORY if state.memory_bytes else Place.DISK
                self.flow.taken(exchange, 1, place)
                row = queue.popleft()
                self.received.append((exchange, row))
                self._emit(row)
                return True
            if state.open_producers:
                if self.waiting_at == exchange:
                    return False
                self._stop_waiting()
                self.flow.wait_began(exchange)
                self.waiting_at = exchange
                return True
        self._stop_waiting()
        if self.own_rows:
            self._emit((self.name, self.own_rows.popleft()))
            return True
        return False

    def _stop_waiting(self) -> None:
        if self.waiting_at is not None:
            self.flow.wait_ended(self.waiting_at)
            self.waiting_at = None

    def _emit(self, row: tuple[str, int]) -> None:
        # Every consumer gets every row: the shape in which holding one starves another.
        self.in_hand = [(task, exchange, row) for task, exchange in self.consumers]

    def _drained(self) -> bool:
        ended = all(
            not self.queues[e] and not self.flow.inboxes[e].open_producers for e in self.inputs
        )
        return ended and not self.own_rows

    def _end(self) -> bool:
        self.finished = True
        for task, exchange in self.consumers:
            task.flow.producer_finished(exchange)
        return True


def model_task(
    name: str, inputs: list[tuple[int, int]], credit: int, own_rows: int = 0
) -> ModelTask:
    return ModelTask(
        name,
        [exchange for exchange, _ in inputs],
        TaskFlow(inputs, credit),
        {exchange: deque() for exchange, _ in inputs},
        [],
        deque(range(own_rows)),
    )


def run_model(tasks: list[ModelTask], chance: random.Random) -> None:
    """Steps tasks in random order until nobody can; fails when somebody is not done."""
    while True:
        order = list(tasks)
        chance.shuffle(order)
        if not any(task.step() for task in order):
            break
    stuck = [task.name for task in tasks if not task.finished]
    assert not stuck, f"deadlock: {stuck} cannot go on"


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    credit=st.integers(1, 4),
    layers=st.integers(1, 3),
    width=st.integers(1, 3),
    exchanges=st.integers(1, 3),
    rows=st.integers(0, 30),
)
def test_no_query_hangs_whatever_the_order_of_reading(
    seed: int, credit: int, layers: int, width: int, exchanges: int, rows: int
) -> None:
    """Layers of tasks, each reading several exchanges of the layer below in its own order,
    with credits of a few rows: everything ends, nothing is lost, order within a producer
    stays."""
    chance = random.Random(seed)
    below = [
        model_task(f"source{e}.{n}", [], credit, rows)
        for e in range(exchanges)
        for n in range(width)
    ]
    every = list(below)
    for layer in range(layers):
        groups: list[list[ModelTask]] = [[] for _ in range(exchanges)]
        for number, task in enumerate(below):
            groups[number % exchanges].append(task)
        above = []
        for n in range(width):
            inputs = [(e, len(groups[e])) for e in range(exchanges) if groups[e]]
            chance.shuffle(inputs)
            above.append(model_task(f"layer{layer}.{n}", inputs, credit))
        for e, producers in enumerate(groups):
            for producer in producers:
                producer.consumers = [(task, e) for task in above]
        every += above
        below = above
    run_model(every, chance)
    for task in below:
        assert_complete(task)


def assert_complete(task: ModelTask) -> None:
    """Each row of each source came once a path, and in order."""
    by_source: dict[str, list[int]] = {}
    for _, (source, number) in task.received:
        by_source.setdefault(source, []).append(number)
    for numbers in by_source.values():
        counts = {number: numbers.count(number) for number in numbers}
        assert len(set(counts.values())) == 1


def test_the_model_finds_the_deadlock_of_bounded_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule left out: two consumers of shared producers in opposite order hang."""
    monkeypatch.setattr(TaskFlow, "starving", lambda self, exchange_id: False)
    with pytest.raises(AssertionError, match="deadlock"):
        opposite_order()


def opposite_order() -> None:
    sources = [model_task(f"source{n}", [], 1, 10) for n in range(2)]
    first = model_task("first", [(0, 1), (1, 1)], 1)
    second = model_task("second", [(1, 1), (0, 1)], 1)
    for number, source in enumerate(sources):
        source.consumers = [(first, number), (second, number)]
    run_model([*sources, first, second], random.Random(1))


def test_consumers_in_opposite_order() -> None:
    opposite_order()
