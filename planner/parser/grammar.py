"""Whether tokens are an expression or a query by PostgreSQL's grammar, and where they end.

sqlglot builds the trees, but it accepts much that PostgreSQL refuses (`select a,, b`,
`join u on`, `order by 1 asc desc`), sometimes dropping what it did not understand. So every
expression and query is first walked by these functions: they build nothing, they advance the
cursor and raise PostgreSQL's syntax error at the token where PostgreSQL's parser would give up
(`src/backend/parser/gram.y` describes the language; this is a recursive descent with binding
powers for operators, not a translation of it). Statement parsers use the same functions to
know where an expression ends.

Left out: XML and SQL/JSON constructors, XMLTABLE, JSON_TABLE; they are syntax errors here.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.errors import SyntaxError_
from planner.parser.keywords import NOT_BARE_LABELS, VALUE_FUNCTIONS, words
from planner.parser.tokens import NUMBER, QUOTED, STRING, Cursor
from planner.parser.types import at_typed_literal, interval_fields, type_name

# Binding powers of binary operators (PostgreSQL manual, 4.1.6), loosest first.
_OR, _AND, _NOT, _IS, _COMPARISON, _RANGE, _OTHER = 1, 2, 3, 4, 5, 6, 7
_SUM, _PRODUCT, _POWER, _AT, _COLLATE, _SIGN = 8, 9, 10, 11, 12, 13

_COMPARISONS = frozenset({"<", ">", "=", "<=", ">=", "<>", "!="})
_OPERATORS: dict[str, int] = (
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
_QUERY_STARTS = frozenset({"SELECT", "VALUES", "WITH", "TABLE"})


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
        _primary(cursor)
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
    if key in _OPERATORS:
        return _OPERATORS[key]
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
    if key in _OPERATORS or key == "OPERATOR":
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


def _take_symbol(cursor: Cursor, binding: int, restricted: bool) -> None:
    if cursor.accept("OPERATOR"):
        cursor.expect("(")
        while cursor.at_column_name:
            cursor.name()
            cursor.expect(".")
        if cursor.key not in _OPERATORS:
            cursor.fail()
        cursor.advance()
        cursor.expect(")")
    else:
        negated = cursor.key == "!"
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


def _primary(cursor: Cursor) -> None:
    key = cursor.key
    if key == STRING:
        cursor.string()
    elif key == NUMBER:
        _number(cursor)
    elif key == "$":
        _parameter(cursor)
    elif key == "(":
        _parenthesised(cursor)
    elif key in _SPECIAL and not (key in _SPECIAL_IF_CALLED and cursor.peek() != "("):
        _SPECIAL[key](cursor)
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


def _parenthesised(cursor: Cursor) -> None:
    cursor.advance()
    query_or(cursor, expression_list)
    cursor.expect(")")


def query_or(cursor: Cursor, otherwise: Callable[[Cursor], None]) -> None:
    """Take a query where one begins, else what the other function takes."""
    if cursor.key in _QUERY_STARTS:
        query(cursor)
    elif cursor.key == "(" and _query_in_parentheses(cursor):
        _query_or_operand(cursor, otherwise)
    else:
        otherwise(cursor)


def _query_in_parentheses(cursor: Cursor) -> bool:
    index = cursor.index
    while cursor.keys[index] == "(":
        index += 1
    return cursor.keys[index] in _QUERY_STARTS


def _query_or_operand(cursor: Cursor, otherwise: Callable[[Cursor], None]) -> None:
    """`((select 1) union select 2)` is a query, `((select 1) + 2)` an expression."""
    start = cursor.index
    try:
        query(cursor)
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
        _order_by(cursor)
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
            _window(cursor)
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
        _order_by(cursor)


def _argument(cursor: Cursor) -> None:
    cursor.accept("VARIADIC")
    if cursor.peek() in ("=>", ":=") and cursor.at_function_name:
        cursor.advance()
        cursor.advance()
    expression(cursor)


def _window(cursor: Cursor) -> None:
    cursor.expect("(")
    if cursor.at_column_name and cursor.key not in ("RANGE", "ROWS", "GROUPS", "PARTITION"):
        cursor.name()
    if cursor.accept("PARTITION BY"):
        expression_list(cursor)
    if cursor.key == "ORDER BY":
        _order_by(cursor)
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
    query(cursor)
    cursor.expect(")")


def _array(cursor: Cursor) -> None:
    cursor.advance()
    if cursor.accept("("):
        query(cursor)
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


_SPECIAL: dict[str, Callable[[Cursor], None]] = {
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


# ---------------------------------------------------------------------------------------
# Queries


def query(cursor: Cursor) -> None:
    """Take a SelectStmt: WITH, set operations, ORDER BY, LIMIT, locking."""
    if cursor.key == "WITH":
        with_list(cursor)
    _set_operation(cursor)
    _query_tail(cursor)


def with_list(cursor: Cursor) -> None:
    cursor.expect("WITH")
    cursor.accept("RECURSIVE")
    _common_table(cursor)
    while cursor.accept(","):
        _common_table(cursor)


def _common_table(cursor: Cursor) -> None:
    cursor.name()
    if cursor.accept("("):
        name_list(cursor)
        cursor.expect(")")
    cursor.expect("AS")
    cursor.accept("NOT")
    cursor.accept("MATERIALIZED")
    cursor.expect("(")
    query(cursor)
    cursor.expect(")")


def _set_operation(cursor: Cursor) -> None:
    _set_operand(cursor)
    while cursor.accept_any(("UNION", "INTERSECT", "EXCEPT")):
        cursor.accept_any(("ALL", "DISTINCT"))
        _set_operand(cursor)


def _set_operand(cursor: Cursor) -> None:
    if cursor.accept("("):
        query(cursor)
        cursor.expect(")")
    elif cursor.accept("VALUES"):
        _value_rows(cursor)
    elif cursor.accept("TABLE"):
        cursor.accept("ONLY")
        qualified_name(cursor)
    elif cursor.accept("SELECT"):
        _select(cursor)
    else:
        cursor.fail()


def _value_rows(cursor: Cursor) -> None:
    while True:
        cursor.expect("(")
        _value(cursor)
        while cursor.accept(","):
            _value(cursor)
        cursor.expect(")")
        if not cursor.accept(","):
            return


def _value(cursor: Cursor) -> None:
    if cursor.key != "DEFAULT":
        expression(cursor)
    elif cursor.default_allowed:
        cursor.advance()
    else:
        raise SyntaxError_("DEFAULT is not allowed in this context", position=cursor.position)


def _select(cursor: Cursor) -> None:
    """What follows the word SELECT; the select list may be empty, but not after DISTINCT."""
    if cursor.accept("DISTINCT"):
        if cursor.accept("ON"):
            cursor.expect("(")
            expression_list(cursor)
            cursor.expect(")")
        select_list(cursor)
    else:
        cursor.accept("ALL")
        if cursor.key not in _AFTER_SELECT_LIST:
            select_list(cursor)
    if cursor.accept("INTO"):
        raise SyntaxError_("SELECT ... INTO is not allowed here", position=cursor.position)
    if cursor.accept("FROM"):
        from_list(cursor)
    if cursor.accept("WHERE"):
        expression(cursor)
    if cursor.accept("GROUP BY"):
        cursor.accept_any(("ALL", "DISTINCT"))
        _grouping(cursor)
        while cursor.accept(","):
            _grouping(cursor)
    if cursor.accept("HAVING"):
        expression(cursor)
    if cursor.accept("WINDOW"):
        _window_definitions(cursor)


_AFTER_SELECT_LIST = words(
    "FROM WHERE HAVING WINDOW UNION INTERSECT EXCEPT LIMIT OFFSET FETCH FOR INTO"
) | {"GROUP BY", "ORDER BY", ")", ";", ""}


def select_list(cursor: Cursor) -> None:
    _select_item(cursor)
    while cursor.accept(","):
        _select_item(cursor)


def _select_item(cursor: Cursor) -> None:
    if cursor.accept("*"):
        return
    expression(cursor)
    if cursor.accept("AS"):
        cursor.label()
    elif cursor.key == QUOTED or (cursor.at_word and cursor.key not in NOT_BARE_LABELS):
        cursor.take_name()


def _grouping(cursor: Cursor) -> None:
    if cursor.key in ("ROLLUP", "CUBE") and cursor.peek() == "(":
        cursor.advance()
        _parenthesised(cursor)
    elif cursor.accept("GROUPING SETS"):
        cursor.expect("(")
        _grouping(cursor)
        while cursor.accept(","):
            _grouping(cursor)
        cursor.expect(")")
    elif not cursor.accept("(", ")"):
        expression(cursor)


def _window_definitions(cursor: Cursor) -> None:
    while True:
        cursor.name()
        cursor.expect("AS")
        _window(cursor)
        if not cursor.accept(","):
            return


def _order_by(cursor: Cursor) -> None:
    cursor.expect("ORDER BY")
    while True:
        expression(cursor)
        if cursor.accept("USING"):
            if cursor.key not in _OPERATORS:
                cursor.fail()
            cursor.advance()
        else:
            cursor.accept_any(("ASC", "DESC"))
        if cursor.accept("NULLS"):
            cursor.expect_any("FIRST", "LAST")
        if not cursor.accept(","):
            return


def _query_tail(cursor: Cursor) -> None:
    if cursor.key == "ORDER BY":
        _order_by(cursor)
    taken: set[str] = set()
    while cursor.key in ("LIMIT", "OFFSET", "FETCH", "FOR") and cursor.key not in taken:
        word = cursor.key
        if word != "FOR":
            taken.add(word)
        if word in ("LIMIT", "FETCH"):
            taken |= {"LIMIT", "FETCH"}
        cursor.advance()
        _TAIL_CLAUSES[word](cursor)


def _limit(cursor: Cursor) -> None:
    if not cursor.accept("ALL"):
        expression(cursor)


def _offset(cursor: Cursor) -> None:
    expression(cursor)
    cursor.accept_any(("ROW", "ROWS"))


def _fetch(cursor: Cursor) -> None:
    cursor.expect_any("FIRST", "NEXT")
    if cursor.key not in ("ROW", "ROWS"):
        cursor.accept_any(("+", "-"))
        _primary(cursor)
    cursor.expect_any("ROW", "ROWS")
    if cursor.accept("WITH"):
        cursor.expect("TIES")
    else:
        cursor.expect("ONLY")


def _locking(cursor: Cursor) -> None:
    if cursor.accept("NO"):
        cursor.expect("KEY", "UPDATE")
    elif cursor.accept("KEY"):
        cursor.expect("SHARE")
    else:
        cursor.expect_any("UPDATE", "SHARE", "READ")
    if cursor.accept("OF"):
        qualified_name(cursor)
        while cursor.accept(","):
            qualified_name(cursor)
    if cursor.accept("SKIP"):
        cursor.expect("LOCKED")
    else:
        cursor.accept("NOWAIT")


_TAIL_CLAUSES: dict[str, Callable[[Cursor], None]] = {
    "LIMIT": _limit,
    "OFFSET": _offset,
    "FETCH": _fetch,
    "FOR": _locking,
}


# ---------------------------------------------------------------------------------------
# FROM


def from_list(cursor: Cursor) -> None:
    _table_reference(cursor)
    while cursor.accept(","):
        _table_reference(cursor)


def _table_reference(cursor: Cursor) -> None:
    _table_primary(cursor)
    _joins(cursor)


def _joins(cursor: Cursor) -> None:
    while True:
        if cursor.accept("CROSS"):
            cursor.expect("JOIN")
            _table_primary(cursor)
        elif cursor.accept("NATURAL"):
            _join_word(cursor)
            _table_primary(cursor)
        elif cursor.key in _JOIN_STARTS:
            _join_word(cursor)
            _table_reference(cursor)
            _join_condition(cursor)
        else:
            return


_JOIN_STARTS = frozenset({"JOIN", "INNER", "LEFT", "RIGHT", "FULL"})


def _join_word(cursor: Cursor) -> None:
    if not cursor.accept("INNER") and cursor.accept_any(("LEFT", "RIGHT", "FULL")):
        cursor.accept("OUTER")
    cursor.expect("JOIN")


def _join_condition(cursor: Cursor) -> None:
    if cursor.accept("USING"):
        cursor.expect("(")
        name_list(cursor)
        cursor.expect(")")
        if cursor.accept("AS"):
            cursor.name()
        return
    cursor.expect("ON")
    expression(cursor)


def _table_primary(cursor: Cursor) -> None:
    lateral = cursor.accept("LATERAL")
    if cursor.key == "(":
        _parenthesised_table(cursor)
    elif cursor.accept("ROWS"):
        cursor.expect("FROM", "(")
        _table_function(cursor)
        while cursor.accept(","):
            _table_function(cursor)
        cursor.expect(")")
        _ordinality(cursor)
        _table_alias(cursor, columns_typed=True)
    elif _call_ahead(cursor):
        _table_function(cursor)
        _ordinality(cursor)
        _table_alias(cursor, columns_typed=True)
    elif lateral:
        cursor.fail()
    else:
        _relation(cursor)


def _relation(cursor: Cursor) -> None:
    if cursor.accept("ONLY") and cursor.accept("("):
        qualified_name(cursor)
        cursor.expect(")")
    else:
        qualified_name(cursor)
        cursor.accept("*")
    _table_alias(cursor)
    if cursor.accept("TABLESAMPLE"):
        if not cursor.at_function_name:
            cursor.fail()
        _table_function(cursor)
        if cursor.accept("REPEATABLE"):
            _parenthesised(cursor)


def _parenthesised_table(cursor: Cursor) -> None:
    """A subquery, or a join in parentheses (which may itself begin with a subquery)."""
    if cursor.peek() in _QUERY_STARTS:
        cursor.advance()
        query(cursor)
        cursor.expect(")")
    else:
        start = cursor.index
        cursor.advance()
        if not (_query_in_parentheses(cursor) and _whole_query(cursor)):
            cursor.move_to(start + 1)
            _table_reference(cursor)
            cursor.expect(")")
    _table_alias(cursor)


def _whole_query(cursor: Cursor) -> bool:
    try:
        query(cursor)
    except SyntaxError_:
        return False
    return cursor.accept(")")


def _call_ahead(cursor: Cursor) -> bool:
    """Whether a function call stands here: a possibly qualified name and a parenthesis."""
    if cursor.key in _SPECIAL and cursor.peek() == "(":
        return True
    index = cursor.index + 1
    while cursor.keys[index] == ".":
        index += 2
    return cursor.keys[index] == "(" and (cursor.at_function_name or index > cursor.index + 1)


def _table_function(cursor: Cursor) -> None:
    _primary(cursor)


def _ordinality(cursor: Cursor) -> None:
    if cursor.accept("WITH"):
        cursor.expect("ORDINALITY")


def _table_alias(cursor: Cursor, columns_typed: bool = False) -> None:
    named = cursor.accept("AS")
    if cursor.at_column_name:
        cursor.name()
    elif not (named and columns_typed and cursor.key == "("):
        if named:
            cursor.fail()
        return
    if not cursor.accept("("):
        return
    _alias_column(cursor, columns_typed)
    while cursor.accept(","):
        _alias_column(cursor, columns_typed)
    cursor.expect(")")


def _alias_column(cursor: Cursor, columns_typed: bool) -> None:
    cursor.name()
    if columns_typed and cursor.key not in (",", ")"):
        type_name(cursor)


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
