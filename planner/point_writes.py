"""Statements that change or lock single rows by key, told apart before anything is bound.

    INSERT INTO t VALUES (...), ... [ON CONFLICT (key) DO NOTHING | UPDATE ...] [RETURNING ...]
    UPDATE t SET column = expression, ... WHERE key column = value AND ... [RETURNING ...]
    DELETE FROM t WHERE key column = value AND ... [RETURNING ...]
    SELECT column, ... FROM t WHERE key column = value AND ... FOR UPDATE

Such a statement needs no row source: its rows are known by their keys, or the leaders find them by
the first columns of a key or an index (`planner.key_conditions`), and what becomes of each is a
`RowProgram` for the leader that has it. Expressions are compiled (`planner.row_expressions`);
everything that is not plainly of these shapes raises `NotByRow` and goes the usual way, with
the same outcome. So there are no errors here: what is wrong with a statement is said there.

The new rows of an INSERT are computed where the client is connected, defaults and checks included;
they do not depend on what is stored.

Left out: tables of several column groups, changes of key columns, some of what foreign keys ask for
(`planner.point_references`), expressions without a name in RETURNING, NOWAIT and SKIP LOCKED.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from sqlglot import exp

from catalog.fragment_schemas import fragment_schema, store_name
from catalog.model import AccessMethod, Column, ColumnId, Table, TableId
from planner.context import PlannerContext
from planner.ddl_names import find_relation
from planner.ddl_tables import columns_read
from planner.key_conditions import Chosen, FoundRows, KeyConditions, key_choice
from planner.locked_relations import clause_of
from planner.locking import locks_rows
from planner.parser.expressions import parse_expression
from planner.plan import ResultColumn
from planner.point import conjuncts, only_relation
from planner.point_references import Reference, Referred, references_of, referred_of
from planner.row_expressions import Code, NotByRow, RowColumn, RowCompiler, folded
from planner.statements import (
    Assignment,
    Delete,
    Insert,
    ObjectName,
    Query,
    Statement,
    Update,
    is_default,
)
from planner.write_conflict import EXCLUDED, arbiters_of
from planner.write_rows import default_tree, is_volatile
from planner.write_values import value_rows
from storage.locks import LockMode
from storage.row_programs import RowProgram, encode_program
from storage.row_tables import RowTables
from storage.types import Kind, SqlType

# INSERTs of more rows are worth a plan.
MOST_ROWS = 100

PointStatement = Insert | Update | Delete | Query


@dataclass(frozen=True, slots=True)
class NewRows:
    """The rows of an INSERT: code for each column's value in the order of the stored row, None
    for what comes from a sequence (`sequences`: place and sequence) or is the hidden row id
    (`row_id`: its place). `program` generates columns and checks the row."""

    rows: tuple[tuple[Code | None, ...], ...]
    sequences: tuple[tuple[int, TableId], ...]
    row_id: int | None
    program: bytes


@dataclass(frozen=True, slots=True)
class PointWrite:
    """See the module. `tables` are those of the first part; rows of all parts have one form.

    `keys` are code for each key column, of UPDATE and DELETE, or `rows` says how theirs are
    found; `returning` is code over the row that the statement leaves, or deletes.
    """

    table: Table
    tables: RowTables
    command: str
    program: bytes
    mode: str
    keys: tuple[tuple[Code, ...], ...] = ()
    rows: FoundRows | None = None
    new: NewRows | None = None
    returning: tuple[Code, ...] = ()
    columns: tuple[ResultColumn, ...] | None = None
    parameters: tuple[SqlType, ...] = ()
    proposes: bool = False
    updates_conflicts: bool = False
    # What foreign keys ask of the rows that are there afterwards, and of those that are gone.
    references: tuple[Reference, ...] = ()
    referred: tuple[Referred, ...] = ()

    @property
    def named_by(self) -> tuple[Code, ...]:
        """Code for all values that tell which rows are meant."""
        codes = [code for key in self.keys for code in key]
        if self.rows is not None:
            bounds = (self.rows.low, self.rows.high)
            codes += [*self.rows.equal, *(bound[0] for bound in bounds if bound is not None)]
        return tuple(codes)


def may_be_by_row(statement: Statement) -> TypeGuard[PointStatement]:
    """Whether the statement is of a kind that is looked at here."""
    if isinstance(statement, Query):
        return locks_rows(statement.tree)
    return isinstance(statement, Insert | Update | Delete)


def point_write(
    statement: PointStatement,
    context: PlannerContext,
    parameters: Sequence[SqlType | None] = (),
) -> PointWrite:
    """The statement as one over single rows; `NotByRow` where it is not just that."""
    if isinstance(statement, Query):
        return _locking(statement, context, parameters)
    table = _table_of(statement.table, context)
    shape = _Shape(table, statement.alias, context, parameters)
    if isinstance(statement, Insert):
        return shape.insert(statement)
    if isinstance(statement, Update):
        return shape.update(statement)
    return shape.delete(statement)


def _locking(
    statement: Query, context: PlannerContext, parameters: Sequence[SqlType | None]
) -> PointWrite:
    tree = statement.tree
    if statement.as_of is not None or not isinstance(tree, exp.Select):
        raise NotByRow("such a query")
    relation, locks = only_relation(tree), tree.args.get("locks") or []
    if relation is None or len(locks) != 1 or not tree.expressions:
        raise NotByRow("such a query")
    lock: exp.Lock = locks[0]
    table = _table_of(ObjectName(relation.name, relation.db or None), context)
    shape = _Shape(table, relation.alias_or_name, context, parameters)
    clause = clause_of(lock)
    if clause.policy != "wait" or any(
        named.name != shape.name for named in lock.args.get("expressions") or []
    ):
        raise NotByRow("such a lock")
    return shape.lock(tree, LockMode(clause.mode))


def _table_of(name: ObjectName, context: PlannerContext) -> Table:
    table = find_relation(context, name)
    if not isinstance(table, Table) or table.access_method is AccessMethod.COLUMNAR:
        raise NotByRow("no table of rows")
    if len(table.groups) != 1 or table.id in context.catalog.recuts:
        raise NotByRow("a table in several pieces")
    if any(column.type.kind is Kind.ANY for column in table.columns):
        raise NotByRow("a column of unknown type")
    return table


def _refuse_deferrable(table: Table, assigned: Iterable[ColumnId]) -> None:
    """What may be checked later is no matter of one call to a leader."""
    deferrable = {column for key in table.deferrable_keys for column in key.columns}
    if not deferrable.isdisjoint(assigned):
        raise NotByRow("a constraint that can be deferred")


class _Shape:
    """One statement over one table."""

    def __init__(
        self,
        table: Table,
        alias: str | None,
        context: PlannerContext,
        parameters: Sequence[SqlType | None],
    ) -> None:
        self.table = table
        self.name = alias or table.name
        self.context = context
        self.tables = RowTables(fragment_schema(table, table.parts[0].fragments[0]))
        names = self.tables.names
        self.places = {column.id: names.index(store_name(column.id)) for column in table.columns}
        self.types: list[SqlType | None] = list(parameters)

    # -- INSERT

    def insert(self, statement: Insert) -> PointWrite:
        if statement.overriding or statement.source is None:
            raise NotByRow("such an INSERT")
        _refuse_deferrable(self.table, (column.id for column in self.table.columns))
        rows = value_rows(statement.source)
        if rows is None or not 0 < len(rows) <= MOST_ROWS:
            raise NotByRow("rows of a query")
        compiler = self._compiler(())
        targets = self._targets(statement, len(rows[0]))
        codes = tuple(self._new_row(compiler, targets, row) for row in rows)
        self._learn(compiler)
        new = self._new_rows(codes)
        conflict = self._on_conflict(statement)
        returning, columns = self._returning(statement.returning)
        return PointWrite(
            self.table,
            self.tables,
            "INSERT",
            encode_program(conflict or RowProgram()),
            "" if self.table.hidden_row_id else LockMode.FOR_UPDATE.value,
            new=new,
            returning=returning,
            columns=columns,
            parameters=self._parameters(),
            proposes=conflict is not None,
            updates_conflicts=conflict is not None and bool(conflict.sets),
            references=references_of(self.table, self.places, self.context.catalog),
        )

    def _targets(self, statement: Insert, width: int) -> list[Column]:
        visible = list(self.table.visible_columns)
        if statement.columns is None:
            targets = visible[:width]
        else:
            named = {column.name: column for column in visible}
            targets = [named[name] for name in statement.columns if name in named]
            if len(targets) != len(statement.columns) or len(set(statement.columns)) != width:
                raise NotByRow("columns that are not there")
        if len(targets) != width:
            raise NotByRow("a row of another width")
        return targets

    def _new_row(
        self, compiler: RowCompiler, targets: Sequence[Column], row: Sequence[exp.Expr]
    ) -> tuple[Code | None, ...]:
        if len(row) != len(targets):
            raise NotByRow("rows of different widths")
        codes: list[Code | None] = [("value", None)] * len(self.tables.names)
        given = {c.id: value for c, value in zip(targets, row, strict=True)}
        for column in self.table.columns:
            if column.id in self.table.key and self.table.hidden_row_id:
                codes[self.places[column.id]] = None
                continue
            value = given.get(column.id)
            if value is not None and not is_default(value):
                if column.generated is not None or column.identity == "always":
                    raise NotByRow("a column that makes its own values")
                codes[self.places[column.id]] = compiler.assigned(value, column.type)
            elif column.sequence is not None:
                codes[self.places[column.id]] = None
            elif column.generated is None:
                codes[self.places[column.id]] = self._default(compiler, column)
        return tuple(codes)

    def _default(self, compiler: RowCompiler, column: Column) -> Code:
        tree = default_tree(column)
        if is_volatile(tree):
            raise NotByRow("a default that differs from row to row")
        return compiler.assigned(tree, column.type)

    def _new_rows(self, codes: tuple[tuple[Code | None, ...], ...]) -> NewRows:
        visible = self.table.visible_columns
        drawn = {place for row in codes for place, code in enumerate(row) if code is None}
        sequences = tuple(
            (self.places[c.id], c.sequence)
            for c in visible
            if c.sequence is not None and self.places[c.id] in drawn
        )
        if any(
            code is not None for row in codes for place, _ in sequences for code in [row[place]]
        ):
            raise NotByRow("a sequence for some of the rows")
        program = RowProgram(
            generated=self._generated(None),
            not_null=tuple(self.places[c.id] for c in visible if c.not_null),
            checks=self._checks(None),
        )
        row_id = self.places[self.table.key[0]] if self.table.hidden_row_id else None
        return NewRows(codes, sequences, row_id, encode_program(program))

    def _on_conflict(self, statement: Insert) -> RowProgram | None:
        conflict = statement.on_conflict
        if conflict is None:
            return None
        arbiters = arbiters_of(self.table, conflict)
        if self.table.primary_key is None or arbiters != (self.table.primary_key,):
            raise NotByRow("a conflict with another constraint")
        if conflict.assignments is None:
            return RowProgram(proposes=True)
        width = len(self.tables.names)
        compiler = self._compiler([(self.name, 0), (EXCLUDED, width)])
        where = None if conflict.where is None else compiler.condition(conflict.where)
        program = self._program(compiler, conflict.assignments, where, proposes=True)
        self._learn(compiler)
        return program

    # -- UPDATE, DELETE

    def update(self, statement: Update) -> PointWrite:
        chosen, where, compiler = self._found(statement.source)
        program = self._program(compiler, statement.assignments, where)
        self._learn(compiler)
        assigned = {self._column(name).id for a in statement.assignments for name in a.columns}
        _refuse_deferrable(self.table, assigned)
        tied = assigned.intersection(self.table.tied_columns)
        unique = {column for each in self.table.unique_keys for column in each.columns}
        mode = LockMode.FOR_UPDATE if assigned & unique else LockMode.FOR_NO_KEY_UPDATE
        if tied and self.table.referenced_by and assigned & unique:
            raise NotByRow("columns that others refer to")
        references = references_of(self.table, self.places, self.context.catalog) if tied else ()
        write = self._by_key("UPDATE", program, mode, chosen, statement.returning)
        return replace(write, references=references)

    def delete(self, statement: Delete) -> PointWrite:
        chosen, where, compiler = self._found(statement.source)
        self._learn(compiler)
        program = RowProgram(deletes=True, where=where, parameters=self._kinds())
        referred = referred_of(self.table, self.places, self.context.catalog)
        mode = LockMode.FOR_UPDATE
        write = self._by_key("DELETE", program, mode, chosen, statement.returning)
        return replace(write, referred=referred)

    # -- SELECT ... FOR UPDATE

    def lock(self, tree: exp.Select, mode: LockMode) -> PointWrite:
        chosen, where, compiler = self._found(tree, ("from_", "locks"))
        self._learn(compiler)
        program = RowProgram(only_locks=True, where=where, parameters=self._kinds())
        return self._by_key("SELECT", program, mode, chosen, tree.expressions)

    def _by_key(
        self,
        command: str,
        program: RowProgram,
        mode: LockMode,
        chosen: Chosen,
        items: Sequence[exp.Expr],
    ) -> PointWrite:
        returning, columns = self._returning(items)
        data = encode_program(program)
        parameters = self._parameters()
        return PointWrite(
            self.table,
            self.tables,
            command,
            data,
            mode.value,
            chosen.keys,
            chosen.rows,
            returning=returning,
            columns=columns,
            parameters=parameters,
        )

    def _found(
        self, source: exp.Select, clauses: Sequence[str] = ()
    ) -> tuple[Chosen, Code | None, RowCompiler]:
        """The keys or how rows are found, and what they must meet besides. No clauses but WHERE and
        these may be there."""
        known = ("expressions", "where", "kind", *clauses)
        if any(v for k, v in source.args.items() if k not in known):
            raise NotByRow("other relations")
        where = source.args.get("where")
        if where is None:
            raise NotByRow("no key")
        compiler = self._compiler([(self.name, 0)])
        conditions = KeyConditions(compiler, self.table.visible_columns, self.name)
        parts = list(conjuncts(where.this))
        chosen = key_choice(self.table, [conditions.asked(part) for part in parts])
        left = [
            compiler.condition(part) for place, part in enumerate(parts) if place not in chosen.uses
        ]
        if not left:
            return chosen, None, compiler
        return chosen, left[0] if len(left) == 1 else ("and", *left), compiler

    # -- what of a row changes

    def _program(
        self,
        compiler: RowCompiler,
        assignments: Sequence[Assignment],
        where: Code | None,
        *,
        proposes: bool = False,
    ) -> RowProgram:
        sets: dict[ColumnId, Code] = {}
        for assignment in assignments:
            if len(assignment.columns) != 1:
                raise NotByRow("several columns at once")
            column = self._column(assignment.columns[0])
            fixed = column.id in (*self.table.key, *self.table.partition_columns)
            if fixed or column.id in sets or column.generated or column.identity == "always":
                raise NotByRow("a column that is not assigned like this")
            sets[column.id] = self._assigned(compiler, column, assignment.value)
        self._learn(compiler)
        written = set(sets)
        generated = self._generated(written)
        written |= {c.id for c in self.table.columns if self.places[c.id] in dict(generated)}
        return RowProgram(
            proposes=proposes,
            where=where,
            sets=tuple((self.places[column], code) for column, code in sets.items()),
            generated=generated,
            not_null=tuple(
                self.places[c.id] for c in self.table.columns if c.not_null and c.id in written
            ),
            checks=self._checks(written),
            parameters=self._kinds(),
        )

    def _assigned(self, compiler: RowCompiler, column: Column, value: exp.Expr | None) -> Code:
        if value is not None:
            return compiler.assigned(value, column.type)
        if column.sequence is not None:
            raise NotByRow("a number of a sequence")
        return self._default(compiler, column)

    def _generated(self, written: set[ColumnId] | None) -> tuple[tuple[int, Code], ...]:
        """Generated columns over the new row; those that read a written column."""
        found = []
        for column in self.table.visible_columns:
            if column.generated is None:
                continue
            tree = parse_expression(column.generated).copy()
            if self._reads(tree, written):
                compiler = self._compiler([(self.table.name, 0)])
                code = compiler.assigned(tree, column.type)
                found.append((self.places[column.id], code))
        return tuple(found)

    def _checks(self, written: set[ColumnId] | None) -> tuple[Code, ...]:
        found = []
        for check in self.table.checks:
            tree = parse_expression(check.expression).copy()
            if self._reads(tree, written):
                found.append(self._compiler([(self.table.name, 0)]).condition(tree))
        return tuple(found)

    def _reads(self, tree: exp.Expr, written: set[ColumnId] | None) -> bool:
        read = columns_read(tree, self.table.name)
        return written is None or any(self._column(name).id in written for name in read)

    # -- RETURNING

    def _returning(
        self, items: Sequence[exp.Expr]
    ) -> tuple[tuple[Code, ...], tuple[ResultColumn, ...] | None]:
        if not items:
            return (), None
        compiler = self._compiler([(self.name, 0)])
        codes: list[Code] = []
        columns: list[ResultColumn] = []
        for name, tree in self._shown(items):
            typed = compiler.value(tree)
            codes.append(typed.code)
            columns.append(ResultColumn(name, typed.type, (name,)))
        self._learn(compiler)
        return tuple(codes), tuple(columns)

    def _shown(self, items: Sequence[exp.Expr]) -> Iterator[tuple[str, exp.Expr]]:
        for item in items:
            if type(item) is exp.Star and not any(item.args.values()):
                for column in self.table.visible_columns:
                    yield column.name, exp.column(exp.to_identifier(column.name, quoted=True))
            elif isinstance(item, exp.Alias):
                yield folded(item.args["alias"]), item.this
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Identifier):
                yield folded(item.this), item
            else:
                raise NotByRow("an expression without a name")

    # -- names and types

    def _column(self, name: str) -> Column:
        found = self.table.column_named(name)
        if found is None:
            raise NotByRow("a column that is not there")
        return found

    def _compiler(self, relations: Iterable[tuple[str, int]]) -> RowCompiler:
        """Over the row's columns, under each relation's name and from its place on."""
        columns = [
            RowColumn(column.name, column.type, first + self.places[column.id], relation)
            for relation, first in relations
            for column in self.table.visible_columns
        ]
        return RowCompiler(columns, self.context, self.types)

    def _learn(self, compiler: RowCompiler) -> None:
        """What a compiler has found out about parameters."""
        self.types = list(compiler.parameter_types)

    def _parameters(self) -> tuple[SqlType, ...]:
        known = tuple(t for t in self.types if t is not None)
        if len(known) != len(self.types):
            raise NotByRow("a parameter without a type")
        return known

    def _kinds(self) -> tuple[str, ...]:
        return tuple("" if t is None else t.kind.value for t in self.types)
