"""Where replicas are to be: moved by the repair loop, confirmed by the tablets' leaders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from catalog import commands
from catalog.changes.draft import Draft
from catalog.changes.recovery import told_anew
from catalog.model import Node, NodeId, NodeState, PartitionMethod, Table, Tablet, TabletId
from catalog.placement import allowed_nodes, allows, merged, voters_for
from cluster.errors import (
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    UndefinedObject,
    WrongObjectType,
)


def move_replicas(draft: Draft, command: commands.MoveReplicas) -> bool:
    """Names other replicas; False when the tablet is gone or has them already."""
    tablet = draft.tablets.get(command.tablet_id)
    if tablet is None or (tablet.replicas, tablet.voters) == (command.replicas, command.voters):
        return False
    if tablet.replicas != command.before:
        raise SerializationFailure(
            f"the replicas of tablet {tablet.id} were changed by somebody else",
            detail=f"They are on {_listed(tablet.replicas)}, not on {_listed(command.before)}.",
        )
    if not 1 <= command.voters <= len(command.replicas) == len(set(command.replicas)):
        raise InvalidParameterValue(f"tablet {tablet.id} cannot have these replicas")
    for node_id in command.replicas:
        if node_id not in tablet.replicas:
            _check_may_hold(draft, tablet, node_id)
    draft.tablets[tablet.id] = _with_replicas(tablet, command.replicas, command.voters)
    return True


def _check_may_hold(draft: Draft, tablet: Tablet, node_id: NodeId) -> None:
    node = draft.nodes.get(node_id)
    if node is None or node.state is not NodeState.ACTIVE:
        raise InvalidParameterValue(f"node {node_id} is not an active node")
    if tablet.placement is not None and not allows(tablet.placement, node):
        raise InvalidParameterValue(f"tablet {tablet.id} may not lie on node {node_id}")


def _with_replicas(tablet: Tablet, replicas: tuple[NodeId, ...], voters: int) -> Tablet:
    """The tablet with these; who is new joins, who is not named any more leaves."""
    joining = [n for n in replicas if n not in tablet.replicas or n in tablet.joining]
    leaving = [n for n in (*tablet.leaving, *tablet.replicas) if n not in replicas]
    return replace(
        tablet,
        replicas=replicas,
        voters=voters,
        joining=tuple(joining),
        leaving=tuple(dict.fromkeys(leaving)),
    )


def confirm_replicas(draft: Draft, command: commands.ConfirmReplicas) -> bool:
    """Takes the leader's word; False when it is no news.

    Whoever opens a replica from here on joins a group that exists: a node that comes back to a
    tablet must not found it again, empty.
    """
    tablet = draft.tablets.get(command.tablet_id)
    if tablet is None:
        return False
    joining = tuple(n for n in tablet.joining if n not in command.joined)
    leaving = tuple(n for n in tablet.leaving if n not in command.left)
    after = replace(tablet, joining=joining, leaving=leaving, founders=())
    draft.tablets[tablet.id] = after
    return after != tablet


def recover_tablet(draft: Draft, command: commands.RecoverTablet) -> bool:
    """One replica goes on alone, as another incarnation of the tablet."""
    tablet = draft.tablets.get(command.tablet_id)
    if tablet is None:
        raise UndefinedObject(f"tablet {command.tablet_id} does not exist")
    if command.survivor not in tablet.holders:
        raise InvalidParameterValue(
            f"node {command.survivor} has no replica of tablet {tablet.id}",
            detail=f"Its replicas are on {_listed(tablet.holders)}.",
        )
    draft.tablets[tablet.id] = replace(
        told_anew(tablet),
        replicas=(command.survivor,),
        voters=1,
        founders=(command.survivor,),
        joining=(),
        leaving=(),
        incarnation=tablet.incarnation + 1,
        loss_timestamp=command.loss_timestamp,
    )
    return True


def set_table_replicas(draft: Draft, command: commands.SetTableReplicas) -> bool:
    """Sets the count of a table and its companions; the repair loop makes it so."""
    table = draft.table(command.table_id)
    if table.method is PartitionMethod.REPLICATED:
        raise WrongObjectType(
            f'"{table.name}" is replicated and has a replica on every node already'
        )
    if command.replicas < 1:
        raise InvalidParameterValue("replicas must be at least 1")
    if not command.by_default:
        _check_room(draft, table, command.replicas)
    changed = False
    for other in list(draft.tables.values()):
        if other.colocation_id != table.colocation_id:
            continue
        after = replace(other, replicas=command.replicas, default_replicas=command.by_default)
        changed |= after != other
        draft.tables[other.id] = after
    return changed


def _check_room(draft: Draft, table: Table, replicas: int) -> None:
    """Refuses a count that was asked for and cannot be had (22023)."""
    tablets = (draft.tablets[f.tablet_id] for part in table.parts for f in part.fragments)
    for placement in dict.fromkeys(tablet.placement for tablet in tablets):
        allowed = allowed_nodes(draft.nodes.values(), placement)
        if len(allowed) < replicas:
            raise InvalidParameterValue(
                f"cannot place {replicas} replicas on {len(allowed)} active nodes"
            )


def set_table_durability(draft: Draft, command: commands.SetTableDurability) -> bool:
    """Sets it for a table and its companions; the tablets' leaders make it so."""
    table = draft.table(command.table_id)
    companions = [t for t in draft.tables.values() if t.colocation_id == table.colocation_id]
    if all(other.durability is command.durability for other in companions):
        return False
    names = [f'"{other.name}"' for other in companions if other.id != table.id]
    if names:
        draft.notices.append(
            f"durability changes for {', '.join(names)}, too, which share its tablets"
        )
    everywhere = table.method is PartitionMethod.REPLICATED
    for other in companions:
        draft.tables[other.id] = replace(other, durability=command.durability)
    for tablet in list(draft.tablets.values()):
        if tablet.colocation_id == table.colocation_id:
            voters = voters_for(len(tablet.replicas), command.durability, everywhere=everywhere)
            draft.tablets[tablet.id] = replace(tablet, durability=command.durability, voters=voters)
    return True


