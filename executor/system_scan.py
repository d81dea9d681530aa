"""The rows of system tables, as a stage reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from catalog.replica_results import ReplicaResult
from catalog.system_tables import SystemContext, rows
from executor.services import ExecutorServices
from executor.settings import DATABASE, DEFINITIONS
from planner.bound import GIVEN_SCHEMA
from planner.plan import SystemScan


async def check_results(
    services: ExecutorServices, scans: Iterable[SystemScan]
) -> Sequence[ReplicaResult]:
    """Compares all replicas if one of the scans reads what comes of it."""
    if any((scan.schema, scan.table) == ("dqe", "replica_checks") for scan in scans):
        return await services.check_replicas()
    return ()


def system_rows(
    services: ExecutorServices,
    scan: SystemScan,
    settings: Mapping[str, str],
    checked: Sequence[ReplicaResult] = (),
) -> pa.Table:
    """The table's rows now, with the scan's columns under the scan's names.

    `settings` are all of the session's: pg_settings shows them.
    """
    if scan.schema == GIVEN_SCHEMA:
        return _picked(services.given_rows[scan.table], scan)
    catalog = services.catalog.current
    liveness = services.catalog.liveness
    leaders = {
        tablet_id: services.leader_of(tablet_id) or liveness.leader_of(tablet_id)
        for tablet_id in catalog.tablets
    }
    context = SystemContext(
        catalog=catalog,
        node_id=services.node_id,
        database=DATABASE,
        user=settings.get("session_authorization", ""),
        live_nodes=liveness.live_nodes(),
        leaders={tablet: leader for tablet, leader in leaders.items() if leader is not None},
        tablet_bytes={node_id: liveness.tablet_bytes(node_id) for node_id in catalog.nodes},
        settings={
            definition.name: (settings.get(name, definition.default), "", definition.description)
            for name, definition in DEFINITIONS.items()
        },
        replica_troubles={n: liveness.troubles_of(n) for n in liveness.live_nodes()},
        silent_s={n: liveness.silent_s(n) for n in catalog.nodes},
        log_bytes={n: liveness.load_of(n).log_bytes for n in liveness.live_nodes()},
        check_results=checked,
    )
    table = rows(catalog, scan.schema, scan.table, context)
    return _picked(table, scan)


def _picked(table: pa.Table, scan: SystemScan) -> pa.Table:
    picked = table.select([column.store_name for column in scan.columns])
    return picked.rename_columns([column.name for column in scan.columns])
