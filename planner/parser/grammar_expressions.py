"""The grammar of expressions, without building anything: see `grammar`.

A recursive descent with binding powers for operators, not a translation of PostgreSQL's
`gram.y`, which describes the language. Expressions hold queries and queries hold expressions:
the query grammar announces itself in `announce_query`.

Left out: XML and SQL/JSON constructors; they are syntax errors here.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import SyntaxError_
from planner.parser.keywords import VALUE_FUNCTIONS, words
from planner.parser.tokens import NUMBER, QUOTED, STRING, Cursor
from planner.parser.types import at_typed_literal, interval_fields, type_name

# Binding powers of binary operators (PostgreSQL manual, 4.1.6), loosest first.
_OR, _AND, _NOT, _IS, _COMPARISON, _RANGE, _OTHER = 1, 2, 3, 4, 5, 6, 7
_SUM, _PRODUCT, _POWER, _AT, _COLLATE, _SIGN = 8, 9, 10, 11, 12, 13

_COMPARISONS = frozenset({"<", ">", "=", "<=", ">=", "<>", "!="})
OPERATORS: dict[str, int] = (
    dict.fromkeys(_COMPARISONS, _COMPARISON)
    | {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT, "^": _POWER}
    | dict.fromkeys(
        words("""|| ~ ~* ! ~~ ~~* ~~~ @@ @? @> <@ ? ?& ?| #- -> ->> #> #>> && & | # << >> <->
            <<->> &< &> -|- ^@ @ |/ ||/"""),
        _OTHER,
    )
)
_PREFIX_OPERATORS = frozenset({"~", "@", "|/", "||/", "!", "#"})
_RANGE_WORDS = frozenset({"BETWEEN", "IN", "LIKE", "ILIKE", "SIMILAR TO"})
QUERY_STARTS = frozenset({"SELECT", "VALUES", "WITH", "TABLE"})

_query_grammar: list[Callable[[Cursor], None]] = []


def announce_query(take: Callable[[Cursor], None]) -> None:
    """Says how a query is taken; `grammar` does, when it is imported."""
    _query_grammar.append(take)


def _query(cursor: Cursor) -> None:
    _query_grammar[0](cursor)


# ---------------------------------------------------------------------------------------
# Expressions


def expression(cursor: Cursor, power: int = 0) -> None:
    """Take an a_expr; `power` is what binds tighter outside of it."""
    _operand(cursor)
    _operators(cursor, power, restricted=False)


def restricted_expression(cursor: Cursor) -> None:
    """Take a b_expr: no AND, OR, NOT, LIKE, IN, BETWEEN or IS NULL outside parentheses."""
    _operand(cursor, restricted=True)
    _operators(cursor, _IS, restricted=True)


def expression_list(cursor: Cursor) -> None:
    expression(cursor)
    while cursor.accept(","):
        expression(cursor)


def _operand(cursor: Cursor, restricted: bool = False) -> None:
    key = cursor.key
    if key == "NOT" and not restricted:
        cursor.advance()
        expression(cursor, _NOT)
    elif key in ("+", "-"):
        cursor.advance()
        _operand(cursor, restricted)
        _operators(cursor, _SIGN, restricted)
    elif key in _PREFIX_OPERATORS:
        cursor.advance()
        _operand(cursor, restricted)
        _operators(cursor, _OTHER, restricted)
    else:
        primary(cursor)
        _suffixes(cursor, constant=key in (STRING, NUMBER))


def _operators(cursor: Cursor, power: int, restricted: bool) -> None:
    """Take binary and postfix operators that bind at least as tight as `power` demands."""
    barred = 99  # comparisons and ranges do not associate: none of the same power may follow
    while True:
        binding = _binding(cursor, restricted)
        if binding <= power:
            return
        if binding == barred:
            cursor.fail()
        barred = binding if binding in (_COMPARISON, _RANGE) else 99
        _take_operator(cursor, binding, restricted)


def _binding(cursor: Cursor, restricted: bool) -> int:
    """How tight the operator here binds; 0 when there is none."""
    key = cursor.key
    if _at_shift(cursor):
        return _OTHER
    if key in OPERATORS:
        return OPERATORS[key]
    if restricted:
        return _IS + 1 if key == "IS" and _is_distinct_ahead(cursor) else 0
    if key in _WORD_BINDINGS:
        return _WORD_BINDINGS[key]
    if key == "NOT" and cursor.peek() in _RANGE_WORDS:
        return _RANGE
    if key == "AT" and cursor.peek() in ("TIME", "LOCAL"):
        return _AT
    if key == "OPERATOR" and cursor.peek() == "(":
        return _OTHER
    return 0


_WORD_BINDINGS = {
    "OR": _OR,
    "AND": _AND,
    "IS": _IS,
    "ISNULL": _IS,
    "NOTNULL": _IS,
    "BETWEEN": _RANGE,
    "IN": _RANGE,
    "LIKE": _RANGE,
    "ILIKE": _RANGE,
    "SIMILAR TO": _RANGE,
    "OVERLAPS": _OTHER,
    "COLLATE": _COLLATE,
}


def _take_operator(cursor: Cursor, binding: int, restricted: bool) -> None:
    key = cursor.key
    if key in OPERATORS or key == "OPERATOR":
        _take_symbol(cursor, binding, restricted)
    elif key in ("AND", "OR", "OVERLAPS"):
        cursor.advance()
        expression(cursor, binding)
    elif key == "IS":
        cursor.advance()
        _is_test(cursor, restricted)
    elif key in ("ISNULL", "NOTNULL"):
        cursor.advance()
    elif key == "COLLATE":
        cursor.advance()
        qualified_name(cursor)
    elif key == "AT":
        cursor.advance()
        if not cursor.accept("LOCAL"):
            cursor.expect("TIME", "ZONE")
            expression(cursor, _AT)
    else:
        cursor.accept("NOT")
        _range_test(cursor)


def _at_shift(cursor: Cursor) -> bool:
    """Whether `<<` or `>>` stands here: two tokens, since sqlglot reads nested types with them."""
    if cursor.key not in ("<", ">") or cursor.peek() != cursor.key:
        return False
    first, second = cursor.tokens[cursor.index : cursor.index + 2]
    return first.end + 1 == second.start


def _take_symbol(cursor: Cursor, binding: int, restricted: bool) -> None:
    if cursor.accept("OPERATOR"):
        cursor.expect("(")
        while cursor.at_column_name:
            cursor.name()
            cursor.expect(".")
        if cursor.key not in OPERATORS:
            cursor.fail()
        cursor.advance()
        cursor.expect(")")
    else:
        negated, shift = cursor.key == "!", _at_shift(cursor)
        cursor.advance()
        if shift:
            cursor.advance()
        if negated and cursor.key in ("~", "~*", "~~", "~~*"):
            cursor.advance()
    if cursor.key in ("ANY", "SOME", "ALL") and not restricted:
        cursor.advance()
        cursor.expect("(")
        query_or(cursor, expression)
        cursor.expect(")")
    else:
        _operand(cursor, restricted)
        _operators(cursor, binding, restricted)


def _is_distinct_ahead(cursor: Cursor) -> bool:
    return cursor.peek() == "DISTINCT" or (cursor.peek() == "NOT" and cursor.peek(2) == "DISTINCT")


def _is_test(cursor: Cursor, restricted: bool) -> None:
    cursor.accept("NOT")
    if cursor.accept("DISTINCT"):
        cursor.expect("FROM")
        if restricted:
            restricted_expression(cursor)
        else:
            expression(cursor, _IS)
        return
    if cursor.accept("JSON"):
        cursor.accept_any(("VALUE", "OBJECT", "ARRAY", "SCALAR"))
        return
    cursor.accept_any(("NFC", "NFD", "NFKC", "NFKD"))
    cursor.expect_any("NULL", "TRUE", "FALSE", "UNKNOWN", "DOCUMENT", "NORMALIZED")


def _range_test(cursor: Cursor) -> None:
    word = cursor.key
    cursor.advance()
    if word == "BETWEEN":
        cursor.accept_any(("SYMMETRIC", "ASYMMETRIC"))
        restricted_expression(cursor)
        cursor.expect("AND")
        expression(cursor, _RANGE)
    elif word == "IN":
        cursor.expect("(")
        query_or(cursor, expression_list)
        cursor.expect(")")
    elif cursor.key in ("ANY", "SOME", "ALL"):
        cursor.advance()
        cursor.expect("(")
        query_or(cursor, expression)
        cursor.expect(")")
    else:
        expression(cursor, _RANGE)
        if cursor.accept("ESCAPE"):
            expression(cursor, _RANGE)


def _suffixes(cursor: Cursor, constant: bool) -> None:
    """Take casts, subscripts and field selections (of a constant only casts)."""
    while True:
        if cursor.accept("::"):
            type_name(cursor)
            constant = True
        elif constant:
            return
        elif cursor.accept("["):
            _subscript(cursor)
        elif cursor.key == "." and cursor.tokens[cursor.index - 1].text in (")", "]"):
            cursor.advance()
            if not cursor.accept("*"):
                cursor.label()
        else:
            return


def _subscript(cursor: Cursor) -> None:
    if cursor.key != ":":
        expression(cursor)
    if cursor.accept(":") and cursor.key != "]":
        expression(cursor)
    cursor.expect("]")


# ---------------------------------------------------------------------------------------
# Primaries


def primary(cursor: Cursor) -> None:
    key = cursor.key
    if key == STRING:
        cursor.string()
    elif key == NUMBER:
        _number(cursor)
    elif key == "$":
        _parameter(cursor)
    elif key == "(":
        parenthesised(cursor)
    elif key in SPECIAL and not (key in _SPECIAL_IF_CALLED and cursor.peek() != "("):
        SPECIAL[key](cursor)
    elif key in VALUE_FUNCTIONS:
        _value_function(cursor)
    elif at_typed_literal(cursor):
        _typed_literal(cursor)
    else:
        _name_or_call(cursor)


def _number(cursor: Cursor) -> None:
    """A number; letters right behind it are PostgreSQL's "trailing junk"."""
    end = cursor.token.end + 1
    cursor.advance()
    if end < len(cursor.sql) and (cursor.sql[end].isalpha() or cursor.sql[end] == "_"):
        token = cursor.tokens[cursor.index - 1]
        text = cursor.sql[token.start : cursor.token.end + 1]
        raise SyntaxError_(
            f'trailing junk after numeric literal at or near "{text}"', position=token.start + 1
        )


