"""Which parts can hold rows that satisfy what a query says of the partition columns.

The planner reduces its predicates to one restriction a column, a set of values or an interval,
and asks `prune`. The answer may name a part that holds no such row, but never leaves out one
that does (tests/catalog/test_bounds.py checks that against routing).

    hash    every partition column has a value set: the parts of all combinations
    range   the key's leading columns with value sets, then one interval: a lexicographic
            interval a combination; the parts that overlap one of them
    list    parts with a value that satisfies the restriction; DEFAULT unless all values of a
            set belong to other parts

Integer intervals of a hash key are taken apart into their values when there are few.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import cast

from catalog.bounds import (
    NO_PART,
    Coordinate,
    RangeCut,
    RingCut,
    cut_of,
    ordinal_for,
    partition_types,
    ring_positions,
)
from catalog.datums import (
    DISCRETE_KINDS,
    INTEGER_KINDS,
    Datum,
    datum_from_text,
    datum_of,
)
from catalog.model import ColumnId, Part, Table
from storage.types import SqlType

# More combinations of values than this are not tried: every part stays.
MAX_COMBINATIONS = 10_000
# Hash keys: an integer interval up to this many values is treated as a set.
MAX_INTERVAL_VALUES = 64


@dataclass(frozen=True, slots=True)
class ValueSet:
    """The column equals one of `values`: Python's or texts; None stands for IS NULL."""

    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """The column is not NULL and lies between; a side that is None is open."""

    low: object | None = None
    high: object | None = None
    low_inclusive: bool = True
    high_inclusive: bool = True


Restriction = ValueSet | Interval

# A place between keys: rank and datum as in a bound's coordinate, and -1 or 1 for the place
# just below or just above that datum.
_Place = tuple[int, Datum, int]
_BELOW_ALL: _Place = (-1, 0, 0)
_ABOVE_ALL: _Place = (1, 0, 0)


@dataclass(frozen=True, slots=True)
class _Span:
    """An interval of datums, both ends as places."""

    low: _Place
    high: _Place


def prune(table: Table, restrictions: Mapping[ColumnId, Restriction]) -> tuple[Part, ...]:
    """The parts that can hold a row satisfying all restrictions, in order of ordinals."""
    cut = cut_of(table)
    if cut is None or not any(c in restrictions for c in table.partition_columns):
        return table.parts
    given = [restrictions.get(c) for c in table.partition_columns]
    types = partition_types(table)
    if isinstance(cut, RingCut):
        wanted = _hash_parts(cut, types, given)
    elif isinstance(cut, RangeCut):
        wanted = _range_parts(cut, types, given)
    else:
        wanted = _list_parts(table, types[0], given[0])
    if wanted is None:
        return table.parts
    return tuple(table.parts[ordinal] for ordinal in sorted(wanted) if ordinal != NO_PART)


def _hash_parts(
    cut: RingCut, types: Sequence[SqlType], given: Sequence[Restriction | None]
) -> set[int] | None:
    choices = [_values_of(t, r) for t, r in zip(types, given, strict=True)]
    known = [values for values in choices if values is not None]
    if any(not values for values in known):
        return set()
    if len(known) < len(choices) or _combinations(known) > MAX_COMBINATIONS:
        return None
    positions = ring_positions(types, list(itertools.product(*known)))
    return set(cut.owners_of(positions).tolist())


def _combinations(choices: Sequence[Sequence[object]]) -> int:
    count = 1
    for values in choices:
        count *= len(values)
    return count


def _values_of(sql_type: SqlType, restriction: Restriction | None) -> list[object] | None:
    """All values a restriction allows, those the type cannot hold left out; None: too many."""
    if isinstance(restriction, ValueSet):
        return [v for v in restriction.values if v is None or _holds(sql_type, v)]
    if restriction is None or sql_type.kind not in INTEGER_KINDS:
        return None
    if restriction.low is None or restriction.high is None:
        return None
    span = _span_of(sql_type, restriction)
    low, high = cast(int, span.low[1]), cast(int, span.high[1])
    if span.low[0] != 0 or span.high[0] != 0 or high - low >= MAX_INTERVAL_VALUES:
        return None
    return list(range(low, high + 1))


