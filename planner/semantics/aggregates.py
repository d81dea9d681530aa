"""Aggregates: PostgreSQL's result types over DuckDB's.

Every call of DuckDB's that aggregates is an `exp.AggFunc` (Sum, Count, Min, Max, Avg, or
AnonymousAggFunc with the name), inside its `exp.Filter` and `exp.Window` where it has them, so
that the optimizer finds and splits them. What turns its result into PostgreSQL's type stands
around it: `sum(int4)` is `CAST(SUM(x) AS BIGINT)`, `avg(int4)` a numeric division of a sum by
a count, which the coordinator makes exact when it is an output column of its own.
The type noted at a Sum over integers is numeric(38,0), the hugeint that DuckDB gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from planner.bound import type_of
from planner.functions import Catalogue, Role, signature
from planner.semantics import build
from planner.semantics.casts import Casts
from planner.semantics.json_texts import to_json
from planner.semantics.numbers import divide
from storage.types import (
    BOOL,
    FLOAT8,
    INT8,
    INTERVAL,
    JSON,
    JSONB,
    NUMERIC,
    TEXT,
    Kind,
    SqlType,
    array_of,
    numeric_shape,
)

HUGE = SqlType(Kind.NUMERIC, precision=38, scale=0)


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """A resolved aggregate call.

    `order` is the ORDER BY inside the call (or of WITHIN GROUP). `wrap` puts FILTER and OVER
    around each of DuckDB's aggregates that the rule uses.
    """

    arguments: tuple[exp.Expr, ...]
    type: SqlType
    casts: Casts
    distinct: bool
    order: tuple[exp.Ordered, ...]
    wrap: Callable[[exp.Expr], exp.Expr]

    def plain(self, node: exp.Expr, sql_type: SqlType) -> exp.Expr:
        return build.typed(self.wrap(build.typed(node, sql_type)), sql_type)

    def first(self) -> exp.Expr:
        """The first argument, DISTINCT where asked for; a copy, for rules that use it twice."""
        node = self.arguments[0].copy()
        if self.distinct:
            return build.typed(exp.Distinct(expressions=[node]), type_of(node))
        return node

    def named(self, name: str, sql_type: SqlType, arguments: Sequence[exp.Expr] = ()) -> exp.Expr:
        """DuckDB's aggregate of that name over the arguments, with the call's ORDER BY."""
        nodes = list(arguments or self.arguments)
        if self.distinct:
            # Only the first: sqlglot would make a row of several.
            nodes[0] = exp.Distinct(expressions=[nodes[0]])
        if self.order:
            ordered = [each.copy() for each in self.order]
            nodes[-1] = exp.Order(this=nodes[-1], expressions=ordered)
        return self.plain(exp.AnonymousAggFunc(this=name, expressions=nodes), sql_type)


AggregateRule = Callable[[AggregateCall], exp.Expr]


def _count(call: AggregateCall) -> exp.Expr:
    argument = exp.Star() if not call.arguments else call.first()
    return call.plain(exp.Count(this=argument, big_int=True), INT8)


def _sum(call: AggregateCall) -> exp.Expr:
    source = type_of(call.arguments[0])
    node = exp.Sum(this=call.first())
    match source.kind:
        case Kind.INT2 | Kind.INT4:
            return build.cast_as(call.plain(node, HUGE), INT8)
        case Kind.INT8:
            return build.cast_as(call.plain(node, HUGE), HUGE)
        case Kind.NUMERIC:
            return call.plain(node, sum_shape(source))
        case Kind.FLOAT4:
            return build.cast_as(call.plain(node, FLOAT8), source)
        case Kind.INTERVAL:
            return _total_interval(call)
    return call.plain(node, source)


def sum_shape(source: SqlType) -> SqlType:
    """The numeric DuckDB's sum of a numeric is."""
    if source == NUMERIC:
        return NUMERIC
    return SqlType(Kind.NUMERIC, precision=38, scale=numeric_shape(source)[1])


def _avg(call: AggregateCall) -> exp.Expr:
    source = type_of(call.arguments[0])
    if source.kind in (Kind.FLOAT4, Kind.FLOAT8, Kind.ANY):
        return call.plain(exp.Avg(this=call.first()), FLOAT8)
    if source.kind is Kind.INTERVAL:
        count = call.plain(exp.Count(this=call.first(), big_int=True), INT8)
        some = build.call("nullif", count, build.integer(0), type=INT8)
        return build.call("pg_divide_interval", _total_interval(call), some, type=INTERVAL)
    total: exp.Expr
    if source.kind is Kind.NUMERIC:
        total = call.plain(exp.Sum(this=call.first()), sum_shape(source))
    else:
        total = build.cast_as(call.plain(exp.Sum(this=call.first()), HUGE), HUGE)
    count = call.plain(exp.Count(this=call.first(), big_int=True), INT8)
    rows = build.cast_as(count, SqlType(Kind.NUMERIC, precision=19, scale=0))
    return divide(total, rows)


