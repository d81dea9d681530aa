"""Fragments that change their stores, and stores that are built from each other."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
from itertools import permutations, product
from pathlib import Path

import pytest
from storage_doubles import (
    METHODS,
    Bench,
    Defaults,
    delete,
    fragment,
    insert,
    run,
    update,
)

from cluster.runtime import ProductionRuntime
from storage.fragments import AccessMethod, FragmentSchema
from storage.opening import damaged_path, rows_path
from storage.tablet import Tablet

PAIRS = list(permutations(METHODS, 2))
PATHS = [path for path in product(METHODS, repeat=4) if all(map(operator.ne, path, path[1:]))]


def of_method(method: AccessMethod, fragment_id: int = 12) -> FragmentSchema:
    return dataclasses.replace(fragment(fragment_id), method=method)


async def check(bench: Bench, tablet: Tablet, wanted: dict[int, list[tuple[int, str]]]) -> None:
    """The rows at each timestamp are these, by a stage's read and by key."""
    for timestamp, expected in wanted.items():
        assert await bench.read(tablet, timestamp) == expected
        if tablet.schemas[12].method.in_row_store:
            found = await tablet.read_rows(12, [(i,) for i in range(6)], timestamp)
            assert [row for row in found if row is not None] == expected


@pytest.mark.parametrize("crash", [False, True], ids=["goes on", "crashes"])
@pytest.mark.parametrize(("old", "new"), PAIRS, ids=[f"{a} to {b}" for a, b in PAIRS])
def test_a_table_changes_its_method_under_writes(
    tmp_path: Path, old: AccessMethod, new: AccessMethod, crash: bool
) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, of_method(old))
        wanted: dict[int, list[tuple[int, str]]] = {}
        wanted[await bench.write(tablet, insert((1, "a"), (2, "b"), (3, "c")))] = [
            (1, "a"),
            (2, "b"),
            (3, "c"),
        ]
        await tablet.checkpoint()
        wanted[await bench.write(tablet, update((1, "A")), delete(2))] = [(1, "A"), (3, "c")]
        # Writes go on while the other store is being filled.
        changing = asyncio.ensure_future(tablet.alter([of_method(new)], 2))
        wanted[await bench.write(tablet, insert((4, "d")))] = [(1, "A"), (3, "c"), (4, "d")]
        await changing
        wanted[await bench.write(tablet, update((1, "B")))] = [(1, "B"), (3, "c"), (4, "d")]
        if crash:
            await bench.crash()
            tablet = await bench.open()
        await check(bench, tablet, wanted)
        await tablet.checkpoint()  # what is queued is applied
        in_columns = 12 in tablet._applier.store.fragments
        row_store = tablet._rows.store
        assert in_columns == new.in_columnar_store
        assert (row_store is not None and 12 in row_store.fragments) == new.in_row_store
        wanted[await bench.write(tablet, delete(1))] = [(3, "c"), (4, "d")]
        await tablet.checkpoint()
        await bench.crash()
        await check(bench, await bench.open(), wanted)
        await bench.close()

    run(main)


@pytest.mark.parametrize("crash", [False, True], ids=["goes on", "crashes"])
@pytest.mark.parametrize("path", PATHS, ids=[" ".join(map(str, path)) for path in PATHS])
def test_methods_in_quick_turn_lose_nothing(
    tmp_path: Path, path: tuple[AccessMethod, ...], crash: bool
) -> None:
    """Each change meets stores that have not come to the one before."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, of_method(path[0]))
        wanted: dict[int, list[tuple[int, str]]] = {}
        rows = [(0, "a")]
        wanted[await bench.write(tablet, insert(*rows))] = list(rows)
        for version, method in enumerate(path[1:], 2):
            await tablet.alter([of_method(method)], version)
            rows.append((version - 1, "b"))
            wanted[await bench.write(tablet, insert(rows[-1]))] = list(rows)
        if crash:
            await bench.crash()
            tablet = await bench.open()
        await check(bench, tablet, wanted)
        await bench.close()

    run(main)


def test_what_a_store_gives_up_is_durable_in_the_other(tmp_path: Path) -> None:
    """The log may be cut right behind: nothing of it is needed any more."""

    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, of_method(AccessMethod.ROW))
        first = await bench.write(tablet, insert((1, "a")))
        await tablet.alter([of_method(AccessMethod.HYBRID)], 2)
        await tablet.alter([of_method(AccessMethod.COLUMNAR)], 3)
        # As the log would be cut: only what the stores do not hold durably is left.
        kept = [e for e in bench.logs[7] if e.index > tablet.durable_index]
        assert len(kept) < len(bench.logs[7])
        await bench.crash()
        tablet = await bench.open()
        assert await bench.read(tablet, first) == [(1, "a")]
        await bench.close()

    run(main)


@pytest.mark.parametrize("lost", ["columnar", "rows", "both"])
def test_a_hybrid_tablet_is_whole_with_one_file(tmp_path: Path, lost: str) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, of_method(AccessMethod.HYBRID))
        first = await bench.write(tablet, insert((1, "a"), (2, "b")))
        second = await bench.write(tablet, update((1, "A")))
        await tablet.checkpoint()
        durable = tablet.durable_index
        third = await bench.write(tablet, delete(2))
        await bench.crash()
        path = tmp_path / "7.duckdb"
        for name, file in (("columnar", path), ("rows", rows_path(path))):
            if lost in (name, "both"):
                file.write_bytes(b"damaged" * 5000)
        if lost != "both":
            # What is durable is not needed from the log.
            bench.logs[7] = [e for e in bench.logs[7] if e.index > durable]
            await _open_cut(bench, durable)
            tablet = bench.peers.tablets[7]
        else:
            tablet = await bench.open()
        assert damaged_path(path).exists() == (lost != "rows")
        assert damaged_path(rows_path(path)).exists() == (lost != "columnar")
        await check(
            bench,
            tablet,
            {first: [(1, "a"), (2, "b")], second: [(1, "A"), (2, "b")], third: [(1, "A")]},
        )
        await bench.close()

    run(main)


async def _open_cut(bench: Bench, durable: int) -> None:
    """Opens a tablet whose log was cut: entries count from behind the durable ones."""
    tablet = await bench.open(alter=False)
    assert tablet.durable_index >= durable


def test_a_row_table_without_its_file_begins_anew(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        tablet = await bench.open(7, of_method(AccessMethod.ROW))
        first = await bench.write(tablet, insert((1, "a")))
        await tablet.checkpoint()
        await bench.crash()
        rows_path(tmp_path / "7.duckdb").unlink()
        tablet = await bench.open()  # its log is whole
        assert await bench.read(tablet, first) == [(1, "a")]
        await bench.close()

    run(main)


def test_columnar_tablets_have_no_row_store(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        bench = Bench(runtime, tmp_path)
        assert Defaults.method is AccessMethod.COLUMNAR
        tablet = await bench.open()
        await bench.write(tablet, insert((1, "a")))
        await tablet.checkpoint()
        assert not rows_path(tmp_path / "7.duckdb").exists()
        # One that comes later is filled from what was checkpointed before.
        await tablet.alter([of_method(AccessMethod.HYBRID)], 2)
        assert await tablet.read_rows(12, [(1,)]) == [(1, "a")]
        await bench.close()

    run(main)
