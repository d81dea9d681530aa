"""Queries for one row by its key, told apart before anything is bound or optimised.

    SELECT column or expression, ... FROM table
    WHERE key column = constant or $n AND ... [AND condition ...]

A query of just this shape needs no stages: its one row is read where it lies, or few rows where
IN lists their keys, and what is
computed of it is computed in Python (`planner.row_expressions`). Everything that is not plainly of
the shape gives None and goes the usual way, with the same answer; so there are no errors here,
and nothing is rewritten.

Left out: keys of types whose equality is not that of their plain values (char(n), floats,
json, intervals), columns from more than one column group; in expressions, tables of several
groups, and types whose meaning depends on the session's settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

from sqlglot import exp

from catalog.datums import datum_of
from catalog.model import AccessMethod, Column, ColumnId, Table
from cluster.errors import DqeError
from planner.context import PlannerContext
from planner.datum import Datum, datum_text
from planner.ddl_names import find_relation
from planner.plan import ResultColumn
from planner.point_computed import Computed, computed
from planner.statements import ObjectName
from storage.types import TEXT, Kind, SqlType

_INTEGERS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR})
_LIMITS = {Kind.INT2: 2**15, Kind.INT4: 2**31, Kind.INT8: 2**63}
# Types whose values a key may be compared with as they stand.
KEY_KINDS = _INTEGERS | _TEXTS | {Kind.UUID}
# Of parameters that stand for literals: the type of each number, None for a string.
LiteralKinds: TypeAlias = tuple[SqlType | None, ...]

# Longer lists of keys are worth a plan.
MOST_KEYS = 16

# IN of anything but a list of expressions.
_OTHER_LISTS = ("query", "unnest", "field", "is_global")
_CLAUSES = frozenset({"expressions", "from_", "where", "kind"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """`$number`, counted from 1."""

    number: int


Key: TypeAlias = tuple[str | Parameter, ...]


@dataclass(frozen=True, slots=True)
class PointRead:
    """One row of a table by its key. `key` has a value for each key column: its text, or the
    parameter that will have it; `more_keys` are those of further rows. `wanted` are the columns
    of the answer, all in the column group at the place `group`."""

    table: Table
    group: int
    key: Key
    wanted: tuple[ColumnId, ...]
    columns: tuple[ResultColumn, ...]
    computed: Computed | None = None
    more_keys: tuple[Key, ...] = ()

    def key_values(self, values: Sequence[Datum], key: Key | None = None) -> list[object] | None:
        """The plain key for these parameter values, the first or a given one; None where no such
        row can be, or only the usual way can tell."""
        found: list[object] = []
        sources = self.key if key is None else key
        for column_id, source in zip(self.table.key, sources, strict=True):
            value = values[source.number - 1] if isinstance(source, Parameter) else source
            plain = plain_value(self.table.column(column_id).type, value)
            if plain is None:
                return None
            found.append(plain)
        return found

    def parameter_types(self, given: Sequence[SqlType | None]) -> tuple[SqlType, ...] | None:
        """The types of `$1`, `$2`, ...; those not given are as the key's columns compare. None
        where one of them is not in the query."""
        found: dict[int, SqlType] = {}
        for key in (self.key, *self.more_keys):
            for column_id, source in zip(self.table.key, key, strict=True):
                if isinstance(source, Parameter):
                    own = self.table.column(column_id).type
                    found[source.number] = TEXT if own.kind in _TEXTS else own
        if self.computed is not None:
            used = enumerate(self.computed.parameters, start=1)
            found |= {number: t for number, t in used if t is not None}
        count = max(len(given), *found, 0) if found else len(given)
        types = [given[n - 1] if n <= len(given) else None for n in range(1, count + 1)]
        whole = [known or found.get(n) for n, known in enumerate(types, start=1)]
        return tuple(t for t in whole if t is not None) if None not in whole else None


def point_read(
    tree: exp.Expr,
    context: PlannerContext,
    parameters: Sequence[SqlType | None] = (),
    literals: LiteralKinds | None = None,
) -> PointRead | None:
    """The query as a read of one row by key; None where it is not just that.

    With `literals` its parameters stand for literals and are compared as those are.
    """
    if not isinstance(tree, exp.Select) or any(
        v for k, v in tree.args.items() if k not in _CLAUSES
    ):
        return None
    relation = only_relation(tree)
    where = tree.args.get("where")
    if relation is None or where is None or not tree.expressions:
        return None
    table = table_with_key(relation, context)
    if table is None:
        return None
    reader = PointReader(table, relation.alias_or_name, parameters, literals)
    keys, conditions = reader.keys_of(where.this)
    if not keys:
        return None
    output = reader.output(tree.expressions)
    if conditions or output is None:
        if output is None and any(isinstance(item, exp.Star) for item in tree.expressions):
            return None
        return _read_computed(reader, keys, conditions, tree.expressions, output, context)
    group = group_with(table, [column.id for column, _ in output])
    if group is None:
        return None
    columns = tuple(ResultColumn(name, column.type, (name,)) for column, name in output)
    wanted = tuple(column.id for column, _ in output)
    return PointRead(table, group, keys[0], wanted, columns, None, tuple(keys[1:]))


def _read_computed(
    reader: PointReader,
    keys: Sequence[Key],
    conditions: Sequence[exp.Expr],
    items: Sequence[exp.Expr],
    output: list[tuple[Column, str]] | None,
    context: PlannerContext,
) -> PointRead | None:
    """The same with something to compute; `output` where the answer's columns are plain."""
    table = reader.table
    if len(table.groups) != 1 or not reader.may_compute([*conditions, *items], keys):
        return None
    given = reader.parameters
    found = computed(
        table, reader.alias, given, conditions, () if output is not None else items, context
    )
    if found is None:
        return None
    wanted: tuple[ColumnId, ...] = ()
    columns = found.columns
    if output is not None:
        wanted = tuple(column.id for column, _ in output)
        columns = tuple(ResultColumn(name, column.type, (name,)) for column, name in output)
    return PointRead(table, 0, keys[0], wanted, columns, found, tuple(keys[1:]))


