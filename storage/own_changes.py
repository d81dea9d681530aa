"""A transaction's own uncommitted changes, as its later statements read them (rule R5).

The changes of a fragment, in their order, come down to three things: whether its rows are gone
altogether (TRUNCATE), which keys of the store do not count, and which rows are there instead.
A reader's relation is then

    (store at S, without the keys) UNION ALL rows

The changes lie with the tablet's leader, in its draft and its log. A replica that reads
elsewhere asks the leader for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from storage.columnar_apply import Segment
from storage.fragments import FragmentChange, FragmentSchema


@dataclass(frozen=True, slots=True)
class OwnRows:
    """The net effect of a transaction's changes on one fragment."""

    schema: FragmentSchema
    truncated: bool
    deleted_keys: pa.Table | None
    rows: pa.Table | None


def net_changes(
    cursor: duckdb.DuckDBPyConnection, schema: FragmentSchema, changes: Sequence[FragmentChange]
) -> OwnRows | None:
    """What changes of this fragment, in their order, come to; None for none. Blocks."""
    if not changes:
        return None
    segment, truncated = last_segment(schema, changes)
    deleted = segment.deletes.table() if segment.deletes else None
    rows = segment.surviving_rows(cursor, schema) if segment.inserts else None
    return OwnRows(
        schema, truncated, deleted, None if rows is None else rows.select(list(schema.names))
    )


def last_segment(schema: FragmentSchema, changes: Sequence[FragmentChange]) -> tuple[Segment, bool]:
    """The changes behind the last TRUNCATE, and whether there was one."""
    segment, truncated = Segment(schema), False
    for position, change in enumerate(changes):
        if change.truncate:
            segment, truncated = Segment(schema), True
        segment.add(change, position)
    return segment, truncated