def _parameter(cursor: Cursor) -> None:
    dollar = cursor.token.end
    if cursor.peek() != NUMBER or cursor.tokens[cursor.index + 1].start != dollar + 1:
        cursor.fail()
    cursor.advance()
    cursor.integer()


def parenthesised(cursor: Cursor) -> None:
    cursor.advance()
    query_or(cursor, expression_list)
    cursor.expect(")")


def query_or(cursor: Cursor, otherwise: Callable[[Cursor], None]) -> None:
    """Take a query where one begins, else what the other function takes."""
    if cursor.key in QUERY_STARTS:
        _query(cursor)
    elif cursor.key == "(" and query_in_parentheses(cursor):
        _query_or_operand(cursor, otherwise)
    else:
        otherwise(cursor)


def query_in_parentheses(cursor: Cursor) -> bool:
    index = cursor.index
    while cursor.keys[index] == "(":
        index += 1
    return cursor.keys[index] in QUERY_STARTS


def _query_or_operand(cursor: Cursor, otherwise: Callable[[Cursor], None]) -> None:
    """`((select 1) union select 2)` is a query, `((select 1) + 2)` an expression."""
    start = cursor.index
    try:
        _query(cursor)
        if cursor.key == ")":
            return
    except SyntaxError_:
        pass
    cursor.move_to(start)
    otherwise(cursor)


