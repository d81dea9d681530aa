"""The one error of this package that callers react to by class."""

from __future__ import annotations

from cluster.errors import CannotConnectNow
from cluster.raft.log import GroupId, NodeId


class NotLeader(CannotConnectNow):
    """This replica does not lead its group: the request did not happen here, ask elsewhere.

    `leader_id` is where the leader was last seen, or None. It crosses nodes as its parent.
    """

    def __init__(
        self,
        message: str,
        *,
        leader_id: NodeId | None = None,
        **fields: str | int | None,
    ) -> None:
        super().__init__(message, **fields)  # type: ignore[arg-type]
        self.leader_id = leader_id


def not_leader(group_id: GroupId, node_id: NodeId, leader_id: NodeId | None) -> NotLeader:
    """The error for a request to a replica that does not lead."""
    known = f"node {leader_id} was its leader last" if leader_id else "its leader is not known"
    return NotLeader(
        f"node {node_id} does not lead tablet {group_id}", leader_id=leader_id, detail=known
    )