def _extreme(node: type[exp.AggFunc]) -> AggregateRule:
    def rule(call: AggregateCall) -> exp.Expr:
        argument = call.arguments[0]
        same_kind = type_of(argument).kind is call.type.kind
        result = type_of(argument) if same_kind else call.type
        return call.plain(node(this=argument), result)

    return rule


def _total_interval(call: AggregateCall) -> exp.Expr:
    """The sum of intervals, part by part."""
    parts = []
    for name in ("pg_months", "pg_days", "pg_micros"):
        part = build.call(name, call.arguments[0].copy(), type=INT8)
        parts.append(call.plain(exp.Sum(this=part), HUGE))
    return build.call("pg_interval_of", *parts, type=INTERVAL)


def _regr_count(call: AggregateCall) -> exp.Expr:
    return build.cast_as(call.named("regr_count", INT8), INT8)


def _same(name: str) -> AggregateRule:
    def rule(call: AggregateCall) -> exp.Expr:
        return call.named(name, call.type)

    return rule


def _of_varying(name: str, *spreads: str) -> AggregateRule:
    """NULL where values do not vary, of which DuckDB makes NaN."""

    def rule(call: AggregateCall) -> exp.Expr:
        def copies() -> list[exp.Expr]:
            return [argument.copy() for argument in call.arguments]

        cases = [
            (
                build.binary(exp.EQ, call.named(spread, FLOAT8, copies()), build.integer(0), BOOL),
                build.null(FLOAT8),
            )
            for spread in spreads
        ]
        return build.case(cases, call.named(name, call.type))

    return rule


def _spread(name: str) -> AggregateRule:
    """Variances: DuckDB's are doubles; PostgreSQL's are numeric unless the input is float."""

    def rule(call: AggregateCall) -> exp.Expr:
        argument = build.cast_as(call.arguments[0], FLOAT8)
        value = call.named(name, FLOAT8, [argument])
        if call.type.kind is Kind.NUMERIC:
            return build.call("pg_float_to_numeric", value, build.integer(16), type=NUMERIC)
        return value

    return rule


def _array_agg(call: AggregateCall) -> exp.Expr:
    if _sorts_distinct_values(call):
        return _sorted_distinct_values(call)
    return call.named("array_agg", array_of(type_of(call.arguments[0])))


def _string_agg(call: AggregateCall) -> exp.Expr:
    if _sorts_distinct_values(call) and build.literal_text(call.arguments[1]) is not None:
        values = _sorted_distinct_values(call)
        return build.call("pg_joined", values, call.arguments[1], type=TEXT)
    return call.named("string_agg", TEXT)


def _sorts_distinct_values(call: AggregateCall) -> bool:
    """Whether DISTINCT values that are computed are sorted.

    DuckDB wants the sort key among the arguments, and what may raise an error it takes for
    different wherever it stands.
    """
    return call.distinct and len(call.order) == 1 and not isinstance(call.order[0].this, exp.Column)


def _sorted_distinct_values(call: AggregateCall) -> exp.Expr:
    """The values as a list, sorted once it is whole."""
    key, result = call.order[0], array_of(type_of(call.arguments[0]))
    distinct = exp.Distinct(expressions=[call.arguments[0].copy()])
    values = call.plain(exp.AnonymousAggFunc(this="array_agg", expressions=[distinct]), result)
    direction = build.text("DESC" if key.args.get("desc") else "ASC")
    nulls = build.text("NULLS FIRST" if key.args.get("nulls_first") else "NULLS LAST")
    return build.call("list_sort", values, direction, nulls, type=result)


def _json_agg(result: SqlType) -> AggregateRule:
    def rule(call: AggregateCall) -> exp.Expr:
        element = to_json(call.arguments[0], call.casts)
        joined = call.named("string_agg", TEXT, [element, build.text(", ")])
        return _json_text(build.call("pg_brackets", joined, type=TEXT), result)

    return rule


def _json_object_agg(result: SqlType) -> AggregateRule:
    def rule(call: AggregateCall) -> exp.Expr:
        key = call.casts.to_text(call.arguments[0])
        value = to_json(call.arguments[1], call.casts)
        pair = build.call("pg_json_pair", key, value, type=TEXT)
        joined = call.named("string_agg", TEXT, [pair, build.text(", ")])
        return _json_text(build.call("pg_braces", joined, type=TEXT), result)

    return rule


def _json_text(node: exp.Expr, result: SqlType) -> exp.Expr:
    if result == JSONB:
        return build.call("pg_jsonb", node, type=JSONB)
    return build.cast_as(node, JSON)


def _within_group(name: str) -> AggregateRule:
    """percentile_cont, percentile_disc: DuckDB's quantiles take the value as an argument."""

    def rule(call: AggregateCall) -> exp.Expr:
        key = call.order[0]
        value, fraction = key.this, call.arguments[0]
        result = type_of(value)
        if name == "quantile_cont" and result.kind is not Kind.INTERVAL:
            value, result = build.cast_as(value, FLOAT8), FLOAT8
        if key.args.get("desc"):
            one = build.integer(1)
            fraction = build.binary(exp.Sub, one, fraction, FLOAT8)
        node = exp.AnonymousAggFunc(this=name, expressions=[value, fraction])
        if type_of(call.arguments[0]).kind is Kind.ARRAY:
            result = array_of(result)
        return call.plain(node, result)

    return rule


