"""What the executor stands on: the parts of the lower floors that one node has.

Made once by the node (`dqe.node`) and handed to everything in this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.model import NodeId

if TYPE_CHECKING:
    from catalog.service import CatalogService
    from catalog.timestamp_client import TimestampClient
    from cluster.rpc import RpcNode
    from cluster.runtime import Runtime
    from executor.transaction_driver import TabletAccess
    from executor.writes_ids import UniqueIds
    from storage.node import NodeStorage


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
