"""MERGE: one query that joins source and target and says of each row what becomes of it.

The query yields the number of the WHEN clause that applies, what finds the stored row, the whole
row as it will be: every column is a CASE over the clauses, in their order; and the source's
columns. Which join it is depends on which rows the clauses can be about.

Rows that others changed meanwhile are looked at again by the same query over the source rows at
hand (`Again`), each joined with the newest version of the one target row that it was found with:
it may match no more, and then clauses for rows without a match apply, as in PostgreSQL.

Left out: conditions with volatile functions, which are evaluated more than once; `old` and `new`
in RETURNING.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import Column, ColumnId, Table
from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.bound import GIVEN_SCHEMA
from planner.context import PlannerContext
from planner.ddl_names import find_table
from planner.locking import target_relation
from planner.optimizer import plan_query
from planner.plan import ResultColumn
from planner.statements import Merge, MergeAction, MergeClause, MergeState, is_default
from planner.write_assignments import (
    Parameters,
    RowChange,
    RowSource,
    Values,
    changed_columns,
    others_of,
    own_column,
    typed_constant,
)
from planner.write_plan import MergePlan, MergeStep, Returning
from planner.write_rows import (
    check_expressions,
    check_insertable,
    column_reference,
    default_columns,
    default_tree,
    generated_expressions,
    is_volatile,
    plan_returning,
    table_reference,
    target_columns,
)
from planner.write_values import matched_columns, value_rows
from storage.types import BOOL, INT4, TEXT, SqlType

# A column of the source that is TRUE wherever there is a source row.
_PRESENT = "~present"

SourceColumn = tuple[str, SqlType]

_JOINS = {
    # (rows without a target matter, rows without a source matter)
    (False, False): "inner",
    (True, False): "right",
    (False, True): "left",
    (True, True): "full",
}


# Of a source row that is looked at again, the key of the target row it was found with.
_KEY = "~key {}"
# What stands for the relation of merge_action(), and its column.
_ACTION, ACTION_COLUMN = "~merge", "merge_action"


@dataclass(frozen=True, slots=True)
class Again:
    """Source rows at hand, relation `name` of `GIVEN_SCHEMA`: its columns are the key of the
    target row, the columns `names` of the source, and TRUE."""

    name: str
    names: tuple[str, ...]


def plan_merge(
    statement: Merge,
    context: PlannerContext,
    *,
    parameters: Parameters = (),
    values: Values = None,
    again: Again | None = None,
) -> MergePlan:
    """The plan of MERGE, or of its second look at some rows."""
    table = find_table(context, statement.table, purpose="merge into")
    source = RowSource(context, parameters, values)
    merge = _Merge(table, statement, source, again)
    bound = source.bind(*merge.query())
    return MergePlan(
        table,
        plan_query(bound, context),
        changed_columns(table),
        tuple(c.id for c in table.visible_columns),
        tuple(merge.step(place, context) for place in range(len(statement.clauses))),
        check_expressions(table, context),
        generated_expressions(table, context),
        tuple(name for name, _ in merge.beside),
        target_relation(bound, at=1),
        _returning(statement, table, context, merge.beside),
    )


def describe_merge(
    statement: Merge, context: PlannerContext, parameters: Parameters
) -> tuple[tuple[SqlType, ...], tuple[ResultColumn, ...] | None]:
    """The types of the statement's parameters, and the columns of RETURNING."""
    table = find_table(context, statement.table, purpose="merge into")
    source = RowSource(context, parameters, None)
    merge = _Merge(table, statement, source, None)
    types = source.bind(*merge.query()).parameters
    returning = _returning(statement, table, context, merge.beside)
    return types, None if returning is None else returning.columns


