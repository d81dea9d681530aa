"""The errors of this package, in words: who does not lead, and who keeps others waiting."""

from __future__ import annotations

from cluster.errors import CannotConnectNow, NotLeader
from cluster.raft.log import GroupId, NodeId

__all__ = ["OUT_OF_STEP_HINT", "NotLeader", "not_leader", "out_of_step"]

OUT_OF_STEP_HINT = "Wait until the node is back, or set another durability."


def not_leader(group_id: GroupId, node_id: NodeId, leader_id: NodeId | None) -> NotLeader:
    """The error for a request to a replica that does not lead."""
    known = f"node {leader_id} was its leader last" if leader_id else "its leader is not known"
    return NotLeader(
        f"node {node_id} does not lead tablet {group_id}", leader_id=leader_id, detail=known
    )


def out_of_step(group_id: GroupId, silent: NodeId) -> CannotConnectNow:
    """The error for a write to a `sync` group that lacks a voter (rule G5)."""
    return CannotConnectNow(
        f"tablet {group_id} takes no writes while its replica on node {silent} does not answer",
        detail="Its table is durable in step with every replica (durability 'sync').",
        hint=OUT_OF_STEP_HINT,
    )
