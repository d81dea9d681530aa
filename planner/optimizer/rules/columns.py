"""Columns that nobody reads are not scanned, computed or carried.

A pass from the root with the names needed above each operator. Joins and filters hand on only
what is read further up: where a column ends its life in a filter or a join, a projection is
put above it, so that an exchange placed there later carries no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from planner.algebra import (
    Aggregate,
    DistinctOn,
    Exchange,
    Filter,
    Join,
    Node,
    Opaque,
    Project,
    Scalar,
    Scan,
    SetKind,
    SetOperation,
    Shared,
    SharedScan,
    Sort,
    SystemTableScan,
    Window,
    map_children,
    names_of,
    same_columns,
    walk,
)
from planner.algebra_scalars import column_item

Names = frozenset[str]


def prune_columns(node: Node) -> Node:
    """The rule."""
    return _prune(node, names_of(node))


def _read(scalars: Iterable[Scalar]) -> Names:
    return frozenset().union(*(s.columns for s in scalars))


def _prune(node: Node, needed: Names) -> Node:
    """The operator, putting out the needed columns and perhaps a few more."""
    if isinstance(node, Scan | SystemTableScan):
        return _pruned_scan(node, needed)
    if isinstance(node, SharedScan):
        pairs = list(zip(node.output, node.sources, strict=True))
        kept = [(c, s) for c, s in pairs if c.name in needed] or pairs[:1]
        return replace(node, output=tuple(c for c, _ in kept), sources=tuple(s for _, s in kept))
    if isinstance(node, Filter):
        child = _prune(node.child, needed | _read(node.conditions))
        return _narrowed(Filter(child, node.conditions), needed)
    if isinstance(node, Project):
        return _pruned_project(node, needed)
    if isinstance(node, Join):
        return _pruned_join(node, needed)
    if isinstance(node, Aggregate):
        return _pruned_aggregate(node, needed)
    if isinstance(node, Window):
        functions = tuple(f for f in node.functions if f.name in needed)
        below = (needed - {f.name for f in node.functions}) | _read(f.scalar for f in functions)
        child = _prune(node.child, below)
        return replace(node, child=child, functions=functions) if functions else child
    if isinstance(node, Sort):
        return replace(node, child=_prune(node.child, needed | _read(k.scalar for k in node.keys)))
    if isinstance(node, DistinctOn):
        read = _read((*node.keys, *(k.scalar for k in node.sort)))
        return replace(node, child=_prune(node.child, needed | read))
    if isinstance(node, SetOperation):
        return _pruned_set_operation(node, needed)
    if isinstance(node, Shared):
        return _pruned_shared(node, needed)
    if isinstance(node, Opaque):
        wanted = (frozenset(source for _, source in i.names) for i in node.inputs)
        return node.with_children(
            tuple(_prune(i.node, names) for i, names in zip(node.inputs, wanted, strict=True))
        )
    if isinstance(node, Exchange):
        return _pruned_exchange(node, needed)
    return map_children(node, lambda child: _prune(child, needed))


def _pruned_exchange(node: Exchange, needed: Names) -> Node:
    wanted = needed | frozenset(node.keys) | _read(k.scalar for k in node.sort)
    output = same_columns(node.output, wanted) or node.output[:1]
    child = _prune(node.child, frozenset(c.name for c in output))
    return replace(node, child=child, output=output)


def _pruned_scan(node: Scan | SystemTableScan, needed: Names) -> Node:
    # Without any column left the rows still count, so one stays.
    chosen = [i for i, c in enumerate(node.output) if c.name in needed] or [0]
    if len(chosen) == len(node.output):
        return node
    output = tuple(node.output[i] for i in chosen)
    if isinstance(node, Scan):
        return replace(node, output=output, sources=tuple(node.sources[i] for i in chosen))
    return replace(node, output=output, sources=tuple(node.sources[i] for i in chosen))


def _narrowed(node: Node, needed: Names) -> Node:
    """A projection to the needed columns, where there are others."""
    kept = same_columns(node.columns, needed) or node.columns[:1]
    if len(kept) == len(node.columns):
        return node
    return Project(node, tuple(column_item(c) for c in kept))


def _pruned_project(node: Project, needed: Names) -> Node:
    items = tuple(i for i in node.items if i.name in needed or i.scalar.volatile)
    items = items or node.items[:1]
    child = _prune(node.child, _read(i.scalar for i in items))
    if all(i.is_plain for i in items) and tuple(i.column for i in items) == child.columns:
        return child
    return Project(child, items)


def _pruned_join(node: Join, needed: Names) -> Node:
    wanted = needed | _read(node.conditions)
    left = _prune(node.left, wanted & names_of(node.left))
    right = _prune(node.right, wanted & names_of(node.right))
    return _narrowed(node.with_children((left, right)), needed)


def _pruned_aggregate(node: Aggregate, needed: Names) -> Node:
    aggregates = tuple(a for a in node.aggregates if a.name in needed)
    if not node.keys and not aggregates:
        aggregates = node.aggregates[:1]
    read = _read(i.scalar for i in (*node.keys, *aggregates))
    return replace(node, child=_prune(node.child, read), aggregates=aggregates)


def _pruned_set_operation(node: SetOperation, needed: Names) -> Node:
    kept = range(len(node.output))
    if node.kind is SetKind.UNION and node.all:
        # Elsewhere rows are compared whole.
        kept_few = [i for i, c in enumerate(node.output) if c.name in needed]
        kept = kept_few or kept[:1]  # type: ignore[assignment]
    sources = tuple(tuple(names[i] for i in kept) for names in node.sources)
    branches = tuple(
        _prune(branch, frozenset(names))
        for branch, names in zip(node.branches, sources, strict=True)
    )
    output = tuple(node.output[i] for i in kept)
    return SetOperation(node.kind, node.all, branches, sources, output)


def _pruned_shared(node: Shared, needed: Names) -> Node:
    body = _prune(node.body, needed)
    used: set[str] = set()
    for part in walk(body):
        if isinstance(part, SharedScan) and part.name == node.name:
            used.update(part.sources)
    definition = _prune(node.definition, frozenset(used))
    return Shared(node.name, _narrowed(definition, frozenset(used)), body)