def _typed_literal(cursor: Cursor) -> None:
    """`interval '1' day`, `timestamp '...'`; such words name no column."""
    is_interval = cursor.key == "INTERVAL"
    type_name(cursor)
    cursor.string()
    if is_interval:
        interval_fields(cursor)


def _value_function(cursor: Cursor) -> None:
    if cursor.accept("CURRENT_SCHEMA", "(", ")"):
        return  # the one that may also be written as a call
    cursor.advance()
    if cursor.key == "(" and cursor.peek() == NUMBER:
        cursor.advance()
        cursor.integer()
        cursor.expect(")")


def _name_or_call(cursor: Cursor) -> None:
    """A column, a function call, or a literal of a named type: `jsonb '{}'`."""
    if not (cursor.at_column_name or cursor.at_function_name):
        cursor.fail()
    may_be_column = cursor.at_column_name
    cursor.advance()
    while cursor.key == ".":
        cursor.advance()
        if cursor.accept("*"):
            return
        if not (cursor.key == QUOTED or cursor.at_word):
            cursor.fail()
        cursor.advance()
    if cursor.key == "(":
        _call(cursor)
    elif cursor.key == STRING:
        cursor.string()
    elif not may_be_column:
        cursor.fail()


def _call(cursor: Cursor) -> None:
    cursor.expect("(")
    if not cursor.accept("*"):
        _arguments(cursor)
    cursor.expect(")")
    if cursor.accept("WITHIN"):
        cursor.expect("GROUP", "(")
        order_by(cursor)
        cursor.expect(")")
    if cursor.accept("FILTER"):
        cursor.expect("(", "WHERE")
        expression(cursor)
        cursor.expect(")")
    if cursor.key in ("IGNORE", "RESPECT") and cursor.peek() == "NULLS":
        cursor.advance()
        cursor.advance()
    if cursor.accept("OVER"):
        if cursor.key == "(":
            window(cursor)
        else:
            cursor.name()


