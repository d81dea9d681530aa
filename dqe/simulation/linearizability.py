"""Whether a register's history has an order that one copy could have given.

Every operation must seem to take effect at one moment between its call and its answer. One
whose fate nobody knows may take effect at any moment after its call, or never.

The search is Wing and Gong's with Lowe's memory: try as next every operation that no other one
surely precedes, go back where that leads nowhere, and never look twice at the same set of
operations done with the same value. What changes nothing is done as soon as it can be, and writes
of unknown fate that nobody met are told apart no more than need be; else a minute's history with
some dozens of these would take for ever. Histories are checked a key at a time, which is allowed,
because a history is linearisable if each object's is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

Value = int


class Kind(Enum):
    """What was asked of the register."""

    READ = auto()
    WRITE = auto()
    COMPARE_AND_SET = auto()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `ended_s` is infinite, and `result` None, for one of unknown fate.

    `result` is the value read, or for a compare-and-set 1 if it was made and 0 if not.
    """

    kind: Kind
    begun_s: float
    ended_s: float
    value: Value = 0
    expected: Value = 0
    result: Value | None = None

    @property
    def certain(self) -> bool:
        """Whether it surely took effect."""
        return not math.isinf(self.ended_s)


def apply(operation: Operation, value: Value) -> Value | None:
    """The register's value after the operation; None where it cannot have come now."""
    if operation.kind is Kind.READ:
        return value if operation.result in (None, value) else None
    if operation.kind is Kind.WRITE:
        return operation.value
    made = value == operation.expected
    if operation.result is not None and bool(operation.result) != made:
        return None
    return operation.value if made else value


def linearizable(history: Sequence[Operation], initial: Value) -> bool:
    """Whether there is such an order; operations in any order."""
    operations = _relevant(sorted(history, key=lambda operation: operation.begun_s))
    wanted = sum(1 << i for i, operation in enumerate(operations) if operation.certain)
    idle = _unmet(operations)
    start = _with_all_that_fits(operations, 0, initial)
    seen: set[tuple[int, Value]] = {(start, initial)}
    stack: list[tuple[int, Value, Iterator[int]]] = [
        (start, initial, _choices(operations, start, idle))
    ]
    while stack:
        done, value, choices = stack[-1]
        if done & wanted == wanted:
            return True
        for choice in choices:
            after = apply(operations[choice], value)
            if after is None:
                continue
            state = (_with_all_that_fits(operations, done | 1 << choice, after), after)
            if state not in seen:
                seen.add(state)
                stack.append((*state, _choices(operations, state[0], idle)))
                break
        else:
            stack.pop()
    return False


def _with_all_that_fits(operations: Sequence[Operation], done: int, value: Value) -> int:
    """With all operations done that can come now and change nothing. None is better kept for
    later: whatever order there is, they can be moved to here in it."""
    while True:
        before = done
        for index in _next_ones(operations, done):
            operation = operations[index]
            changes = operation.kind is Kind.WRITE or operation.result is None
            if not changes and apply(operation, value) == value:
                done |= 1 << index
        if done == before:
            return done


def _unmet(operations: Sequence[Operation]) -> int:
    """Writes of unknown fate whose values nobody met. All they can do is to keep a compare-and-set
    from being made, and one is as good for that as another."""
    met = _met(operations)
    return sum(
        1 << index
        for index, operation in enumerate(operations)
        if operation.kind is Kind.WRITE and not operation.certain and operation.value not in met
    )


def _choices(operations: Sequence[Operation], done: int, idle: int) -> Iterator[int]:
    """What to try next; of idle writes the first alone."""
    tried = False
    for index in _next_ones(operations, done):
        if idle >> index & 1:
            if tried:
                continue
            tried = True
        yield index


def _met(operations: Sequence[Operation]) -> set[Value | None]:
    met: set[Value | None] = {o.result for o in operations if o.kind is Kind.READ}
    return met | {o.expected for o in operations if o.kind is Kind.COMPARE_AND_SET}


def _relevant(operations: list[Operation]) -> list[Operation]:
    """Without reads nobody heard of, and without writes of unknown fate that nobody met."""
    compared = any(o.kind is Kind.COMPARE_AND_SET and o.result == 0 for o in operations)
    met = _met(operations)
    return [
        o
        for o in operations
        if o.certain or (o.kind is not Kind.READ and (compared or o.value in met))
    ]


def _next_ones(operations: Sequence[Operation], done: int) -> Iterator[int]:
    """Those not done that none of the others not done surely precedes."""
    # Everything below the lowest zero bit is done.
    first = (~done & (done + 1)).bit_length() - 1
    latest_s = math.inf
    for index in range(first, len(operations)):
        if done >> index & 1:
            continue
        operation = operations[index]
        if operation.begun_s > latest_s:
            return
        latest_s = min(latest_s, operation.ended_s)
        yield index
