"""Checksums over the rows of a replica, to be compared with those of the others (rule G6).

A fragment's checksum is the number of its rows and the sum of a hash of each, with its begin:
independent of the order in which rows lie, computed by DuckDB as one aggregate. It is taken of the
rows *at a timestamp*, as every reader of that replica would see them, and of those that ended
between a horizon and then, with their end: all that a reader of any time above the horizon could
meet. The replica follows the log as far as the leader says first (rule R3), so replicas asked at
different moments, at whatever log index each is by then, must give the same; one that has let
history above that horizon go says so (rule L7). Of a table in both
stores both are summed up; where they differ the replica is damaged, whatever others say.

The hash is DuckDB's own and may differ between its versions; `ENGINE` goes with each answer, and
answers of different engines are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import duckdb
import msgspec
import pyarrow as pa

from cluster.errors import DataCorrupted, InternalError
from cluster.runtime import Runtime
from storage.columnar_apply import BEGIN, END
from storage.duckdb_node import quote_name
from storage.fragments import AccessMethod, FragmentId, FragmentSchema, TabletId, Timestamp
from storage.node import NodeStorage
from storage.row_scan import RowScan
from storage.snapshot import StoreSnapshot, check_horizon
from storage.types import duckdb_type

ENGINE = f"duckdb {duckdb.__version__}"

_BATCH = "@summed"


class FragmentChecksum(msgspec.Struct, frozen=True, array_like=True):
    """Of one fragment: equal rows give equal values."""

    fragment_id: FragmentId
    rows: int
    digest: str


async def tablet_checksums(
    runtime: Runtime,
    storage: NodeStorage,
    tablet_id: TabletId,
    timestamp: Timestamp,
    deadline_s: float,
    horizon: Timestamp = 0,
) -> tuple[FragmentChecksum, ...]:
    """Of every fragment of the replica here, at the timestamp, with what ended since the horizon.

    57P03 when the replica cannot be read in time, 72000 for a timestamp below the horizon, XX001
    when a store is found damaged, or two that hold the same rows differ.
    """
    tablet = storage.tablet(tablet_id)
    schemas = dict(sorted(tablet.schemas.items()))
    reads = [(tablet_id, fragment_id) for fragment_id in schemas]
    snapshot = await storage.open_snapshot(reads, timestamp, deadline_s)
    scan: RowScan | None = None
    try:
        scan = await tablet.row_scan(timestamp)
        if horizon == 0:
            horizon = tablet.horizon
        work = partial(_checksums, snapshot, scan, tablet_id, schemas, horizon)
        sums = await runtime.run_blocking(work)
        check_horizon(tablet_id, horizon, tablet.horizon)
        return sums
    except duckdb.Error as error:
        snapshot.check_damage(error)
        raise InternalError(f"tablet {tablet_id} cannot be summed up: {error}") from error
    finally:
        if scan is not None:
            scan.close()
        snapshot.close()


def _checksums(
    snapshot: StoreSnapshot,
    scan: RowScan | None,
    tablet_id: TabletId,
    schemas: Mapping[FragmentId, FragmentSchema],
    horizon: Timestamp,
) -> tuple[FragmentChecksum, ...]:
    found = []
    for fragment_id, schema in schemas.items():
        if schema.method.in_columnar_store:
            relation = snapshot.versions_sql(tablet_id, fragment_id, horizon)
            names = ", ".join(map(quote_name, schema.names))
            rows, total = _sum(snapshot.cursor, names, relation)
            if scan is not None and schema.method is AccessMethod.HYBRID:
                _compare(snapshot, scan, tablet_id, schema, (rows, total), horizon)
        else:
            assert scan is not None
            rows, total = _sum_rows(snapshot, scan, schema, horizon)
        found.append(FragmentChecksum(fragment_id, rows, f"{total:x}"))
    return tuple(found)


def _compare(
    snapshot: StoreSnapshot,
    scan: RowScan,
    tablet_id: TabletId,
    schema: FragmentSchema,
    columnar: tuple[int, int],
    horizon: Timestamp,
) -> None:
    """Raises XX001 unless the row store holds the same."""
    rows, total = _sum_rows(snapshot, scan, schema, horizon)
    if (rows, total) != columnar:
        raise DataCorrupted(
            f"the two stores of tablet {tablet_id} differ on this node",
            detail=f"Fragment {schema.fragment_id} has {columnar[0]} rows in the columnar store"
            f" and {rows} in the row store"
            + (", which are not the same." if rows == columnar[0] else "."),
        )


def _sum_rows(
    snapshot: StoreSnapshot, scan: RowScan, schema: FragmentSchema, horizon: Timestamp
) -> tuple[int, int]:
    columns = ", ".join(
        f"CAST({quote_name(column.name)} AS {duckdb_type(column.type)})"
        for column in schema.columns
    )
    rows = total = 0
    for batch in scan.versions_at(schema.fragment_id, snapshot.timestamp, horizon):
        snapshot.cursor.register(_BATCH, pa.Table.from_batches([batch]))
        batch_rows, batch_total = _sum(snapshot.cursor, columns, quote_name(_BATCH))
        rows, total = rows + batch_rows, total + batch_total
    return rows, total


def _sum(cursor: duckdb.DuckDBPyConnection, columns: str, relation: str) -> tuple[int, int]:
    """Rows that have not ended, and the hashes of all."""
    row = cursor.execute(
        f"SELECT count(*) FILTER (WHERE {END} = 0),"
        f" coalesce(sum(hash({columns}, {BEGIN}, {END})), 0) FROM {relation} AS rows"
    ).fetchall()[0]
    return int(row[0]), int(row[1])
