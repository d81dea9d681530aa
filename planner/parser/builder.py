"""From tokens that the grammar has accepted to sqlglot trees.

A form that PostgreSQL's grammar knows and sqlglot does not is refused as not supported, with
the place sqlglot got to; it is never a syntax error, because it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from sqlglot import exp
from sqlglot.errors import ErrorLevel, ParseError
from sqlglot.tokenizer_core import Token

from cluster.errors import FeatureNotSupported
from planner.dialect import POSTGRES
from planner.parser import grammar
from planner.parser.tokens import Cursor, tokenize
from planner.statements import ObjectName, SourceExpression

_PARSER = POSTGRES.parser(error_level=ErrorLevel.IMMEDIATE)
_SELECT = tokenize("SELECT")
_SELECT_ONE = tokenize("SELECT 1")
_FROM = tokenize("FROM")
_WHERE = tokenize("WHERE")


class Source(TypedDict):
    """The fields every statement has."""

    text: str
    offset: int
    notices: tuple[str, ...]


def source(cursor: Cursor, start: int) -> Source:
    """Of a statement that began at token `start` and ends before the current one."""
    notices, cursor.notices = tuple(cursor.notices), []
    return Source(text=cursor.text_from(start), offset=cursor.tokens[start].start, notices=notices)


def object_name(cursor: Cursor) -> ObjectName:
    """Take a possibly qualified name; a database name in front is left to the binder's rules."""
    position = cursor.position
    parts = [cursor.name()]
    while cursor.accept("."):
        parts.append(cursor.label())
    if len(parts) > 2:
        raise FeatureNotSupported(
            f'cross-database references are not implemented: "{".".join(parts)}"',
            position=position,
        )
    return ObjectName(parts[-1], parts[0] if len(parts) == 2 else None, position)


def names_in_parentheses(cursor: Cursor) -> tuple[str, ...]:
    """Take `(a, b, ...)`."""
    cursor.expect("(")
    names = [cursor.name()]
    while cursor.accept(","):
        names.append(cursor.name())
    cursor.expect(")")
    return tuple(names)


def query(cursor: Cursor) -> exp.Query:
    """Take a query and build its tree."""
    start = cursor.index
    grammar.query(cursor)
    return build_query(cursor, cursor.slice(start))


def expression(cursor: Cursor) -> exp.Expr:
    """Take an expression and build its tree."""
    start = cursor.index
    grammar.expression(cursor)
    return build_select_list(cursor, cursor.slice(start))[0]


def source_expression(cursor: Cursor, *, restricted: bool = False) -> SourceExpression:
    """Take an expression and keep its text, too."""
    start, position = cursor.index, cursor.position
    if restricted:
        grammar.restricted_expression(cursor)
    else:
        grammar.expression(cursor)
    tree = build_select_list(cursor, cursor.slice(start))[0]
    return SourceExpression(tree, cursor.text_from(start), position)


def select_list(cursor: Cursor) -> tuple[exp.Expr, ...]:
    """Take output items, as of RETURNING."""
    start = cursor.index
    grammar.select_list(cursor)
    return build_select_list(cursor, cursor.slice(start))


def build_select_list(cursor: Cursor, tokens: Sequence[Token]) -> tuple[exp.Expr, ...]:
    tree = _build(cursor, [*_SELECT, *tokens])
    assert isinstance(tree, exp.Select)
    return tuple(tree.expressions)


def build_query(cursor: Cursor, tokens: Sequence[Token]) -> exp.Query:
    tree = _build(cursor, list(tokens))
    if isinstance(tree, exp.Values):
        return _select_from_values(tree)
    if not isinstance(tree, exp.Query):
        raise FeatureNotSupported(
            "this form of query is not supported", position=tokens[0].start + 1
        )
    return tree


def _select_from_values(values: exp.Values) -> exp.Select:
    """Alone, sqlglot's Values is no query; its columns are column1, column2, ..."""
    modifiers = {name: values.args.get(name) for name in ("order", "limit", "offset")}
    for name in modifiers:
        values.set(name, None)
    width = len(values.expressions[0].expressions) if values.expressions else 0
    columns = [exp.to_identifier(f"column{number + 1}") for number in range(width)]
    alias = exp.TableAlias(this=exp.to_identifier("*VALUES*", quoted=True), columns=columns)
    values.set("alias", alias)
    return exp.Select(expressions=[exp.Star()], from_=exp.From(this=values), **modifiers)


def build_row_source(
    cursor: Cursor,
    with_tokens: Sequence[Token],
    from_tokens: Sequence[Token],
    where_tokens: Sequence[Token],
) -> exp.Select:
    """`[WITH ...] SELECT 1 [FROM ...] [WHERE ...]` of pieces of an UPDATE or DELETE."""
    tokens = [*with_tokens, *_SELECT_ONE]
    if from_tokens:
        tokens += [*_FROM, *from_tokens]
    if where_tokens:
        tokens += [*_WHERE, *where_tokens]
    tree = _build(cursor, tokens)
    assert isinstance(tree, exp.Select)
    return tree


def _build(cursor: Cursor, tokens: list[Token]) -> exp.Expr:
    try:
        parsed: list[exp.Expr | None] = _PARSER.parse(tokens, cursor.sql)
    except ParseError as error:
        raise _unsupported(cursor, tokens, error) from None
    tree = parsed[0] if len(parsed) == 1 else None
    if tree is None or isinstance(tree, exp.Command):
        raise FeatureNotSupported("this form is not supported", position=tokens[0].start + 1)
    return tree


def _unsupported(cursor: Cursor, tokens: list[Token], error: ParseError) -> FeatureNotSupported:
    details = error.errors[0] if error.errors else {}
    line, column = details.get("line"), details.get("col")
    for token in tokens:
        if (token.line, token.col) == (line, column):
            text = cursor.sql[token.start : token.end + 1]
            return FeatureNotSupported(
                f'this form of SQL is not supported at or near "{text}"', position=token.start + 1
            )
    return FeatureNotSupported("this form of SQL is not supported")
