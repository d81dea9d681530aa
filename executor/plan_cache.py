"""Plans kept for statements that come again: the same text, the same plan, planned once.

Parsing, binding and planning a TPC-H query takes 5 to 35 ms, and clients send the same few
texts over and over. The parser keeps parsed texts and gives the same tree for the same text
(`planner.parser.entry`), so the tree itself is the key, together with the parameters' values,
which the binder writes into the plan.

A plan also depends on its surroundings. While it is made, the context notes what the planner
asks of it (`_Watched`): settings and session facts, which must be the same when the plan is
used again, and the clock, which makes the plan good for once only. All else is the catalog and
which nodes answer. So nobody has to know which function reads what.

With a plan goes what its first run told of its exchanges' schemas (`Planned.schemas`): a stage
whose inputs are known need not wait for their producers before it binds its statement.

Invariants:
- A plan is used with the very catalog object it was made with; a newer one empties the cache.
- What fails is not kept.

Left out: plans for parameters whose values are not known; each set of values has its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from sqlglot import exp

from catalog.model import Catalog, NodeId
from planner.context import PlannerContext
from planner.datum import Datum, datum_text
from planner.plan import QueryPlan
from storage.types import SqlType

PLANS_KEPT = 512
# Longer statements and values are not worth their memory.
LARGEST_TEXT_CHARACTERS = 32_768

_TEMPORARY = "temporary_schema"


@dataclass(slots=True)
class Planned:
    """A plan, and the Arrow schemas of its exchanges (encoded) once a run has told them."""

    plan: QueryPlan
    schemas: dict[int, bytes] = field(default_factory=dict)


class _Notes(Mapping[str, str]):
    """A mapping that notes which of its entries were looked at."""

    def __init__(self, mapping: Mapping[str, str], normal: Callable[[str, str], str]) -> None:
        self._mapping = mapping
        self._normal = normal
        self.read: dict[str, str | None] = {}

    def __getitem__(self, key: str) -> str:
        value = self._mapping.get(key)
        self.read[key] = None if value is None else self._normal(key, value)
        return self._mapping[key]

    def __iter__(self) -> Iterator[str]:
        for key in self._mapping:
            self[key]
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)


def _plain(catalog: Catalog) -> Callable[[str, str], str]:
    """Sessions differ in their temporary schema, which means nothing until it exists."""

    def normal(key: str, value: str) -> str:
        return "" if key == _TEMPORARY and value not in catalog.schemas else value

    return normal


class _Watched(PlannerContext):
    """A context that notes what of it a plan depends on."""

    __slots__ = ("clock_read",)

    clock_read: bool

    def __getattribute__(self, name: str) -> object:
        if name in ("now", "statement_now"):
            object.__setattr__(self, "clock_read", True)
        return object.__getattribute__(self, name)


@dataclass(frozen=True, slots=True)
class _Kept:
    tree: exp.Expr
    settings: Mapping[str, str | None]
    session: Mapping[str, str | None]
    planned: Planned

    def fits(self, tree: exp.Expr, context: PlannerContext) -> bool:
        normal = _plain(context.catalog)
        return self.tree is tree and all(
            (None if key not in now else normal(key, now[key])) == value
            for now, then in ((context.settings, self.settings), (context.session, self.session))
            for key, value in then.items()
        )


class PlanCache:
    """The plans of one node. Its methods may be called from several threads."""

    def __init__(self, plans_kept: int = PLANS_KEPT) -> None:
        self._plans_kept = plans_kept
        self._catalog: Catalog | None = None
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def plan(
        self,
        tree: exp.Expr,
        text: str,
        types: Sequence[SqlType | None],
        values: Sequence[Datum],
        context: PlannerContext,
        make: Callable[[PlannerContext], QueryPlan],
    ) -> Planned:
        """The plan of the statement in its surroundings, made by `make` unless it is here.

        `context` must hold the newest catalog of the node.
        """
        key = _key(text, types, values, (context.live_nodes, context.nearest))
        if key is None or context.given:
            return Planned(make(context))
        if context.catalog is not self._catalog:
            self._catalog = context.catalog
            self._kept.clear()
        kept = self._kept.get(key)
        if kept is not None and kept.fits(tree, context):
            return kept.planned
        watched, settings, session = _watched(context)
        planned = Planned(make(watched))
        if not watched.clock_read and context.catalog is self._catalog:
            self._kept[key] = _Kept(tree, settings.read, session.read, planned)
            while len(self._kept) > self._plans_kept:
                self._kept.popitem(last=False)
        return planned


def _watched(context: PlannerContext) -> tuple[_Watched, _Notes, _Notes]:
    normal = _plain(context.catalog)
    settings, session = _Notes(context.settings, normal), _Notes(context.session, normal)
    given = {item.name: getattr(context, item.name) for item in fields(context)}
    watched = _Watched(**{**given, "settings": settings, "session": session})
    object.__setattr__(watched, "clock_read", False)
    return watched, settings, session


def _key(
    text: str,
    types: Sequence[SqlType | None],
    values: Sequence[Datum],
    nodes: tuple[tuple[NodeId, ...], ...],
) -> Hashable | None:
    """None for a statement that is not to be kept."""
    # The binder makes literals of these texts; values may be equal and yet differ in them.
    written = tuple(map(datum_text, values))
    size = len(text) + sum(len(value) for value in written if value is not None)
    if not text or size > LARGEST_TEXT_CHARACTERS:
        return None
    return text, tuple(types), written, nodes
