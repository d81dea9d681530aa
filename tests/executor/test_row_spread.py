"""Rows without a key go where their transaction has written, and stay spread."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from executor.row_spread import SLACK_ROWS, RowSpread
from storage.keyhash import hash_integer

TABLETS = (70, 80, 90)


def part_of(row_id: int) -> int:
    return hash_integer(row_id) * len(TABLETS) >> 32


def rows_put(places: Iterator[set[int]], rows: int) -> tuple[Counter[int], int]:
    """How many rows each tablet has got, and how many went where nothing was written yet."""
    ids = count(1)
    spread = RowSpread(TABLETS)
    found = Counter(dict.fromkeys(TABLETS, 0))
    elsewhere = 0
    for _ in range(rows):
        before = next(places)
        written = set(before)
        row_id = spread.draw(lambda: next(ids), part_of, written)
        tablet = TABLETS[part_of(row_id)]
        assert written == before | {tablet}
        found[tablet] += 1
        elsewhere += tablet not in before
    return found, elsewhere


def places(choose: Callable[[random.Random], set[int]]) -> Iterator[set[int]]:
    chance = random.Random(5)
    while True:
        yield choose(chance)


def test_rows_go_where_their_transactions_write() -> None:
    two = places(lambda chance: set(chance.sample(TABLETS, 2)))
    found, elsewhere = rows_put(two, 3000)
    assert elsewhere <= 3
    assert max(found.values()) - min(found.values()) <= 3


@pytest.mark.parametrize("written", [{80}, {80, 90}], ids=["one tablet", "two tablets"])
def test_rows_stay_even_where_all_write_the_same_tablets(written: set[int]) -> None:
    found, _ = rows_put(places(lambda _: set(written)), 3000)
    assert max(found.values()) - min(found.values()) <= 2 * SLACK_ROWS


def test_chance_says_where_nothing_is_near() -> None:
    found, elsewhere = rows_put(places(lambda chance: chance.choice([set(), {7}])), 3000)
    assert elsewhere == 3000
    assert min(found.values()) > 900


def test_rows_of_one_statement_go_together() -> None:
    ids = count(1)
    spread, written = RowSpread(TABLETS), set[int]()
    drawn = [spread.draw(lambda: next(ids), part_of, written) for _ in range(10)]
    assert len({part_of(row_id) for row_id in drawn}) == len(written) == 1
    assert len(set(drawn)) == 10
