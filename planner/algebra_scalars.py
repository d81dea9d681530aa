"""What rules ask of scalar expressions: parts, columns, nulls, failure; and how to make them.

Trees are never changed in place once they are inside a `Scalar`: `substitute` copies. Copies
share `meta` values (a bound relation's whole table among them) and copy none of them, which is
why sqlglot's own `copy` is not used here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from sqlglot import exp

from planner.algebra import Column, Item, Scalar
from planner.bound import type_of
from storage.types import BOOL, SqlType

Replacement = Callable[[exp.Expr], exp.Expr | None]

COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.EQ: exp.EQ,
}

# Functions and operators no argument of theirs can make fail.
_TOTAL = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.And,
    exp.Or,
    exp.Not,
    exp.Paren,
    *COMPARISONS,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Is,
    exp.In,
    exp.Tuple,
    exp.Between,
    exp.Coalesce,
    exp.Case,
    exp.If,
    exp.Lower,
    exp.Upper,
    exp.Length,
)
# Operators whose value is NULL as soon as one operand is.
_STRICT = (
    *COMPARISONS,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Div,
    exp.Mod,
    exp.Neg,
    exp.Paren,
    exp.Cast,
    exp.Like,
    exp.Between,
    exp.Not,
    exp.Lower,
    exp.Upper,
    exp.Substring,
    exp.Extract,
)
_STRICT_CALLS = frozenset({"pg_divide_numeric"})


def copy_tree(node: exp.Expr, replace: Replacement | None = None) -> exp.Expr:
    """A copy in which `replace` may put another (fresh) tree in place of any node, top down."""
    if replace is not None:
        other = replace(node)
        if other is not None:
            return other
    args: dict[str, object] = {}
    for key, value in node.args.items():
        if isinstance(value, exp.Expr):
            args[key] = copy_tree(value, replace)
        elif isinstance(value, list):
            args[key] = [copy_tree(v, replace) if isinstance(v, exp.Expr) else v for v in value]
        else:
            args[key] = value
    made = node.__class__(**args)
    if node._meta is not None:
        made._meta = dict(node._meta)
    if node._type is not None:
        made._type = node._type
    return made


def scalar_of(node: exp.Expr, sql_type: SqlType | None = None) -> Scalar:
    """The scalar over a tree whose columns are already unqualified unique names."""
    columns: set[str] = set()
    volatile = False
    for part in node.walk():
        if isinstance(part, exp.Column):
            columns.add(part.name)
        elif part._meta is not None and part._meta.get("volatile"):
            volatile = True
    return Scalar(node, frozenset(columns), sql_type or type_of(node), volatile)


def column_node(column: Column) -> exp.Column:
    """A reference to the column by its unique name."""
    node = exp.Column(this=exp.Identifier(this=column.name, quoted=True))
    node.meta["type"] = column.type
    return node


def column_scalar(column: Column) -> Scalar:
    return Scalar(column_node(column), frozenset((column.name,)), column.type, False)


def column_item(column: Column) -> Item:
    """The item that hands a column on."""
    return Item(column.name, column_scalar(column))


def plain_column(scalar: Scalar) -> str | None:
    """The column's name where the scalar is nothing but a column."""
    node = scalar.node
    while isinstance(node, exp.Paren):
        node = node.this
    return node.name if isinstance(node, exp.Column) else None


def boolean_scalar(value: bool) -> Scalar:
    """TRUE or FALSE."""
    return Scalar(exp.Boolean(this=value), frozenset(), BOOL, False)


def is_literal_boolean(scalar: Scalar, value: bool) -> bool:
    """Whether the scalar is the literal TRUE (or FALSE; NULL counts as FALSE in a condition)."""
    node = scalar.node
    if isinstance(node, exp.Null):
        return not value
    return isinstance(node, exp.Boolean) and bool(node.this) is value


def substitute(scalar: Scalar, replacements: Mapping[str, Scalar]) -> Scalar:
    """The scalar with columns replaced by other scalars, in parentheses where they need them."""
    if scalar.columns.isdisjoint(replacements):
        return scalar
    plain = plain_column(scalar)
    if plain is not None:
        return replacements[plain]

    def replace(node: exp.Expr) -> exp.Expr | None:
        if isinstance(node, exp.Column) and node.name in replacements:
            return wrapped(copy_tree(replacements[node.name].node))
        return None

    return scalar_of(copy_tree(scalar.node, replace), scalar.type)


def wrapped(node: exp.Expr) -> exp.Expr:
    """The tree in parentheses, unless it binds as tightly as any operator."""
    if isinstance(node, exp.Binary | exp.Unary | exp.Between | exp.In | exp.Is | exp.Interval):
        if isinstance(node, exp.Paren):
            return node
        paren = exp.Paren(this=node)
        paren.meta["type"] = type_of(node)
        return paren
    return node


def conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    """The terms of a conjunction, without their parentheses."""
    if node is None:
        return
    inner = _unwrapped(node)
    if isinstance(inner, exp.And):
        yield from conjuncts(inner.this)
        yield from conjuncts(inner.expression)
    else:
        yield inner


def disjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    """The terms of a disjunction, without their parentheses."""
    inner = _unwrapped(node)
    if isinstance(inner, exp.Or):
        yield from disjuncts(inner.this)
        yield from disjuncts(inner.expression)
    else:
        yield inner


def _unwrapped(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def all_of(nodes: Iterable[exp.Expr]) -> exp.Expr | None:
    """The conjunction of (fresh) trees; None of none."""
    return _combined(exp.And, nodes)


def any_of(nodes: Iterable[exp.Expr]) -> exp.Expr | None:
    """The disjunction of (fresh) trees; None of none."""
    return _combined(exp.Or, nodes)


def _combined(operator: type[exp.Connector], nodes: Iterable[exp.Expr]) -> exp.Expr | None:
    result: exp.Expr | None = None
    for node in nodes:
        term = exp.Paren(this=node) if isinstance(node, exp.Connector) else node
        result = term if result is None else operator(this=result, expression=term)
    if isinstance(result, exp.Connector):
        result.meta["type"] = BOOL
    return result


def is_total(scalar: Scalar) -> bool:
    """Whether no row can make it fail, so that it may see rows the query would not show it.

    Constants count as total: they fail for every row or for none.
    """
    return not scalar.volatile and _is_total(scalar.node)


def _is_total(node: exp.Expr) -> bool:
    if isinstance(node, exp.Like):
        return isinstance(node.expression, exp.Literal) and _is_total(node.this)
    if not isinstance(node, _TOTAL):
        return node.find(exp.Column) is None and node.find(exp.Anonymous) is None
    if isinstance(node, exp.Column):
        return True
    return all(_is_total(child) for child in node.iter_expressions())


def rejects_null(scalar: Scalar, columns: frozenset[str]) -> bool:
    """Whether the condition cannot be true where all of `columns` are NULL."""
    return not scalar.columns.isdisjoint(columns) and _rejects(scalar.node, columns)


def _rejects(node: exp.Expr, columns: frozenset[str]) -> bool:
    node = _unwrapped(node)
    if isinstance(node, exp.And):
        return _rejects(node.this, columns) or _rejects(node.expression, columns)
    if isinstance(node, exp.Or):
        return _rejects(node.this, columns) and _rejects(node.expression, columns)
    if isinstance(node, exp.Is):
        # Of NULL, IS NULL and IS NOT TRUE are true; IS NOT NULL and IS TRUE are false.
        accepts_null = isinstance(node.expression, exp.Null) is not bool(node.args.get("negate"))
        return not accepts_null and _is_null_then(node.this, columns)
    if isinstance(node, exp.Not):
        inner = _unwrapped(node.this)
        if isinstance(inner, exp.Is):
            negated = not inner.args.get("negate")
            accepts_null = isinstance(inner.expression, exp.Null) is not negated
            return not accepts_null and _is_null_then(inner.this, columns)
        return _is_null_then(inner, columns)
    return _is_null_then(node, columns)


def _is_null_then(node: exp.Expr, columns: frozenset[str]) -> bool:
    """Whether the value is NULL where `columns` are."""
    if isinstance(node, exp.Column):
        return node.name in columns
    if isinstance(node, exp.In):
        return _is_null_then(node.this, columns)
    if isinstance(node, exp.Between):
        return _is_null_then(node.this, columns)
    strict_call = isinstance(node, exp.Anonymous) and str(node.this).lower() in _STRICT_CALLS
    if strict_call or isinstance(node, _STRICT):
        return any(_is_null_then(child, columns) for child in node.iter_expressions())
    return False


def equality(scalar: Scalar) -> tuple[exp.Expr, exp.Expr] | None:
    """Both sides where the condition is an equality."""
    node = _unwrapped(scalar.node)
    return (node.this, node.expression) if isinstance(node, exp.EQ) else None


def equal_columns(scalar: Scalar) -> tuple[str, str] | None:
    """Both column names where the condition says that two columns are equal."""
    sides = equality(scalar)
    if sides is None:
        return None
    left, right = (_unwrapped(side) for side in sides)
    if isinstance(left, exp.Column) and isinstance(right, exp.Column):
        return left.name, right.name
    return None


def columns_in(node: exp.Expr) -> frozenset[str]:
    """The unique names of the columns in a converted tree."""
    if isinstance(node, exp.Column):
        return frozenset((node.name,))
    return frozenset(c.name for c in node.find_all(exp.Column))


def split_equality(
    scalar: Scalar, left: frozenset[str], right: frozenset[str]
) -> tuple[Scalar, Scalar] | None:
    """The two sides of `l = r` where one reads only `left` and the other only `right`."""
    sides = equality(scalar)
    if sides is None:
        return None
    first, second = (scalar_of(side) for side in sides)
    if not first.columns or not second.columns:
        return None
    if first.columns <= left and second.columns <= right:
        return first, second
    if first.columns <= right and second.columns <= left:
        return second, first
    return None