def _arguments(cursor: Cursor) -> None:
    if cursor.key == ")":
        return
    cursor.accept_any(("ALL", "DISTINCT"))
    _argument(cursor)
    while cursor.accept(","):
        _argument(cursor)
    if cursor.key == "ORDER BY":
        order_by(cursor)


def _argument(cursor: Cursor) -> None:
    cursor.accept("VARIADIC")
    if cursor.peek() in ("=>", ":=") and cursor.at_function_name:
        cursor.advance()
        cursor.advance()
    expression(cursor)


def window(cursor: Cursor) -> None:
    cursor.expect("(")
    if cursor.at_column_name and cursor.key not in ("RANGE", "ROWS", "GROUPS", "PARTITION"):
        cursor.name()
    if cursor.accept("PARTITION BY"):
        expression_list(cursor)
    if cursor.key == "ORDER BY":
        order_by(cursor)
    if cursor.accept_any(("RANGE", "ROWS", "GROUPS")):
        _frame(cursor)
    cursor.expect(")")


def _frame(cursor: Cursor) -> None:
    if cursor.accept("BETWEEN"):
        _frame_bound(cursor)
        cursor.expect("AND")
    _frame_bound(cursor)
    if cursor.accept("EXCLUDE"):
        if cursor.accept("CURRENT"):
            cursor.expect("ROW")
        elif cursor.accept("NO"):
            cursor.expect("OTHERS")
        else:
            cursor.expect_any("GROUP", "TIES")


def _frame_bound(cursor: Cursor) -> None:
    if cursor.accept("CURRENT", "ROW"):
        return
    if not cursor.accept("UNBOUNDED"):
        expression(cursor)
    cursor.expect_any("PRECEDING", "FOLLOWING")


def _case(cursor: Cursor) -> None:
    cursor.advance()
    if cursor.key != "WHEN":
        expression(cursor)
    cursor.expect("WHEN")
    while True:
        expression(cursor)
        cursor.expect("THEN")
        expression(cursor)
        if not cursor.accept("WHEN"):
            break
    if cursor.accept("ELSE"):
        expression(cursor)
    cursor.expect("END")


