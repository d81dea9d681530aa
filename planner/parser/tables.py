"""CREATE TABLE in its forms.

What tables here do not have (exclusion constraints, inheritance, unlogged tables) is refused with
0A000, not ignored.
"""

from __future__ import annotations

import dataclasses
from typing import NoReturn

from cluster.errors import FeatureNotSupported, InvalidTableDefinition, SyntaxError_
from planner.parser.builder import (
    names_in_parentheses,
    object_name,
    query,
    source,
    source_expression,
)
from planner.parser.clauses import (
    bound_spec,
    collation,
    placement,
    storage_clauses,
)
from planner.parser.foreign_keys import references, timing
from planner.parser.sequences import sequence_options
from planner.parser.tokens import Cursor
from planner.parser.types import type_name
from planner.statements import (
    ColumnClause,
    ConstraintClause,
    ConstraintKind,
    CreatePartition,
    CreateTable,
    CreateTableAs,
    LikeClause,
    ObjectName,
    PartClause,
    SequenceOptions,
    Statement,
    StorageClauses,
)

_Constraints = list[ConstraintClause]
CONSTRAINT_STARTS = (
    "CONSTRAINT", "PRIMARY KEY", "UNIQUE", "CHECK", "FOREIGN KEY", "EXCLUDE",
)  # fmt: skip


