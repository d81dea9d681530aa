"""The rows of system tables, as a stage reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog.model import NodeId
from catalog.replica_results import ReplicaResult
from catalog.system_tables import SystemContext, rows
from executor.execution import DEFINES
from executor.services import ExecutorServices
from executor.settings import DATABASE, DEFINITIONS
from planner.bound import GIVEN_SCHEMA
from planner.plan import SystemScan
from storage.transaction_facts import NO_FACTS, TransactionFacts

_OF_TRANSACTIONS = frozenset(
    {
        ("dqe", "transactions"),
        ("dqe", "transactions_in_doubt"),
        ("dqe", "locks"),
        ("pg_catalog", "pg_locks"),
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What other nodes were asked for a statement."""

    checks: Sequence[ReplicaResult] = ()
    transactions: TransactionFacts = NO_FACTS


async def ask_nodes(services: ExecutorServices, scans: Iterable[SystemScan]) -> Asked:
    """Compares all replicas, or asks who holds and awaits what, where one of the scans reads what
    comes of it."""
    read = {(scan.schema, scan.table) for scan in scans}
    checks = await services.check_replicas() if ("dqe", "replica_checks") in read else ()
    asks = services.watch_transactions is not None and read & _OF_TRANSACTIONS
    if services.watch_transactions is None or not asks:
        return Asked(checks)
    return Asked(checks, await services.watch_transactions.everywhere())


NOTHING = Asked()


def system_rows(
    services: ExecutorServices,
    scan: SystemScan,
    settings: Mapping[str, str],
    asked: Asked = NOTHING,
) -> pa.Table:
    """The table's rows now, with the scan's columns under the scan's names.

    `settings` are all of the session's: pg_settings shows them.
    """
    if scan.schema == GIVEN_SCHEMA:
        return _picked(services.given_rows[scan.table], scan)
    catalog = services.catalog.current
    if DEFINES in settings:
        catalog = services.catalog.definitions.seen_by(int(settings[DEFINES]), catalog)
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
        catalog_voters=tuple(map(NodeId, services.catalog.group.configuration.voters)),
        leaders={tablet: leader for tablet, leader in leaders.items() if leader is not None},
        tablet_bytes={node_id: liveness.tablet_bytes(node_id) for node_id in catalog.nodes},
        settings={
            definition.name: (settings.get(name, definition.default), "", definition.description)
            for name, definition in DEFINITIONS.items()
        },
        replica_troubles={n: liveness.troubles_of(n) for n in liveness.live_nodes()},
        silent_s={n: liveness.silent_s(n) for n in catalog.nodes},
        log_bytes={n: liveness.load_of(n).log_bytes for n in liveness.live_nodes()},
        check_results=asked.checks,
        transactions=asked.transactions,
        now_ms=services.runtime.wall_ms(),
    )
    table = rows(catalog, scan.schema, scan.table, context)
    return _picked(table, scan)


def _picked(table: pa.Table, scan: SystemScan) -> pa.Table:
    picked = table.select([column.store_name for column in scan.columns])
    return picked.rename_columns([column.name for column in scan.columns])
