"""Cutting a table: from its scheme to parts, fragments and tablets.

`cut_table` takes a table whose columns and keys stand (a shell, without parts) and returns it
whole, its new tablets added to the draft. It serves CREATE TABLE and the re-cutting of a table
that exists. What the scheme leaves out is chosen here:

- no method: hash on the first hashable column that the primary key and every unique constraint
  contain (the row id where there are none); one part when there is no such column;
- hash without PARTITIONS: one part an active node;
- tablets: those of COLOCATE WITH, or of a hash table of the same key types, part count and default
  placement, which may be the table itself that is cut anew; else new ones, spread evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from catalog.changes.draft import Draft
from catalog.cutting import bounds_of, check_key_types, check_parts, ring_bounds
from catalog.definition import GroupDefinition, PartDefinition, SchemeDefinition
from catalog.model import (
    ColocationId,
    ColumnGroup,
    ColumnId,
    Durability,
    Fragment,
    FragmentId,
    Part,
    PartBounds,
    PartitionMethod,
    Placement,
    Table,
    Tablet,
    TabletId,
    UniqueConstraint,
)
from catalog.placement import (
    Placer,
    active_nodes,
    allowed_nodes,
    default_replicas,
    merged,
    voters_for,
)
from cluster.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    InvalidObjectDefinition,
    InvalidParameterValue,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from storage import keyhash
from storage.types import SqlType

# Of a table that `place_parts` has not seen yet; ids count from 1.
NO_COLOCATION = ColocationId(0)
DEFAULT_GROUP_NAME = "main"


def cut_table(draft: Draft, shell: Table, scheme: SchemeDefinition) -> Table:
    """The table cut as the scheme says; the shell's parts, groups and method do not count.

    Raises 42P17, 42P16, 42703, 0A000 and 22023 as the module's parts say.
    """
    base = _colocation_base(draft, scheme)
    method = _method_of(shell, scheme, base)
    columns = _partition_columns(shell, scheme, method)
    check_key_types(method, [shell.column(c).type for c in columns])
    table = replace(
        shell,
        method=method,
        partition_columns=columns,
        parts=(),
        replicas=_replicas_of(draft, scheme, method),
        default_replicas=scheme.replicas is None and method is not PartitionMethod.REPLICATED,
        durability=scheme.durability or Durability.QUORUM,
        placement=scheme.placement,
        colocation_id=NO_COLOCATION,
    )
    check_keys_contain_partition_columns(table)
    table = replace(table, groups=_groups_of(table, scheme.groups))
    cuts = _cuts_of(draft, table, scheme, base)
    host = base or _table_to_share_with(draft, table, cuts)
    if host is not None:
        _check_same_cut(table, cuts, host)
        table = replace(
            table,
            replicas=host.replicas,
            default_replicas=host.default_replicas,
            durability=host.durability,
        )
    return place_parts(draft, table, cuts, host)


@dataclass(frozen=True, slots=True)
class Cut:
    """A part before it has fragments."""

    name: str
    bounds: PartBounds
    placement: Placement | None = None


# --- Method and key ------------------------------------------------------------------------


def _colocation_base(draft: Draft, scheme: SchemeDefinition) -> Table | None:
    if scheme.colocate_with is None:
        return None
    schema, name = scheme.colocate_with
    found = draft.relation(schema, name)
    if found is None:
        raise UndefinedTable(f'relation "{name}" does not exist')
    if not isinstance(found, Table):
        raise WrongObjectType(f'"{name}" is not a table')
    for given, what in (
        (scheme.placement, "placement"),
        (scheme.replicas, "replicas"),
        (scheme.durability, "durability"),
    ):
        if given is not None:
            raise InvalidTableDefinition(
                f'{what} cannot be given together with COLOCATE WITH "{name}"',
                hint="A co-located table lies where the other one lies.",
            )
    return found


def _method_of(shell: Table, scheme: SchemeDefinition, base: Table | None) -> PartitionMethod:
    if scheme.method is not None:
        return scheme.method
    if base is not None:
        return base.method
    if scheme.part_count is None and scheme.parts:
        raise InvalidTableDefinition("partitions are given without PARTITION BY")
    return PartitionMethod.HASH if _default_key(shell) else PartitionMethod.NONE


def _default_key(shell: Table) -> ColumnId | None:
    """The column a table is hashed on when nothing is said."""
    constraints = _key_constraints(shell)
    first = constraints[0].columns if constraints else shell.key
    for column_id in first:
        everywhere = all(column_id in constraint.columns for constraint in constraints)
        if everywhere and keyhash.is_hashable(shell.column(column_id).type):
            return column_id
    return None


def _key_constraints(table: Table) -> list[UniqueConstraint]:
    return list(table.unique_keys)


def _partition_columns(
    shell: Table, scheme: SchemeDefinition, method: PartitionMethod
) -> tuple[ColumnId, ...]:
    if method in (PartitionMethod.NONE, PartitionMethod.REPLICATED):
        if scheme.parts or scheme.columns or scheme.part_count not in (None, 1):
            raise InvalidTableDefinition(f"a table cut by {method} has no partitions to name")
        return ()
    if not scheme.columns:
        key = _default_key(shell)
        if key is None or method is not PartitionMethod.HASH:
            raise InvalidTableDefinition("PARTITION BY needs the columns to partition by")
        return (key,)
    return tuple(_partition_column(shell, scheme.columns))


def _partition_column(shell: Table, names: Sequence[str]) -> Iterator[ColumnId]:
    seen: set[str] = set()
    for name in names:
        column = shell.column_named(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" named in partition key does not exist')
        if name in seen:
            raise DuplicateColumn(f'column "{name}" appears twice in the partition key')
        seen.add(name)
        yield column.id


def check_keys_contain_partition_columns(table: Table) -> None:
    """0A000 for a key whose rows would not lie together."""
    for constraint in _key_constraints(table):
        for column_id in table.partition_columns:
            if column_id in constraint.columns:
                continue
            kind = "PRIMARY KEY" if constraint is table.primary_key else "UNIQUE"
            column = table.column(column_id).name
            raise FeatureNotSupported(
                "unique constraint on partitioned table must include all partitioning columns",
                detail=f'{kind} constraint on table "{table.name}" lacks column "{column}" which'
                " is part of the partition key.",
                hint=f'Add column "{column}" to the key, or partition by columns of the key.',
                table=table.name,
                constraint=constraint.name,
            )


def _replicas_of(draft: Draft, scheme: SchemeDefinition, method: PartitionMethod) -> int:
    if method is PartitionMethod.REPLICATED:
        if scheme.replicas is not None:
            raise InvalidTableDefinition("a replicated table has a replica on every node")
        return 0
    if scheme.replicas is None:
        return default_replicas(draft.nodes.values())
    replicas = scheme.replicas
    if replicas < 1:
        raise InvalidParameterValue("replicas must be at least 1")
    return replicas


# --- Column groups -------------------------------------------------------------------------


def _groups_of(table: Table, given: Sequence[GroupDefinition]) -> tuple[ColumnGroup, ...]:
    """The groups as given, columns in none joining the first; the shell's when none are."""
    if not given and table.groups:
        return table.groups
    groups = given or (GroupDefinition(DEFAULT_GROUP_NAME, ()),)
    taken: dict[ColumnId, str] = {}
    members = [tuple(_group_members(table, group, taken)) for group in groups]
    rest = [c.id for c in table.columns if c.id not in taken and c.id not in table.key]
    # In the table's order, so that a whole row is read in the order it was written.
    first = tuple(c.id for c in table.columns if c.id in {*members[0], *rest})
    members[0] = first
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise InvalidTableDefinition(f'column group "{name}" is named twice')
    found = tuple(
        ColumnGroup(place, group.name, columns, group.placement)
        for place, (group, columns) in enumerate(zip(groups, members, strict=True))
    )
    _check_unique_in_anchor(table, found[0])
    return found


