"""Functions and operators as PostgreSQL knows them, and how a call finds the one it means.

A `Signature` is a row of pg_proc or pg_operator that we can answer, with the rule (`emit`) that
writes it for DuckDB. Families of signatures live in `planner.semantics`, one module each, and
are gathered in `planner.semantics.catalogue`. `resolve` follows the manual, 10.2 and 10.3.

Signatures are written as PostgreSQL's manual writes them: `lpad(text, int4, text) -> text`.
The polymorphic names `any`, `anyelement`, `anyarray`, `anycompatible` stand for themselves; a
last argument with `...` repeats, any number of times or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlglot import exp

from planner.types import (
    PREFERRED_KINDS,
    Coercion,
    can_cast,
    category,
    common_type,
    named_type,
    same_type,
)
from storage.types import ANY, TEXT, Kind, SqlType, array_of

if TYPE_CHECKING:
    from planner.semantics.casts import Casts


class Poly(StrEnum):
    """Polymorphic argument types."""

    ANY = "any"
    ELEMENT = "anyelement"
    ARRAY = "anyarray"
    COMPATIBLE = "anycompatible"
    COMPATIBLE_ARRAY = "anycompatiblearray"


Pattern = SqlType | Poly


@dataclass(frozen=True, slots=True)
class Call:
    """A resolved call as its rule sees it: arguments already coerced, the result's type."""

    arguments: tuple[exp.Expr, ...]
    type: SqlType
    casts: Casts


Emit = Callable[[Call], exp.Expr]


class Role(StrEnum):
    """What a function may be used as."""

    SCALAR = "scalar"
    AGGREGATE = "aggregate"
    WINDOW = "window"
    SET = "set"  # returns rows


@dataclass(frozen=True, slots=True)
class Signature:
    """One function or operator. `emit` writes a scalar; aggregates have rules of their own."""

    name: str
    arguments: tuple[Pattern, ...]
    result: Pattern
    emit: Emit
    repeats: bool = False
    role: Role = Role.SCALAR
    names: tuple[str, ...] = field(default=())

    def patterns(self, count: int) -> tuple[Pattern, ...] | None:
        """The types of `count` arguments, or None where that number does not fit."""
        if not self.repeats:
            return self.arguments if count == len(self.arguments) else None
        fixed = len(self.arguments) - 1
        if count < fixed:
            return None
        return self.arguments[:fixed] + (self.arguments[-1],) * (count - fixed)


_SIGNATURE = re.compile(r"\s*(?P<name>[^\s(]+)\((?P<arguments>[^)]*)\)\s*->\s*(?P<result>\S+)\s*$")


def signature(text: str, emit: Emit, role: Role = Role.SCALAR) -> Signature:
    """Reads `name(type, ...) -> type`."""
    match = _SIGNATURE.match(text)
    assert match is not None, text
    written = [part.strip() for part in match["arguments"].split(",") if part.strip()]
    repeats = bool(written) and written[-1].endswith("...")
    patterns = tuple(_pattern(part.removesuffix("...").strip()) for part in written)
    result = _pattern(match["result"])
    return Signature(match["name"], patterns, result, emit, repeats, role)


def _pattern(name: str) -> Pattern:
    return Poly(name) if name in set(Poly) else named_type(name)


class Catalogue:
    """Signatures by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Signature]] = {}

    def add(self, *signatures: Signature) -> None:
        for each in signatures:
            self._by_name.setdefault(each.name, []).append(each)

    def named(self, name: str) -> Sequence[Signature]:
        return self._by_name.get(name, ())

    def __iter__(self) -> Iterator[Signature]:
        return (s for group in self._by_name.values() for s in group)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The signature a call means, with the types its arguments are coerced to."""

    signature: Signature
    arguments: tuple[SqlType, ...]
    result: SqlType


def resolve(
    candidates: Sequence[Signature], arguments: Sequence[SqlType], *, operator: bool = False
) -> Resolution | list[Resolution] | None:
    """The candidate meant by arguments of these types.

    None where none fits; a list where several fit equally well (an ambiguous call).
    """
    fitting = []
    for candidate in candidates:
        matched = _matched(candidate, arguments)
        if matched is not None:
            if _is_exact(matched.arguments, arguments):
                return matched
            fitting.append(matched)
    if operator and len(arguments) == 2 and not fitting:
        return None
    if operator and len(arguments) == 2:
        assumed = _assume_same(arguments)
        for each in fitting:
            if _is_exact(each.arguments, assumed):
                return each
    return _narrow(fitting, arguments)


def _narrow(
    fitting: list[Resolution], arguments: Sequence[SqlType]
) -> Resolution | list[Resolution] | None:
    if len(fitting) > 1:
        fitting = _best(fitting, lambda each: _exact_count(each, arguments))
    if len(fitting) > 1:
        fitting = _best(fitting, lambda each: _preferred_count(each, arguments))
    if len(fitting) > 1:
        fitting = _by_unknown_category(fitting, arguments)
    if len(fitting) > 1:
        fitting = [e for e in fitting if not _is_polymorphic(e.signature)] or fitting
    if not fitting:
        return None
    return fitting[0] if len(fitting) == 1 else fitting


