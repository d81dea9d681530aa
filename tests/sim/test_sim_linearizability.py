"""The checker of registers, beside a plain one that tries every order."""

from __future__ import annotations

import itertools
import math
import random

from dqe.simulation.linearizability import Kind, Operation, apply, linearizable

NEVER = math.inf


def read(begun: float, ended: float, result: int) -> Operation:
    return Operation(Kind.READ, begun, ended, result=result)


def write(begun: float, ended: float, value: int) -> Operation:
    return Operation(Kind.WRITE, begun, ended, value)


def test_a_read_sees_what_was_acknowledged_before_it_began() -> None:
    assert linearizable([write(0, 1, 5), read(2, 3, 5)], 0)
    assert not linearizable([write(0, 1, 5), read(2, 3, 0)], 0)


def test_a_read_beside_a_write_sees_either() -> None:
    assert linearizable([write(0, 3, 5), read(1, 2, 5)], 0)
    assert linearizable([write(0, 3, 5), read(1, 2, 0)], 0)


def test_what_was_seen_once_stays_seen() -> None:
    assert not linearizable([write(0, 9, 5), read(1, 2, 5), read(3, 4, 0)], 0)


def test_a_write_of_unknown_fate_may_come_late_or_never() -> None:
    lost = write(0, NEVER, 5)
    assert linearizable([lost, read(1, 2, 0), read(3, 4, 0)], 0)
    assert linearizable([lost, read(1, 2, 0), read(3, 4, 5)], 0)
    assert not linearizable([lost, read(1, 2, 5), read(3, 4, 0)], 0)


def test_a_compare_and_set_that_failed_saw_another_value() -> None:
    failed = Operation(Kind.COMPARE_AND_SET, 2, 3, value=7, expected=0, result=0)
    assert not linearizable([failed], 0)
    assert linearizable([write(0, NEVER, 5), failed], 0)


def plainly_linearizable(history: list[Operation], initial: int) -> bool:
    certain = [o for o in history if o.certain]
    doubtful = [o for o in history if not o.certain]
    for count in range(len(doubtful) + 1):
        for some in itertools.combinations(doubtful, count):
            for order in itertools.permutations([*certain, *some]):
                if _is_in_real_time(order) and _is_explained(order, initial):
                    return True
    return False


def _is_in_real_time(order: tuple[Operation, ...]) -> bool:
    return all(
        later.ended_s >= earlier.begun_s for earlier, later in itertools.combinations(order, 2)
    )


def _is_explained(order: tuple[Operation, ...], initial: int) -> bool:
    value: int | None = initial
    for operation in order:
        assert value is not None
        value = apply(operation, value)
        if value is None:
            return False
    return True


def test_it_agrees_with_a_plain_search_of_all_orders() -> None:
    chance = random.Random("linearizability")
    answers = []
    for _ in range(1500):
        history = [_random_operation(chance) for _ in range(chance.randrange(1, 6))]
        answers.append(linearizable(history, 0))
        assert answers[-1] == plainly_linearizable(history, 0), history
    assert 100 < sum(answers) < 1400


def _random_operation(chance: random.Random) -> Operation:
    kind = chance.choice(list(Kind))
    begun = chance.randrange(8)
    ended = NEVER if chance.random() < 0.2 else begun + chance.randrange(1, 5)
    value, expected = chance.randrange(1, 3), chance.randrange(3)
    if ended == NEVER:
        return Operation(kind, begun, ended, value, expected)
    result = chance.randrange(3) if kind is Kind.READ else chance.randrange(2)
    return Operation(kind, begun, ended, value, expected, None if kind is Kind.WRITE else result)
