"""Reads of a row store by key or along an index, on the loop.

What `newest_ts` tells a reader is announced *before* the change that makes it true begins, so it is
never behind the tables: a statement that finds `newest_ts <= S` meets no row later than S. One key
needs no more than its own row: a current row that began at or before S is the row at S; else the
row at S, if there is one, is in history already, since everything committed at or below S is
applied (the caller has waited for that), and only the horizon takes it away from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

from storage.fragments import END_OF_TIME, FragmentId, FragmentSchema, Timestamp
from storage.row_scan import begin_of, find, is_empty
from storage.row_tables import RowTables, StoredKey, StoredRow, quoted

Connection: TypeAlias = Any  # apsw's module has no type for a connection that mypy finds


class RowKeyReads(ABC):
    """See the module. Fragments can be read once their tables are settled."""

    def __init__(self) -> None:
        self._readable: dict[FragmentId, RowTables] = {}
        self.newest_ts: Timestamp = 0

    @abstractmethod
    def _reader(self) -> Connection:
        """The connection to read with, now."""

    @property
    def fragments(self) -> dict[FragmentId, FragmentSchema]:
        """The fragments in the file, by id."""
        return {fragment_id: tables.schema for fragment_id, tables in self._readable.items()}

    def tables(self, fragment_id: FragmentId) -> RowTables:
        """A fragment's tables; KeyError when the store has no such fragment."""
        return self._readable[fragment_id]

    def __contains__(self, fragment_id: FragmentId) -> bool:
        return fragment_id in self._readable

    def get(
        self, fragment_id: FragmentId, key: StoredKey, timestamp: Timestamp = END_OF_TIME
    ) -> StoredRow | None:
        """The row with that key at the timestamp, its `begin_ts` last; None where there is
        none. The caller has seen to it that the store has all it needs, and to the horizon."""
        tables = self._readable[fragment_id]
        execute = self._reader().execute
        found = execute(tables.get_sql, key).fetchall()
        if found and found[0][-1] <= timestamp:
            row: StoredRow = found[0]
            return row
        if self.newest_ts <= timestamp:
            return None
        past = execute(tables.get_past_sql, (*key, timestamp)).fetchall()
        return past[0] if past and past[0][-1] <= timestamp else None

    def get_many(
        self,
        fragment_id: FragmentId,
        keys: Sequence[StoredKey],
        timestamp: Timestamp = END_OF_TIME,
    ) -> list[StoredRow | None]:
        """`get` for each key."""
        return [self.get(fragment_id, key, timestamp) for key in keys]

    def scan(
        self,
        fragment_id: FragmentId,
        timestamp: Timestamp = END_OF_TIME,
        *,
        prefix: Sequence[Any] = (),
        low: tuple[Any, bool] | None = None,
        high: tuple[Any, bool] | None = None,
        index: Sequence[str] | None = None,
        descending: bool = False,
        limit: int | None = None,
        past: bool = True,
    ) -> list[StoredRow]:
        """Rows at the timestamp in the order of the key, or of `index`, a list of columns.

        `prefix` are stored values of the first of these columns, all equal; `low` and `high`
        bound the next one, each with whether the bound itself counts. Without `past` those that
        have ended since are left out.
        """
        tables = self._readable[fragment_id]
        columns = tuple(index) if index is not None else tables.schema.key
        earlier = self.newest_ts > timestamp
        where, parameters = _range(columns, prefix, low, high, first=2 if earlier else 1)
        if earlier:
            parameters = [timestamp, *parameters]
        order = ", ".join(quoted(c) + (" DESC" if descending else "") for c in columns)
        sql = tables.scan_sql(where, earlier=earlier, past=past)
        sql += f" ORDER BY {order}"
        if limit is not None:
            sql += f" LIMIT {limit}"
        rows: list[StoredRow] = self._reader().execute(sql, parameters).fetchall()
        return rows

    def find(
        self, fragment_id: FragmentId, columns: Sequence[str], values: Sequence[Any]
    ) -> list[StoredKey]:
        """Keys of current rows with these stored values in these columns, none of them NULL."""
        return find(self._reader(), self._readable[fragment_id], columns, values)

    def begin_of(self, fragment_id: FragmentId, key: StoredKey) -> Timestamp | None:
        """When the current row with that key began; None where there is none."""
        return begin_of(self._reader(), self._readable[fragment_id], key)

    def is_empty(self, fragment_id: FragmentId) -> bool:
        """Whether the fragment has no current row."""
        return is_empty(self._reader(), self._readable[fragment_id])


def _range(
    columns: Sequence[str],
    prefix: Sequence[Any],
    low: tuple[Any, bool] | None,
    high: tuple[Any, bool] | None,
    first: int,
) -> tuple[str, list[Any]]:
    """A condition over the first columns, and its parameters, numbered from `first`."""
    compared = [(name, "=", value) for name, value in zip(columns, prefix, strict=False)]
    for bound, sign in ((low, ">"), (high, "<")):
        if bound is not None:
            value, is_included = bound
            compared.append((columns[len(prefix)], sign + "=" * is_included, value))
    conditions = [
        f"{quoted(name)} {sign} ?{number}" for number, (name, sign, _) in enumerate(compared, first)
    ]
    return " AND ".join(conditions), [value for _, _, value in compared]