def _group_members(
    table: Table, group: GroupDefinition, taken: dict[ColumnId, str]
) -> Iterator[ColumnId]:
    for name in group.columns:
        column = table.column_named(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" named in column group does not exist')
        if column.id in table.key:
            raise InvalidTableDefinition(
                f'column "{name}" is part of the primary key, which every column group repeats'
            )
        if column.id in taken:
            raise InvalidTableDefinition(
                f'column "{name}" is in column group "{taken[column.id]}" already'
            )
        taken[column.id] = group.name
        yield column.id


def _check_unique_in_anchor(table: Table, anchor: ColumnGroup) -> None:
    for constraint in table.unique:
        for column_id in constraint.columns:
            if column_id not in anchor.columns and column_id not in table.key:
                raise FeatureNotSupported(
                    f'column "{table.column(column_id).name}" of unique constraint'
                    f' "{constraint.name}" must be in the first column group',
                    hint=f'Move the column to column group "{anchor.name}".',
                )


# --- Parts ---------------------------------------------------------------------------------


def _cuts_of(draft: Draft, table: Table, scheme: SchemeDefinition, base: Table | None) -> list[Cut]:
    method = table.method
    if method in (PartitionMethod.NONE, PartitionMethod.REPLICATED):
        return [Cut(table.name, PartBounds())]
    if scheme.part_count is not None and (scheme.parts or method is not PartitionMethod.HASH):
        raise InvalidObjectDefinition(
            "PARTITIONS n is for hash partitioning, without a list of partitions"
        )
    if scheme.parts:
        return _given_cuts(draft, table, scheme.parts)
    if scheme.without_parts:
        return []
    if base is not None and scheme.part_count is None:
        return [Cut(_renamed(p.name, base, table), p.bounds, p.placement) for p in base.parts]
    if method is PartitionMethod.HASH:
        count = scheme.part_count
        if count is None:
            count = len(allowed_nodes(draft.nodes.values(), table.placement))
        return [Cut(f"{table.name}_p{i}", b) for i, b in enumerate(ring_bounds(count))]
    return []


def _renamed(part_name: str, base: Table, table: Table) -> str:
    prefix = f"{base.name}_"
    return f"{table.name}_{part_name.removeprefix(prefix)}"


def _given_cuts(draft: Draft, table: Table, parts: Sequence[PartDefinition]) -> list[Cut]:
    types = [table.column(c).type for c in table.partition_columns]
    cuts = []
    for part in parts:
        allowed_nodes(draft.nodes.values(), part.placement)
        cuts.append(Cut(part.name, bounds_of(table.method, types, part), part.placement))
    check_parts(table.method, types, [(c.name, c.bounds) for c in cuts], gaps_allowed=False)
    return cuts


# --- Sharing and placing -------------------------------------------------------------------


def _families(table: Table) -> list[keyhash.HashFamily | SqlType]:
    types = [table.column(c).type for c in table.partition_columns]
    if table.method is PartitionMethod.HASH:
        return [keyhash.hash_family(t) for t in types]
    return list(types)


def _check_same_cut(table: Table, cuts: Sequence[Cut], host: Table) -> None:
    if table.method is not host.method or _families(table) != _families(host):
        raise InvalidTableDefinition(
            f'cannot co-locate "{table.name}" with "{host.name}"',
            detail=f'"{host.name}" is cut by {_scheme_words(host)}, "{table.name}" by'
            f" {_scheme_words(table)}.",
        )
    if [cut.bounds for cut in cuts] != [part.bounds for part in host.parts]:
        raise InvalidTableDefinition(
            f'cannot co-locate "{table.name}" with "{host.name}"',
            detail=f'"{host.name}" has {len(host.parts)} partitions, and those of'
            f' "{table.name}" do not have the same bounds.',
        )


def _scheme_words(table: Table) -> str:
    types = ", ".join(str(table.column(c).type) for c in table.partition_columns)
    return f"{table.method.value} ({types})" if types else table.method.value


def _table_to_share_with(draft: Draft, table: Table, cuts: Sequence[Cut]) -> Table | None:
    """An existing table whose tablets fit, by default; hash tables without wishes only."""
    if table.method is not PartitionMethod.HASH or table.placement is not None or not cuts:
        return None
    if any(cut.placement is not None for cut in cuts):
        return None
    bounds = [cut.bounds for cut in cuts]
    for other in draft.tables.values():
        if (
            other.method is PartitionMethod.HASH
            and other.placement is None
            and other.replicas == table.replicas
            and other.default_replicas is table.default_replicas
            and other.durability is table.durability
            and _families(other) == _families(table)
            and [part.bounds for part in other.parts] == bounds
            and all(part.placement is None for part in other.parts)
            and _is_spread_evenly(draft, other)
        ):
            return other
    return None


def _is_spread_evenly(draft: Draft, table: Table) -> bool:
    """Whether the table uses as many of today's active nodes as its parts could."""
    active = {node.id for node in active_nodes(draft.nodes.values())}
    used = {draft.tablets[p.fragments[0].tablet_id].replicas[0] for p in table.parts}
    return used <= active and len(used) >= min(len(active), len(table.parts))


def place_parts(draft: Draft, table: Table, cuts: Sequence[Cut], host: Table | None) -> Table:
    """The table with one more part a cut; `host` has the tablets to share, cut by cut.

    A table that has a colocation id keeps it.
    """
    colocation = table.colocation_id or (host.colocation_id if host else None)
    colocation = colocation or ColocationId(draft.new_id())
    placer = Placer(draft.nodes.values(), draft.tablets.values(), draft.avoided)
    parts = list(table.parts)
    for place, cut in enumerate(cuts):
        shared = host.parts[place].fragments[0].tablet_id if host else None
        parts.append(_placed_part(draft, table, placer, colocation, len(parts), cut, shared))
    placed = replace(table, parts=tuple(parts), colocation_id=colocation)
    draft.touch_tablets(placed)
    return placed


def with_new_fragments(draft: Draft, table: Table) -> Table:
    """The table with the same parts on the same tablets, in new, empty fragments.

    A fragment's columns never change (its log entries would no longer fit), so a table that
    gains or loses a column gets new ones. Whoever copies the rows does so in the transaction that
    keeps writers away from these tablets.
    """
    parts = []
    for part in table.parts:
        fragments = tuple(replace(f, id=FragmentId(draft.new_id())) for f in part.fragments)
        parts.append(replace(part, fragments=fragments))
    anew = replace(table, parts=tuple(parts))
    draft.touch_tablets(anew)
    return anew


def _placed_part(
    draft: Draft,
    table: Table,
    placer: Placer,
    colocation: ColocationId,
    ordinal: int,
    cut: Cut,
    shared: TabletId | None,
) -> Part:
    placement = merged(cut.placement, table.placement)
    home = shared
    fragments = []
    for group in table.groups:
        if group.placement is not None:
            own = merged(group.placement, placement)
            tablet_id = _new_tablet(draft, table, placer, colocation, own)
        else:
            home = home or _new_tablet(draft, table, placer, colocation, placement)
            tablet_id = home
        fragments.append(Fragment(FragmentId(draft.new_id()), group.id, tablet_id))
    return Part(ordinal, cut.name, cut.bounds, tuple(fragments), cut.placement)


def _new_tablet(
    draft: Draft,
    table: Table,
    placer: Placer,
    colocation: ColocationId,
    placement: Placement | None,
) -> TabletId:
    if not active_nodes(draft.nodes.values()):
        raise ObjectNotInPrerequisiteState("the cluster has no active node")
    everywhere = table.method is PartitionMethod.REPLICATED
    if everywhere:
        replicas = placer.everywhere(placement)
    else:
        count = table.replicas
        if table.default_replicas:
            # Nobody asked for so many: where the placement allows fewer nodes, these will do.
            count = min(count, len(allowed_nodes(draft.nodes.values(), placement)))
        replicas = placer.choose(placement, count)
    voters = voters_for(len(replicas), table.durability, everywhere=everywhere)
    tablet_id = TabletId(draft.new_id())
    draft.add_tablet(
        Tablet(
            tablet_id,
            colocation,
            replicas,
            voters,
            founders=replicas[:voters],
            epoch=0,
            durability=table.durability,
            placement=placement,
        )
    )
    return tablet_id
