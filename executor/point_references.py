"""Foreign keys of statements over single rows: looked after without a plan (rule I5).

    rows that are there now    the rows they refer to: locked FOR KEY SHARE and read, in the call
                               that locks, at their leaders
    rows that are gone         one row that refers to each, by an index at its leader

The order and the locks are those of `executor.foreign_keys`: the statement's changes first, then
under their locks what others have made of it by now, at every isolation level; the locks of rows
that are referred to bind, and the commit asks for them once its timestamp is drawn. Where anything
is missing or refers, `NotByRow`: the usual way says what is wrong, or carries out the key's action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog.bounds import NO_PART, ordinal_for
from catalog.fragment_schemas import ANCHOR_GROUP
from catalog.model import ColumnId, Fragment, Table
from catalog.tablet_requests import ChangeRows, RowsChanged
from executor.services import ExecutorServices
from executor.transaction_driver import Transaction
from planner.point_references import Reference, Referred, index_names
from planner.row_expressions import NotByRow
from storage.fragments import OwnChanges
from storage.index_reads import IndexScan
from storage.locks import LockMode
from storage.row_programs import RowProgram, encode_program
from storage.row_tables import RowTables, StoredKey, StoredRow

# Of more rows that are gone a plan is quicker.
MOST_GONE = 100

_LOCKS = encode_program(RowProgram(only_locks=True))


@dataclass(frozen=True, slots=True)
class KeyKeeper:
    """What one statement has to look after."""

    tables: RowTables
    references: tuple[Reference, ...]
    referred: tuple[Referred, ...]

    async def keep(
        self,
        services: ExecutorServices,
        opened: Transaction,
        command: int,
        lock_s: float,
        answers: Sequence[RowsChanged],
    ) -> None:
        """Looks after what the statement's requests have done; `NotByRow` where that is not all
        there is to it."""
        pairs = [pair for answer in answers for pair in answer.rows]
        for reference in self.references:
            keys = _referred_to(reference, pairs)
            for ordinal, wanted in self._placed(reference, keys):
                await _lock(opened, reference, ordinal, wanted, command, lock_s)
        gone = [before for before, after in pairs if before is not None and after is None]
        if len(gone) > MOST_GONE:
            raise NotByRow("many rows that are gone")
        for referred in self.referred:
            for row in gone:
                await self._refuse_referred(services, opened, referred, row, command)

    def _placed(
        self, reference: Reference, keys: Sequence[StoredKey]
    ) -> list[tuple[int, list[StoredKey]]]:
        """The keys by the part of the target, in one order for all statements."""
        found: dict[int, list[StoredKey]] = {}
        for key in keys:
            values = _plain(reference.tables, reference.tables.schema.key, key)
            by_id = dict(zip(reference.target.key, values, strict=True))
            ordinal = _ordinal(reference.target, by_id)
            if ordinal == NO_PART:
                raise NotByRow("a row that no part has")
            found.setdefault(ordinal, []).append(key)
        return sorted((ordinal, sorted(listed)) for ordinal, listed in found.items())

    async def _refuse_referred(
        self,
        services: ExecutorServices,
        opened: Transaction,
        referred: Referred,
        row: StoredRow,
        command: int,
    ) -> None:
        prefix = tuple(row[place] for place in referred.places)
        if None in prefix:
            return
        names = index_names(referred)
        values = _plain(referred.tables, names[: len(prefix)], prefix)
        by_id = dict(zip(referred.columns, values, strict=False))
        scan = IndexScan(names, prefix, limit=1)
        for fragment in _fragments(referred.table, by_id):
            own = OwnChanges(opened.id, command + 1, opened.written)
            mine = own if fragment.tablet_id in opened.written else None
            found = await services.tablets.scan_stored(
                fragment.tablet_id, fragment.id, scan, None, mine
            )
            if found is None or found:
                raise NotByRow("a row that refers to one that is gone")


def _referred_to(
    reference: Reference, pairs: Sequence[tuple[StoredRow | None, StoredRow | None]]
) -> list[StoredKey]:
    """The keys that new rows refer to, and changed ones by other values than before."""
    found: dict[StoredKey, None] = {}
    for before, after in pairs:
        if after is None:
            continue
        key = tuple(after[place] for place in reference.places)
        if before is not None and key == tuple(before[place] for place in reference.places):
            continue
        if None not in key:
            found[key] = None
        elif reference.match_full and any(value is not None for value in key):
            raise NotByRow("a key of which a part is NULL")
    return list(found)


async def _lock(
    opened: Transaction,
    reference: Reference,
    ordinal: int,
    keys: Sequence[StoredKey],
    command: int,
    lock_s: float,
) -> None:
    """Locks the rows of these keys; `NotByRow` where one is not there."""
    fragment = reference.target.parts[ordinal].fragments[ANCHOR_GROUP]
    request = ChangeRows(
        fragment.tablet_id,
        opened.id,
        0,
        fragment.id,
        tuple(keys),
        LockMode.FOR_KEY_SHARE.value,
        _LOCKS,
        (None,),
        command=command,
        shows=True,
        lock_s=lock_s,
        definition=reference.tables.schema.definition,
    )
    answer = await opened.change_rows(request, reference.tables, binding=True)
    if not answer.by_row or answer.changed < len(keys):
        raise NotByRow("a row that is not there")


def _plain(tables: RowTables, names: Sequence[str], stored: Sequence[Any]) -> list[Any]:
    return [tables.encoding(n).decode(value) for n, value in zip(names, stored, strict=True)]


def _ordinal(table: Table, by_id: dict[ColumnId, Any]) -> int:
    return ordinal_for(table, [by_id[column] for column in table.partition_columns])


def _fragments(table: Table, by_id: dict[ColumnId, Any]) -> list[Fragment]:
    """Where rows with these values may lie."""
    parts = table.parts
    if table.partition_columns and set(table.partition_columns) <= by_id.keys():
        ordinal = _ordinal(table, by_id)
        parts = () if ordinal == NO_PART else (parts[ordinal],)
    return [part.fragments[ANCHOR_GROUP] for part in parts]