def _holds(sql_type: SqlType, value: object) -> bool:
    """Whether a column of the type can equal the value (no integer equals 1.5)."""
    return sql_type.kind not in INTEGER_KINDS or isinstance(datum_of(sql_type, value), int)


def _span_of(sql_type: SqlType, interval: Interval) -> _Span:
    low, high = _BELOW_ALL, _ABOVE_ALL
    if interval.low is not None:
        low = _low_place(sql_type, datum_of(sql_type, interval.low), interval.low_inclusive)
    if interval.high is not None:
        high = _high_place(sql_type, datum_of(sql_type, interval.high), interval.high_inclusive)
    return _Span(low, high)


def _low_place(sql_type: SqlType, datum: Datum, inclusive: bool) -> _Place:
    """The first place of the interval; of discrete types always a value."""
    if sql_type.kind in DISCRETE_KINDS:
        assert not isinstance(datum, (str, bytes))
        if isinstance(datum, int):
            return 0, (datum if inclusive else datum + 1), 0
        return (0, int(datum // 1) + 1, 0) if isfinite(datum) else _beyond(datum)
    return 0, datum, 0 if inclusive else 1


def _high_place(sql_type: SqlType, datum: Datum, inclusive: bool) -> _Place:
    """The last place of the interval; of discrete types always a value."""
    if sql_type.kind in DISCRETE_KINDS:
        assert not isinstance(datum, (str, bytes))
        if isinstance(datum, int):
            return 0, (datum if inclusive else datum - 1), 0
        return (0, int(datum // 1), 0) if isfinite(datum) else _beyond(datum)
    return 0, datum, 0 if inclusive else -1


def _beyond(datum: float | Decimal) -> _Place:
    return _ABOVE_ALL if datum > 0 else _BELOW_ALL


def _range_parts(
    cut: RangeCut, types: Sequence[SqlType], given: Sequence[Restriction | None]
) -> set[int] | None:
    spans = _lexicographic_spans(types, given)
    if spans is None:
        return None
    found: set[int] = set()
    for low, high in spans:
        if low <= high:
            first = bisect_right(cut.bounds, low, key=_as_places)
            last = bisect_right(cut.bounds, high, key=_as_places)
            found.update(cut.parts[first : last + 1].tolist())
    if any(_allows_null(restriction) for restriction in given):
        found.add(cut.default)
    return found


def _allows_null(restriction: Restriction | None) -> bool:
    if isinstance(restriction, ValueSet):
        return None in restriction.values
    return restriction is None


_Key = tuple[_Place, ...]


def _lexicographic_spans(
    types: Sequence[SqlType], given: Sequence[Restriction | None]
) -> list[tuple[_Key, _Key]] | None:
    """The keys that satisfy the restrictions lie within these closed spans of keys."""
    prefixes: list[_Key] = [()]
    for place, (sql_type, restriction) in enumerate(zip(types, given, strict=True)):
        rest = len(types) - place - 1
        if isinstance(restriction, ValueSet):
            values = [
                datum_of(sql_type, v)
                for v in restriction.values
                if v is not None and _holds(sql_type, v)
            ]
            if len(prefixes) * len(values) > MAX_COMBINATIONS:
                return None
            prefixes = [(*prefix, (0, value, 0)) for prefix in prefixes for value in values]
            continue
        span = _span_of(sql_type, restriction or Interval())
        lows, highs = (_BELOW_ALL,) * rest, (_ABOVE_ALL,) * rest
        return [((*p, span.low, *lows), (*p, span.high, *highs)) for p in prefixes]
    return [(prefix, prefix) for prefix in prefixes]


def _as_places(bound: Sequence[Coordinate]) -> _Key:
    return tuple((rank, datum, 0) for rank, datum in bound)


def _list_parts(
    table: Table, sql_type: SqlType, restriction: Restriction | None
) -> set[int] | None:
    if restriction is None:
        return None
    if isinstance(restriction, ValueSet):
        values = [v for v in restriction.values if v is None or _holds(sql_type, v)]
        return {ordinal_for(table, [v]) for v in values}
    span = _span_of(sql_type, restriction)
    found = {p.ordinal for p in table.parts if p.bounds.is_default}
    for part in table.parts:
        texts = [text for text in part.bounds.list_values if text is not None]
        if any(span.low <= (0, datum_from_text(sql_type, t), 0) <= span.high for t in texts):
            found.add(part.ordinal)
    return found
