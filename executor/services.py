"""What the executor stands on: the parts of the lower floors that one node has.

Made once by the node (`dqe.node`) and handed to everything in this package.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.model import NodeId, TabletId

if TYPE_CHECKING:
    from catalog.point_reads import PointReads
    from catalog.replica_results import ReplicaResult
    from catalog.service import CatalogService
    from catalog.timestamp_client import TimestampClient
    from catalog.transaction_watch import TransactionWatch
    from cluster.rpc import RpcNode
    from cluster.runtime import Runtime
    from executor.sequences import Sequences
    from executor.transaction_faces import TabletAccess
    from executor.writes_ids import UniqueIds
    from storage.node import NodeStorage


def _unknown_leader(tablet_id: TabletId) -> NodeId | None:
    return None


async def _no_checks() -> Sequence[ReplicaResult]:
    return ()


@dataclass(frozen=True, slots=True)
class ExecutorServices:
    """The node's own: clock and tasks, messages, data, catalog copy, oracle client, id;
    tablets wherever they are led, and numbers that nobody else has."""

    runtime: Runtime
    rpc: RpcNode
    storage: NodeStorage
    catalog: CatalogService
    timestamps: TimestampClient
    node_id: NodeId
    tablets: TabletAccess
    ids: UniqueIds
    # Who leads a tablet, as far as this node has seen; shown in dqe.tablets.
    leader_of: Callable[[TabletId], NodeId | None] = _unknown_leader
    # Compares all replicas; read as dqe.replica_checks.
    check_replicas: Callable[[], Awaitable[Sequence[ReplicaResult]]] = _no_checks
    # Asks all nodes who holds and awaits what; read as dqe.transactions and its like.
    watch_transactions: TransactionWatch | None = None
    # None where there is no cluster to draw numbers from.
    sequences: Sequences | None = None
    # None where every read by key goes through `tablets`.
    point_reads: PointReads | None = None
    # Rows that a query of this node's reads as a relation (`executor.given_rows`).
    given_rows: dict[str, pa.Table] = field(default_factory=dict)
