"""Row sources about replicas: `dqe.replicas`, and `dqe.replica_checks`, which compares them."""

from __future__ import annotations

from collections.abc import Iterator

from catalog.model import NodeId, Tablet
from catalog.system_tables.definition import Row, SystemContext

COLUMNS: dict[str, str] = {
    "replicas": "int8 tablet_id node_id; text role state; int8 entries_behind bytes; text detail",
    "replica_checks": "int8 tablet_id node_id; text verdict; int8 rows; text digest detail; "
    "bool rebuilt",
}


def replicas(context: SystemContext) -> Iterator[Row]:
    """A row for each place where a tablet has, or should have, a replica."""
    behind = _entries_behind(context)
    for tablet in context.catalog.tablets.values():
        leader = context.leaders.get(tablet.id)
        for node_id in tablet.holders:
            state, detail = _state(context, tablet, node_id, behind)
            yield {
                "tablet_id": tablet.id,
                "node_id": node_id,
                "role": "leader" if node_id == leader else _role(tablet, node_id),
                "state": state,
                "entries_behind": behind.get((tablet.id, node_id), 0),
                "bytes": context.tablet_bytes.get(node_id, {}).get(tablet.id),
                "detail": detail,
            }


def _role(tablet: Tablet, node_id: NodeId) -> str:
    return "voter" if node_id in tablet.replicas[: tablet.voters] else "learner"


def _entries_behind(context: SystemContext) -> dict[tuple[int, int], int]:
    return {
        (tablet_id, node_id): entries
        for troubles in context.replica_troubles.values()
        for tablet_id, node_id, entries in troubles.lagging
    }


def _state(
    context: SystemContext, tablet: Tablet, node_id: NodeId, behind: dict[tuple[int, int], int]
) -> tuple[str, str | None]:
    """The gravest thing that can be said of the replica."""
    if node_id not in (*context.live_nodes, context.node_id):
        return "down", f"node {node_id} does not answer"
    troubles = context.replica_troubles.get(node_id)
    if troubles is not None and tablet.id in troubles.fenced:
        return "fenced", troubles.fenced[tablet.id]
    for told in context.replica_troubles.values():
        if (tablet.id, node_id) in told.in_doubt:
            return "in doubt", "it differs from other replicas, and there is no majority"
    if node_id in tablet.joining:
        return "joining", None
    if node_id in tablet.leaving:
        return "leaving", None
    if (tablet.id, node_id) in behind:
        return "lagging", None
    return "ok", None


def replica_checks(context: SystemContext) -> Iterator[Row]:
    """What the comparison made for this statement found."""
    for result in context.check_results:
        yield {
            "tablet_id": result.tablet_id,
            "node_id": result.node_id,
            "verdict": result.verdict,
            "rows": result.rows,
            "digest": result.digest or None,
            "detail": result.trouble or None,
            "rebuilt": result.rebuilt,
        }
