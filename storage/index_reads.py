"""Rows by a secondary index, or by the first columns of a key, on a tablet's leader.

The same promises as reads by key (`storage.row_reads`), but what is found depends on more rows
than it gives: so every transaction that may yet commit to the fragment is waited for
(`storage.tablet_scans`).

An index is that of the current rows. Where the store has gone past the timestamp, the rows that
changed since are looked up one by one: the leader remembers which they are (`storage.versions`).

    current rows that began by S, by the index
    + rows changed after S, as they were at S, where they meet the condition
    - rows that the transaction itself has changed
    + these as it left them, where they meet the condition (rule R5)

Where the leader does not remember, the key's order leads through history, too; by another index
that would mean to read all of it. Such a read is refused, as are more rows than `MOST_ROWS`, which
are not what an index is asked for: the caller goes another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from storage.fragments import END_OF_TIME, FragmentId, Timestamp
from storage.own_rows import OwnRows
from storage.participant import Participant
from storage.read_sets import RangeIndex, RowRange
from storage.row_side import RowSide
from storage.row_store import RowStore
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.snapshot import check_horizon

# Read on the loop: some milliseconds' work.
MOST_ROWS = 1_000
# So many rows that changed since a timestamp are looked at, and so many of a transaction's own.
MOST_CHANGED = 5_000

# The keys of rows changed after a timestamp, named as they are stored; None where nobody knows.
KeysChanged = Callable[[Timestamp], Sequence[StoredKey] | None]


class IndexScan(RowRange, frozen=True):
    """Rows of a range in the order of its columns, those of an index; at most `limit` of them."""

    descending: bool = False
    limit: int | None = None


def pending_in(
    participant: Participant, fragment_id: FragmentId, timestamp: Timestamp | None
) -> list[int]:
    """Transactions about to commit, at or below the timestamp, that may change the fragment."""
    found = []
    for transaction_id in participant.pending_below(timestamp or END_OF_TIME):
        rows = [resource for resource, _ in participant.locks.rows_of(transaction_id) if resource]
        if not rows or any(resource[0] == fragment_id for resource in rows):
            found.append(transaction_id)
    return found


def scan_now(
    rows: RowSide,
    fragment_id: FragmentId,
    scan: IndexScan,
    timestamp: Timestamp | None,
    own: OwnRows | None = None,
    changed: KeysChanged = lambda _: None,
) -> list[StoredRow] | None:
    """The rows, without their timestamps; None where the index is not the way to them. Does not
    wait. `own` are a transaction's changes, `changed` knows the keys changed after a timestamp."""
    store = rows.applier.store
    if timestamp is not None:
        check_horizon(store.tablet_id, timestamp, store.horizon)
    if own is not None and len(own) > MOST_CHANGED:
        return None
    try:
        found = _found(store, fragment_id, scan, timestamp, own, changed)
    except apsw.Error as error:
        raise rows.failed(error) from error
    return None if found is None or len(found) > MOST_ROWS else found


def _found(
    store: RowStore,
    fragment_id: FragmentId,
    scan: IndexScan,
    timestamp: Timestamp | None,
    own: OwnRows | None,
    changed: KeysChanged,
) -> list[StoredRow] | None:
    tables = store.tables(fragment_id)
    if scan.columns != tables.schema.key and scan.columns not in tables.indexed():
        return None
    width = len(tables.names)
    at = END_OF_TIME if timestamp is None else timestamp
    since: Sequence[StoredKey] | None = ()
    if store.newest_ts > at:
        since = changed(at)
        if since is None and scan.columns != tables.schema.key:
            return None
    listed: list[StoredRow] = []
    if own is None or not own.truncated:
        wanted = _most(scan, 0 if own is None else len(own))
        listed = _scanned(store, fragment_id, scan, at, wanted, past=since is None)
    if not since and not own:
        return [row[:width] for row in listed]
    if len(listed) > MOST_ROWS:
        return None
    by_key = {tables.key_of(row): row[:width] for row in listed}
    meets = _condition(tables, scan)
    for key in since or ():
        past = store.get(fragment_id, key, at)
        if past is not None and meets(past):
            by_key[key] = past[:width]
    if own is not None:
        _lay_over(by_key, own, meets)
    return _in_order(list(by_key.values()), tables, scan)


def _scanned(
    store: RowStore,
    fragment_id: FragmentId,
    scan: IndexScan,
    at: Timestamp,
    most: int,
    *,
    past: bool,
) -> list[StoredRow]:
    return store.scan(
        fragment_id,
        at,
        prefix=scan.prefix,
        low=scan.low,
        high=scan.high,
        index=scan.columns,
        descending=scan.descending,
        limit=most,
        past=past,
    )


def _most(scan: IndexScan, hidden: int) -> int:
    """How many rows of the store are enough, where so many of them may not count."""
    return MOST_ROWS + 1 if scan.limit is None else min(scan.limit + hidden, MOST_ROWS + 1)


def _lay_over(
    by_key: dict[StoredKey, StoredRow], own: OwnRows, meets: Callable[[StoredRow], bool]
) -> None:
    if own.truncated:
        by_key.clear()
    for key, row in own.rows():
        by_key.pop(key, None)
        if row is not None and meets(row):
            by_key[key] = row


def _condition(tables: RowTables, scan: IndexScan) -> Callable[[StoredRow], bool]:
    """Whether a row is one that the scan asks for."""
    return RangeIndex([scan], tables.names).__contains__


def _in_order(rows: list[StoredRow], tables: RowTables, scan: IndexScan) -> list[StoredRow]:
    """As SQLite has it: NULLs first."""
    places = [tables.names.index(name) for name in scan.columns]

    def order(row: StoredRow) -> list[tuple[Any, ...]]:
        return [(False,) if row[place] is None else (True, row[place]) for place in places]

    rows.sort(key=order, reverse=scan.descending)
    return rows if scan.limit is None else rows[: scan.limit]
