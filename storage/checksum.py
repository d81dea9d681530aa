"""Checksums over the rows of a replica, to be compared with those of the others (rule G6).

A fragment's checksum is the number of its rows and the sum of a hash of each: independent of
the order in which rows lie, computed by DuckDB as one aggregate (33 million rows a second on one
core). It is taken of the rows *at a timestamp*, as every reader of that replica would see them:
the replica follows the log as far as the leader says first (rule R3), so replicas asked at
different moments, at whatever log index each is by then, must give the same.

The hash is DuckDB's own and may differ between its versions; `ENGINE` goes with each answer, and
answers of different engines are not compared.

Left out: history. Rows that ended are compared only by asking at a timestamp at which they lived.
"""

from __future__ import annotations

import duckdb
import msgspec

from cluster.errors import InternalError
from cluster.runtime import Runtime
from storage.duckdb_node import quote_name
from storage.fragments import FragmentId, FragmentSchema, TabletId, Timestamp
from storage.node import NodeStorage
from storage.snapshot import StoreSnapshot

ENGINE = f"duckdb {duckdb.__version__}"


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
    when the store is found damaged.
    """
    schemas = dict(sorted(storage.tablet(tablet_id).schemas.items()))
    reads = [(tablet_id, fragment_id) for fragment_id in schemas]
    snapshot = await storage.open_snapshot(reads, timestamp, deadline_s)
    try:
        return await runtime.run_blocking(_checksums, snapshot, tablet_id, schemas)
    except duckdb.Error as error:
        snapshot.check_damage(error)
        raise InternalError(f"tablet {tablet_id} cannot be summed up: {error}") from error
    finally:
        snapshot.close()


def _checksums(
    snapshot: StoreSnapshot, tablet_id: TabletId, schemas: dict[FragmentId, FragmentSchema]
) -> tuple[FragmentChecksum, ...]:
    found = []
    for fragment_id, schema in schemas.items():
        relation = snapshot.relation_sql(tablet_id, fragment_id, schema.names)
        columns = ", ".join(quote_name(name) for name in schema.names)
        row = snapshot.cursor.execute(
            f"SELECT count(*), coalesce(sum(hash({columns})), 0) FROM {relation} AS rows"
        ).fetchall()[0]
        found.append(FragmentChecksum(fragment_id, int(row[0]), f"{int(row[1]):x}"))
    return tuple(found)
