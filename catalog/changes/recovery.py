"""The catalog as the copy that goes on alone has it, when its majority was given up.

Nobody knows what only the lost voters had logged: definitions, nodes, tablets, what tablets were
told of these. So that none of it is ever taken for what comes from here on, versions, ids and the
epochs of tablets go on so far behind that the lost ones cannot have come so far.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from catalog.model import Catalog, NodeId, NodeState, Tablet

# More than can have been logged since this copy was last told of anything.
SKIPPED = 1_000_000
SKIPPED_NODES = 100


def gone_on_alone(catalog: Catalog, lost: Collection[int]) -> Catalog:
    """The next version: the lost nodes are dead, and tablets are told anew what they hold.

    Those that have lost their majority, too, are told when they are recovered: till then nobody
    could, and every definition would wait for it.
    """
    nodes = {
        n: replace(node, state=NodeState.DEAD)
        if n in lost and node.state in (NodeState.ACTIVE, NodeState.DRAINING)
        else node
        for n, node in catalog.nodes.items()
    }
    return replace(
        catalog,
        version=catalog.version + SKIPPED,
        next_id=catalog.next_id + SKIPPED,
        next_node_id=NodeId(catalog.next_node_id + SKIPPED_NODES),
        nodes=nodes,
        tablets={
            t.id: told_anew(t) if _has_majority(t, lost) else t for t in catalog.tablets.values()
        },
    )


def told_anew(tablet: Tablet) -> Tablet:
    """The tablet in an epoch behind any that a lost catalog can have given it."""
    return replace(tablet, epoch=tablet.epoch + SKIPPED)


def _has_majority(tablet: Tablet, lost: Collection[int]) -> bool:
    voters = tablet.replicas[: tablet.voters]
    return 2 * sum(n not in lost for n in voters) > len(voters)
