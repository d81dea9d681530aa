"""What a transaction read on a tablet, so that it can be asked whether that still stands (rule I4).

    whole fragments    scans of which no more is known
    keys               rows looked up by their keys, there or not
    ranges             rows by values of columns, those of an index or of a condition

Whoever reads by values would also see rows that come to have these values. So a range is a
condition on rows, not a list of them: it counts for a row's values before a change as well as for
those behind it. Values are as SQLite has them (`storage.row_values`), which compare as SQL says
for the columns that are named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from storage.fragments import FragmentId

# A value, and whether it counts itself; None for an open end.
Bound: TypeAlias = tuple[Any, bool] | None
_Span: TypeAlias = tuple[Bound, Bound]


class RowRange(msgspec.Struct, frozen=True):
    """Rows whose first `columns` have the values of `prefix`, and whose next one lies between
    `low` and `high`."""

    columns: tuple[str, ...]
    prefix: tuple[Any, ...]
    low: Bound = None
    high: Bound = None

    @property
    def named(self) -> tuple[str, ...]:
        """The columns whose values count."""
        is_bounded = self.low is not None or self.high is not None
        return self.columns[: len(self.prefix) + is_bounded]

    @property
    def bare(self) -> RowRange:
        """The same rows without any more words on how they are found."""
        return RowRange(self.named, self.prefix, self.low, self.high)


class ReadSet(msgspec.Struct, frozen=True):
    """What was read on one tablet; each fragment's reads are in one of the three."""

    fragments: tuple[FragmentId, ...] = ()
    keys: tuple[tuple[FragmentId, tuple[tuple[Any, ...], ...]], ...] = ()
    ranges: tuple[tuple[FragmentId, tuple[RowRange, ...]], ...] = ()


class RangeIndex:
    """Many ranges, asked whether a row is in one of them. `names` are the columns of the rows
    that it is asked about, in their order. Ranges that differ in values alone are one look."""

    def __init__(self, ranges: Iterable[RowRange], names: Sequence[str]) -> None:
        self._spans: dict[tuple[int, ...], dict[tuple[Any, ...], list[_Span]]] = {}
        for each in ranges:
            places = tuple(map(names.index, each.named))
            of_shape = self._spans.setdefault((len(each.prefix), *places), {})
            of_shape.setdefault(each.prefix, []).append((each.low, each.high))

    def __contains__(self, row: Sequence[Any]) -> bool:
        for (width, *places), by_prefix in self._spans.items():
            spans = by_prefix.get(tuple([row[place] for place in places[:width]]))
            if spans is None:
                continue
            if len(places) == width or _in_any(row[places[width]], spans):
                return True
        return False


def _in_any(value: Any, spans: Sequence[_Span]) -> bool:
    return value is not None and any(is_between(value, low, high) for low, high in spans)


def is_between(value: Any, low: Bound, high: Bound) -> bool:
    """Whether the value lies between the bounds."""
    if low is not None and not (value > low[0] or (low[1] and value == low[0])):
        return False
    return high is None or value < high[0] or (high[1] and bool(value == high[0]))