def set_table_placement(draft: Draft, command: commands.SetTablePlacement) -> bool:
    """Sets the rule for a table's tablets; the repair loop moves what lies elsewhere.

    22023 where no active nodes are allowed, or too few for its replicas.
    """
    table = draft.table(command.table_id)
    if table.placement == command.placement:
        return False
    for part in table.parts:
        inner = merged(part.placement, command.placement)
        for group, fragment in zip(table.groups, part.fragments, strict=True):
            placement = merged(group.placement, inner) if group.placement else inner
            allowed = allowed_nodes(draft.nodes.values(), placement)
            if len(allowed) < table.replicas:
                raise InvalidParameterValue(
                    f"cannot place {table.replicas} replicas on {len(allowed)} active nodes"
                )
            tablet = draft.tablets[fragment.tablet_id]
            draft.tablets[tablet.id] = replace(tablet, placement=placement)
    draft.tables[table.id] = replace(table, placement=command.placement)
    for other in draft.tables.values():
        if other.id != table.id and other.colocation_id == table.colocation_id:
            draft.notices.append(f'"{other.name}" moves, too, which shares its tablets')
    return True


def forget_node(draft: Draft, command: commands.ForgetNode) -> bool:
    """Takes a node out for good; 55000 while it is in use. Its id never comes again."""
    node = draft.nodes.get(command.node_id)
    if node is None:
        return False
    if node.state is not NodeState.DECOMMISSIONING:
        raise ObjectNotInPrerequisiteState(f"node {node.id} is not being decommissioned")
    held = tablets_on(draft.tablets.values(), node)
    if held:
        raise ObjectNotInPrerequisiteState(
            f"node {node.id} still has replicas of {len(held)} tablets"
        )
    draft.next_node_id = max(draft.next_node_id, node.id + 1)
    del draft.nodes[node.id]
    return True


def tablets_on(tablets: Iterable[Tablet], node: Node) -> list[TabletId]:
    """The tablets of which the node keeps a replica."""
    return [tablet.id for tablet in tablets if node.id in tablet.holders]


def _listed(nodes: Iterable[NodeId]) -> str:
    return f"nodes {', '.join(map(str, nodes))}"
