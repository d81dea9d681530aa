"""What the executor stands on: the parts of the lower floors that one node has.

Made once by the node (`dqe.node`) and handed to everything in this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.model import NodeId

if TYPE_CHECKING:
    from catalog.oracle import TimestampClient
    from catalog.service import CatalogService
    from cluster.rpc import RpcNode
    from cluster.runtime import Runtime
    from storage.node import NodeStorage


@dataclass(frozen=True, slots=True)
class ExecutorServices:
    """The node's own: clock and tasks, messages, data, catalog copy, oracle client, id."""

    runtime: Runtime
    rpc: RpcNode
    storage: NodeStorage
    catalog: CatalogService
    timestamps: TimestampClient
    node_id: NodeId
