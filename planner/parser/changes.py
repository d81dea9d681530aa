"""INSERT, UPDATE, DELETE, TRUNCATE."""

from __future__ import annotations

from sqlglot import exp

from cluster.errors import FeatureNotSupported, InvalidColumnReference
from planner.parser import grammar
from planner.parser.builder import (
    build_query,
    build_row_source,
    expression,
    names_in_parentheses,
    object_name,
    select_list,
    source,
)
from planner.parser.tokens import Cursor
from planner.statements import (
    Assignment,
    Delete,
    Insert,
    ObjectName,
    OnConflict,
    Statement,
    Truncate,
    Update,
)


def insert(cursor: Cursor, start: int) -> Statement:
    """INSERT INTO t [AS a] [(columns)] [OVERRIDING ...] source [ON CONFLICT] [RETURNING]."""
    with_tokens = cursor.slice(start)
    cursor.expect("INSERT", "INTO")
    table = object_name(cursor)
    alias = cursor.name() if cursor.accept("AS") else None
    columns = _insert_columns(cursor)
    overriding = None
    if cursor.accept("OVERRIDING"):
        overriding = cursor.expect_any("SYSTEM", "USER").lower()
        cursor.expect("VALUE")
    if cursor.accept("DEFAULT", "VALUES"):
        query = None
    else:
        query_start = cursor.index
        if with_tokens and cursor.key == "WITH":
            raise FeatureNotSupported(
                "WITH both before and inside INSERT is not supported", position=cursor.position
            )
        cursor.default_allowed = True
        grammar.query(cursor)
        cursor.default_allowed = False
        query = build_query(cursor, [*with_tokens, *cursor.slice(query_start)])
    on_conflict = _on_conflict(cursor)
    returning = returning_list(cursor)
    return Insert(
        **source(cursor, start),
        table=table,
        alias=alias,
        columns=columns,
        source=query,
        overriding=overriding,
        on_conflict=on_conflict,
        returning=returning,
    )


def _insert_columns(cursor: Cursor) -> tuple[str, ...] | None:
    """A column list; `(SELECT ...)` and `((VALUES ...))` are sources in parentheses."""
    if cursor.key != "(" or cursor.peek() in ("SELECT", "VALUES", "WITH", "TABLE", "("):
        return None
    return names_in_parentheses(cursor)


def _on_conflict(cursor: Cursor) -> OnConflict | None:
    """Take ON CONFLICT [target] DO NOTHING | UPDATE SET ... [WHERE ...]."""
    if not cursor.accept("ON"):
        return None
    position = cursor.position
    cursor.expect("CONFLICT")
    columns = constraint = None
    if cursor.accept("ON"):
        cursor.expect("CONSTRAINT")
        constraint = cursor.name()
    elif cursor.key == "(":
        columns = _conflict_columns(cursor)
    cursor.expect("DO")
    if cursor.expect_any("NOTHING", "UPDATE") == "NOTHING":
        return OnConflict(columns, constraint, None, None, position)
    cursor.expect("SET")
    assignments = assignment_list(cursor)
    where = expression(cursor) if cursor.accept("WHERE") else None
    return OnConflict(columns, constraint, assignments, where, position)


def _conflict_columns(cursor: Cursor) -> tuple[str, ...]:
    """The columns of an inferred constraint. A predicate behind them, of a partial index, is
    fulfilled by every constraint that has none, as all have here."""
    cursor.expect("(")
    names: list[str] = []
    while not names or cursor.accept(","):
        position = cursor.position
        value = expression(cursor)
        if isinstance(value, exp.Collate):
            value = value.this
        if not isinstance(value, exp.Column) or value.table:
            raise InvalidColumnReference(
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                position=position,
            )
        quoted = bool(value.this.args.get("quoted"))
        names.append(value.name if quoted else value.name.lower())
    cursor.expect(")")
    if cursor.accept("WHERE"):
        grammar.expression(cursor)
    return tuple(names)


def returning_list(cursor: Cursor) -> tuple[exp.Expr, ...]:
    """RETURNING's list; empty without one."""
    return select_list(cursor) if cursor.accept("RETURNING") else ()


