"""The checker of lists on histories made by hand: each of Adya's anomalies, and what is none."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from dqe.simulation.dependencies import (
    Append,
    Fate,
    Level,
    Read,
    Transaction,
    Values,
    find_anomaly,
)

RC, RR, SER = Level.READ_COMMITTED, Level.REPEATABLE_READ, Level.SERIALIZABLE
# Lists.
X, Y = 1, 2


def transaction(
    name: str,
    *operations: Append | Read,
    level: Level = SER,
    fate: Fate = Fate.COMMITTED,
    at: tuple[float, float] = (0, 9),
) -> Transaction:
    return Transaction(name, level, operations, fate, *at)


def found(*history: Transaction, final: Mapping[int, Values] | None = None) -> str | None:
    anomaly = find_anomaly(history, final)
    return None if anomaly is None else anomaly.name


def test_a_serial_history_is_as_promised() -> None:
    assert (
        found(
            transaction("a", Append(X, 1), Append(Y, 2)),
            transaction("b", Read(X, (1,)), Append(X, 3), Read(X, (1, 3))),
            transaction("c", Read(Y, (2,)), Read(X, (1, 3))),
            final={X: (1, 3), Y: (2,)},
        )
        is None
    )


def test_g0_two_write_in_different_orders() -> None:
    history = (
        transaction("a", Append(X, 1), Append(Y, 1), level=RC),
        transaction("b", Append(X, 2), Append(Y, 2), level=RC),
    )
    assert found(*history, final={X: (1, 2), Y: (2, 1)}) == "G0"
    assert found(*history, final={X: (1, 2), Y: (1, 2)}) is None


def test_g1a_an_aborted_transaction_is_seen() -> None:
    aborted = transaction("a", Append(X, 1), fate=Fate.ABORTED)
    assert found(aborted, transaction("b", Read(X, (1,)), level=RC)) == "G1a"
    assert found(aborted, final={X: (1,)}) == "G1a"
    assert found(aborted, transaction("b", Read(X, ())), final={X: ()}) is None


def test_g1b_a_transaction_is_seen_on_its_way() -> None:
    writer = transaction("a", Append(X, 1), Append(X, 2))
    assert found(writer, transaction("b", Read(X, (1,)), level=RC), final={X: (1, 2)}) == "G1b"
    # Its own half-way state a transaction may see.
    own = transaction("a", Append(X, 1), Read(X, (1,)), Append(X, 2))
    assert found(own, final={X: (1, 2)}) is None


def test_g1c_each_sees_what_the_other_wrote() -> None:
    assert (
        found(
            transaction("a", Append(X, 1), Read(Y, (2,)), level=RC),
            transaction("b", Append(Y, 2), Read(X, (1,)), level=RC),
            final={X: (1,), Y: (2,)},
        )
        == "G1c"
    )


@pytest.mark.parametrize(("level", "name"), [(RC, None), (RR, "G-single"), (SER, "G-single")])
def test_g_single_a_read_is_torn(level: Level, name: str | None) -> None:
    history = (
        transaction("a", Append(X, 1), Append(Y, 1), level=RC),
        transaction("b", Read(X, ()), Read(Y, (1,)), level=level),
    )
    assert found(*history, final={X: (1,), Y: (1,)}) == name


@pytest.mark.parametrize(("level", "name"), [(RC, None), (RR, "G-single"), (SER, "G-single")])
def test_g_single_a_read_is_not_repeated(level: Level, name: str | None) -> None:
    history = (
        transaction("a", Append(X, 1), level=RC),
        transaction("b", Read(X, ()), Read(X, (1,)), level=level),
    )
    assert found(*history, final={X: (1,)}) == name


@pytest.mark.parametrize(("level", "name"), [(RC, None), (RR, "G-single")])
def test_g_single_an_update_is_based_on_what_is_gone(level: Level, name: str | None) -> None:
    """Lost update: it read the list before another's element and wrote behind it."""
    history = (
        transaction("a", Append(X, 1), level=RC),
        transaction("b", Read(X, ()), Append(X, 2), level=level),
    )
    assert found(*history, final={X: (1, 2)}) == name


@pytest.mark.parametrize(("level", "name"), [(RC, None), (RR, None), (SER, "G2-item")])
def test_g2_write_skew(level: Level, name: str | None) -> None:
    history = (
        transaction("a", Read(X, ()), Append(Y, 1), level=level),
        transaction("b", Read(Y, ()), Append(X, 2), level=level),
    )
    assert found(*history, final={X: (2,), Y: (1,)}) == name


