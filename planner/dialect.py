"""How PostgreSQL's text becomes a tree, and a bound tree DuckDB's text.

sqlglot's parser for PostgreSQL turns calls it knows into nodes of its own and loses what the
user wrote on the way: `to_char(x, 'FMDD')` becomes strftime's notation, `a -> 'b.c'` a path,
`a[i]` an index from zero. The binder wants the call as written, so the parser's tables are cut
down once, here, to the forms that have a grammar of their own (`EXTRACT(x FROM y)` ...).
The compiled parser cannot be subclassed (docs/decisions), so its tables are replaced.
Everything that parses SQL must get its dialect from this module.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, cast

from sqlglot import exp
from sqlglot.dialects import DuckDB, Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.tokenizer_core import Token, TokenType

from cluster.errors import SyntaxError_

# Calls with words instead of commas between their arguments.
_GRAMMAR_CALLS = ("CAST", "EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION")


def _arrow(node: type[exp.Expression]) -> Callable[..., exp.Expression]:
    def build(_parser: Any, this: exp.Expression, path: exp.Expression) -> exp.Expression:
        return node(this=this, expression=path)

    return build


def _typed_literal(_parser: Any, this: exp.Expr, data_type: exp.Expr) -> exp.Expr:
    """`date '2024-01-01'::text`: the type belongs to the literal, not to what follows it."""
    literal = this
    while isinstance(literal.this, exp.Expr):
        literal = literal.this
    typed = exp.Cast(this=literal.copy(), to=data_type)
    if literal is this:
        return typed
    literal.replace(typed)
    return this


def _keep_calls_as_written() -> None:
    parser = cast(Any, PostgresParser)
    parser.TYPE_LITERAL_PARSERS = dict.fromkeys(exp.DType, _typed_literal)
    # It would read the first unit of `INTERVAL '1 day 02:00'` and drop the rest.
    cast(Any, exp).INTERVAL_STRING_RE = re.compile("(?!)()()")
    parser.FUNCTIONS = {}
    parser.FUNCTION_PARSERS = {
        name: parse
        for name, parse in PostgresParser.FUNCTION_PARSERS.items()
        if name in _GRAMMAR_CALLS
    }
    parser.LAMBDAS = {
        token: parse
        for token, parse in PostgresParser.LAMBDAS.items()
        if token is not TokenType.ARROW
    }
    parser.JSON_OPERATORS = {
        **PostgresParser.JSON_OPERATORS,
        TokenType.ARROW: _arrow(exp.JSONExtract),
        TokenType.DARROW: _arrow(exp.JSONExtractScalar),
    }


def _postgres() -> Postgres:
    dialect = Postgres()
    dialect.INDEX_OFFSET = 0  # subscripts stay as written
    return dialect


def _duckdb() -> DuckDB:
    dialect = DuckDB()
    # As every node's `default_null_order`; what says otherwise is then written out.
    dialect.NULL_ORDERING = "nulls_are_large"
    return dialect


_keep_calls_as_written()
POSTGRES = _postgres()
DUCKDB = _duckdb()


# sqlglot does not take arrays of these types, so that there their names are tokens of types
# that PostgreSQL does not have; `planner.types` takes them for what they were.
_STAND_INS = {
    "regclass": TokenType.UINT128,
    "regtype": TokenType.UINT256,
    "regproc": TokenType.INT256,
}


def with_oid_arrays(tokens: list[Token]) -> list[Token]:
    """Makes `oid[]`, `regclass[]` and the like readable for sqlglot, in place."""
    for token, following in itertools.pairwise(tokens):
        if (
            token.token_type is TokenType.OBJECT_IDENTIFIER
            and following.token_type is TokenType.L_BRACKET
        ):
            token.token_type = _STAND_INS.get(token.text.lower(), TokenType.UINT)
    return tokens


def parse_statements(sql: str) -> list[exp.Expression | None]:
    """The statements of a text; `SyntaxError_` with position where there is none."""
    try:
        tokens = with_oid_arrays(POSTGRES.tokenize(sql))
        return cast("list[exp.Expression | None]", POSTGRES.parser().parse(tokens, sql))
    except ParseError as error:
        raise syntax_error(error, sql) from error
    except TokenError as error:
        raise SyntaxError_(str(error).split("\n")[0]) from error


def parse_query(sql: str) -> exp.Expr:
    """The one query of a text, such as a view's."""
    statements = [s for s in parse_statements(sql) if s is not None]
    if len(statements) != 1 or not isinstance(statements[0], (exp.Query, exp.Values)):
        raise SyntaxError_("a single query was expected")
    return statements[0]


def parse_expression(sql: str) -> exp.Expression:
    """A scalar expression, such as a CHECK condition's or a default's text."""
    query = parse_query(f"SELECT {sql}")
    if len(query.expressions) != 1:
        raise SyntaxError_("a single expression was expected")
    return cast(exp.Expression, query.expressions[0])


def syntax_error(error: ParseError, sql: str) -> SyntaxError_:
    """PostgreSQL's words for what the parser stumbled over."""
    first: dict[str, Any] = dict(error.errors[0]) if error.errors else {}
    near = str(first.get("highlight") or "")
    line, column = first.get("line"), first.get("col")
    if not near:
        return SyntaxError_("syntax error at end of input", position=len(sql) + 1)
    position = _offset(sql, int(line or 1), int(column or 1), near)
    return SyntaxError_(f'syntax error at or near "{near}"', position=position)


def _offset(sql: str, line: int, column: int, near: str) -> int:
    # The parser's column is that of the last character of the token.
    start = sum(len(text) + 1 for text in sql.split("\n")[: line - 1])
    return max(1, start + column - len(near) + 1)


def duckdb_sql(tree: exp.Expr) -> str:
    """The text of a bound tree."""
    return str(DUCKDB.generate(tree, copy=False))
