"""The physical plan: every operator's alternatives, from the leaves up, and the cheapest.

For each operator there are up to `MAX_ALTERNATIVES` ways to compute it, which differ in where
the rows then lie (`distribution`). An operator on top extends each way by what it needs: most
run wherever their input is; aggregates, windows, sorts and set operations want rows together
and place exchanges where they are not.

Whatever could answer differently on two copies of the same rows (a LIMIT without total order, a
volatile function, a window with ties) is computed on one copy only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from catalog.model import NodeId, NodeState
from planner.algebra import (
    Aggregate,
    DistinctOn,
    Filter,
    Item,
    Join,
    JoinChoice,
    Limit,
    Node,
    OneRow,
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
    TableExpression,
    TableScan,
    Unary,
    Window,
    names_of,
)
from planner.algebra_scalars import column_item, column_scalar, plain_column, split_equality
from planner.context import PlannerContext
from planner.localise import localise
from planner.optimizer.aggregates import TwoSteps, two_steps
from planner.optimizer.alternatives import (
    STAGE_COST,
    Alternative,
    best,
    column_keys,
    gather,
    hash_key,
    localised,
    repartition,
    row_cost,
    worth_keeping,
)
from planner.optimizer.distribution import Distribution, Spread, single
from planner.optimizer.join_methods import (
    JoinPlan,
    Places,
    considered,
    join_plans,
    join_sides,
)
from planner.optimizer.join_order import JoinOrder, cluster_of
from planner.optimizer.rules.pushdown import partition_columns
from planner.optimizer.statistics import Estimator, Profile, Size

# Sorted results above this many rows are sorted where they are and merged.
MERGE_ROWS = 20_000.0
# Partial groups up to this many are finished on one node.
GATHERED_GROUPS = 50_000.0
# A LIMIT above this is not applied on each node first.
MAX_LOCAL_LIMIT = 1_000_000

Alternatives = list[Alternative]


class Distributor:
    """Plans one statement."""

    def __init__(
        self, context: PlannerContext, estimator: Estimator, nearest: tuple[NodeId, ...] = ()
    ) -> None:
        """`nearest` are all nodes, the nearest first, where tablets are to be read near."""
        self._context = context
        self._nearest = nearest
        self._estimator = estimator
        self._fresh_count: Counter[str] = Counter()
        self._pinned_to: NodeId | None = None
        active = [n.id for n in context.catalog.nodes.values() if n.state is NodeState.ACTIVE]
        live = [n for n in active if not context.live_nodes or n in context.live_nodes]
        self.nodes: tuple[NodeId, ...] = tuple(sorted(live)) or (context.node_id,)
        self.coordinator = context.node_id
        self._places = Places(self.nodes, self.coordinator)
        self._planners: dict[type[Node], Callable[..., Alternatives]] = {
            Scan: self._scan,
            SystemTableScan: self._on_coordinator,
            OneRow: self._anywhere,
            TableExpression: self._table_expression,
            SharedScan: self._shared_scan,
            Filter: self._filter,
            Project: self._project,
            Join: self._join,
            Aggregate: self._aggregate,
            DistinctOn: self._distinct_on,
            Window: self._window,
            Sort: self._sort,
            Limit: self._limit,
            SetOperation: self._set_operation,
            Shared: self._shared,
            Opaque: self._opaque,
        }

    def physical(self, node: Node) -> tuple[Node, Distribution, float]:
        """The cheapest plan, in the order the statement asks for, and its cost. Rows that lie on
        several nodes go to the client from there; ordered rows are always on one."""
        ended = [localised(a, self.coordinator) for a in self.plan(node)]
        size = self._size(node)
        chosen = min(ended, key=lambda a: a.cost + self._sent(a, size))
        return chosen.build(), chosen.distribution, chosen.cost + self._sent(chosen, size)

    def _sent(self, alternative: Alternative, size: Size) -> float:
        """What it costs to bring the rows to the coordinator."""
        return 0.0 if alternative.distribution.nodes == (self.coordinator,) else size.bytes

    def _end_of(self, alternative: Alternative) -> NodeId:
        where = alternative.distribution
        return where.nodes[0] if where.is_single else self.coordinator

    def plan(self, node: Node) -> Alternatives:
        """The ways to compute an operator."""
        return self._planners[type(node)](node)

    def _profile(self, node: Node) -> Profile:
        return self._estimator.profile(node)

    def _size(self, node: Node) -> Size:
        return self._profile(node).size

    def _fresh(self, what: str) -> str:
        self._fresh_count[what] += 1
        return f"{what}~~{self._fresh_count[what]}"

    def _fresh_hash(self) -> str:
        return self._fresh("hash")

    # Leaves

    def _scan(self, node: Scan, conditions: tuple[Scalar, ...] = ()) -> Alternatives:
        found = localise(node, conditions, self._context, self._nearest)
        if isinstance(found, TableScan):
            return [self._table_scan(found)]
        return self._groups_joined(found, node)

    def _table_scan(self, scan: TableScan) -> Alternative:
        self._estimator.note(scan, self._fraction_of(scan))
        where = self._places_of(scan)
        cost = row_cost(self._profile(scan).rows, where)
        return Alternative(where, cost, lambda: scan)

    def _fraction_of(self, scan: TableScan) -> Profile:
        whole = self._profile(scan.scan)
        return whole.with_rows(whole.rows * scan.fraction)

    def _places_of(self, scan: TableScan) -> Distribution:
        if scan.replicated_on:
            return Distribution(Spread.REPLICATED, scan.replicated_on)
        nodes = tuple(sorted({p.node for p in scan.places})) or (self.coordinator,)
        table = scan.scan.table
        names = {
            source.id: column.name
            for column, source in zip(scan.scan.output, scan.scan.sources, strict=True)
        }
        keys = tuple(
            frozenset((names[c],)) if c in names else frozenset[str]()
            for c in table.partition_columns
        )
        if not keys or not all(keys):
            spread = Spread.SINGLE if len(nodes) == 1 else Spread.SCATTERED
            return Distribution(spread, nodes)
        places = tuple((p.part.ordinal, p.node) for p in scan.places)
        return Distribution(Spread.PARTS, nodes, keys, table.colocation_id, places)

    def _groups_joined(self, node: Node, scan: Scan) -> Alternatives:
        """Column groups placed apart, joined on the key one after the other."""
        if isinstance(node, TableScan):
            return [self._table_scan(node)]
        assert isinstance(node, Join)
        left, right = self._groups_joined(node.left, scan), self._groups_joined(node.right, scan)
        first, second = self._profile(node.left), self._profile(node.right)
        result = Profile(first.rows, {**first.columns, **second.columns})
        self._estimator.note(node, result)
        return self._two_joined(node, left, right, result.size)

    def _on_coordinator(self, node: Node) -> Alternatives:
        return [Alternative(single(self.coordinator), 0.0, lambda: node)]

    def _anywhere(self, node: Node) -> Alternatives:
        where = Distribution(Spread.REPLICATED, self._all_nodes())
        return [Alternative(where, 0.0, lambda: node)]

    def _all_nodes(self) -> tuple[NodeId, ...]:
        return tuple(sorted({*self.nodes, self.coordinator}))

    def _table_expression(self, node: TableExpression) -> Alternatives:
        return self._on_coordinator(node) if node.volatile else self._anywhere(node)

    def _shared_scan(self, node: SharedScan) -> Alternatives:
        assert self._pinned_to is not None
        where = single(self._pinned_to, frozenset((node.name,)))
        return [Alternative(where, 0.0, lambda: node)]

    # Operators that run where their input is

    def _filter(self, node: Filter) -> Alternatives:
        if isinstance(node.child, Join):
            clustered = self._clustered(node)
            if clustered is not None:
                return clustered
        if isinstance(node.child, Scan):
            below = self._scan(node.child, node.conditions)
        else:
            below = self.plan(node.child)
        return self._on_top(node, below, any(c.volatile for c in node.conditions))

    def _project(self, node: Project) -> Alternatives:
        below = self.plan(node.child)
        if any(i.scalar.volatile for i in node.items):
            below = [localised(a, self.coordinator) for a in below]
        return [
            a.then(
                lambda child: replace(node, child=child),
                distribution=a.distribution.projected(node.items),
            )
            for a in below
        ]

    def _on_top(self, node: Unary, below: Alternatives, one_copy: bool) -> Alternatives:
        if one_copy:
            below = [localised(a, self.coordinator) for a in below]
        return [a.then(lambda child: replace(node, child=child)) for a in below]

    # Joins

    def _join(self, node: Join) -> Alternatives:
        clustered = self._clustered(node)
        if clustered is not None:
            return clustered
        left, right = self.plan(node.left), self.plan(node.right)
        if any(c.volatile for c in node.conditions):
            hub = self._pinned_to or self.coordinator
            left = [gather(a, self._size(node.left), hub) for a in left]
            right = [gather(a, self._size(node.right), hub) for a in right]
        return self._two_joined(node, left, right, self._size(node))

    def _clustered(self, node: Node) -> Alternatives | None:
        cluster = cluster_of(node)
        if cluster is None:
            return None
        order = JoinOrder(cluster, self.plan, self._estimator, self._places, self._fresh_hash)
        profile, alternatives = order.alternatives()
        self._estimator.note(node, profile)
        return alternatives

    def _two_joined(
        self, node: Join, left: Alternatives, right: Alternatives, result: Size
    ) -> Alternatives:
        mine, theirs = names_of(node.left), names_of(node.right)
        split = (split_equality(c, mine, theirs) for c in node.conditions)
        equalities = tuple(pair for pair in split if pair is not None)
        first, second = self._size(node.left), self._size(node.right)
        sides = join_sides(node.kind, first, second, result, equalities, self._fresh_hash)
        plans = join_plans(sides, left, right, self._places)

        def alternative(plan: JoinPlan) -> Alternative:
            def build() -> Node:
                others = considered(plans, plan)
                choice = JoinChoice(plan.method, plan.moved_bytes, others, result.rows)
                return Join(
                    node.kind, plan.left.build(), plan.right.build(), node.conditions, choice
                )

            return Alternative(plan.distribution, plan.cost, build)

        return worth_keeping([alternative(plan) for plan in plans], result)

    # Grouping

    def _aggregate(self, node: Aggregate) -> Alternatives:
        below = [localised(a, self.coordinator) for a in self.plan(node.child)]
        child, result = self._size(node.child), self._size(node)
        steps = two_steps(node, self._fresh) if not _is_volatile(node) else None
        found: Alternatives = []
        for alternative in below:
            where = alternative.distribution
            if self._groups_together(node, where):
                found.append(self._whole(node, alternative, child))
                continue
            if steps is not None:
                found += self._in_two_steps(node, steps, alternative, child)
            keys = self._hash_items(node, [k.scalar for k in node.keys])
            if keys is not None and len(self.nodes) > 1 and (steps is None or node.aggregates):
                moved = repartition(alternative, child, keys, self.nodes)
                found.append(self._whole(node, moved, child))
            if (steps is None and keys is None) or (steps is None and child.bytes < 4 * STAGE_COST):
                found.append(self._whole(node, gather(alternative, child, self.coordinator), child))
        return worth_keeping(found, result)

    @staticmethod
    def _groups_together(node: Aggregate, where: Distribution) -> bool:
        if where.is_single:
            return True
        names = [plain_column(k.scalar) for k in node.keys]
        common = set(range(len(names)))
        for one in node.sets:
            common &= set(one)
        return where.groups_by(n for i, n in enumerate(names) if n is not None and i in common)

    def _whole(self, node: Aggregate, alternative: Alternative, child: Size) -> Alternative:
        where = alternative.distribution
        return alternative.then(
            lambda below: replace(node, child=below),
            distribution=where.projected(node.keys),
            cost=row_cost(child.rows, where),
        )

    def _in_two_steps(
        self,
        node: Aggregate,
        steps: TwoSteps,
        alternative: Alternative,
        child: Size,
    ) -> Alternatives:
        where = alternative.distribution
        lower_node = steps.lower(node.child)
        grouped = self._size(lower_node)
        # Each node has up to all groups, and never more than its rows.
        rows = min(grouped.rows * len(where.nodes), child.rows)
        moved = grouped.with_rows(rows)
        lower = alternative.then(
            steps.lower,
            distribution=where.projected(steps.partial_keys),
            cost=row_cost(child.rows, where),
        )
        found: Alternatives = []
        if rows <= GATHERED_GROUPS or not node.keys:
            found.append(gather(lower, moved, self.coordinator))
        keys = self._hash_items(node, [k.scalar for k in steps.final_keys])
        if keys is not None and len(self.nodes) > 1:
            found.append(repartition(lower, moved, keys, self.nodes))
        if not found:
            found.append(gather(lower, moved, self.coordinator))
        return [
            a.then(
                lambda below: steps.upper(below, node.sets),
                distribution=a.distribution.projected(steps.final_keys),
                cost=row_cost(rows, a.distribution),
            )
            for a in found
        ]

    def _hash_items(self, node: Aggregate, keys: Sequence[Scalar]) -> list[Item] | None:
        """Hash keys over the group keys that are in every grouping set; None without any."""
        common = set(range(len(keys)))
        for one in node.sets:
            common &= set(one)
        found = [hash_key(k, self._fresh_hash()) for i, k in enumerate(keys) if i in common]
        usable = [k for k in found if k is not None and not k.scalar.volatile]
        return usable or None

    def _distinct_on(self, node: DistinctOn) -> Alternatives:
        child = self._size(node.child)
        found: Alternatives = []
        for alternative in (localised(a, self.coordinator) for a in self.plan(node.child)):
            if alternative.distribution.is_single:
                found.append(alternative.then(lambda below: replace(node, child=below)))
                continue
            lower = alternative.then(lambda below: replace(node, child=below))
            gathered = gather(lower, self._size(node), self.coordinator)
            found.append(gathered.then(lambda below: replace(node, child=below)))
        return worth_keeping(found, child)

    def _window(self, node: Window) -> Alternatives:
        child = self._size(node.child)
        shared = set.intersection(*(partition_columns(f) for f in node.functions))
        by_name = {c.name: c for c in node.child.columns}
        keys = column_keys([by_name[n] for n in sorted(shared) if n in by_name])
        found: Alternatives = []
        for alternative in (localised(a, self.coordinator) for a in self.plan(node.child)):
            where = alternative.distribution
            if where.is_single or where.groups_by(shared):
                ready = [alternative]
            elif keys and len(self.nodes) > 1:
                ready = [
                    repartition(alternative, child, keys, self.nodes),
                    gather(alternative, child, self.coordinator),
                ]
            else:
                ready = [gather(alternative, child, self.coordinator)]
            found += [
                a.then(
                    lambda below: replace(node, child=below),
                    cost=row_cost(2 * child.rows, a.distribution),
                )
                for a in ready
            ]
        return worth_keeping(found, self._size(node))

    # Order

    def _sort(self, node: Sort) -> Alternatives:
        child = self._size(node.child)
        found: Alternatives = []
        for alternative in (localised(a, self.coordinator) for a in self.plan(node.child)):
            ordered = alternative.then(
                lambda below: replace(node, child=below),
                cost=row_cost(2 * child.rows, alternative.distribution),
            )
            if alternative.distribution.is_single:
                found.append(ordered)
            elif child.rows > MERGE_ROWS and all(plain_column(k.scalar) for k in node.keys):
                found.append(gather(ordered, child, self.coordinator, sort=node.keys))
            else:
                gathered = gather(alternative, child, self.coordinator)
                found.append(
                    gathered.then(
                        lambda below: replace(node, child=below),
                        cost=row_cost(2 * child.rows, gathered.distribution),
                    )
                )
        return worth_keeping(found, child)

    def _limit(self, node: Limit) -> Alternatives:
        sort = node.child if isinstance(node.child, Sort) else None
        inner = sort.child if sort is not None else node.child
        count = None if node.count is None else node.count + node.offset
        if count is None or count > MAX_LOCAL_LIMIT:
            below = [
                gather(localised(a, self.coordinator), self._size(node.child), self._end_of(a))
                for a in self.plan(node.child)
            ]
            return [a.then(lambda child: replace(node, child=child)) for a in below]

        def topped(child: Node, top: Limit) -> Node:
            return replace(top, child=child if sort is None else replace(sort, child=child))

        local = Limit(node.child, count)
        size = self._size(inner)
        found: Alternatives = []
        for alternative in (localised(a, self.coordinator) for a in self.plan(inner)):
            where = alternative.distribution
            cost = row_cost(size.rows, where) if sort is not None else 0.0
            if where.is_single:
                found.append(alternative.then(lambda child: topped(child, node), cost=cost))
                continue
            first = alternative.then(
                lambda child: topped(child, local),
                distribution=where,
                cost=cost,
            )
            rows = min(float(count * len(where.nodes)), size.rows)
            moved = gather(first, size.with_rows(rows), self.coordinator)
            found.append(moved.then(lambda child: topped(child, node)))
        return worth_keeping(found, self._size(node))

    # Set operations

    def _set_operation(self, node: SetOperation) -> Alternatives:
        branches = [self.plan(b) for b in node.branches]
        if node.kind is SetKind.UNION and not node.all:
            union = replace(node, all=True)
            items = tuple(column_item(c) for c in node.columns)
            distinct = Aggregate(union, items, ())
            return self._aggregate(distinct)
        chosen = [best(b) for b in branches]
        sizes = [self._size(b) for b in node.branches]
        together = self._side_by_side(node, chosen)
        if together is not None:
            return [together]
        if node.kind is not SetKind.UNION:
            hashed_alike = self._hashed_alike(node, chosen, sizes)
            if hashed_alike is not None:
                return [hashed_alike]
        pins = frozenset[str]().union(*(c.distribution.pins for c in chosen))
        target = next(
            (c.distribution.nodes[0] for c in chosen if c.distribution.pins), self.coordinator
        )
        moved = [
            best(gather(a, size, target) for a in ways)
            for ways, size in zip(branches, sizes, strict=True)
        ]
        return [self._combined(node, moved, single(target, pins))]

    def _combined(
        self, node: SetOperation, branches: Sequence[Alternative], where: Distribution
    ) -> Alternative:
        builds = [b.build for b in branches]
        return Alternative(
            where,
            sum(b.cost for b in branches),
            lambda: node.with_children(tuple(build() for build in builds)),
        )

    def _side_by_side(
        self, node: SetOperation, chosen: Sequence[Alternative]
    ) -> Alternative | None:
        """All branches on one node, or a UNION ALL of branches that are spread anyway."""
        places = [c.distribution for c in chosen]
        spots = {p.nodes[0] for p in places if p.is_single}
        copies = [p for p in places if p.spread is Spread.REPLICATED]
        if len(spots) <= 1 and all(p.is_single or p.spread is Spread.REPLICATED for p in places):
            target = next(iter(spots), None)
            if target is None:
                common = set(places[0].nodes).intersection(*(p.nodes for p in places))
                if not common:
                    return None
                target = self.coordinator if self.coordinator in common else min(common)
            if all(target in p.nodes for p in places):
                pins = frozenset[str]().union(*(p.pins for p in places))
                return self._combined(node, chosen, single(target, pins))
        if node.kind is not SetKind.UNION or copies or any(p.is_single for p in places):
            return None
        nodes = tuple(sorted({n for p in places for n in p.nodes}))
        return self._combined(node, chosen, Distribution(Spread.SCATTERED, nodes))

    def _hashed_alike(
        self, node: SetOperation, chosen: Sequence[Alternative], sizes: Sequence[Size]
    ) -> Alternative | None:
        """INTERSECT and EXCEPT with both sides hashed by whole rows."""
        if len(self.nodes) == 1 or sum(s.rows for s in sizes) < MERGE_ROWS:
            return None
        if any(c.distribution.pins for c in chosen):
            return None
        keys = self._alike_keys(node)
        if keys is None:
            return None
        sides = [
            repartition(c, s, k, self.nodes) for c, s, k in zip(chosen, sizes, keys, strict=True)
        ]
        # The branches' own names end here, so nothing is known of the result's.
        where = Distribution(Spread.SCATTERED, self.nodes)
        return self._combined(node, sides, where)

    def _alike_keys(self, node: SetOperation) -> list[list[Item]] | None:
        """For each branch the columns to hash, of the same types in all; None without any."""
        first, second = (
            [{c.name: c for c in branch.columns}[n] for n in names]
            for branch, names in zip(node.branches, node.sources, strict=True)
        )
        pairs = [
            (
                hash_key(column_scalar(a), self._fresh_hash(), b.type),
                hash_key(column_scalar(b), self._fresh_hash(), a.type),
            )
            for a, b in zip(first, second, strict=True)
        ]
        usable = [(a, b) for a, b in pairs if a is not None and b is not None]
        return [[a for a, _ in usable], [b for _, b in usable]] if usable else None

    # Shared subplans and opaque queries

    def _shared(self, node: Shared) -> Alternatives:
        size = self._size(node.definition)
        self._profile(node)  # makes the shared profile known to its scans
        ways = self.plan(node.definition)
        if self._pinned_to is None:
            self._pinned_to = self._end_of(best(ways))
        definition = best(gather(a, size, self._pinned_to) for a in ways)
        found: Alternatives = []
        for body in self.plan(node.body):
            where = body.distribution
            outer = (where.pins | definition.distribution.pins) - {node.name}
            if node.name not in where.pins:
                found.append(body)
                continue
            found.append(
                Alternative(
                    replace(where, pins=outer),
                    body.cost + definition.cost,
                    _sharing(node.name, definition, body),
                )
            )
        return found

    def _opaque(self, node: Opaque) -> Alternatives:
        inputs = [best(self.plan(i.node)) for i in node.inputs]
        sizes = [self._size(i.node) for i in node.inputs]
        target = self._meeting_place([i.distribution for i in inputs])
        moved = [gather(a, s, target, rescannable=True) for a, s in zip(inputs, sizes, strict=True)]
        builds = [m.build for m in moved]
        return [
            Alternative(
                single(target),
                sum(m.cost for m in moved),
                lambda: node.with_children(tuple(build() for build in builds)),
            )
        ]

    def _meeting_place(self, places: Sequence[Distribution]) -> NodeId:
        """The one node that has everything already, else the coordinator."""
        common: set[NodeId] | None = None
        for place in places:
            if not place.is_single and place.spread is not Spread.REPLICATED:
                return self.coordinator
            common = set(place.nodes) if common is None else common & set(place.nodes)
        if not common or self.coordinator in common:
            return self.coordinator
        return min(common)


def _sharing(name: str, definition: Alternative, body: Alternative) -> Callable[[], Node]:
    return lambda: Shared(name, definition.build(), body.build())


def _is_volatile(node: Aggregate) -> bool:
    return any(i.scalar.volatile for i in (*node.keys, *node.aggregates))
