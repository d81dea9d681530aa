"""pg_cursors and pg_prepared_statements: what the session alone knows.

System tables are made from the catalog wherever a stage reads them, so these two are written
into the query as constants before it is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from planner.statements import Query
from storage.types import SqlType

if TYPE_CHECKING:
    from executor.session import Session
    from executor.session_state import Prepared

Rows = list[Sequence[str | None]]


_CURSORS = {
    "name": "text",
    "statement": "text",
    "is_holdable": "boolean",
    "is_binary": "boolean",
    "is_scrollable": "boolean",
    "creation_time": "timestamptz",
}
_STATEMENTS = {
    "name": "text",
    "statement": "text",
    "prepare_time": "timestamptz",
    "parameter_types": "text[]",  # PostgreSQL's are regtype[], which looks the same
    "result_types": "text[]",
    "from_sql": "boolean",
    "generic_plans": "bigint",
    "custom_plans": "bigint",
}


def reads_session_tables(statement: Query) -> bool:
    """Whether the query names one of them; the text is looked at first, which is cheap."""
    text = statement.text.lower()
    return any(name in text for name in _TABLES) and bool(_references(statement.tree))


def with_session_tables(statement: Query, session: Session) -> Query:
    """The query with their rows instead of them."""
    tree = statement.tree.copy()
    for table in _references(tree):
        columns, rows = _TABLES[table.name.lower()]
        alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
        rows_of = exp.Subquery(this=_constants(columns, rows(session)), alias=alias)
        rows_of.set("joins", table.args.get("joins"))
        table.replace(rows_of)
    return replace(statement, tree=tree)


def _references(tree: exp.Expr) -> list[exp.Table]:
    common = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    return [
        table
        for table in tree.find_all(exp.Table)
        if table.name.lower() in _TABLES
        and (table.db.lower() == "pg_catalog" or (not table.db and table.name not in common))
    ]


def _cursor_rows(session: Session) -> Rows:
    return [
        (
            cursor.declared.name,
            cursor.declared.text,
            _flag(cursor.declared.hold),
            _flag(cursor.declared.binary),
            _flag(cursor.declared.scroll is not False),
            cursor.created.isoformat(),
        )
        for cursor in session.state.cursors.opened()
    ]


def _statement_rows(session: Session) -> Rows:
    by_protocol = session.protocol_prepared()
    return [
        *(_statement_row(n, p, from_sql=True) for n, p in session.state.prepared.items()),
        *(_statement_row(n, p, from_sql=False) for n, p in by_protocol.items() if n),
    ]


def _statement_row(name: str, prepared: Prepared, *, from_sql: bool) -> Sequence[str | None]:
    columns = prepared.columns
    results = None if columns is None else _type_list([column.type for column in columns])
    created = None if prepared.created is None else prepared.created.isoformat()
    parameters = _type_list(prepared.parameters)
    text = prepared.shown or prepared.statement.text
    # Every execution is planned for its parameters; how many there were is not counted.
    return (name, text, created, parameters, results, _flag(from_sql), "0", "0")


def _type_list(types: Sequence[SqlType]) -> str:
    return "{" + ",".join(f'"{each}"' for each in types) + "}"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _constants(columns: Mapping[str, str], rows: Rows) -> exp.Query:
    """A query for the rows, typed also where there is none."""
    selects: list[exp.Expr] = [_row(columns, row) for row in rows]
    if not selects:
        empty = _row(columns, [None] * len(columns))
        return empty.where(exp.false())
    query = selects[0]
    for other in selects[1:]:
        query = exp.Union(this=query, expression=other, distinct=False)
    assert isinstance(query, exp.Query)
    return query


def _row(columns: Mapping[str, str], values: Sequence[str | None]) -> exp.Select:
    items = []
    for (name, type_name), value in zip(columns.items(), values, strict=True):
        literal = exp.Null() if value is None else exp.Literal.string(value)
        target = exp.DataType.build(type_name, dialect="postgres", udt=True)
        items.append(exp.alias_(exp.Cast(this=literal, to=target), name))
    return exp.Select(expressions=items)


_TABLES: dict[str, tuple[dict[str, str], Callable[[Session], Rows]]] = {
    "pg_cursors": (_CURSORS, _cursor_rows),
    "pg_prepared_statements": (_STATEMENTS, _statement_rows),
}