def _returning(
    statement: Merge, table: Table, context: PlannerContext, beside: Sequence[SourceColumn]
) -> Returning | None:
    """RETURNING over target and source rows, with merge_action() as one more column; a star is
    the source's columns and then the target's."""
    if not statement.returning:
        return None
    names = source_name(statement), statement.alias or table.name
    stars = [exp.Column(this=exp.Star(), table=exp.to_identifier(n, quoted=True)) for n in names]
    items: list[exp.Expr] = []
    for item in statement.returning:
        copies = stars if isinstance(item, exp.Star) else [item]
        items += [copy.copy().transform(_action) for copy in copies]
    columns = tuple((name, t, f"@other:{place}") for place, (name, t) in enumerate(beside))
    action = ((ACTION_COLUMN, TEXT, f"@other:{len(beside)}"),)
    skeleton = statement.source.copy()
    word = exp.Cast(this=exp.Literal.string(""), to=exp.DataType.build("text"))
    actions = exp.Select(expressions=[exp.alias_(word, ACTION_COLUMN, quoted=True)])
    alias = exp.TableAlias(this=exp.to_identifier(_ACTION, quoted=True))
    skeleton.append("joins", exp.Join(this=exp.Subquery(this=actions, alias=alias)))
    return plan_returning(
        items,
        table,
        statement.alias,
        context,
        skeleton,
        ((names[0], columns), (_ACTION, action)),
    )


def _action(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Anonymous) and node.name.lower() == ACTION_COLUMN:
        return column_reference(ACTION_COLUMN, _ACTION)
    return node


def source_name(statement: Merge) -> str:
    """What the statement calls its source."""
    name = statement.source.args["from_"].this.alias_or_name
    if not name:
        raise SyntaxError_("subquery in FROM must have an alias")
    return str(name)


class _Merge:
    """What the clauses do, and the query that tells of each row which it is."""

    def __init__(
        self, table: Table, statement: Merge, source: RowSource, again: Again | None
    ) -> None:
        self._table = table
        self._statement = statement
        self._again = again
        if statement.source.args.get("joins"):
            raise FeatureNotSupported("the source of MERGE must be one table or subquery")
        self.beside = _source_columns(statement, source)
        self._alias = statement.alias or table.name
        self._changes: dict[int, RowChange] = {}
        self._inserted: dict[int, dict[ColumnId, exp.Expr]] = {}
        for place, clause in enumerate(statement.clauses):
            if clause.action is MergeAction.UPDATE:
                self._changes[place] = RowChange(table, clause.assignments, whole=True)
            elif clause.action is MergeAction.INSERT:
                self._inserted[place] = _inserted_values(table, clause)

    def query(self) -> tuple[exp.Select, list[SqlType]]:
        """The row source, with the types its columns are to have."""
        table = self._table
        numbers = [exp.Literal.number(place) for place in range(len(self._statement.clauses))]
        old = [own_column(table, column, self._alias) for column in changed_columns(table)]
        new = [self._new_value(column) for column in table.visible_columns]
        beside = [column_reference(name, self._source_name) for name, _ in self.beside]
        present = column_reference(_PRESENT, self._source_name)
        expressions: list[exp.Expr] = [self._case(numbers), *old, *new, *beside, present]
        tree = self._joined()
        tree.set("expressions", [exp.alias_(e, f"v{n}") for n, e in enumerate(expressions)])
        types = [table.column(column).type for column in changed_columns(table)]
        types += [column.type for column in table.visible_columns]
        types += [column_type for _, column_type in self.beside]
        return tree, [INT4, *types, BOOL]

    def _new_value(self, column: Column) -> exp.Expr:
        return self._case(
            [self._value(place, column) for place in range(len(self._statement.clauses))]
        )

    def _value(self, place: int, column: Column) -> exp.Expr:
        """The column's value in a row of the clause."""
        if place in self._inserted:
            given = self._inserted[place].get(column.id)
            return typed_constant(given or exp.Null(), column)
        change = self._changes.get(place)
        value = change.values.get(column.id) if change is not None else None
        return value or own_column(self._table, column.id, self._alias)

    def _case(self, values: Sequence[exp.Expr]) -> exp.Expr:
        """The value of the clause that applies; NULL where none does."""
        ifs = [
            exp.If(this=self._applies(clause), true=exp.Paren(this=value.copy()))
            for clause, value in zip(self._statement.clauses, values, strict=True)
        ]
        return exp.Case(ifs=ifs)

    def _applies(self, clause: MergeClause) -> exp.Expr:
        target = column_reference(self._table.column(self._table.key[0]).name, self._alias)
        has_target: exp.Expr = exp.Not(this=exp.Is(this=target, expression=exp.Null()))
        present = column_reference(_PRESENT, self._source_name)
        has_source: exp.Expr = exp.Not(this=exp.Is(this=present, expression=exp.Null()))
        if clause.state is MergeState.NO_TARGET:
            has_target = exp.Not(this=exp.Paren(this=has_target))
        elif clause.state is MergeState.NO_SOURCE:
            has_source = exp.Not(this=exp.Paren(this=has_source))
        parts = [has_target, has_source]
        if clause.condition is not None:
            parts.append(clause.condition.copy())
        return exp.and_(*(exp.Paren(this=part) for part in parts), copy=False)

    @property
    def _source_name(self) -> str:
        return source_name(self._statement)

    def _joined(self) -> exp.Select:
        """Source and target; the source with a column that says that there is a row."""
        tree = self._statement.source.copy()
        source = tree.args["from_"].this
        on: exp.Expr = exp.Paren(this=tree.args["where"].this)
        name = exp.to_identifier(self._source_name, quoted=True)
        if self._again is None:
            present = exp.alias_(exp.true(), _PRESENT, quoted=True)
            rows = exp.Select(expressions=[exp.Star(), present], from_=exp.From(this=source))
        else:
            rows = self._rows_at_hand(self._again)
            on = exp.and_(on, *self._same_keys())
        states = {clause.state for clause in self._statement.clauses}
        kind = _JOINS[MergeState.NO_TARGET in states, MergeState.NO_SOURCE in states]
        join = exp.Join(
            this=exp.Subquery(this=rows, alias=exp.TableAlias(this=name)),
            on=on,
            side=None if kind == "inner" else kind.upper(),
        )
        tree.set("from_", exp.From(this=table_reference(self._table, self._statement.alias)))
        tree.set("joins", [join])
        tree.set("where", None)
        return tree

    def _rows_at_hand(self, again: Again) -> exp.Select:
        keys = [_KEY.format(place) for place in range(len(self._table.key))]
        names = [*keys, *again.names, _PRESENT]
        relation = exp.Table(
            this=exp.to_identifier(again.name, quoted=True),
            db=exp.to_identifier(GIVEN_SCHEMA, quoted=True),
        )
        columns = [
            exp.alias_(column_reference(f"c{place}", again.name), name, quoted=True)
            for place, name in enumerate(names)
        ]
        return exp.Select(expressions=columns, from_=exp.From(this=relation))

    def _same_keys(self) -> list[exp.Expr]:
        return [
            exp.EQ(
                this=own_column(self._table, column, self._alias),
                expression=column_reference(_KEY.format(place), self._source_name),
            )
            for place, column in enumerate(self._table.key)
        ]

    def step(self, place: int, context: PlannerContext) -> MergeStep:
        """What the executor does with a row of the clause."""
        clause = self._statement.clauses[place]
        change = self._changes.get(place)
        if change is not None:
            return MergeStep(
                clause.action, change.groups, change.moves, assigned=tuple(change.assigned)
            )
        if clause.action is MergeAction.INSERT:
            given = tuple(self._inserted[place])
            defaults = default_columns(self._table, given, context)
            return MergeStep(clause.action, given=given, defaults=defaults)
        return MergeStep(clause.action)