def update(cursor: Cursor, start: int) -> Statement:
    """UPDATE t [[AS] a] SET ... [FROM ...] [WHERE ...] [RETURNING ...]."""
    with_tokens = cursor.slice(start)
    cursor.expect("UPDATE")
    table, alias = _target(cursor, reserved="SET")
    cursor.expect("SET")
    assignments = assignment_list(cursor)
    row_source = _row_source(cursor, with_tokens, "FROM")
    returning = returning_list(cursor)
    return Update(
        **source(cursor, start),
        table=table,
        alias=alias,
        assignments=assignments,
        source=row_source,
        returning=returning,
    )


def delete(cursor: Cursor, start: int) -> Statement:
    """DELETE FROM t [[AS] a] [USING ...] [WHERE ...] [RETURNING ...]."""
    with_tokens = cursor.slice(start)
    cursor.expect("DELETE", "FROM")
    table, alias = _target(cursor, reserved="USING")
    row_source = _row_source(cursor, with_tokens, "USING")
    returning = returning_list(cursor)
    return Delete(
        **source(cursor, start), table=table, alias=alias, source=row_source, returning=returning
    )


def _target(cursor: Cursor, reserved: str) -> tuple[ObjectName, str | None]:
    cursor.accept("ONLY")
    table = object_name(cursor)
    cursor.accept("*")
    if cursor.accept("AS") or (cursor.at_column_name and cursor.key != reserved):
        return table, cursor.name()
    return table, None


def _row_source(cursor: Cursor, with_tokens: list, from_word: str) -> exp.Select:  # type: ignore[type-arg]
    from_start = cursor.index + 1
    from_tokens = []
    if cursor.accept(from_word):
        grammar.from_list(cursor)
        from_tokens = cursor.slice(from_start)
    where_start = cursor.index + 1
    where_tokens = []
    if cursor.accept("WHERE"):
        if cursor.key == "CURRENT" and cursor.peek() == "OF":
            raise FeatureNotSupported("WHERE CURRENT OF is not supported", position=cursor.position)
        grammar.expression(cursor)
        where_tokens = cursor.slice(where_start)
    return build_row_source(cursor, with_tokens, from_tokens, where_tokens)


def assignment_list(cursor: Cursor) -> tuple[Assignment, ...]:
    """Take `column = value, ...` of SET."""
    assignments = [_assignment(cursor)]
    while cursor.accept(","):
        assignments.append(_assignment(cursor))
    return tuple(assignments)


def _assignment(cursor: Cursor) -> Assignment:
    position = cursor.position
    if cursor.key == "(":
        columns = names_in_parentheses(cursor)
    else:
        columns = (cursor.name(),)
        if cursor.key in (".", "["):
            raise FeatureNotSupported(
                "assignment to a part of a column is not supported", position=cursor.position
            )
    cursor.expect("=")
    if len(columns) == 1 and cursor.accept("DEFAULT"):
        return Assignment(columns, None, position)
    return Assignment(columns, expression(cursor), position)


def truncate(cursor: Cursor, start: int) -> Statement:
    """TRUNCATE [TABLE] [ONLY] t [*], ... [RESTART | CONTINUE IDENTITY] [CASCADE | RESTRICT]."""
    cursor.expect("TRUNCATE")
    cursor.accept("TABLE")
    tables = [_truncated_table(cursor)]
    while cursor.accept(","):
        tables.append(_truncated_table(cursor))
    word = cursor.accept_any(("RESTART", "CONTINUE"))
    if word is not None:
        cursor.expect("IDENTITY")
    cascade = cursor.accept_any(("CASCADE", "RESTRICT")) == "CASCADE"
    return Truncate(
        **source(cursor, start),
        tables=tuple(tables),
        restart_identity=word == "RESTART",
        cascade=cascade,
    )


def _truncated_table(cursor: Cursor) -> ObjectName:
    cursor.accept("ONLY")
    table = object_name(cursor)
    cursor.accept("*")
    return table
