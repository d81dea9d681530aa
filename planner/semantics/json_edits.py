"""What changes or searches a jsonb value, over its text; the values are those of `text_json`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.errors import InvalidParameterValue
from planner.semantics.text_json import read_json, write_json


def contains(left: str, right: str) -> bool:
    """`left @> right`."""
    return _contains(read_json(left), read_json(right), top=True)


def _contains(whole: Any, part: Any, *, top: bool = False) -> bool:
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and _contains(whole[key], part[key]) for key in part)
    if isinstance(whole, list) and isinstance(part, list):
        return all(any(_contains(item, wanted) for item in whole) for wanted in part)
    if top and isinstance(whole, list) and not isinstance(part, dict):
        return any(_same(item, part) for item in whole)
    return _same(whole, part)


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and write_json(left) == write_json(right)


def concat(left: str, right: str) -> str:
    """`left || right`: objects merge, anything else makes an array."""
    a, b = read_json(left), read_json(right)
    if isinstance(a, dict) and isinstance(b, dict):
        return write_json({**a, **b})
    first = a if isinstance(a, list) else [a]
    second = b if isinstance(b, list) else [b]
    return write_json(first + second)


def delete_key(value: str, key: str) -> str:
    return delete_keys(value, [key])


def delete_keys(value: str, keys: Sequence[str]) -> str:
    """An object without these keys, an array without these texts."""
    parsed = read_json(value)
    if isinstance(parsed, dict):
        return write_json({k: v for k, v in parsed.items() if k not in keys})
    if isinstance(parsed, list):
        kept = [item for item in parsed if not (type(item) is str and item in keys)]
        return write_json(kept)
    raise InvalidParameterValue("cannot delete from scalar")


def delete_index(value: str, index: int) -> str:
    parsed = read_json(value)
    if isinstance(parsed, dict):
        raise InvalidParameterValue("cannot delete from object using integer index")
    if not isinstance(parsed, list):
        raise InvalidParameterValue("cannot delete from scalar")
    if -len(parsed) <= index < len(parsed):
        del parsed[index]
    return write_json(parsed)


def delete_path(value: str, path: Sequence[str]) -> str:
    """`#-`."""

    def remove(holder: Any, key: Any) -> None:
        del holder[key]

    return _edited(value, path, remove, create=False)


def set_path(value: str, path: Sequence[str], new: str, create: bool) -> str:
    """jsonb_set."""
    parsed = read_json(new)

    def replace(holder: Any, key: Any) -> None:
        if isinstance(holder, list) and not 0 <= key < len(holder):
            holder.insert(0 if key < 0 else len(holder), parsed)
        else:
            holder[key] = parsed

    return _edited(value, path, replace, create=create)


def insert_path(value: str, path: Sequence[str], new: str, after: bool) -> str:
    """jsonb_insert."""
    parsed = read_json(new)

    def insert(holder: Any, key: Any) -> None:
        if isinstance(holder, list):
            at = min(max(key, 0), len(holder))
            holder.insert(at + (1 if after and 0 <= key < len(holder) else 0), parsed)
        elif key in holder:
            raise InvalidParameterValue("cannot replace existing key")
        else:
            holder[key] = parsed

    return _edited(value, path, insert, create=True)


def _edited(
    value: str, path: Sequence[str], edit: Callable[[Any, Any], None], *, create: bool
) -> str:
    parsed = read_json(value)
    if not isinstance(parsed, (dict, list)):
        raise InvalidParameterValue("cannot set path in scalar")
    holder = parsed
    for step in path[:-1]:
        key = _key(holder, step)
        if not _has(holder, key):
            return write_json(parsed)
        holder = holder[key]
        if not isinstance(holder, (dict, list)):
            return write_json(parsed)
    if path:
        key = _key(holder, path[-1])
        if _has(holder, key) or create:
            edit(holder, key)
    return write_json(parsed)


def _key(holder: Any, step: str) -> Any:
    if isinstance(holder, dict):
        return step
    try:
        index = int(step)
    except ValueError:
        raise InvalidParameterValue(f'path element is not an integer: "{step}"') from None
    return index + len(holder) if index < 0 else index


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else 0 <= key < len(holder)


def strip_nulls(value: str) -> str:
    """Without object fields that are null."""
    return write_json(_stripped(read_json(value)))


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stripped(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    return value


def at_path(value: str, path: Sequence[str]) -> str | None:
    """`#>`: the value at a path of keys and indexes; None where there is none."""
    current = read_json(value)
    for step in path:
        if isinstance(current, dict):
            if step not in current:
                return None
            current = current[step]
        elif isinstance(current, list) and step.lstrip("+-").isdigit():
            index = int(step)
            if not -len(current) <= index < len(current):
                return None
            current = current[index]
        else:
            return None
    return write_json(current)