def create_table(cursor: Cursor, start: int, *, temporary: bool = False) -> Statement:
    """Take CREATE TABLE from the word TABLE on."""
    cursor.expect("TABLE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    table = object_name(cursor)
    if cursor.key == "PARTITION" and cursor.peek() == "OF":
        return _create_partition(cursor, start, table, if_not_exists)
    if cursor.key == "(" and not _is_column_name_list(cursor):
        return _create_columns(cursor, start, table, if_not_exists, temporary)
    if cursor.key == "OF":
        refuse(cursor, "typed tables are not supported")
    columns = names_in_parentheses(cursor) if cursor.key == "(" else None
    clauses = storage_clauses(cursor)
    _create_tail(cursor, temporary)
    return _create_as(cursor, start, table, if_not_exists, columns, clauses, temporary)


def _is_column_name_list(cursor: Cursor) -> bool:
    """Whether `(a, b)` of CREATE TABLE t (a, b) AS follows: names with no types."""
    return cursor.keys[cursor.index + 2] in (",", ")") and cursor.peek() != ")"


def _create_columns(
    cursor: Cursor, start: int, table: ObjectName, if_not_exists: bool, temporary: bool
) -> Statement:
    elements: list[ColumnClause | LikeClause] = []
    constraints: _Constraints = []
    cursor.expect("(")
    if cursor.key != ")":
        _element(cursor, elements, constraints)
        while cursor.accept(","):
            _element(cursor, elements, constraints)
    cursor.expect(")")
    if cursor.key == "INHERITS":
        refuse(cursor, "table inheritance is not supported")
    clauses = storage_clauses(cursor)
    _create_tail(cursor, temporary)
    return CreateTable(
        **source(cursor, start),
        table=table,
        if_not_exists=if_not_exists,
        elements=tuple(elements),
        constraints=tuple(constraints),
        clauses=clauses,
        temporary=temporary,
    )


def _create_tail(cursor: Cursor, temporary: bool) -> None:
    if cursor.key == "ON" and cursor.peek() == "COMMIT":
        _on_commit(cursor, temporary)
    if cursor.key == "TABLESPACE":
        refuse(
            cursor,
            "tablespaces are not supported",
            "Say where a table lies with WITH (region = ..., zone = ..., nodes = ...).",
        )
    if cursor.key == "WITHOUT":
        cursor.expect("WITHOUT", "OIDS")


def _on_commit(cursor: Cursor, temporary: bool) -> None:
    if not temporary:
        raise InvalidTableDefinition(
            "ON COMMIT can only be used on temporary tables", position=cursor.position
        )
    cursor.expect("ON", "COMMIT")
    if not cursor.accept("PRESERVE", "ROWS"):
        refuse(cursor, f"ON COMMIT {cursor.key} is not supported yet")


def _create_as(
    cursor: Cursor,
    start: int,
    table: ObjectName,
    if_not_exists: bool,
    columns: tuple[str, ...] | None,
    clauses: StorageClauses,
    temporary: bool,
) -> Statement:
    cursor.expect("AS")
    if cursor.key == "EXECUTE":
        refuse(cursor, "CREATE TABLE AS EXECUTE is not supported")
    tree = query(cursor)
    with_data = True
    if cursor.accept("WITH"):
        with_data = not cursor.accept("NO")
        cursor.expect("DATA")
    return CreateTableAs(
        **source(cursor, start),
        table=table,
        if_not_exists=if_not_exists,
        columns=columns,
        query=tree,
        with_data=with_data,
        clauses=clauses,
        temporary=temporary,
    )


def _create_partition(
    cursor: Cursor, start: int, table: ObjectName, if_not_exists: bool
) -> Statement:
    cursor.expect("PARTITION", "OF")
    parent = object_name(cursor)
    if cursor.key == "(":
        refuse(cursor, "constraints and defaults of a single part are not supported")
    position = cursor.position
    if cursor.accept("DEFAULT"):
        part = PartClause(table.name, position, is_default=True)
    else:
        cursor.expect("FOR", "VALUES")
        part = bound_spec(cursor, table.name, position)
    if cursor.key == "PARTITION BY":
        refuse(cursor, "a part cannot be partitioned again")
    if cursor.accept("WITH"):
        part = dataclasses.replace(part, placement=placement(cursor))
    return CreatePartition(
        **source(cursor, start),
        table=table,
        if_not_exists=if_not_exists,
        parent=parent,
        part=part,
    )


def refuse(cursor: Cursor, message: str, hint: str | None = None) -> NoReturn:
    """0A000 at the cursor."""
    raise FeatureNotSupported(message, hint=hint, position=cursor.position)


# ---------------------------------------------------------------------------------------
# Columns and constraints


def _element(
    cursor: Cursor, elements: list[ColumnClause | LikeClause], constraints: _Constraints
) -> None:
    if cursor.key == "LIKE":
        elements.append(_like(cursor))
    elif cursor.key in CONSTRAINT_STARTS:
        constraints.append(table_constraint(cursor))
    else:
        column, own = column_clause(cursor)
        elements.append(column)
        constraints.extend(own)


def _like(cursor: Cursor) -> LikeClause:
    position = cursor.position
    cursor.expect("LIKE")
    like = LikeClause(object_name(cursor), position)
    while cursor.key in ("INCLUDING", "EXCLUDING"):
        including = cursor.expect_any("INCLUDING", "EXCLUDING") == "INCLUDING"
        what = cursor.label()
        names = ("defaults", "constraints", "indexes") if what == "all" else (what,)
        if what in ("comments", "compression", "generated", "identity", "statistics", "storage"):
            continue  # tables here have none of these, so there is nothing to copy
        if not set(names) <= {"defaults", "constraints", "indexes"}:
            raise SyntaxError_(f'syntax error at or near "{what}"', position=cursor.position)
        for name in names:
            like = _with_like_option(like, name, including)
    return like


def _with_like_option(like: LikeClause, name: str, including: bool) -> LikeClause:
    if name == "defaults":
        return dataclasses.replace(like, defaults=including)
    if name == "constraints":
        return dataclasses.replace(like, constraints=including)
    return dataclasses.replace(like, indexes=including)


def column_clause(cursor: Cursor) -> tuple[ColumnClause, list[ConstraintClause]]:
    """Take a column with its constraints."""
    position = cursor.position
    column = ColumnClause(cursor.name(), type_name(cursor), position)
    constraints: _Constraints = []
    while True:
        name = cursor.name() if cursor.accept("CONSTRAINT") else None
        taken = _column_constraint(cursor, column, constraints, name)
        if taken is None:
            if name is not None:
                cursor.fail()
            return column, constraints
        column = taken


def _column_constraint(
    cursor: Cursor, column: ColumnClause, constraints: _Constraints, name: str | None
) -> ColumnClause | None:
    """Take one constraint of a column; None when none stands here."""
    position = cursor.position
    if cursor.accept("NOT", "NULL"):
        return dataclasses.replace(column, not_null=True)
    if cursor.accept("NULL"):
        return dataclasses.replace(column, null=True)
    if cursor.accept("DEFAULT"):
        if column.default is not None:
            raise SyntaxError_(
                f'multiple default values specified for column "{column.name}"', position=position
            )
        return dataclasses.replace(column, default=source_expression(cursor, restricted=True))
    if cursor.key == "GENERATED":
        return _generated(cursor, column)
    if cursor.accept("PRIMARY KEY"):
        clause = ConstraintClause(ConstraintKind.PRIMARY_KEY, position, name, (column.name,))
    elif cursor.accept("UNIQUE"):
        _nulls_distinct(cursor)
        clause = ConstraintClause(ConstraintKind.UNIQUE, position, name, (column.name,))
    elif cursor.key == "CHECK":
        clause = dataclasses.replace(_check(cursor, position, name), columns=(column.name,))
    elif cursor.key == "REFERENCES":
        kind, names = ConstraintKind.FOREIGN_KEY, (column.name,)
        clause = ConstraintClause(kind, position, name, names, references=references(cursor))
    elif cursor.accept("COLLATE"):
        collation(cursor)
        return column
    else:
        _refuse_column_constraint(cursor)
        return None
    constraints.append(_with_timing(cursor, clause))
    return column


def _generated(cursor: Cursor, column: ColumnClause) -> ColumnClause:
    """GENERATED ALWAYS AS (expression) STORED, GENERATED ... AS IDENTITY [(options)]."""
    position = cursor.position
    cursor.expect("GENERATED")
    always = cursor.expect_any("ALWAYS", "BY") == "ALWAYS"
    if not always:
        cursor.expect("DEFAULT")
    cursor.expect("AS")
    if cursor.accept("IDENTITY"):
        if column.identity is not None:
            raise SyntaxError_(
                f'multiple identity specifications for column "{column.name}"', position=position
            )
        options = SequenceOptions()
        if cursor.accept("("):
            options = sequence_options(cursor)
            cursor.expect(")")
        identity = "always" if always else "by default"
        return dataclasses.replace(column, identity=identity, sequence=options, not_null=True)
    if not always:
        cursor.fail()
    cursor.expect("(")
    expression = source_expression(cursor)
    cursor.expect(")")
    if cursor.key == "VIRTUAL" or not cursor.accept("STORED"):
        refuse(
            cursor,
            "virtual generated columns are not supported",
            "Write STORED behind the expression.",
        )
    if column.generated is not None:
        raise SyntaxError_(
            f'multiple generation clauses specified for column "{column.name}"', position=position
        )
    return dataclasses.replace(column, generated=expression)


def _refuse_column_constraint(cursor: Cursor) -> None:
    if cursor.key in ("STORAGE", "COMPRESSION"):
        refuse(cursor, f"{cursor.key} is not supported")


def _check(cursor: Cursor, position: int, name: str | None) -> ConstraintClause:
    cursor.expect("CHECK", "(")
    check = source_expression(cursor)
    cursor.expect(")")
    if cursor.accept("NO"):
        cursor.expect("INHERIT")
    return ConstraintClause(ConstraintKind.CHECK, position, name, check=check)


def table_constraint(cursor: Cursor) -> ConstraintClause:
    """Take a constraint of the whole table."""
    position = cursor.position
    name = cursor.name() if cursor.accept("CONSTRAINT") else None
    if cursor.key == "CHECK":
        clause = _check(cursor, position, name)
    elif cursor.accept("PRIMARY KEY"):
        columns = _key_columns(cursor)
        clause = ConstraintClause(ConstraintKind.PRIMARY_KEY, position, name, columns)
    elif cursor.accept("UNIQUE"):
        _nulls_distinct(cursor)
        columns = _key_columns(cursor)
        clause = ConstraintClause(ConstraintKind.UNIQUE, position, name, columns)
    elif cursor.accept("FOREIGN KEY"):
        columns = names_in_parentheses(cursor)
        clause = ConstraintClause(
            ConstraintKind.FOREIGN_KEY, position, name, columns, references=references(cursor)
        )
    elif cursor.key == "EXCLUDE":
        refuse(cursor, "exclusion constraints are not supported")
    else:
        cursor.fail()
    return _with_timing(cursor, clause)


def _key_columns(cursor: Cursor) -> tuple[str, ...]:
    if cursor.key == "USING":
        refuse(
            cursor,
            "a constraint cannot take over an index",
            "Name the columns of the constraint; the index can be dropped.",
        )
    return names_in_parentheses(cursor)


def _nulls_distinct(cursor: Cursor) -> None:
    if cursor.key != "NULLS":
        return
    if cursor.peek() == "NOT":
        refuse(cursor, "NULLS NOT DISTINCT is not supported")
    cursor.expect("NULLS", "DISTINCT")


def _index_parameters(cursor: Cursor) -> None:
    """What may follow a constraint: INCLUDE and USING INDEX are refused."""
    if cursor.key in ("INCLUDE", "USING") or (cursor.key == "WITH" and cursor.peek() == "("):
        following = cursor.key
        if following == "USING" and cursor.peek() != "INDEX":
            return
        if following == "WITH" and cursor.peek(2) != "FILLFACTOR":
            return
        refuse(cursor, "index parameters of a constraint are not supported")


_KEYS = (ConstraintKind.PRIMARY_KEY, ConstraintKind.UNIQUE)


def _with_timing(cursor: Cursor, clause: ConstraintClause) -> ConstraintClause:
    """Take when a key is checked, DEFERRABLE and INITIALLY; foreign keys have taken theirs."""
    _index_parameters(cursor)
    word = cursor.key
    deferrable, deferred = timing(cursor)
    if deferrable and clause.kind not in _KEYS:
        raise FeatureNotSupported(
            f"{clause.kind.name.replace('_', ' ')} constraints cannot be marked {word}",
            position=clause.position,
        )
    return dataclasses.replace(clause, deferrable=deferrable, deferred=deferred)
