"""From PARTITION clauses to bounds: canonical texts, the ring cut, overlaps and gaps refused.

Rules (errors in PostgreSQL's words, 42P17):

- A range part is empty or two parts share a key: refused.
- A list value or DEFAULT stands in two parts: refused.
- The range parts given in *one* CREATE TABLE leave a gap between them: refused, naming the
  gap, unless there is a DEFAULT part. Below the first and above the last bound is no gap: such
  keys are refused row by row (23514). Parts attached later (PostgreSQL's two-step form) may
  leave gaps, since they come one at a time.
- Hash parts by MODULUS and REMAINDER own `remainder / modulus` of the ring onward; one table's
  parts have one modulus. PARTITIONS n is MODULUS n with every remainder.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from catalog.bounds import Coordinate, coordinates
from catalog.datums import ORDERED_KINDS, Datum, canonical_text, datum_from_text
from catalog.definition import PartDefinition
from catalog.model import RING_SIZE, Bound, BoundKind, PartBounds, PartitionMethod
from cluster.errors import (
    DuplicateTable,
    FeatureNotSupported,
    InvalidObjectDefinition,
    ProgramLimitExceeded,
)
from storage import keyhash
from storage.types import SqlType

MAX_PARTS = 10_000

NamedBounds = tuple[str, PartBounds]


def check_key_types(method: PartitionMethod, types: Sequence[SqlType]) -> None:
    """Refuses keys that the method cannot place (0A000, 42P17)."""
    if method is PartitionMethod.LIST and len(types) != 1:
        raise InvalidObjectDefinition(
            'cannot use "list" partition strategy with more than one column'
        )
    for sql_type in types:
        if method is PartitionMethod.HASH:
            keyhash.hash_family(sql_type)
        elif sql_type.kind not in ORDERED_KINDS:
            raise FeatureNotSupported(
                f"type {sql_type} cannot be a {method} partition key",
                hint="Partition by a column of a number, text, date, time, uuid or boolean type.",
            )


def ring_bounds(count: int) -> tuple[PartBounds, ...]:
    """The ring in `count` equal parts."""
    if not 1 <= count <= MAX_PARTS:
        raise ProgramLimitExceeded(f"the number of partitions must be between 1 and {MAX_PARTS}")
    return tuple(_ring_part(count, remainder) for remainder in range(count))


def _ring_part(modulus: int, remainder: int) -> PartBounds:
    return PartBounds(
        ring_low=RING_SIZE * remainder // modulus,
        ring_high=RING_SIZE * (remainder + 1) // modulus,
    )


def bounds_of(
    method: PartitionMethod, types: Sequence[SqlType], part: PartDefinition
) -> PartBounds:
    """The bounds of one part as written; errors where they make no sense by themselves."""
    if part.is_default:
        return _default_bounds(method)
    if method is PartitionMethod.HASH:
        return _hash_bounds(part)
    if method is PartitionMethod.LIST:
        return _list_bounds(types[0], part)
    return _range_bounds(types, part)


def _default_bounds(method: PartitionMethod) -> PartBounds:
    if method is PartitionMethod.HASH:
        raise InvalidObjectDefinition("a hash-partitioned table may not have a default partition")
    return PartBounds(is_default=True)


def _hash_bounds(part: PartDefinition) -> PartBounds:
    if part.modulus is None or part.remainder is None:
        raise InvalidObjectDefinition("invalid bound specification for a hash partition")
    if not 1 <= part.modulus <= MAX_PARTS:
        raise InvalidObjectDefinition(
            f"modulus for hash partition must be between 1 and {MAX_PARTS}"
        )
    if not 0 <= part.remainder < part.modulus:
        raise InvalidObjectDefinition("remainder for hash partition must be less than modulus")
    return _ring_part(part.modulus, part.remainder)


def _list_bounds(sql_type: SqlType, part: PartDefinition) -> PartBounds:
    if not part.values:
        raise InvalidObjectDefinition("invalid bound specification for a list partition")
    texts = [None if text is None else canonical_text(sql_type, text) for text in part.values]
    return PartBounds(list_values=tuple(dict.fromkeys(texts)))


def _range_bounds(types: Sequence[SqlType], part: PartDefinition) -> PartBounds:
    for side, bound in (("FROM", part.low), ("TO", part.high)):
        if len(bound) != len(types):
            raise InvalidObjectDefinition(
                f"{side} must specify exactly one value per partitioning column"
            )
    low = tuple(_canonical_bound(t, b) for t, b in zip(types, part.low, strict=True))
    high = tuple(_canonical_bound(t, b) for t, b in zip(types, part.high, strict=True))
    _check_tail(low)
    _check_tail(high)
    if coordinates(types, low) >= coordinates(types, high):
        raise InvalidObjectDefinition(
            f'empty range bound specified for partition "{part.name}"',
            detail=f"Specified lower bound {_shown(low)} is greater than or equal to upper bound"
            f" {_shown(high)}.",
        )
    return PartBounds(range_low=low, range_high=high)


def _canonical_bound(sql_type: SqlType, bound: Bound) -> Bound:
    if bound.kind is BoundKind.VALUE:
        return Bound(BoundKind.VALUE, canonical_text(sql_type, bound.text))
    return Bound(bound.kind)


def _check_tail(bound: Sequence[Bound]) -> None:
    for before, after in itertools.pairwise(bound):
        if before.kind is not BoundKind.VALUE and after.kind is not before.kind:
            word = before.kind.value.upper()
            raise InvalidObjectDefinition(f"every bound following {word} must also be {word}")


def _shown(bound: Sequence[Bound]) -> str:
    texts = (f"'{b.text}'" if b.kind is BoundKind.VALUE else b.kind.value.upper() for b in bound)
    return f"({', '.join(texts)})"


# --- Between parts -------------------------------------------------------------------------


def check_parts(
    method: PartitionMethod,
    types: Sequence[SqlType],
    parts: Sequence[NamedBounds],
    *,
    gaps_allowed: bool,
) -> None:
    """Refuses parts that overlap, share a name, or (unless allowed) leave a gap."""
    _check_names(parts)
    _check_defaults(parts)
    if len(parts) > MAX_PARTS:
        raise ProgramLimitExceeded(f"a table can have at most {MAX_PARTS} partitions")
    if method is PartitionMethod.LIST:
        _check_list(types[0], parts)
    elif method is PartitionMethod.HASH:
        _check_ring(parts)
    elif method is PartitionMethod.RANGE:
        _check_ranges(types, parts, gaps_allowed=gaps_allowed)


def _check_names(parts: Sequence[NamedBounds]) -> None:
    seen: set[str] = set()
    for name, _ in parts:
        if name in seen:
            raise DuplicateTable(f'partition "{name}" is named twice')
        seen.add(name)


def _check_defaults(parts: Sequence[NamedBounds]) -> None:
    defaults = [name for name, bounds in parts if bounds.is_default]
    if len(defaults) > 1:
        raise InvalidObjectDefinition(
            f'partition "{defaults[1]}" conflicts with existing default partition "{defaults[0]}"'
        )


def _overlap(name: str, other: str) -> InvalidObjectDefinition:
    return InvalidObjectDefinition(f'partition "{name}" would overlap partition "{other}"')


def _check_list(sql_type: SqlType, parts: Sequence[NamedBounds]) -> None:
    owners: dict[Datum | None, str] = {}
    for name, bounds in parts:
        for text in bounds.list_values:
            datum = None if text is None else datum_from_text(sql_type, text)
            if owners.setdefault(datum, name) != name:
                raise _overlap(name, owners[datum])


def _check_ring(parts: Sequence[NamedBounds]) -> None:
    order = {name: place for place, (name, _) in enumerate(parts)}
    by_low = sorted(parts, key=lambda part: part[1].ring_low)
    for (name, bounds), (other, next_bounds) in itertools.pairwise(by_low):
        if bounds.ring_high > next_bounds.ring_low:
            first, second = sorted((name, other), key=lambda n: order[n])
            raise InvalidObjectDefinition(
                f'partition "{second}" would overlap partition "{first}"',
                hint="All hash partitions of a table must have the same modulus and different"
                " remainders.",
            )


def _check_ranges(
    types: Sequence[SqlType], parts: Sequence[NamedBounds], *, gaps_allowed: bool
) -> None:
    order = {name: place for place, (name, _) in enumerate(parts)}
    spans = sorted(_span(types, name, b) for name, b in parts if not b.is_default)
    gaps_allowed = gaps_allowed or len(spans) < len(parts)
    bounds = dict(parts)
    for (_, high, name), (low, _, other) in itertools.pairwise(spans):
        if low < high:
            first, second = sorted((name, other), key=lambda n: order[n])
            raise _overlap(second, first)
        if low > high and not gaps_allowed:
            raise InvalidObjectDefinition(
                f'partitions "{name}" and "{other}" leave a gap',
                detail=f"No partition takes keys from {_shown(bounds[name].range_high)} to"
                f" {_shown(bounds[other].range_low)}.",
                hint="Close the gap, add a DEFAULT partition, or create the table without"
                " partitions and add them with CREATE TABLE ... PARTITION OF.",
            )


def _span(
    types: Sequence[SqlType], name: str, bounds: PartBounds
) -> tuple[tuple[Coordinate, ...], tuple[Coordinate, ...], str]:
    return coordinates(types, bounds.range_low), coordinates(types, bounds.range_high), name
