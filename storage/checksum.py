"""Checksums over the rows of a replica, to be compared with those of the others (rule G6).

A fragment's checksum is the number of its rows and the sum of a hash of each: independent of
the order in which rows lie, computed by DuckDB as one aggregate (33 million rows a second on two
cores). It is taken of the rows *at a timestamp*, as every reader of that replica would see them:
the replica follows the log as far as the leader says first (rule R3), so replicas asked at
different moments, at whatever log index each is by then, must give the same. Of a table in both
stores both are summed up; where they differ the replica is damaged, whatever others say.

The hash is DuckDB's own and may differ between its versions; `ENGINE` goes with each answer, and
answers of different engines are not compared.

Left out: history. Rows that ended are compared only by asking at a timestamp at which they lived.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import msgspec
import pyarrow as pa

from cluster.errors import DataCorrupted, InternalError
from cluster.runtime import Runtime
from storage.duckdb_node import quote_name
from storage.fragments import AccessMethod, FragmentId, FragmentSchema, TabletId, Timestamp
from storage.node import NodeStorage
from storage.row_scan import RowScan
from storage.snapshot import StoreSnapshot
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
) -> tuple[FragmentChecksum, ...]:
    """Of every fragment of the replica here, at the timestamp.

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
        return await runtime.run_blocking(_checksums, snapshot, scan, tablet_id, schemas)
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
) -> tuple[FragmentChecksum, ...]:
    found = []
    for fragment_id, schema in schemas.items():
        relation = snapshot.relation_sql(tablet_id, fragment_id, schema.names)
        rows, total = _sum(snapshot.cursor, ", ".join(map(quote_name, schema.names)), relation)
        if scan is not None and schema.method is AccessMethod.HYBRID:
            _compare(snapshot, scan, tablet_id, schema, (rows, total))
        found.append(FragmentChecksum(fragment_id, rows, f"{total:x}"))
    return tuple(found)


def _compare(
    snapshot: StoreSnapshot,
    scan: RowScan,
    tablet_id: TabletId,
    schema: FragmentSchema,
    columnar: tuple[int, int],
) -> None:
    """Raises XX001 unless the row store holds the same."""
    columns = ", ".join(
        f"CAST({quote_name(column.name)} AS {duckdb_type(column.type)})"
        for column in schema.columns
    )
    rows = total = 0
    for batch in scan.batches_at(schema.fragment_id, schema.names, snapshot.timestamp):
        snapshot.cursor.register(_BATCH, pa.Table.from_batches([batch]))
        batch_rows, batch_total = _sum(snapshot.cursor, columns, quote_name(_BATCH))
        rows, total = rows + batch_rows, total + batch_total
    if (rows, total) != columnar:
        raise DataCorrupted(
            f"the two stores of tablet {tablet_id} differ on this node",
            detail=f"Fragment {schema.fragment_id} has {columnar[0]} rows in the columnar store"
            f" and {rows} in the row store"
            + (", which are not the same." if rows == columnar[0] else "."),
        )


def _sum(cursor: duckdb.DuckDBPyConnection, columns: str, relation: str) -> tuple[int, int]:
    row = cursor.execute(
        f"SELECT count(*), coalesce(sum(hash({columns})), 0) FROM {relation} AS rows"
    ).fetchall()[0]
    return int(row[0]), int(row[1])
