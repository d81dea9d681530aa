"""Which calls are aggregates or return rows, and what is known of each by name.

The binder leaves most calls as they are spelled for DuckDB, so functions are recognised by
name as well as by sqlglot's class.
"""

from __future__ import annotations

from sqlglot import exp

# sqlglot class -> DuckDB's name, for aggregates that have a node of their own.
_NAMES: dict[type[exp.Expr], str] = {
    exp.Sum: "sum",
    exp.Count: "count",
    exp.Min: "min",
    exp.Max: "max",
    exp.Avg: "avg",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
    exp.BitwiseAndAgg: "bit_and",
    exp.BitwiseOrAgg: "bit_or",
    exp.BitwiseXorAgg: "bit_xor",
    exp.AnyValue: "any_value",
}

# fmt: off
_AGGREGATES = frozenset(
    [
        "any_value", "arbitrary", "arg_max", "arg_max_null", "arg_min", "arg_min_null",
        "argmax", "argmin", "array_agg", "avg", "bit_and", "bit_or", "bit_xor",
        "bitstring_agg", "bool_and", "bool_or", "corr", "count", "count_if", "count_star",
        "countif", "covar_pop", "covar_samp", "entropy", "every", "favg", "first", "fsum",
        "geomean", "group_concat", "histogram", "json_group_array", "json_group_object",
        "kahan_sum", "kurtosis", "kurtosis_pop", "last", "list", "listagg", "mad", "max",
        "max_by", "mean", "median", "min", "min_by", "mode", "product", "quantile",
        "quantile_cont", "quantile_disc", "regr_avgx", "regr_avgy", "regr_count",
        "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "sem",
        "skewness", "stddev", "stddev_pop", "stddev_samp", "string_agg", "sum",
        "sum_no_overflow", "sumkahan", "var_pop", "var_samp", "variance",
        "approx_count_distinct", "approx_quantile", "json_agg", "jsonb_agg", "json_object_agg",
        "jsonb_object_agg",
    ]
)
# fmt: on

# Aggregates whose value over no rows is 0 instead of NULL.
ZERO_ON_EMPTY = frozenset({"count", "count_star", "count_if", "countif", "regr_count"})

_WINDOW_ONLY = (
    exp.RowNumber,
    exp.Rank,
    exp.DenseRank,
    exp.PercentRank,
    exp.CumeDist,
    exp.Ntile,
    exp.Lag,
    exp.Lead,
    exp.FirstValue,
    exp.LastValue,
    exp.NthValue,
)


def call_name(node: exp.Expr) -> str:
    """The lower-case name of a call; empty for what is none."""
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
        this = node.this
        return (this if isinstance(this, str) else this.name).lower()
    known = _NAMES.get(type(node))
    if known is not None:
        return known
    return node.sql_name().lower() if isinstance(node, exp.Func) else ""


def is_aggregate_call(node: exp.Expr) -> bool:
    """Whether the node itself is an aggregate, FILTER and ORDER BY included."""
    if isinstance(node, exp.Filter | exp.WithinGroup):
        return is_aggregate_call(node.this)
    meta = node._meta
    if meta is not None and meta.get("aggregate"):
        return True
    if isinstance(node, exp.AggFunc) and not isinstance(node, _WINDOW_ONLY):
        return not isinstance(node, exp.Grouping | exp.GroupingId)
    return isinstance(node, exp.Anonymous) and call_name(node) in _AGGREGATES


def is_query(node: exp.Expr) -> bool:
    """Whether the node is a query of its own, in parentheses or not."""
    return isinstance(node, exp.Select | exp.SetOperation | exp.Subquery)


def has_aggregate(node: exp.Expr) -> bool:
    """Whether the expression aggregates over its own block: not in a window, not in a subquery."""
    if is_query(node):
        return False
    if isinstance(node, exp.Window):
        # sum(sum(x)) OVER () aggregates inside its arguments.
        call = node.this
        inner = call.iter_expressions() if is_aggregate_call(call) else iter((call,))
        others = (v for k, v in node.args.items() if k != "this")
        return any(has_aggregate(part) for part in inner) or any(
            has_aggregate(part) for other in others for part in _nodes(other)
        )
    if is_aggregate_call(node):
        return True
    return any(has_aggregate(child) for child in node.iter_expressions())


def _nodes(value: object) -> list[exp.Expr]:
    if isinstance(value, exp.Expr):
        return [value]
    if isinstance(value, list):
        return [v for v in value if isinstance(v, exp.Expr)]
    return []


_SET_RETURNING = frozenset({"unnest", "generate_series", "generate_subscripts", "explode"})


def returns_set(node: exp.Expr) -> bool:
    """Whether the expression of a select list gives a row several times, or not at all."""
    if is_query(node):
        return False
    if isinstance(node, exp.Unnest | exp.Explode | exp.GenerateSeries):
        return True
    if isinstance(node, exp.Anonymous) and str(node.this).lower() in _SET_RETURNING:
        return True
    return any(returns_set(child) for child in node.iter_expressions())
