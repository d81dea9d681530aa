"""jsonb's normal form: keys ordered by length then bytes, the last of equal keys kept, one
space after commas and colons, numbers in plain decimal notation.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from cluster.errors import InvalidTextRepresentation


class _Number(str):
    """A number as it is to be written."""

    __slots__ = ()


def _plain(text: str) -> _Number:
    if "e" in text or "E" in text:
        return _Number(format(Decimal(text), "f"))
    return _Number("0" if text == "-0" else text)


def _no_constant(text: str) -> Any:
    raise ValueError(f'Token "{text}" is invalid.')


_DECODER = json.JSONDecoder(
    parse_float=_plain, parse_int=_plain, parse_constant=_no_constant, strict=True
)


def read_json(text: str) -> Any:
    """The value, numbers kept as text; 22P02 where it is none."""
    try:
        return _DECODER.decode(text.strip(" \t\r\n"))
    except (ValueError, RecursionError) as error:
        raise InvalidTextRepresentation(
            "invalid input syntax for type json", detail=str(error)
        ) from None


def write_json(value: Any) -> str:
    """The normal form of a value that `read_json` gave."""
    match value:
        case _Number():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return "{" + ", ".join(f"{write_json(k)}: {write_json(value[k])}" for k in keys) + "}"
        case list():
            return "[" + ", ".join(map(write_json, value)) + "]"
        case True:
            return "true"
        case False:
            return "false"
        case None:
            return "null"
    raise AssertionError(f"not a JSON value: {value!r}")


def normal_form(text: str) -> str:
    """jsonb's text of a JSON text."""
    return write_json(read_json(text))


def pretty_form(text: str) -> str:
    """`jsonb_pretty`'s layout."""
    return _pretty(read_json(text), 0)


def _pretty(value: Any, depth: int) -> str:
    inner, outer = "    " * (depth + 1), "    " * depth
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        if not keys:
            return "{\n" + outer + "}"
        lines = [f"{inner}{write_json(k)}: {_pretty(value[k], depth + 1)}" for k in keys]
        return "{\n" + ",\n".join(lines) + "\n" + outer + "}"
    if isinstance(value, list):
        if not value:
            return "[\n" + outer + "]"
        lines = [inner + _pretty(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + outer + "]"
    return write_json(value)
