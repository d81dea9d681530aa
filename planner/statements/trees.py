"""The expression trees inside of a statement, wherever its fields hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlglot import exp

T = TypeVar("T")


def trees_of(value: Any) -> Iterator[exp.Expr]:
    """The trees in a statement, or in a part of one, in the order of its fields."""
    if isinstance(value, exp.Expr):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from trees_of(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from trees_of(getattr(value, field.name))


def map_trees(value: T, function: Callable[[exp.Expr], exp.Expr]) -> T:
    """The statement with each of its trees replaced by the function's; what does not change is
    shared."""
    found: Any = value
    if isinstance(value, exp.Expr):
        found = function(value)
    elif isinstance(value, tuple):
        items = tuple(map_trees(item, function) for item in value)
        found = value if all(a is b for a, b in zip(items, value, strict=True)) else items
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in dataclasses.fields(value):
            old = getattr(value, field.name)
            new = map_trees(old, function)
            if new is not old:
                changed[field.name] = new
        found = dataclasses.replace(value, **changed) if changed else value
    result: T = found
    return result
