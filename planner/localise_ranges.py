"""The ranges of rows that a scan is about, for what validates reads (rule I4).

    WHERE customer IN (1, 2) AND day >= '2026-01-01' AND note LIKE '%x'
    -> (customer, day): 1 from that day on, 2 from that day on

A row outside of them does not matter to the query, whatever becomes of it. Conditions that are
not understood widen a range, and so do columns whose values the store does not compare as SQL
does (numeric, floats, char(n), json and so on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from catalog.datums import datum_of
from catalog.fragment_schemas import store_name
from catalog.model import Column, ColumnId
from catalog.pruning import Interval, Restriction, ValueSet
from planner.algebra import Scalar, Scan
from planner.localise_restrictions import restrictions_of
from storage.read_sets import Bound, RowRange
from storage.row_values import encoding_of
from storage.types import Kind

# Of more combinations of values some columns' are left out.
MOST_RANGES = 100

_KINDS = frozenset(
    {
        Kind.INT2,
        Kind.INT4,
        Kind.INT8,
        Kind.TEXT,
        Kind.VARCHAR,
        Kind.UUID,
        Kind.DATE,
        Kind.TIMESTAMP,
    }
)


def ranges_of(scan: Scan, conditions: Sequence[Scalar]) -> tuple[RowRange, ...]:
    """Ranges that have all rows that meet the conditions; none where that may be any row."""
    if len(scan.table.groups) > 1:
        return ()  # no fragment has all columns
    columns = {
        column.name: source
        for column, source in zip(scan.output, scan.sources, strict=True)
        if source.type.kind in _KINDS
    }
    found, _ = restrictions_of(conditions, columns)
    by_id = {source.id: source for source in columns.values()}
    return _combined({by_id[column]: restriction for column, restriction in found.items()})


def _combined(restrictions: Mapping[Column, Restriction]) -> tuple[RowRange, ...]:
    equal: dict[ColumnId, tuple[object, ...]] = {}
    bounds: dict[ColumnId, tuple[Bound, Bound]] = {}
    count = 1
    for column, restriction in restrictions.items():
        if isinstance(restriction, Interval):
            ends = _bounds(column, restriction)
            if ends != (None, None):
                bounds[column.id] = ends
            continue
        values = _values(column, restriction)
        if values and count * len(values) <= MOST_RANGES:
            equal[column.id] = values
            count *= len(values)
    bounded, ends = next(iter(bounds.items()), (None, (None, None)))
    named = tuple(map(store_name, equal)) + (() if bounded is None else (store_name(bounded),))
    return tuple(RowRange(named, values, *ends) for values in product(*equal.values()) if named)


def _values(column: Column, restriction: ValueSet) -> tuple[object, ...]:
    """As the store has them; none where one of them cannot be said."""
    listed = [None if v is None else _stored(column, v) for v in restriction.values]
    known = zip(listed, restriction.values, strict=True)
    return () if any((s is None) is not (v is None) for s, v in known) else tuple(listed)


def _bounds(column: Column, interval: Interval) -> tuple[Bound, Bound]:
    low = None if interval.low is None else _stored(column, interval.low)
    high = None if interval.high is None else _stored(column, interval.high)
    return (
        None if low is None else (low, interval.low_inclusive),
        None if high is None else (high, interval.high_inclusive),
    )


def _stored(column: Column, value: object) -> object | None:
    """The value as the store has it; None where it has no such value."""
    datum = datum_of(column.type, value)
    if not isinstance(datum, int | str):
        return None  # a number between two of the type's own
    try:
        stored: object = encoding_of(column.type).encode(datum)
    except ValueError:
        return None
    return stored
