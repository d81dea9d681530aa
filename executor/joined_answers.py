"""What a join by keys answers, from the rows that its relations gave.

    rows of the first relation -> with each the row that its key leads to, if that meets the
    conditions -> ... -> ordered, as many as are asked for -> columns, or expressions over them
                      -> or brought down to one row of aggregates

A joined row is the stored rows of its relations one behind the other, in their order in the query;
what is not there yet is None. All of it is of at most some thousand rows (`storage.index_reads`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from catalog.bounds import NO_PART, ordinals_by
from catalog.fragment_schemas import fragment_schema, store_name
from catalog.model import Fragment
from executor.execution import Result
from executor.index_answers import Sums, batch_of, result_of
from executor.point_plans import Computer
from planner.context import PlannerContext
from planner.datum import Datum
from planner.joined_reads import JoinedRead
from planner.joined_relations import Place
from planner.joined_ways import KeySource, Lookup
from planner.point import Parameter
from storage.row_closures import NotByRow, RowFunction
from storage.row_tables import RowTables, StoredRow
from storage.types import Kind, SqlType

# The stored row of each relation.
Joined: TypeAlias = tuple[StoredRow | None, ...]
PlainKey: TypeAlias = tuple[Any, ...]


class JoinedAnswer:
    """How one query's rows are joined and answered, whatever its parameters."""

    def __init__(self, read: JoinedRead, context: PlannerContext) -> None:
        self.read = read
        self.tables = [
            RowTables(fragment_schema(table, table.parts[0].fragments[0])) for table in read.tables
        ]
        of_first = read.first.computed
        self._filter = None if of_first is None else Computer(of_first, context)
        self._tests = [None if test is None else Computer(test, context) for test in read.tests]
        self._computer = None if read.computed is None else Computer(read.computed, context)
        self._sums = None if read.aggregates is None else Sums(read.aggregates, context)
        self._finders = [self._finder(lookup) for lookup in read.lookups]
        self._none = tuple((None,) * len(tables.names) for tables in self.tables)

    # -- the rows

    def begun(self, found: Sequence[Sequence[StoredRow]], values: Sequence[Datum]) -> list[Joined]:
        """The first relation's rows, those that meet what is asked of it alone."""
        started, count = self.read.started, len(self.tables)
        rows: Iterator[StoredRow] = chain.from_iterable(found)
        if self._filter is not None:
            given, decode = self._filter.values(values), self.tables[started].decode_row
            conditions = self._filter.conditions
            rows = (row for row in rows if _meets(conditions, decode(row), given))
        before, behind = (None,) * started, (None,) * (count - started - 1)
        return [(*before, row, *behind) for row in rows]

    def keys(
        self, lookup: Lookup, rows: Sequence[Joined], values: Sequence[Datum]
    ) -> list[PlainKey | None]:
        """For each row the plain key of what is joined with it, None where that is nothing.
        `NotByRow` where only the usual way can tell."""
        readers = [
            self._reader(lookup, number, source, values) for number, source in enumerate(lookup.key)
        ]
        found = [tuple(reader(row) for reader in readers) for row in rows]
        return [None if None in key else key for key in found]

    def _reader(
        self, lookup: Lookup, number: int, source: KeySource, values: Sequence[Datum]
    ) -> Callable[[Joined], Any]:
        if isinstance(source, Place):
            return self._plain_reader(source)
        given = values[source.number - 1] if isinstance(source, Parameter) else source
        constant = lookup.plain(number, given)
        if constant is None:
            raise NotByRow("a value that the key's column cannot have")
        return lambda _: constant

    def _plain_reader(self, place: Place) -> Callable[[Joined], Any]:
        relation, at = place.relation, self._at(place)
        encoding = self.tables[relation].encodings[at]
        if encoding.same:
            return lambda row: row[relation][at]  # type: ignore[index]
        decode = encoding.decode

        def plain(row: Joined) -> Any:
            stored = row[relation][at]  # type: ignore[index]
            return None if stored is None else decode(stored)

        return plain

    def fragment_of(self, step: int) -> Callable[[PlainKey], Fragment | None]:
        """Where the row of that step with a plain key lies, if it lies anywhere."""
        return self._finders[step]

    @staticmethod
    def _finder(lookup: Lookup) -> Callable[[PlainKey], Fragment | None]:
        table = lookup.table
        places = [table.key.index(column) for column in table.partition_columns]
        ordinal_of = ordinals_by(table)

        def find(key: PlainKey) -> Fragment | None:
            ordinal = ordinal_of([key[place] for place in places])
            return None if ordinal == NO_PART else table.parts[ordinal].fragments[0]

        return find

    def extended(
        self,
        step: int,
        rows: Sequence[Joined],
        keys: Sequence[PlainKey | None],
        known: Mapping[PlainKey, StoredRow],
        values: Sequence[Datum],
    ) -> list[Joined]:
        """The rows with what their keys have led to, those that meet the conditions of the step."""
        relation, found = self.read.lookups[step].relation, list[Joined]()
        for row, key in zip(rows, keys, strict=True):
            joined = None if key is None else known.get(key)
            if joined is not None:
                found.append((*row[:relation], joined, *row[relation + 1 :]))
        test = self._tests[step]
        if test is None:
            return found
        given = test.values(values)
        return [row for row in found if _meets(test.conditions, self._plain(row), given)]

    def _plain(self, row: Joined) -> list[Any]:
        plain: list[Any] = []
        for tables, part, none in zip(self.tables, row, self._none, strict=True):
            plain += none if part is None else tables.decode_row(part)
        return plain

    def _at(self, place: Place) -> int:
        """Where a stored row of its relation has the column."""
        return self.tables[place.relation].names.index(store_name(place.column.id))

    # -- the answer

    def result(self, rows: Sequence[Joined], values: Sequence[Datum]) -> Result:
        """The answer. Raises what computing it raises, `NotByRow` included."""
        read = self.read
        if self._sums is not None:
            answer = [self._sums.of([self._plain(row) for row in rows], values)]
        else:
            answer = self._answer(self._ordered(rows)[: read.limit], values)
        return result_of(read.columns, batch_of(answer, read.columns), len(answer))

    def _answer(self, rows: Sequence[Joined], values: Sequence[Datum]) -> list[list[Any]]:
        if self._computer is not None:
            given, outputs = self._computer.values(values), self._computer.outputs
            plain = [self._plain(row) for row in rows]
            return [[output(row, given) for output in outputs] for row in plain]
        readers = [self._shown(place) for place in self.read.places]
        return [[reader(row) for reader in readers] for row in rows]

    def _shown(self, place: Place) -> Callable[[Joined], Any]:
        """The column's plain value, char(n) with its padding."""
        plain, shown = self._plain_reader(place), place.column.type
        if shown.kind is not Kind.BPCHAR or shown.length is None:
            return plain
        return _padded(plain, shown)

    def _ordered(self, rows: Sequence[Joined]) -> list[Joined]:
        """By what ORDER BY names last first: a sort keeps the order that it finds."""
        ordered = list(rows)
        for place, descending, nulls_first in reversed(self.read.order):
            relation, at = place.relation, self._at(place)
            # Reversed, what is marked as more comes first.
            null = (1 if nulls_first == descending else -1,)
            ordered.sort(
                key=lambda row, r=relation, a=at, n=null: (
                    n if row[r][a] is None else (0, row[r][a])
                ),  # type: ignore[misc]
                reverse=descending,
            )
        return ordered


def _meets(conditions: Sequence[RowFunction], row: Sequence[Any], given: Sequence[Any]) -> bool:
    return all(condition(row, given) is True for condition in conditions)


def _padded(plain: Callable[[Joined], Any], shown: SqlType) -> Callable[[Joined], Any]:
    length = shown.length or 0

    def padded(row: Joined) -> Any:
        value = plain(row)
        return None if value is None else value.ljust(length)

    return padded
