"""Values of parameters as they come from the wire, and as literals of a statement.

A `Datum` is what the wire server decoded: a Python value of the parameter's type where it came
in binary form, or `str`, the text form of any type. Binding turns it into a typed literal.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

Interval: TypeAlias = tuple[int, int, int]  # months, days, microseconds
Scalar: TypeAlias = (
    str | bytes | bool | int | float | Decimal | datetime | date | time | timedelta | UUID
)
Datum: TypeAlias = Scalar | Interval | list["Datum"] | None


def datum_text(value: Datum) -> str | None:
    """PostgreSQL's text form of the value; None for NULL."""
    match value:
        case None:
            return None
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            return value.isoformat(sep=" ")
        case timedelta():
            return f"{value.days} days {value.seconds + value.microseconds / 1e6:f} seconds"
        case tuple():
            return f"{value[0]} months {value[1]} days {value[2] / 1e6:f} seconds"
        case float():
            return repr(value)
        case list():
            return "{" + ",".join(_element_text(item) for item in value) + "}"
        case _:
            return str(value)


def _element_text(value: Datum) -> str:
    text = datum_text(value)
    if text is None:
        return "NULL"
    if isinstance(value, list):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
