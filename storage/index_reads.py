"""Rows by a secondary index, or by the first columns of a key, on a tablet's leader.

The same promises as reads by key (`storage.row_reads`), but what is found depends on more rows
than it gives: so every transaction that may yet commit to the fragment is waited for, and a
transaction's own changes are not laid over.

The index is that of the current rows. At a timestamp that the store has passed, the fragment's
whole history would have to be read besides; and more rows than `MOST_ROWS` are not what an index
is asked for. Both are refused: the caller goes another way.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from storage.fragments import END_OF_TIME, FragmentId, Timestamp
from storage.participant import Participant
from storage.row_side import RowSide
from storage.row_store import store_error
from storage.row_tables import StoredRow
from storage.snapshot import check_horizon

# Read on the loop: some milliseconds' work.
MOST_ROWS = 1_000


class IndexScan(msgspec.Struct, frozen=True):
    """Rows whose first `columns` have the values of `prefix`, and whose next one lies between
    `low` and `high`, each with whether it counts itself. All as SQLite has them; the rows come
    in the order of the columns, at most `limit` of them."""

    columns: tuple[str, ...]
    prefix: tuple[Any, ...]
    low: tuple[Any, bool] | None = None
    high: tuple[Any, bool] | None = None
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
    rows: RowSide, fragment_id: FragmentId, scan: IndexScan, timestamp: Timestamp | None
) -> list[StoredRow] | None:
    """The rows as the store has them, without their timestamps; None where the index is not the
    way to them. Does not wait."""
    store = rows.applier.store
    if timestamp is not None:
        check_horizon(store.tablet_id, timestamp, store.horizon)
        if store.newest_ts > timestamp:
            return None
    wanted = MOST_ROWS + 1 if scan.limit is None else min(scan.limit, MOST_ROWS + 1)
    width = len(store.tables(fragment_id).names)
    try:
        found = store.scan(
            fragment_id,
            prefix=scan.prefix,
            low=scan.low,
            high=scan.high,
            index=scan.columns,
            descending=scan.descending,
            limit=wanted,
        )
    except apsw.Error as error:
        raise store_error(error) from error
    return None if len(found) > MOST_ROWS else [row[:width] for row in found]
