"""Where rows that a statement changes are found by an index: the scan, and the parts to ask.

The values of the index's columns are computed from the parameters; the leaders of the parts that
may have such rows find them (`storage.tablet_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog.bounds import NO_PART, ordinal_for
from catalog.fragment_schemas import ANCHOR_GROUP, store_name
from catalog.model import Fragment, Table
from planner.key_conditions import Bound, FoundRows
from planner.row_expressions import NotByRow, RowFunction, row_function
from storage.index_reads import IndexScan
from storage.row_tables import RowTables


@dataclass(frozen=True, slots=True)
class Found:
    """What the leaders of these fragments are asked for."""

    scan: IndexScan
    fragments: tuple[Fragment, ...]


class RowFinder:
    """How one statement's rows are found, whatever its parameters."""

    def __init__(self, table: Table, tables: RowTables, rows: FoundRows) -> None:
        self._table = table
        self._tables = tables
        self._names = tuple(store_name(column) for column in rows.index)
        self._equal = [row_function(code) for code in rows.equal]
        self._low = _bound(rows.low)
        self._high = _bound(rows.high)
        given = rows.index[: len(rows.equal)]
        known = set(table.partition_columns) <= set(given) and bool(table.partition_columns)
        # The partition columns among the values, where they tell the part.
        self._partition = [given.index(c) for c in table.partition_columns] if known else None

    def find(self, values: Sequence[object]) -> Found | None:
        """What to ask for; None where there can be no such row."""
        plain = [function((), values) for function in self._equal]
        if None in plain:
            return None
        try:
            prefix = tuple(self._stored(place, value) for place, value in enumerate(plain))
        except ValueError:  # no row can have it
            return None
        bounds = []
        for bound in (self._low, self._high):
            value = None if bound is None else bound[0]((), values)
            if bound is not None and value is None:
                return None
            bounds.append(None if bound is None else self._bounded(value, is_included=bound[1]))
        scan = IndexScan(self._names, prefix, bounds[0], bounds[1])
        return Found(scan, tuple(self._fragments(plain)))

    def _stored(self, place: int, value: Any) -> Any:
        return self._tables.encoding(self._names[place]).encode(value)

    def _bounded(self, value: Any, *, is_included: bool) -> tuple[Any, bool]:
        try:
            return self._stored(len(self._equal), value), is_included
        except ValueError as error:
            raise NotByRow("a bound that is no value of its column") from error

    def _fragments(self, plain: Sequence[object]) -> list[Fragment]:
        parts = self._table.parts
        if self._partition is not None:
            ordinal = ordinal_for(self._table, [plain[place] for place in self._partition])
            parts = () if ordinal == NO_PART else (parts[ordinal],)
        found = [part.fragments[ANCHOR_GROUP] for part in parts]
        return sorted(found, key=lambda fragment: fragment.tablet_id)


def _bound(bound: Bound | None) -> tuple[RowFunction, bool] | None:
    return None if bound is None else (row_function(bound[0]), bound[1])