def _source_columns(statement: Merge, source: RowSource) -> tuple[SourceColumn, ...]:
    """The source's columns, but for those of one name, which nobody can mean."""
    ((_, columns),) = others_of(statement.source, source)
    names = [name for name, _, _ in columns]
    return tuple((name, t) for name, t, _ in columns if names.count(name) == 1)


def _inserted_values(table: Table, clause: MergeClause) -> dict[ColumnId, exp.Expr]:
    """The values that an INSERT clause gives; the other columns take their defaults."""
    if clause.values is None:
        return {}
    rows = value_rows(clause.values)
    if rows is None or len(rows) != 1:
        raise SyntaxError_("INSERT of MERGE takes one row of VALUES", position=clause.position)
    (row,) = rows
    named = target_columns(table, clause.columns)
    targets = matched_columns(named, len(row), clause.columns is None)
    return dict(_given(zip(targets, row, strict=True), clause))


def _given(
    pairs: Iterable[tuple[Column, exp.Expr]], clause: MergeClause
) -> list[tuple[ColumnId, exp.Expr]]:
    found = []
    for column, value in pairs:
        if not is_default(value):
            if column.identity is not None and clause.overriding == "user":
                continue
            check_insertable(column, clause.overriding)
            found.append((column.id, value))
        elif column.default is not None and not is_volatile(default_tree(column)):
            found.append((column.id, default_tree(column)))
    return found
