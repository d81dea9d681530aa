"""Rows by key, on a tablet's leader, without DuckDB and without a thread (rules R1, R2, R5).

    await tablet.read_rows(fragment_id, keys)                         now (R2)
    await tablet.read_rows(fragment_id, keys, S)                      at S (R1)
    await tablet.read_rows(fragment_id, keys, S, own=OwnChanges(...)) with a transaction's changes

Keys and rows are plain values (`row_values`): whole rows in the order of the fragment's columns,
None for a key without a row. Tables of access method row or hybrid only.

What a read waits for is transactions about to commit that may change *these keys*: at S those
whose floor is below S, without a timestamp every one. Who changes a row holds a lock on its key
until his outcome is applied, so the locks say which they are; one that holds no row lock is taken
to change any row. Then the store has all it needs, or is brought up (a large load is built up
behind its commit), the rows are read in one go without letting the loop turn, and *behind* that
the lease is checked: had another leader been elected before, it might have committed what this
one does not know (G1). Where the lease is not sure a round to the followers is made and the rows
are read again.

Over RPC (`catalog.tablet_rpc.TabletClient.read_stored`) keys and rows travel as SQLite has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from storage.fragments import END_OF_TIME, FragmentChange, FragmentId, Timestamp
from storage.key_overlay import Key
from storage.locks import LockMode, LockTable
from storage.participant import Participant
from storage.row_keys import has_keys
from storage.row_side import RowSide
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.snapshot import check_horizon
from storage.stored_changes import deleted_keys, inserted_rows, lock_key


def pending_on(
    participant: Participant,
    tables: RowTables,
    keys: Sequence[StoredKey],
    timestamp: Timestamp | None,
) -> list[int]:
    """Transactions about to commit that may change these keys, at or below the timestamp."""
    below = END_OF_TIME if timestamp is None else timestamp
    pending = participant.pending_below(below)
    if not pending:
        return []
    resources = _resources(tables, keys)
    return [t for t in pending if _may_change(participant.locks, t, resources)]


def _resources(
    tables: RowTables, keys: Sequence[StoredKey]
) -> frozenset[tuple[FragmentId, Key]] | None:
    """The keys as locks name them; None where locks are of the whole tablet."""
    schema = tables.schema
    if not has_keys(schema, schema.key):
        return None
    return frozenset((schema.fragment_id, lock_key(tables, key)) for key in keys)


def _may_change(
    locks: LockTable,
    transaction_id: int,
    resources: frozenset[tuple[FragmentId, Key]] | None,
) -> bool:
    if resources is None or locks.holds(transaction_id, LockMode.EXCLUSIVE):
        return True
    held = [resource for resource, _ in locks.rows_of(transaction_id) if resource]
    return not held or any(resource in resources for resource in held)


def read_now(
    rows: RowSide,
    tables: RowTables,
    keys: Sequence[StoredKey],
    timestamp: Timestamp | None,
    own: Sequence[FragmentChange] = (),
) -> list[StoredRow | None]:
    """The rows as the store has them, with the transaction's own changes. Does not wait."""
    store = rows.applier.store
    if timestamp is not None:
        check_horizon(store.tablet_id, timestamp, store.horizon)
    at = END_OF_TIME if timestamp is None else timestamp
    width = len(tables.names)
    try:
        found = store.get_many(tables.schema.fragment_id, keys, at)
    except apsw.Error as error:
        raise rows.failed(error) from error
    whole = [None if row is None else row[:width] for row in found]
    return _with_own(tables, keys, whole, own) if own else whole


def _with_own(
    tables: RowTables,
    keys: Sequence[StoredKey],
    rows: list[StoredRow | None],
    own: Iterable[FragmentChange],
) -> list[StoredRow | None]:
    found = dict(zip(keys, rows, strict=True))
    for change in own:
        if change.truncate:
            found = dict.fromkeys(keys)
        gone = (key for key in deleted_keys(tables, change) if key in found)
        found.update(dict.fromkeys(gone))
        new = ((tables.key_of(row), row) for row in inserted_rows(tables, change))
        found.update((key, row) for key, row in new if key in found)
    return [found[key] for key in keys]
