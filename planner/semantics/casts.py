"""Casts: how a value of one type becomes another, in DuckDB's SQL.

`coerce` is the only way in: it resolves untyped literals, NULLs and parameters, checks that
PostgreSQL allows the cast in that place, and writes it. Two habits of representation show here:

- char(n) is held *without* its padding. Comparison, grouping and length() then need nothing
  special; the padding comes back when the outermost block is written (`padded`).
- jsonb may be any JSON text between operators; it takes its normal form where it is seen
  (`jsonb.normalised`): in outputs, comparisons and casts to text.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from cluster.errors import CannotCoerce, DatatypeMismatch
from planner.bound import type_of
from planner.semantics import build, literals, records
from planner.semantics.environment import Environment
from planner.types import (
    FLOAT_KINDS,
    INTEGER_KINDS,
    NUMBER_KINDS,
    TEXT_KINDS,
    Coercion,
    as_numeric,
    bare_type,
    can_cast,
    same_type,
)
from storage.types import (
    ANY,
    BOOL,
    DATE,
    INTERVAL,
    JSONB,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    Kind,
    SqlType,
    array_of,
    numeric_shape,
)

ParameterTyping = Callable[[exp.Parameter, SqlType], exp.Expr]


class Casts:
    """Casts for one statement. `parameter` gives a parameter its type (and its value)."""

    def __init__(self, environment: Environment, parameter: ParameterTyping) -> None:
        self.environment = environment
        self._parameter = parameter

    def coerce(self, node: exp.Expr, target: SqlType, how: Coercion) -> exp.Expr:
        """The node as a value of `target`; `CannotCoerce` or 42804 where it may not be."""
        source = type_of(node)
        if source == target and target.kind is not Kind.UNKNOWN:
            return node
        if source.kind is Kind.UNKNOWN:
            return self._resolve(node, target, how)
        if same_type(source, target) and _is_bare(target):
            return node  # widths and scales only narrow where they are asked for
        if target == ANY or source == ANY:
            return node if target == ANY else build.cast_as(node, target)
        if not can_cast(source, target, how):
            raise self.refusal(node, target, how)
        return self._convert(node, target, how)

    def refusal(self, node: exp.Expr, target: SqlType, how: Coercion) -> Exception:
        """What PostgreSQL says of a cast that it does not do."""
        source, bare = bare_type(type_of(node)), bare_type(target)
        position = build.error_position(node)
        if how is Coercion.EXPLICIT:
            return CannotCoerce(f"cannot cast type {source} to {bare}", position=position)
        return DatatypeMismatch(
            f"expression is of type {source} but {bare} is wanted",
            hint="You will need to rewrite or cast the expression.",
            position=position,
        )

    def _resolve(self, node: exp.Expr, target: SqlType, how: Coercion) -> exp.Expr:
        if isinstance(node, exp.Paren):
            return self._resolve(node.this, target, how)
        if isinstance(node, exp.Parameter):
            return self._parameter(node, target)
        if isinstance(node, exp.Null):
            return build.null(target)
        written = build.literal_text(node)
        if written is None:  # an output column of unknown type from below: text
            return self.coerce(build.typed(node.copy(), TEXT), target, how)
        if target.kind in (Kind.UNKNOWN, Kind.ANY):
            return build.typed(node, TEXT)
        try:
            if how is not Coercion.EXPLICIT and target.kind in TEXT_KINDS:
                written = literals.fitted_text(written, target, truncate=False)
            result = self._literal(written, target)
        except Exception as error:
            if getattr(error, "position", "") is None:
                error.position = build.error_position(node)  # type: ignore[attr-defined]
            raise
        if node._meta and "start" in node._meta:
            result.meta["start"] = node._meta["start"]
        return result

    def _literal(self, written: str, target: SqlType) -> exp.Expr:
        return literals.literal(written, target, self.environment)

    def _convert(self, node: exp.Expr, target: SqlType, how: Coercion) -> exp.Expr:
        source = type_of(node)
        kind = target.kind
        if kind in TEXT_KINDS:
            return self._fit_text(self.to_text(node), target, how)
        if source.kind in TEXT_KINDS:
            return self._from_text(node, target)
        if kind is Kind.NUMERIC:
            return _to_numeric(node, target)
        if kind in NUMBER_KINDS and source.kind in NUMBER_KINDS:
            return _to_number(node, target)
        if kind is Kind.ARRAY and source.kind is Kind.ARRAY:
            return build.cast_as(node, target)
        if {source.kind, kind} <= _TIME_KINDS:
            return self._between_times(node, target)
        if source.kind is Kind.JSONB and kind is not Kind.JSON:
            return _from_jsonb(node, target)
        if kind is Kind.JSONB:
            return build.call("pg_jsonb", build.cast_as(node, TEXT), type=JSONB)
        return build.cast_as(node, target)

    def to_text(self, node: exp.Expr) -> exp.Expr:
        """The value in PostgreSQL's text form."""
        source = type_of(node)
        match source.kind:
            case Kind.TEXT | Kind.VARCHAR | Kind.BPCHAR | Kind.NAME | Kind.CHAR:
                return node
            case Kind.FLOAT4 | Kind.FLOAT8:
                return build.call("pg_float_text", node, type=TEXT)
            case Kind.NUMERIC if source == NUMERIC:
                return build.call("pg_numeric_text", node, type=TEXT)
            case Kind.TIMESTAMPTZ:
                return build.call(
                    "pg_timestamptz_text", node, build.text(self.environment.zone_name), type=TEXT
                )
            case Kind.INTERVAL:
                return build.call("pg_interval_text", node, type=TEXT)
            case Kind.BYTEA:
                return build.call("pg_bytea_text", node, type=TEXT)
            case Kind.JSONB:
                return build.call("pg_jsonb_text", build.cast_as(node, TEXT), type=TEXT)
            case Kind.ARRAY:
                return self._array_text(node)
            case Kind.REGCLASS | Kind.REGTYPE | Kind.REGPROC:
                return self.registered_name(node)
            case Kind.RECORD:
                return self._record_text(node)
            case _:
                return build.cast_as(node, TEXT)

    def registered_name(self, node: exp.Expr) -> exp.Expr:
        """The name behind a regclass, regtype or regproc; overridden by the binder's own."""
        return build.cast_as(node, TEXT)

    def _array_text(self, node: exp.Expr) -> exp.Expr:
        return build.call("pg_array_text", self.element_texts(node), type=TEXT)

    def element_texts(self, node: exp.Expr) -> exp.Expr:
        """An array's elements, each in its text form."""
        element = type_of(node).element
        if element is None or element == TEXT:
            return node
        variable = build.typed(build.identifier("pg_item"), element)
        function = exp.Lambda(this=self.inner_text(variable), expressions=[variable.copy()])
        return build.call("list_transform", node, function, type=array_of(TEXT))

    def inner_text(self, node: exp.Expr) -> exp.Expr:
        """The text form inside arrays, rows and concat(), where booleans are t and f and
        char(n) has its trailing blanks."""
        if type_of(node) == BOOL:
            return build.call("pg_bool_letter", node, type=TEXT)
        return self.to_text(padded(node))

    def _record_text(self, node: exp.Expr) -> exp.Expr:
        row = records.written_row(node)
        if row is None:
            return build.cast_as(node, TEXT)
        items = [self.inner_text(item.copy()) for item in records.fields(row)]
        texts = build.cast_as(build.list_of(items, array_of(TEXT)), array_of(TEXT))
        text = build.call("pg_record_text", texts, type=TEXT)
        if row is node:
            return text
        return build.case([(build.negation(build.is_null(node.copy())), text)], None)

    def _fit_text(self, node: exp.Expr, target: SqlType, how: Coercion) -> exp.Expr:
        source = type_of(node)
        if target.kind is Kind.CHAR:
            return build.call("left", node, build.integer(1), type=target)
        if target.length is None or (source.length or target.length + 1) <= target.length:
            if target.kind is Kind.BPCHAR and source.kind is not Kind.BPCHAR:
                return build.call("pg_trim_blanks", node, type=target)
            return build.typed(node.copy() if source != target else node, target)
        checks = how is not Coercion.EXPLICIT
        name = "pg_fit_text" if checks else "left"
        arguments = [node, build.integer(target.length)]
        if checks:
            arguments.append(build.text(str(target)))
        fitted = build.call(name, *arguments, type=target)
        if target.kind is Kind.BPCHAR:
            return build.call("pg_trim_blanks", fitted, type=target)
        return fitted

    def _from_text(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        kind = target.kind
        macro = _TEXT_READERS.get(kind)
        if macro is not None:
            return build.call(macro, node, type=target)
        if kind is Kind.NUMERIC:
            return build.cast_as(build.call("pg_text_to_numeric", node, type=NUMERIC), target)
        if kind is Kind.TIMESTAMPTZ:
            zone = build.text(self.environment.zone_name)
            return build.call("pg_text_to_timestamptz", node, zone, type=target)
        if kind is Kind.ARRAY:
            items = build.call("pg_array_items", node, type=ANY)
            return build.cast_as(items, target)
        return build.cast_as(node, target)

    def _between_times(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        """Casts among date, time, timestamp, timestamptz and interval."""
        folded = self._fold_time(node, target)
        if folded is not None:
            return folded
        source = type_of(node).kind
        if target.kind is Kind.TIMESTAMPTZ:
            local = node if source is Kind.TIMESTAMP else build.cast_as(node, TIMESTAMP)
            return self.in_zone(local, TIMESTAMPTZ)
        if source is Kind.TIMESTAMPTZ:
            local = self.in_zone(node, TIMESTAMP)
            return local if target.kind is Kind.TIMESTAMP else build.cast_as(local, target)
        if source is Kind.TIME and target.kind is Kind.INTERVAL:
            return build.call("pg_time_to_interval", node, type=INTERVAL)
        if source is Kind.INTERVAL and target.kind is Kind.TIME:
            return build.call("pg_interval_to_time", node, type=TIME)
        return build.cast_as(node, target)

    def _fold_time(self, node: exp.Expr, target: SqlType) -> exp.Expr | None:
        """A constant date as a constant timestamp, so that partitions can be pruned by it."""
        value = literals.constant_of(node)
        if value is None or type_of(node).kind not in (Kind.DATE, Kind.TIMESTAMP):
            return None
        written = value.isoformat() if type_of(node) == DATE else value.isoformat(" ")
        return literals.literal(written, target, self.environment)

    def in_zone(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        """timestamp <-> timestamptz in the session's zone."""
        return build.call("timezone", build.text(self.environment.zone_name), node, type=target)


_TIME_KINDS = {Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL}
_TEXT_READERS = {
    Kind.BOOL: "pg_text_to_bool",
    Kind.INT2: "pg_text_to_int2",
    Kind.INT4: "pg_text_to_int4",
    Kind.INT8: "pg_text_to_int8",
    Kind.OID: "pg_text_to_int8",
    Kind.FLOAT4: "pg_text_to_float4",
    Kind.FLOAT8: "pg_text_to_float8",
    Kind.BYTEA: "pg_text_to_bytea",
    Kind.JSON: "pg_text_to_json",
    Kind.JSONB: "pg_jsonb",
    Kind.INTERVAL: "pg_text_to_interval",
    Kind.UUID: "pg_text_to_uuid",
}


def _is_bare(sql_type: SqlType) -> bool:
    return sql_type.length is None and sql_type.precision is None and sql_type.element is None


def _to_numeric(node: exp.Expr, target: SqlType) -> exp.Expr:
    source = type_of(node)
    value = literals.constant_of(node)
    if source.kind in INTEGER_KINDS and value is not None and target == NUMERIC:
        return literals.numeric_constant(value)
    if source.kind in FLOAT_KINDS:
        digits = build.integer(6 if source.kind is Kind.FLOAT4 else 15)
        exact = build.call("pg_float_to_numeric", node, digits, type=NUMERIC)
        return build.cast_as(exact, target) if target != NUMERIC else exact
    if source.kind is Kind.JSONB:
        return build.cast_as(_from_jsonb(node, NUMERIC), target)
    if target == NUMERIC and source.kind is Kind.NUMERIC:
        return node  # every numeric is one; `assigned` makes the stored shape
    if target == NUMERIC:
        return build.cast_as(node, as_numeric(source))
    return build.cast_as(node, target)


def _to_number(node: exp.Expr, target: SqlType) -> exp.Expr:
    value = literals.constant_of(node)
    widens = type_of(node).kind in INTEGER_KINDS and target.kind in INTEGER_KINDS
    if widens and value is not None:
        low, high = literals.INTEGER_RANGES[target.kind]
        if low <= value <= high:
            return literals.constant(build.integer(value, target), value)
    return build.cast_as(node, target)


def _from_jsonb(node: exp.Expr, target: SqlType) -> exp.Expr:
    name = "pg_jsonb_to_bool" if target == BOOL else "pg_jsonb_to_numeric"
    value = build.call(name, node, type=BOOL if target == BOOL else NUMERIC)
    return value if target in (BOOL, NUMERIC) else build.cast_as(value, target)


def stored_shape(node: exp.Expr, target: SqlType) -> exp.Expr:
    """The node held in DuckDB just as a column of `target` is."""
    source = type_of(node)
    if target.kind is Kind.NUMERIC and numeric_shape(source) != numeric_shape(target):
        return build.cast_as(node, target)
    if source != target and same_type(source, target):
        return build.typed(node, target)
    return node


def padded(node: exp.Expr) -> exp.Expr:
    """char(n), alone or in an array, with the blanks that clients see."""
    sql_type = type_of(node)
    each = sql_type.element or sql_type
    if each.kind is not Kind.BPCHAR or each.length is None:
        return node
    name = "pg_pad" if each is sql_type else "pg_pad_each"
    return build.call(name, node, build.integer(each.length), type=sql_type)
