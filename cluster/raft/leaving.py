"""What a node does for its groups before it stops: others lead them first.

Followers of a node that just ends elect another leader once their promise to it has run out, which
is a second without answers for nothing. A node that stops in good order knows better: it
hands every group it leads to a voter that holds the whole log and answers (`transfer`), all
groups at once, in turn to the one and the other voter, so that its share is spread.

Best effort: what nobody takes over in time stays led here until the node is gone, as if it had
been killed. Which nodes answer is a hint from above (rule G4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set

from cluster.errors import DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.log import NodeId


def successors(group: RaftGroup, node_id: NodeId, live: Set[NodeId]) -> list[NodeId]:
    """The voters that could lead the group at once, beginning at another one for each group."""
    voters = [
        voter
        for voter in group.configuration.voters
        if voter != node_id and voter in live and group.is_caught_up(voter)
    ]
    first = group.group_id % max(1, len(voters))
    return voters[first:] + voters[:first]


async def hand_over_all(
    groups: Sequence[RaftGroup], node_id: NodeId, live: Set[NodeId], *, deadline_s: float
) -> None:
    """Returns when none of the groups is led here any more, or nothing more can be done."""
    try:
        async with asyncio.timeout(deadline_s):
            led = [group for group in groups if group.is_leader]
            await asyncio.gather(*(_hand_over(g, node_id, live, deadline_s) for g in led))
    except TimeoutError:
        return  # the others find out by themselves


async def _hand_over(
    group: RaftGroup, node_id: NodeId, live: Set[NodeId], deadline_s: float
) -> None:
    for voter in successors(group, node_id, live):
        try:
            await group.transfer_leadership(voter, deadline_s=deadline_s)
        except DqeError:
            continue  # that one did not, or the group is led elsewhere already
        return