def only_relation(tree: exp.Select) -> exp.Table | None:
    """The one table in FROM, if that is all there is."""
    source = tree.args.get("from_")
    return None if source is None else relation_of(source.this)


def relation_of(relation: exp.Expr) -> exp.Table | None:
    """The table that is joined, if it is a plain name with or without an alias."""
    if not isinstance(relation, exp.Table) or not isinstance(relation.this, exp.Identifier):
        return None
    alias = relation.args.get("alias")
    if alias is not None and alias.columns:
        return None
    known = {"this", "db", "alias"}
    return None if any(v for k, v in relation.args.items() if k not in known) else relation


def table_with_key(relation: exp.Table, context: PlannerContext) -> Table | None:
    """The table, if it is in the row store and its rows can be told by their keys here."""
    table = table_of(relation, context)
    if table is None or table.hidden_row_id:
        return None
    kinds = {table.column(column_id).type.kind for column_id in table.key}
    return table if kinds <= KEY_KINDS else None


def table_of(relation: exp.Table, context: PlannerContext) -> Table | None:
    """The table of the row store that is meant, as it stands."""
    schema = relation.args.get("db")
    name = ObjectName(_name(relation.this), None if schema is None else _name(schema))
    table = find_relation(context, name)
    if not isinstance(table, Table) or table.access_method is AccessMethod.COLUMNAR:
        return None
    return None if table.id in context.catalog.recuts else table


def _name(identifier: exp.Identifier) -> str:
    """As PostgreSQL folds it."""
    return str(identifier.this) if identifier.args.get("quoted") else str(identifier.this).lower()


