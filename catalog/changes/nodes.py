"""The cluster itself, its nodes, settings and statistics."""

from __future__ import annotations

from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.model import Node, NodeId, NodeState, PartitionMethod, TabletId
from catalog.placement import active_nodes, allows, voters_among
from cluster.errors import ObjectNotInPrerequisiteState, UndefinedObject


def create_cluster(draft: Draft, command: commands.CreateCluster) -> NodeId:
    """Gives the cluster its identity and its first node; once only."""
    if draft.cluster_id:
        raise ObjectNotInPrerequisiteState(f"cluster {draft.cluster_id} exists already")
    draft.cluster_id = command.cluster_id
    return _add(draft, command)


def add_node(draft: Draft, command: commands.AddNode) -> NodeId:
    """Adds a member and gives it its copy of every replicated table."""
    if not draft.cluster_id:
        raise ObjectNotInPrerequisiteState("there is no cluster to join")
    node_id = _add(draft, command)
    _replicate_everywhere(draft)
    return node_id


def _add(draft: Draft, command: commands.AddNode | commands.CreateCluster) -> NodeId:
    node_id = NodeId(max(draft.next_node_id, max(draft.nodes, default=0) + 1))
    draft.next_node_id = node_id + 1
    draft.nodes[node_id] = Node(
        node_id, command.rpc_address, command.pg_address, command.region, command.zone
    )
    return node_id


def _replicate_everywhere(draft: Draft) -> None:
    for tablet_id in _replicated_tablets(draft):
        tablet = draft.tablets[tablet_id]
        # Where no active node may have one, that is no reason to refuse a node.
        allowed = [
            node.id
            for node in active_nodes(draft.nodes.values())
            if tablet.placement is None or allows(tablet.placement, node)
        ]
        missing = [n for n in allowed if n not in tablet.replicas]
        if missing:
            replicas = (*tablet.replicas, *missing)
            draft.tablets[tablet_id] = replace(
                tablet,
                replicas=replicas,
                voters=voters_among(len(replicas)),
                epoch=tablet.epoch + 1,
                joining=(*tablet.joining, *missing),
                leaving=tuple(n for n in tablet.leaving if n not in replicas),
            )


def _replicated_tablets(draft: Draft) -> list[TabletId]:
    tables = (*draft.tables.values(), *draft.recuts.values())
    replicated = (t for t in tables if t.method is PartitionMethod.REPLICATED)
    return sorted({f.tablet_id for t in replicated for p in t.parts for f in p.fragments})


def _node(draft: Draft, node_id: NodeId) -> Node:
    node = draft.nodes.get(node_id)
    if node is None:
        raise UndefinedObject(f"node {node_id} does not exist")
    return node


def set_node_addresses(draft: Draft, command: commands.SetNodeAddresses) -> bool:
    """A member says where it is now; False when the catalog knew."""
    node = _node(draft, command.node_id)
    state = NodeState.ACTIVE if node.state is NodeState.DEAD else node.state
    moved = Node(
        node.id,
        command.rpc_address,
        command.pg_address,
        command.region if command.region is not None else node.region,
        command.zone if command.zone is not None else node.zone,
        state,
    )
    draft.nodes[node.id] = moved
    if moved.state is not node.state:
        _replicate_everywhere(draft)
    return moved != node


def set_node_state(draft: Draft, command: commands.SetNodeState) -> bool:
    node = _node(draft, command.node_id)
    draft.nodes[node.id] = replace(node, state=command.state)
    if command.state is NodeState.ACTIVE:
        _replicate_everywhere(draft)
    return node.state is not command.state


def set_statistics(draft: Draft, command: commands.SetStatistics) -> bool:
    draft.table(command.table_id)
    draft.statistics[command.table_id] = command.statistics
    return True


def set_cluster_setting(draft: Draft, command: commands.SetClusterSetting) -> bool:
    before = draft.settings.get(command.name)
    if command.value is None:
        draft.settings.pop(command.name, None)
    else:
        draft.settings[command.name] = command.value
    return before != command.value
