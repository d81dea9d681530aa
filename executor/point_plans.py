"""What is kept of a query for one row by key, ready for any values of its parameters.

A plan is made once for a statement's tree, the types of its parameters and the session's search
path, and holds until the catalog changes: which part has a key, the fragment and tablet of every
part, where the wanted columns lie in a stored row. To run it is to read the key's values, find
the part, ask its tablet (`executor.point_queries`, `executor.quick_reads`).

Simple queries come as text with other literals every time; texts of one shape
(`executor.lifted_literals`) share a plan, their literals being its parameters. Any other query of a
shape goes the usual way by its own text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlglot import exp

from catalog.bounds import NO_PART, ordinals_by
from catalog.fragment_schemas import fragment_schema, store_name
from catalog.model import Catalog, FragmentId, TabletId
from executor.lifted_literals import statement_of
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import ResultColumn
from planner.point import LiteralKinds, PointRead, point_read
from planner.point_computed import Computed
from planner.row_casts import parameter_value
from planner.row_expressions import row_function
from planner.semantics.environment import Environment
from planner.statements import Query
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.types import Kind, SqlType

PLANS_KEPT = 512


class Place(NamedTuple):
    """Where the rows of some keys are, if they are anywhere: one fragment."""

    tablet_id: TabletId
    fragment_id: FragmentId
    keys: tuple[StoredKey, ...]


class Computer:
    """The functions of what is computed."""

    def __init__(self, computed: Computed, context: PlannerContext) -> None:
        self.conditions = [row_function(code) for code in computed.conditions]
        self.outputs = [row_function(code) for code in computed.outputs]
        self._types = computed.parameters
        # Nothing of it counts: only types that mean the same everywhere are computed with.
        self._environment = Environment(context)

    def values(self, given: Sequence[Datum]) -> Sequence[Any]:
        """What the functions take."""
        used = zip(self._types, given, strict=False)
        return [
            None,
            *(None if t is None else parameter_value(v, t, self._environment) for t, v in used),
        ]


@dataclass(frozen=True, slots=True)
class PointPlan:
    """See the module. `tables` are those of the first part; keys and rows of all parts have one
    form."""

    point: PointRead
    tables: RowTables
    # The partition columns among the key's, and the part for their values.
    key_places: tuple[int, ...]
    ordinal_of: Callable[[Sequence[object]], int]
    # By the part's ordinal.
    fragments: tuple[tuple[TabletId, FragmentId], ...]
    # The wanted columns among those of the fragment.
    places: tuple[int, ...]
    # How those that are not stored as their plain values are read.
    decoders: tuple[tuple[int, Callable[[Any], Any]], ...]
    computer: Computer | None
    # What a layer above keeps with the plan.
    kept: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[ResultColumn, ...]:
        return self.point.columns

    def find(self, values: Sequence[Datum]) -> Place | bool:
        """Where the rows for these parameters are; False where there can be none, True where
        only the usual way can tell: rows in several tablets are read at one snapshot."""
        found = self._place(self.point.key_values(values))
        if not self.point.more_keys or found is True:
            return found
        for key in self.point.more_keys:
            more = self._place(self.point.key_values(values, key))
            if more is True:
                return True
            if isinstance(more, Place) and isinstance(found, Place):
                if more.fragment_id != found.fragment_id:
                    return True
                keys = tuple(dict.fromkeys(found.keys + more.keys))
                more = found._replace(keys=keys)
            found = more or found
        return found

    def find_all(self, values: Sequence[Datum]) -> list[Place] | None:
        """Where they are in all tablets that may have some; None where only the usual way can
        tell."""
        found: dict[FragmentId, Place] = {}
        for key in (self.point.key, *self.point.more_keys):
            place = self._place(self.point.key_values(values, key))
            if place is True:
                return None
            if isinstance(place, Place):
                known = found.get(place.fragment_id, place)
                keys = tuple(dict.fromkeys(known.keys + place.keys))
                found[place.fragment_id] = known._replace(keys=keys)
        return list(found.values())

    def _place(self, key: list[object] | None) -> Place | bool:
        if key is None:
            return True
        ordinal = self.ordinal_of([key[place] for place in self.key_places])
        if ordinal == NO_PART:
            return False
        try:
            stored = self.tables.encode_key(key)
        except ValueError:  # no row can have it
            return False
        tablet_id, fragment_id = self.fragments[ordinal]
        return Place(tablet_id, fragment_id, (stored,))

    def answer(self, row: StoredRow, values: Sequence[Datum]) -> list[Any] | None:
        """The answer's columns as plain values (`storage.row_values`), char(n) with its padding;
        None where the row does not meet the conditions.

        Raises what computing them raises, `NotByRow` included.
        """
        computer = self.computer
        if computer is not None:
            given, plain = computer.values(values), self.tables.decode_row(row)
            if not all(condition(plain, given) for condition in computer.conditions):
                return None
            if computer.outputs:
                return [output(plain, given) for output in computer.outputs]
        found = [row[place] for place in self.places]
        for index, decode in self.decoders:
            if found[index] is not None:
                found[index] = decode(found[index])
        return found


@dataclass(slots=True)
class _Known:
    """A query that was looked at; `plan` is None where it goes the usual way. The tree is held
    so that its id stays its own."""

    tree: exp.Expr | None
    plan: PointPlan | None


class NamesMeant(NamedTuple):
    """What decides which table a name means, the same for sessions that mean the same."""

    catalog: Catalog
    search_path: str | None
    # None as long as it has nothing in it.
    temporary_schema: str | None
    user: str | None

    @property
    def key(self) -> tuple[str | None, ...]:
        """All but the catalog."""
        return self[1:]


class PointPlans:
    """The plans of one node. A newer catalog empties it."""

    def __init__(self) -> None:
        self._catalog: Catalog | None = None
        self._kept: OrderedDict[Hashable, _Known] = OrderedDict()

    def of_tree(
        self, statement: Query, types: tuple[SqlType | None, ...], context: PlannerContext
    ) -> PointPlan | None:
        """The plan of a parsed query, if it is for one row by key. `context` holds the node's
        newest catalog."""
        if statement.as_of is not None:
            return None
        tree = statement.tree
        names = names_meant(context)
        key = (id(tree), types, names.key)
        known = self._find(key, names.catalog)
        if known is None or known.tree is not tree:
            known = self._keep(key, _Known(tree, _planned(tree, context, types, None)))
        return known.plan

    def of_shape(
        self,
        shape: str,
        kinds: LiteralKinds,
        names: NamesMeant,
        context: Callable[[], PlannerContext],
    ) -> PointPlan | None:
        """The plan of texts of a shape that `lifted` gave. `context`, which takes longer to make
        than a plan to find, is of the same catalog and session as `names`."""
        key = (shape, names.key)
        known = self._find(key, names.catalog)
        if known is None:
            known = self._keep(key, _Known(None, _planned_shape(shape, kinds, context())))
        return known.plan

    def _find(self, key: Hashable, catalog: Catalog) -> _Known | None:
        if catalog is not self._catalog:
            self._catalog = catalog
            self._kept.clear()
        return self._kept.get(key)

    def _keep(self, key: Hashable, known: _Known) -> _Known:
        self._kept[key] = known
        while len(self._kept) > PLANS_KEPT:
            self._kept.popitem(last=False)
        return known


def names_meant(context: PlannerContext) -> NamesMeant:
    """The part of the context that says which table a name means."""
    path, schema = context.settings.get("search_path"), context.session.get("temporary_schema")
    known = schema if schema in context.catalog.schemas else None
    return NamesMeant(context.catalog, path, known, context.session.get("user"))


def _planned_shape(shape: str, kinds: LiteralKinds, context: PlannerContext) -> PointPlan | None:
    query = statement_of(shape)
    if not isinstance(query, Query) or query.as_of is not None:
        return None
    return _planned(query.tree, context, (None,) * len(kinds), kinds)


def _planned(
    tree: exp.Expr,
    context: PlannerContext,
    types: tuple[SqlType | None, ...],
    kinds: LiteralKinds | None,
) -> PointPlan | None:
    point = point_read(tree, context, types, kinds)
    if point is None:
        return None
    table = point.table
    fragments = [part.fragments[point.group] for part in table.parts]
    tables = RowTables(fragment_schema(table, fragments[0]))
    wanted = [table.column(column_id) for column_id in point.wanted]
    names = tuple(store_name(column.id) for column in wanted)
    encodings = [tables.encoding(name) for name in names]
    decoders = [(i, e.decode) for i, e in enumerate(encodings) if not e.same]
    decoders += [
        (i, _padding(column.type.length))
        for i, column in enumerate(wanted)
        if column.type.kind is Kind.BPCHAR and column.type.length is not None
    ]
    return PointPlan(
        point,
        tables,
        key_places=tuple(table.key.index(column) for column in table.partition_columns),
        ordinal_of=ordinals_by(table),
        fragments=tuple((fragment.tablet_id, fragment.id) for fragment in fragments),
        places=tuple(tables.names.index(name) for name in names),
        decoders=tuple(decoders),
        computer=None if point.computed is None else Computer(point.computed, context),
    )


def _padding(length: int) -> Callable[[str], str]:
    return lambda text: text.ljust(length)