@dataclass(frozen=True, slots=True)
class PointReader:
    """The parts of one query over one table."""

    table: Table
    alias: str
    parameters: Sequence[SqlType | None]
    literals: LiteralKinds | None

    def column(self, node: exp.Expr) -> Column | None:
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        qualifier = node.args.get("table")
        if node.args.get("db") or (qualifier is not None and _name(qualifier) != self.alias):
            return None
        return self.table.column_named(_name(node.this))

    def keys_of(self, condition: exp.Expr) -> tuple[list[Key], list[exp.Expr]]:
        """The keys of the rows asked for, none where not all of a key is given or where there are
        too many, and what else a row must meet."""
        found: dict[ColumnId, list[str | Parameter]] = {}
        others: list[exp.Expr] = []
        for part in conjuncts(condition):
            column, sources = self.equality(part)
            if column is None or not sources or column.id in found:
                others.append(part)
            else:
                found[column.id] = sources
        if found.keys() != set(self.table.key):
            return [], others
        count = prod(len(sources) for sources in found.values())
        listed = (found[column_id] for column_id in self.table.key)
        return (list(product(*listed)) if count <= MOST_KEYS else []), others

    def equality(self, part: exp.Expr) -> tuple[Column | None, list[str | Parameter]]:
        """A key's column and what it is to be equal to, where the condition says just that."""
        if isinstance(part, exp.In) and not any(part.args.get(a) for a in _OTHER_LISTS):
            column, others = self.column(part.this), part.expressions
        elif isinstance(part, exp.EQ):
            column, others = self.column(part.this), [part.expression]
            if column is None:
                column, others = self.column(part.expression), [part.this]
        else:
            return None, []
        if column is None or column.id not in self.table.key:
            return None, []
        sources = [self.source(column.type, other) for other in others]
        known = [source for source in sources if source is not None]
        return column, known if len(known) == len(sources) else []

    def may_compute(self, trees: Sequence[exp.Expr], keys: Sequence[Key]) -> bool:
        """Whether all parameters in these are typed by where they stand, or given types. Those
        that stand for literals, and those of the key that have none, are not."""
        of_key = {s.number for key in keys for s in key if isinstance(s, Parameter)}
        for tree in trees:
            for node in tree.find_all(exp.Parameter):
                number = int(node.name)
                given = self.parameters[number - 1] if number <= len(self.parameters) else None
                if self.literals is not None or (given is None and number in of_key):
                    return False
        return True

    def source(self, wanted: SqlType, node: exp.Expr) -> str | Parameter | None:
        """A constant or parameter that compares with the column as a value of its type."""
        if isinstance(node, exp.Parameter) and isinstance(node.this, exp.Literal):
            number = int(node.this.this)
            if self.literals is not None:
                literal = self.literals[number - 1]
                return Parameter(number) if literal is None or _whole(wanted, literal) else None
            given = self.parameters[number - 1] if number <= len(self.parameters) else None
            return Parameter(number) if given is None or _comparable(wanted, given) else None
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
            return self._number(wanted, node.this, "-")
        if not isinstance(node, exp.Literal):
            return None
        if not node.is_string:
            return self._number(wanted, node, "")
        text = str(node.this)
        return text if plain_value(wanted, text) is not None else None

    @staticmethod
    def _number(wanted: SqlType, node: exp.Literal, sign: str) -> str | None:
        text = sign + str(node.this)
        fits = wanted.kind in _INTEGERS and not node.is_string
        return text if fits and plain_value(wanted, text) is not None else None

    def output(self, items: Sequence[exp.Expr]) -> list[tuple[Column, str]] | None:
        found: list[tuple[Column, str]] = []
        for item in items:
            if type(item) is exp.Star and not any(item.args.values()):
                found += [(column, column.name) for column in self.table.visible_columns]
                continue
            inner = item.this if isinstance(item, exp.Alias) else item
            column = self.column(inner)
            if column is None:
                return None
            name = _name(item.args["alias"]) if isinstance(item, exp.Alias) else column.name
            found.append((column, name))
        return found


def conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that AND joins."""
    while isinstance(condition, exp.Paren):
        condition = condition.this
    if isinstance(condition, exp.And):
        yield from conjuncts(condition.this)
        yield from conjuncts(condition.expression)
    else:
        yield condition


def _whole(wanted: SqlType, literal: SqlType) -> bool:
    return wanted.kind in _INTEGERS and literal.kind in _INTEGERS


def _comparable(wanted: SqlType, given: SqlType) -> bool:
    for family in (_INTEGERS, _TEXTS):
        if wanted.kind in family:
            return given.kind in family
    return wanted.kind is given.kind


def plain_value(wanted: SqlType, value: Datum) -> object | None:
    """The value as a key of that type has it; None where it is no such value."""
    text = value if type(value) is str else datum_text(value)
    if text is None or wanted.kind in _TEXTS:
        return text
    if wanted.kind in _INTEGERS:
        digits = text[1:] if text[:1] == "-" else text
        if not (digits.isascii() and digits.isdigit()):
            return None
        limit = _LIMITS[wanted.kind]
        number = int(text) if len(text) < 40 else limit
        return number if -limit <= number < limit else None
    try:
        return datum_of(wanted, text)
    except (DqeError, ValueError):
        return None


def group_with(table: Table, wanted: Sequence[ColumnId]) -> int | None:
    """The column group that has all of them; the anchor where the key alone is wanted."""
    own = set(wanted) - set(table.key)
    for place, group in enumerate(table.groups):
        if own <= set(group.columns):
            return place
    return None