def _mode(call: AggregateCall) -> exp.Expr:
    value = call.order[0].this
    node = exp.AnonymousAggFunc(this="mode", expressions=[value.copy()])
    # Of equally frequent values DuckDB takes the first it meets; ORDER BY makes it the least.
    node.set("expressions", [exp.Order(this=value.copy(), expressions=[call.order[0].copy()])])
    return call.plain(node, type_of(value))


RULES: dict[str, AggregateRule] = {
    "count": _count,
    "sum": _sum,
    "avg": _avg,
    "min": _extreme(exp.Min),
    "max": _extreme(exp.Max),
    "bool_and": _same("bool_and"),
    "every": _same("bool_and"),
    "bool_or": _same("bool_or"),
    "bit_and": _same("bit_and"),
    "bit_or": _same("bit_or"),
    "bit_xor": _same("bit_xor"),
    "any_value": _same("any_value"),
    "array_agg": _array_agg,
    "string_agg": _string_agg,
    "regr_count": _regr_count,
    "json_agg": _json_agg(JSON),
    "jsonb_agg": _json_agg(JSONB),
    "json_object_agg": _json_object_agg(JSON),
    "jsonb_object_agg": _json_object_agg(JSONB),
    "percentile_cont": _within_group("quantile_cont"),
    "percentile_disc": _within_group("quantile_disc"),
    "mode": _mode,
    "corr": _of_varying("corr", "regr_sxx", "regr_syy"),
    "regr_slope": _of_varying("regr_slope", "regr_sxx"),
    "regr_intercept": _of_varying("regr_intercept", "regr_sxx"),
    **{
        name: _spread(target)
        for name, target in (
            ("stddev", "stddev_samp"),
            ("stddev_samp", "stddev_samp"),
            ("stddev_pop", "stddev_pop"),
            ("variance", "var_samp"),
            ("var_samp", "var_samp"),
            ("var_pop", "var_pop"),
        )
    },
    **{
        name: _same(name)
        for name in (
            "covar_pop",
            "covar_samp",
            "regr_avgx",
            "regr_avgy",
            "regr_r2",
            "regr_sxx",
            "regr_sxy",
            "regr_syy",
        )
    },
}
ORDERED_SET = frozenset({"percentile_cont", "percentile_disc", "mode"})


def _no_scalar_rule(_call: object) -> exp.Expr:
    raise AssertionError("aggregates have rules of their own")


def register(catalogue: Catalogue) -> None:
    """The signatures of all aggregates."""
    for text in _signatures():
        catalogue.add(signature(text, _no_scalar_rule, Role.AGGREGATE))


def _signatures() -> list[str]:
    rows = ["count() -> int8", "count(any) -> int8"]
    for kind, total, mean in (
        ("int2", "int8", "numeric"),
        ("int4", "int8", "numeric"),
        ("int8", "numeric", "numeric"),
        ("numeric", "numeric", "numeric"),
        ("float4", "float4", "float8"),
        ("float8", "float8", "float8"),
        ("interval", "interval", "interval"),
    ):
        rows += [f"sum({kind}) -> {total}", f"avg({kind}) -> {mean}"]
    for kind in _ORDERED_KINDS:
        rows += [f"min({kind}) -> {kind}", f"max({kind}) -> {kind}"]
    for name in ("bool_and", "bool_or", "every"):
        rows.append(f"{name}(bool) -> bool")
    for name in ("bit_and", "bit_or", "bit_xor"):
        rows += [f"{name}({kind}) -> {kind}" for kind in ("int2", "int4", "int8")]
    for name in ("stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop"):
        rows += [f"{name}({kind}) -> numeric" for kind in ("int2", "int4", "int8", "numeric")]
        rows += [f"{name}({kind}) -> float8" for kind in ("float4", "float8")]
    for name in RULES:
        if name.startswith(("corr", "covar_", "regr_")):
            result = "int8" if name == "regr_count" else "float8"
            rows.append(f"{name}(float8, float8) -> {result}")
    return [
        *rows,
        "any_value(anyelement) -> anyelement",
        "array_agg(anyelement) -> anyarray",
        "string_agg(text, text) -> text",
        "json_agg(any) -> json",
        "jsonb_agg(any) -> jsonb",
        "json_object_agg(any, any) -> json",
        "jsonb_object_agg(any, any) -> jsonb",
        "percentile_cont(float8) -> float8",
        "percentile_cont(float8[]) -> float8[]",
        "percentile_disc(float8) -> any",
        "percentile_disc(float8[]) -> any",
        "mode() -> any",
    ]


_ORDERED_KINDS = (
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "oid",
    "text",
    "bpchar",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "bytea",
    "anyarray",
)