def test_g2_needs_every_reader_to_be_serializable() -> None:
    history = (
        transaction("a", Read(X, ()), Append(Y, 1)),
        transaction("b", Read(Y, ()), Append(X, 2), level=RR),
    )
    assert found(*history, final={X: (2,), Y: (1,)}) is None


@pytest.mark.parametrize(("level", "name"), [(RR, None), (SER, "G2-item")])
def test_g2_long_fork(level: Level, name: str | None) -> None:
    """Two readers see two writers in different orders. (A snapshot of the whole cluster never
    does: see real time.)"""
    history = (
        transaction("a", Append(X, 1), level=RC),
        transaction("b", Append(Y, 2), level=RC),
        transaction("c", Read(X, (1,)), Read(Y, ()), level=level),
        transaction("d", Read(X, ()), Read(Y, (2,)), level=level),
    )
    assert found(*history, final={X: (1,), Y: (2,)}) == name


@pytest.mark.parametrize(("level", "name"), [(RR, None), (SER, "G2-item")])
def test_g2_read_only_anomaly(level: Level, name: str | None) -> None:
    """Fekete, O'Neil and O'Neil (2004): without the reader there is an order, with it none."""
    savings = transaction("deposit", Read(Y, ()), Append(Y, 1), level=level)
    checking = transaction("withdraw", Read(X, ()), Read(Y, ()), Append(X, 2), level=level)
    report = transaction("report", Read(X, ()), Read(Y, (1,)), level=level)
    final = {X: (2,), Y: (1,)}
    assert found(savings, checking, final=final) is None
    assert found(savings, checking, report, final=final) == name


def test_real_time_a_later_reader_misses_what_was_acknowledged() -> None:
    writer = transaction("a", Append(X, 1), at=(0, 1))
    late = transaction("b", Read(X, ()), at=(2, 3))
    beside = transaction("b", Read(X, ()), at=(0.5, 3))
    assert found(writer, late, final={X: (1,)}) == "G-single"
    assert found(writer, beside, final={X: (1,)}) is None


def test_real_time_a_later_writer_comes_first() -> None:
    early = transaction("a", Append(X, 1), level=RC, at=(0, 1))
    late = transaction("b", Append(X, 2), level=RC, at=(2, 3))
    assert found(early, late, final={X: (2, 1)}) == "real time"
    assert found(early, late, final={X: (1, 2)}) is None


def test_what_was_acknowledged_is_there() -> None:
    writer = transaction("a", Append(X, 1), Append(Y, 2))
    assert found(writer, final={X: (), Y: ()}) == "lost"
    assert found(writer, final={X: (1,), Y: ()}) == "lost"


def test_what_is_of_unknown_fate_is_there_whole_or_not_at_all() -> None:
    writer = transaction("a", Append(X, 1), Append(Y, 2), fate=Fate.UNKNOWN)
    assert found(writer, final={X: (), Y: ()}) is None
    assert found(writer, final={X: (1,), Y: (2,)}) is None
    assert found(writer, final={X: (1,), Y: ()}) == "lost"


def test_reads_are_beginnings_of_each_other() -> None:
    writers = (transaction("a", Append(X, 1), level=RC), transaction("b", Append(X, 2), level=RC))
    reads = (transaction("c", Read(X, (1,)), level=RC), transaction("d", Read(X, (2,)), level=RC))
    assert found(*writers, *reads) == "incompatible order"


def test_what_a_transaction_wrote_it_sees() -> None:
    assert found(transaction("a", Append(X, 1), Read(X, ()))) == "internal"


def test_elements_come_from_somebody_and_once() -> None:
    assert found(transaction("a", Read(X, (7,)))) == "garbage"
    assert found(transaction("a", Append(X, 1)), final={X: (1, 1)}) == "duplicate"


def test_a_long_serial_history_is_as_promised_and_one_swap_in_it_is_not() -> None:
    chance = random.Random("dependencies")
    lists: dict[int, Values] = dict.fromkeys(range(5), ())
    history = []
    for number in range(400):
        operations: list[Append | Read] = []
        for place, key in enumerate(chance.sample(range(5), 3)):
            if chance.random() < 0.5:
                operations.append(Read(key, lists[key]))
            else:
                lists[key] += (number * 10 + place,)
                operations.append(Append(key, number * 10 + place))
        level = chance.choice(list(Level))
        at = (number, number + 1.5)
        history.append(transaction(f"t{number}", *operations, level=level, at=at))
    assert found(*history, final=lists) is None
    swapped = list(lists[0])
    swapped[-1], swapped[-2] = swapped[-2], swapped[-1]
    assert found(*history, final={**lists, 0: tuple(swapped)}) is not None