def _is_polymorphic(each: Signature) -> bool:
    return any(isinstance(pattern, Poly) for pattern in each.arguments)


def _best(fitting: list[Resolution], score: Callable[[Resolution], int]) -> list[Resolution]:
    top = max(score(each) for each in fitting)
    return [each for each in fitting if score(each) == top]


def _is_exact(targets: Sequence[SqlType], sources: Sequence[SqlType]) -> bool:
    return all(same_type(t, s) for t, s in zip(targets, sources, strict=True))


def _exact_count(each: Resolution, arguments: Sequence[SqlType]) -> int:
    return sum(same_type(t, s) for t, s in zip(each.arguments, arguments, strict=True))


def _preferred_count(each: Resolution, arguments: Sequence[SqlType]) -> int:
    pairs = zip(each.arguments, arguments, strict=True)
    return sum(
        same_type(t, s) or (s.kind is not Kind.UNKNOWN and t.kind in PREFERRED_KINDS)
        for t, s in pairs
    )


def _assume_same(arguments: Sequence[SqlType]) -> Sequence[SqlType]:
    left, right = arguments
    if left.kind is Kind.UNKNOWN:
        return (right, right)
    return (left, left) if right.kind is Kind.UNKNOWN else arguments


def _by_unknown_category(
    fitting: list[Resolution], arguments: Sequence[SqlType]
) -> list[Resolution]:
    """Untyped literals prefer text, then the category the candidates agree on (10.3.4e)."""
    for index, source in enumerate(arguments):
        if source.kind is not Kind.UNKNOWN:
            continue
        targets = [each.arguments[index] for each in fitting]
        categories = {category(t) for t in targets}
        wanted = "S" if "S" in categories else category(targets[0])
        if wanted != "S" and len(categories) > 1:
            continue
        kept = [each for each in fitting if category(each.arguments[index]) == wanted]
        preferred = [e for e in kept if e.arguments[index].kind in PREFERRED_KINDS]
        fitting = preferred or kept
    if len(fitting) > 1:  # the known arguments' common type, taken for the unknown ones
        known = [a for a in arguments if a.kind is not Kind.UNKNOWN]
        if known and len(known) < len(arguments) and all(same_type(known[0], k) for k in known):
            alike = [e for e in fitting if all(same_type(a, known[0]) for a in e.arguments)]
            fitting = alike if len(alike) == 1 else fitting
    return fitting


def _matched(candidate: Signature, arguments: Sequence[SqlType]) -> Resolution | None:
    patterns = candidate.patterns(len(arguments))
    if patterns is None:
        return None
    poly = _bind_polymorphic(patterns, arguments)
    if poly is None:
        return None
    targets = []
    for pattern, source in zip(patterns, arguments, strict=True):
        target = _substitute(pattern, poly, source)
        if target is None or not can_cast(source, target, Coercion.IMPLICIT):
            return None
        targets.append(target)
    result = _substitute(candidate.result, poly, ANY)
    if result is None:
        return None
    return Resolution(candidate, tuple(targets), result)


def _bind_polymorphic(
    patterns: Sequence[Pattern], arguments: Sequence[SqlType]
) -> dict[str, SqlType] | None:
    """What anyelement and anycompatible stand for; {} where the call has neither."""
    exact: list[SqlType] = []
    compatible: list[SqlType] = []
    for pattern, source in zip(patterns, arguments, strict=True):
        if not isinstance(pattern, Poly) or pattern is Poly.ANY:
            continue
        group = compatible if pattern.startswith("anycompatible") else exact
        if pattern in (Poly.ARRAY, Poly.COMPATIBLE_ARRAY):
            if source.kind is Kind.ARRAY and source.element is not None:
                group.append(source.element)
            elif source.kind is Kind.ANY:
                group.append(ANY)
            elif source.kind is not Kind.UNKNOWN:
                return None
        else:
            group.append(source)
    found: dict[str, SqlType] = {}
    if exact:
        known = [t for t in exact if t.kind is not Kind.UNKNOWN] or [TEXT]
        if not all(same_type(known[0], t) for t in known):
            return None
        found["exact"] = common_type(known) or known[0]
    if compatible:
        shared = common_type(compatible)
        if shared is None:
            return None
        found["compatible"] = shared
    return found


def _substitute(pattern: Pattern, poly: dict[str, SqlType], source: SqlType) -> SqlType | None:
    match pattern:
        case Poly.ANY:
            return TEXT if source.kind is Kind.UNKNOWN else source
        case Poly.ELEMENT:
            return poly.get("exact")
        case Poly.ARRAY:
            return array_of(poly["exact"]) if "exact" in poly else None
        case Poly.COMPATIBLE:
            return poly.get("compatible")
        case Poly.COMPATIBLE_ARRAY:
            return array_of(poly["compatible"]) if "compatible" in poly else None
    return pattern
