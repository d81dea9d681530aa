"""Whether a register's history has an order that one copy could have given.

Every operation must seem to take effect at one moment between its call and its answer. One
whose fate nobody knows may take effect at any moment after its call, or never.

The search is Wing and Gong's with Lowe's memory: try as next every operation that no other one
surely precedes, go back where that leads nowhere, and never look twice at the same set of
operations done with the same value. Histories are checked a key at a time, which is allowed,
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
    seen: set[tuple[int, Value]] = set()
    stack: list[tuple[int, Value, Iterator[int]]] = [(0, initial, _next_ones(operations, 0))]
    while stack:
        done, value, choices = stack[-1]
        if done & wanted == wanted:
            return True
        for choice in choices:
            after = apply(operations[choice], value)
            state = (done | 1 << choice, after)
            if after is not None and state not in seen:
                seen.add((state[0], after))
                stack.append((state[0], after, _next_ones(operations, state[0])))
                break
        else:
            stack.pop()
    return False


def _relevant(operations: list[Operation]) -> list[Operation]:
    """Without reads nobody heard of, and without writes of unknown fate that nobody met."""
    compared = any(o.kind is Kind.COMPARE_AND_SET and o.result == 0 for o in operations)
    met = {o.result for o in operations if o.kind is Kind.READ}
    met |= {o.expected for o in operations if o.kind is Kind.COMPARE_AND_SET}
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
