"""Where an operator's rows lie: the property that physical plans are compared by.

    SINGLE      on one node
    REPLICATED  the same rows on each of the nodes; a reader uses one copy
    PARTS       as the parts of a table: the rows of one key value are on the node of its part
    HASHED      as an exchange hashed them: by `keys`, over exactly these nodes; `types` are
                the DuckDB types that were hashed, since values of two types hash differently
    SCATTERED   on several nodes, each row once, no rule known

`keys` holds for each key position all the column names known to carry the key's value, so that
a join or projection that renames or equates columns keeps the property. Two PARTS agree when
they come from co-located tables and put the parts both have on the same nodes.

`pins` names the shared subplans an operator reads: their readers must stay in one stage, on
one node, until the operator that computes them is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from catalog.model import ColocationId, NodeId
from planner.algebra import Item
from planner.algebra_scalars import plain_column


class Spread(StrEnum):
    SINGLE = "single"
    REPLICATED = "replicated"
    PARTS = "parts"
    HASHED = "hashed"
    SCATTERED = "scattered"


@dataclass(frozen=True, slots=True)
class Distribution:
    """See the module. `places` are (ordinal, node) of PARTS, sorted."""

    spread: Spread
    nodes: tuple[NodeId, ...]
    keys: tuple[frozenset[str], ...] = ()
    colocation: ColocationId | None = None
    places: tuple[tuple[int, NodeId], ...] = ()
    types: tuple[str, ...] = ()
    pins: frozenset[str] = frozenset()

    @property
    def is_single(self) -> bool:
        """Whether all rows are on one node (and only there)."""
        return len(self.nodes) == 1

    @property
    def is_keyed(self) -> bool:
        return self.spread in (Spread.PARTS, Spread.HASHED) and bool(self.keys)

    def without_keys(self) -> Distribution:
        """The same places, without a rule for them."""
        if self.spread not in (Spread.PARTS, Spread.HASHED):
            return self
        spread = Spread.SINGLE if self.is_single else Spread.SCATTERED
        return Distribution(spread, self.nodes, pins=self.pins)

    def with_keys(self, keys: tuple[frozenset[str], ...]) -> Distribution:
        return replace(self, keys=keys) if all(keys) else self.without_keys()

    def projected(self, items: Iterable[Item]) -> Distribution:
        """The property after a projection, through the columns it hands on."""
        if not self.is_keyed:
            return self
        renamed: dict[str, set[str]] = {}
        for item in items:
            plain = plain_column(item.scalar)
            if plain is not None:
                renamed.setdefault(plain, set()).add(item.name)
        keys = tuple(
            frozenset(new for old in names for new in renamed.get(old, ())) for names in self.keys
        )
        return self.with_keys(keys)

    def equated(self, pairs: Iterable[tuple[str, str]]) -> Distribution:
        """The property once the columns of each pair are known to be equal."""
        if not self.is_keyed:
            return self
        keys = list(self.keys)
        for left, right in pairs:
            for position, names in enumerate(keys):
                if (left in names) is not (right in names):
                    keys[position] = names | {left, right}
        return self if keys == list(self.keys) else replace(self, keys=tuple(keys))

    def groups_by(self, names: Iterable[str]) -> bool:
        """Whether all rows that agree in these columns are on one node."""
        wanted = frozenset(names)
        return self.is_single or (
            self.is_keyed and all(not key.isdisjoint(wanted) for key in self.keys)
        )


def single(node: NodeId, pins: frozenset[str] = frozenset()) -> Distribution:
    return Distribution(Spread.SINGLE, (node,), pins=pins)


def hashed(keys: Sequence[str], types: Sequence[str], nodes: tuple[NodeId, ...]) -> Distribution:
    if len(nodes) == 1:
        return single(nodes[0])
    names = tuple(frozenset((k,)) for k in keys)
    return Distribution(Spread.HASHED, nodes, names, types=tuple(types))


def aligned(left: Distribution, right: Distribution, pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether rows that agree in the pairs of columns (left, right) are on the same node."""
    if not left.is_keyed or left.spread is not right.spread or len(left.keys) != len(right.keys):
        return False
    if left.spread is Spread.HASHED and (left.nodes, left.types) != (right.nodes, right.types):
        return False
    if left.spread is Spread.PARTS and not same_places(left, right):
        return False
    known = list(pairs)
    return all(
        any(a in mine and b in theirs for a, b in known)
        for mine, theirs in zip(left.keys, right.keys, strict=True)
    )


def same_places(left: Distribution, right: Distribution) -> bool:
    """Whether co-located tables have the parts that both still read on the same nodes."""
    if left.colocation is None or left.colocation != right.colocation:
        return False
    if left.places == right.places:
        return True
    mine = dict(left.places)
    return all(mine.get(ordinal, node) == node for ordinal, node in right.places)
