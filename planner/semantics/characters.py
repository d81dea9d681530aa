"""to_char, to_number and their like: templates read at bind time where they are constants."""

from __future__ import annotations

from sqlglot import exp

from planner.bound import type_of
from planner.functions import Call, Catalogue
from planner.semantics import build
from planner.semantics.rules import define, natural
from planner.semantics.time_writing import plain_strftime
from storage.types import TEXT, TIMESTAMP, Kind


def _time_to_char(call: Call) -> exp.Expr:
    moment, template = call.arguments
    written = build.literal_text(template)
    plain = plain_strftime(written) if written is not None else None
    zoned = type_of(moment).kind is Kind.TIMESTAMPTZ
    if zoned:
        offsets = build.call(
            "pg_offset_minutes",
            moment.copy(),
            build.text(call.casts.environment.zone_name),
            type=TEXT,
        )
        moment = call.casts.in_zone(moment, TIMESTAMP)
    if plain is not None:
        return build.call("strftime", moment, build.text(plain), type=TEXT)
    text = build.call("pg_iso_text", moment, type=TEXT)
    if zoned:
        offset = build.call("pg_offset_iso", offsets, type=TEXT)
        text = build.call("concat", text, offset, type=TEXT)
    return build.call("pg_to_char_time", text, template, type=TEXT)


def _interval_to_char(call: Call) -> exp.Expr:
    interval, template = call.arguments
    text = build.call("pg_interval_numbers", interval, type=TEXT)
    return build.call("pg_to_char_time", text, template, type=TEXT)


def _number_to_char(call: Call) -> exp.Expr:
    number, template = call.arguments
    return build.call("pg_to_char_numeric", call.casts.to_text(number), template, type=TEXT)


def register(catalogue: Catalogue) -> None:
    """Conversions by template."""
    for kind in ("timestamp", "timestamptz"):
        define(catalogue, f"to_char({kind}, text) -> text", _time_to_char)
    define(catalogue, "to_char(interval, text) -> text", _interval_to_char)
    for kind in ("int4", "int8", "numeric", "float4", "float8"):
        define(catalogue, f"to_char({kind}, text) -> text", _number_to_char)
    define(catalogue, "to_number(text, text) -> numeric", natural("pg_to_number"))