def _cast(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    expression(cursor)
    cursor.expect("AS")
    type_name(cursor)
    cursor.expect(")")


def _exists(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    _query(cursor)
    cursor.expect(")")


def _array(cursor: Cursor) -> None:
    cursor.advance()
    if cursor.accept("("):
        _query(cursor)
        cursor.expect(")")
    else:
        _array_items(cursor)


def _array_items(cursor: Cursor) -> None:
    cursor.expect("[")
    if cursor.key == "[":
        _array_items(cursor)
        while cursor.accept(","):
            _array_items(cursor)
    elif cursor.key != "]":
        expression_list(cursor)
    cursor.expect("]")


def _row(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    if cursor.key != ")":
        expression_list(cursor)
    cursor.expect(")")


def _extract(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    if cursor.key == STRING:
        cursor.string()
    else:
        cursor.label()
    cursor.expect("FROM")
    expression(cursor)
    cursor.expect(")")


def _position(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    restricted_expression(cursor)
    cursor.expect("IN")
    restricted_expression(cursor)
    cursor.expect(")")


def _substring(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    expression(cursor)
    if cursor.key in ("FROM", "FOR"):
        for word in ("FROM", "FOR") if cursor.key == "FROM" else ("FOR", "FROM"):
            if cursor.accept(word):
                expression(cursor)
    elif cursor.accept("SIMILAR"):
        expression(cursor)
        cursor.expect("ESCAPE")
        expression(cursor)
    else:
        while cursor.accept(","):
            expression(cursor)
    cursor.expect(")")


def _trim(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    cursor.accept_any(("BOTH", "LEADING", "TRAILING"))
    if not cursor.accept("FROM"):
        expression(cursor)
        cursor.accept("FROM")
        if cursor.key not in (")", ","):
            expression(cursor)
    else:
        expression(cursor)
    while cursor.accept(","):
        expression(cursor)
    cursor.expect(")")


def _overlay(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("(")
    expression(cursor)
    if cursor.accept("PLACING"):
        expression(cursor)
        cursor.expect("FROM")
        expression(cursor)
        if cursor.accept("FOR"):
            expression(cursor)
    else:
        while cursor.accept(","):
            expression(cursor)
    cursor.expect(")")


def _listed(cursor: Cursor) -> None:
    """COALESCE, GREATEST, LEAST, NULLIF, GROUPING, NORMALIZE: a list that is not empty."""
    cursor.advance()
    cursor.expect("(")
    expression_list(cursor)
    cursor.expect(")")


SPECIAL: dict[str, Callable[[Cursor], None]] = {
    "NULL": Cursor.advance,
    "TRUE": Cursor.advance,
    "FALSE": Cursor.advance,
    "CASE": _case,
    "CAST": _cast,
    "TREAT": _cast,
    "EXISTS": _exists,
    "ARRAY": _array,
    "ROW": _row,
    "EXTRACT": _extract,
    "POSITION": _position,
    "SUBSTRING": _substring,
    "TRIM": _trim,
    "OVERLAY": _overlay,
    "COALESCE": _listed,
    "GREATEST": _listed,
    "LEAST": _listed,
    "NULLIF": _listed,
    "GROUPING": _listed,
    "NORMALIZE": _listed,
}
# These may also be columns.
_SPECIAL_IF_CALLED = words(
    """ROW EXTRACT POSITION SUBSTRING TRIM OVERLAY COALESCE GREATEST LEAST NULLIF GROUPING NORMALIZE
    EXISTS TREAT"""
)


def order_by(cursor: Cursor) -> None:
    cursor.expect("ORDER BY")
    while True:
        expression(cursor)
        if cursor.accept("USING"):
            if cursor.key not in OPERATORS:
                cursor.fail()
            cursor.advance()
        else:
            cursor.accept_any(("ASC", "DESC"))
        if cursor.accept("NULLS"):
            cursor.expect_any("FIRST", "LAST")
        if not cursor.accept(","):
            return


# ---------------------------------------------------------------------------------------
# Names


def qualified_name(cursor: Cursor) -> None:
    cursor.name()
    while cursor.accept("."):
        cursor.label()


def name_list(cursor: Cursor) -> None:
    cursor.name()
    while cursor.accept(","):
        cursor.name()
