"""Circles of waits: found exactly where there is one, and one transaction of each gives up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_doubles import Bench, keys, run

from cluster.errors import DeadlockDetected
from cluster.runtime import ProductionRuntime
from storage.deadlocks import WaitEdge, circle_through, gives_up
from storage.locks import LockMode

EDGES = st.lists(
    st.builds(WaitEdge, st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.just(1)),
    max_size=15,
)


def reachable(edges: list[WaitEdge], start: int) -> set[int]:
    found: set[int] = set()
    todo = [start]
    while todo:
        here = todo.pop()
        for edge in edges:
            if edge.waiter == here and edge.holder not in found:
                found.add(edge.holder)
                todo.append(edge.holder)
    return found


@given(EDGES, st.integers(1, 6))
def test_a_circle_is_found_where_there_is_one(edges: list[WaitEdge], name: int) -> None:
    circle = circle_through(edges, name)
    assert (circle is not None) == (name in reachable(edges, name))
    if circle is not None:
        assert set(circle) <= set(edges)
        assert [edge.holder for edge in circle] == [*(e.waiter for e in circle[1:]), name]
        assert circle[0].waiter == name


def test_one_of_a_circle_over_two_tablets_gives_up_and_the_other_goes_on(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        left, right = await bench.open(1), await bench.open(2)
        older, younger = bench.begin(), bench.begin()
        base = bench.oracle.now()

        async def lock(tablet: object, name: int, key: int = 1) -> None:
            await tablet.lock_rows(name, 12, keys(key), LockMode.FOR_UPDATE, base)  # type: ignore[attr-defined]

        await lock(left, older)
        await lock(right, younger)
        going_on = asyncio.ensure_future(lock(right, older))
        with pytest.raises(DeadlockDetected) as caught:
            await lock(left, younger)
        assert f"Transaction {older} waits for transaction {younger}" in str(caught.value.detail)
        assert not going_on.done()
        await right.abort(younger)
        await going_on
        await bench.close()

    run(main)


def test_the_youngest_gives_up() -> None:
    edges = [WaitEdge(3, 5, 1, 1), WaitEdge(5, 4, 1, 2), WaitEdge(4, 3, 2, 1)]
    for name in (3, 4, 5):
        circle = circle_through(edges, name)
        assert circle is not None
        assert gives_up(circle) == 5
