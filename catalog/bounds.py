"""Which part a row belongs to: for one row, for whole Arrow columns, and in words.

Every method is brought to the same shape once a table (`cut_of`, cached on the table value):

    hash    the ring's cuts and, between two cuts, a part or none
    range   the sorted distinct bounds and, between two bounds, a part or none
    list    value -> part
    (none and replicated tables have one part)

One row is looked up by bisection. A batch is routed by the same bisection done for all rows at
once: log2(bounds) passes of Arrow comparisons, whatever the type, so text and composite keys
need no Python a row. A key that lies in no part's bounds goes to the DEFAULT part or is an
error 23514, as in PostgreSQL; so does a NULL in a range key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.datums import (
    Datum,
    arrow_array,
    comparable,
    datum_from_text,
    datum_of,
    datum_of_scalar,
    text_of_datum,
)
from catalog.model import RING_SIZE, Bound, BoundKind, Part, PartitionMethod, Table
from cluster.errors import CheckViolation
from storage import keyhash
from storage.types import Kind, SqlType

NO_PART = -1

Ordinals = npt.NDArray[np.int32]

# A bound's coordinate as Python orders it: MINVALUE < every value < MAXVALUE.
Coordinate = tuple[int, Datum]
_RANKS = {BoundKind.MINVALUE: -1, BoundKind.VALUE: 0, BoundKind.MAXVALUE: 1}


def coordinate(sql_type: SqlType, bound: Bound) -> Coordinate:
    """The bound in comparable form."""
    if bound.kind is BoundKind.VALUE:
        return 0, datum_from_text(sql_type, bound.text)
    return _RANKS[bound.kind], 0


def coordinates(types: Sequence[SqlType], bounds: Sequence[Bound]) -> tuple[Coordinate, ...]:
    """A whole bound in comparable form; what follows MINVALUE or MAXVALUE does not count."""
    found: list[Coordinate] = []
    for sql_type, bound in zip(types, bounds, strict=True):
        blocked = found and found[-1][0] != 0
        found.append(found[-1] if blocked else coordinate(sql_type, bound))
    return tuple(found)


def partition_types(table: Table) -> tuple[SqlType, ...]:
    """The types of the partition columns, in key order."""
    return tuple(table.column(c).type for c in table.partition_columns)


@dataclass(frozen=True, slots=True)
class RingCut:
    """`parts[i]` owns the positions from `cuts[i]` up to the next cut; cuts begin with 0."""

    cuts: np.ndarray
    parts: np.ndarray
    # The same as plain numbers: for one position numpy takes longer to begin than to find it.
    cut_list: tuple[int, ...]
    part_list: tuple[int, ...]

    def owner_of(self, position: int) -> int:
        """The part of one ring position, or NO_PART."""
        return self.part_list[bisect_right(self.cut_list, position) - 1]

    def owners_of(self, positions: np.ndarray) -> Ordinals:
        """The part of every ring position, or NO_PART."""
        places = np.searchsorted(self.cuts, positions, side="right") - 1
        return cast(Ordinals, self.parts[places])


@dataclass(frozen=True, slots=True)
class RangeCut:
    """`parts[i]` owns the keys at or above `bounds[i - 1]` and below `bounds[i]`.

    `ranks[c]` and `values[c]` are column c of the bounds as arrays, for whole batches.
    """

    bounds: tuple[tuple[Coordinate, ...], ...]
    parts: np.ndarray
    default: int
    ranks: tuple[np.ndarray, ...]
    values: tuple[pa.Array, ...]


@dataclass(frozen=True, slots=True)
class ListCut:
    """`parts[i]` owns `values[i]`; `null_part` owns NULL."""

    by_value: Mapping[Datum, int]
    values: pa.Array
    parts: np.ndarray
    null_part: int
    default: int


Cut = RingCut | RangeCut | ListCut | None

# By the identity of the (immutable) table, which the entry keeps alive: hashing a table of
# thousands of parts would cost more than routing a row.
_cuts_by_table: dict[int, tuple[Table, Cut]] = {}
_MAX_CACHED_TABLES = 1024


def cut_of(table: Table) -> Cut:
    """The table's cut; None where it has but one part."""
    found = _cuts_by_table.get(id(table))
    if found is not None and found[0] is table:
        return found[1]
    cut = _make_cut(table)
    if len(_cuts_by_table) >= _MAX_CACHED_TABLES:
        _cuts_by_table.clear()
    _cuts_by_table[id(table)] = (table, cut)
    return cut


def _make_cut(table: Table) -> Cut:
    if table.method is PartitionMethod.HASH:
        return _ring_cut(table.parts)
    if table.method is PartitionMethod.RANGE:
        return _range_cut(partition_types(table), table.parts)
    if table.method is PartitionMethod.LIST:
        return _list_cut(partition_types(table)[0], table.parts)
    return None


def _ring_cut(parts: tuple[Part, ...]) -> RingCut:
    cuts, owners = [0], [NO_PART]
    for part in sorted(parts, key=lambda p: p.bounds.ring_low):
        low, high = part.bounds.ring_low, part.bounds.ring_high
        if low == cuts[-1]:
            owners[-1] = part.ordinal
        else:
            cuts.append(low)
            owners.append(part.ordinal)
        cuts.append(high)
        owners.append(NO_PART)
    if cuts[-1] >= RING_SIZE:
        cuts.pop()
        owners.pop()
    arrays = np.array(cuts, dtype=np.int64), np.array(owners, dtype=np.int32)
    return RingCut(*arrays, tuple(cuts), tuple(owners))


def _default_of(parts: tuple[Part, ...]) -> int:
    return next((p.ordinal for p in parts if p.bounds.is_default), NO_PART)


def _range_cut(types: tuple[SqlType, ...], parts: tuple[Part, ...]) -> RangeCut:
    default = _default_of(parts)
    intervals = [
        (coordinates(types, p.bounds.range_low), coordinates(types, p.bounds.range_high), p.ordinal)
        for p in parts
        if not p.bounds.is_default
    ]
    bounds = sorted({bound for low, high, _ in intervals for bound in (low, high)})
    owners = np.full(len(bounds) + 1, default, dtype=np.int32)
    for low, high, ordinal in intervals:
        owners[bisect_right(bounds, low) : bisect_right(bounds, high)] = ordinal
    return RangeCut(
        tuple(bounds),
        owners,
        default,
        tuple(np.array([b[c][0] for b in bounds], dtype=np.int8) for c in range(len(types))),
        tuple(_bound_values(types[c], [b[c] for b in bounds]) for c in range(len(types))),
    )


def _bound_values(sql_type: SqlType, column: list[Coordinate]) -> pa.Array:
    """The values of one column of the bounds; where it is unbounded, any value will do."""
    known = [datum for rank, datum in column if rank == 0]
    if not known:
        return pa.nulls(len(column), arrow_array(sql_type, []).type)
    return arrow_array(sql_type, [d if rank == 0 else known[0] for rank, d in column])


def _list_cut(sql_type: SqlType, parts: tuple[Part, ...]) -> ListCut:
    by_value: dict[Datum, int] = {}
    default = null_part = _default_of(parts)
    for part in parts:
        for text in part.bounds.list_values:
            if text is None:
                null_part = part.ordinal
            else:
                by_value[datum_from_text(sql_type, text)] = part.ordinal
    return ListCut(
        by_value,
        arrow_array(sql_type, list(by_value)),
        np.array([*by_value.values(), default], dtype=np.int32),
        null_part,
        default,
    )


# --- One row -------------------------------------------------------------------------------


def ordinal_for(table: Table, values: Sequence[object]) -> int:
    """The ordinal of the part for a row, or NO_PART."""
    cut = cut_of(table)
    if cut is None:
        return 0
    types = partition_types(table)
    if isinstance(cut, RingCut):
        return cut.owner_of(_ring_position(types, values))
    datums = [None if v is None else datum_of(t, v) for t, v in zip(types, values, strict=True)]
    if isinstance(cut, ListCut):
        return cut.null_part if datums[0] is None else cut.by_value.get(datums[0], cut.default)
    if any(datum is None for datum in datums):
        return cut.default
    key = tuple((0, datum) for datum in datums if datum is not None)
    return int(cut.parts[bisect_right(cut.bounds, key)])


def ordinals_by(table: Table) -> Callable[[Sequence[object]], int]:
    """`ordinal_for` for many rows of one table, one at a time; datums only, none of them NULL."""
    cut = cut_of(table)
    types = partition_types(table)
    if any(t.kind is Kind.UUID for t in types):
        return lambda values: ordinal_for(table, list(map(_uuid_of, types, values)))
    if not isinstance(cut, RingCut):
        return lambda values: ordinal_for(table, values)
    owner_of = cut.owner_of
    return lambda values: owner_of(keyhash.hash_key(values, types))


def _uuid_of(sql_type: SqlType, datum: object) -> object:
    """The value, where the datum alone would not say that it is one."""
    return UUID(int=cast(int, datum)) if sql_type.kind is Kind.UUID else datum


def ring_positions(types: Sequence[SqlType], keys: Sequence[Sequence[object]]) -> np.ndarray:
    """Where keys (of Python values or texts) lie on the hash ring."""
    return np.fromiter((_ring_position(types, key) for key in keys), np.int64, len(keys))


def _ring_position(types: Sequence[SqlType], key: Sequence[object]) -> int:
    return keyhash.hash_key([_hashed(t, v) for t, v in zip(types, key, strict=True)], types)


def _hashed(sql_type: SqlType, value: object) -> object:
    if value is None:
        return None
    datum = datum_of(sql_type, value)
    return UUID(int=int(datum)) if sql_type.kind is Kind.UUID else datum


# --- Whole batches -------------------------------------------------------------------------


def route(table: Table, columns: Sequence[pa.Array | pa.ChunkedArray], rows: int) -> Ordinals:
    """The part ordinal of every row, int32, from its partition columns in key order.

    `rows` is the number of rows (a table of one part has no partition columns). Raises
    CheckViolation (23514) with the first row that no part takes.
    """
    cut = cut_of(table)
    if cut is None:
        return np.zeros(rows, dtype=np.int32)
    types = partition_types(table)
    if isinstance(cut, RingCut):
        ordinals = cut.owners_of(keyhash.hash_arrays(columns, types))
    else:
        arrays = [comparable(t, c) for t, c in zip(types, columns, strict=True)]
        if isinstance(cut, ListCut):
            ordinals = _route_by_list(cut, arrays[0])
        else:
            ordinals = _route_by_range(cut, arrays)
    if len(ordinals) and int(ordinals.min()) == NO_PART:
        _raise_for_row(table, columns, int(np.argmin(ordinals)))
    return ordinals


def _route_by_list(cut: ListCut, array: pa.Array) -> Ordinals:
    # Row -> place in `values`, the place behind the last for none of them.
    index = pc.fill_null(pc.index_in(array, value_set=cut.values), len(cut.values))
    ordinals = cast(Ordinals, cut.parts[index.to_numpy(zero_copy_only=False)])
    if array.null_count:
        ordinals[pc.is_null(array).to_numpy(zero_copy_only=False)] = cut.null_part
    return ordinals


def _route_by_range(cut: RangeCut, arrays: Sequence[pa.Array]) -> Ordinals:
    """Bisection of all rows at once: after it `low` counts the bounds at or below each row."""
    rows = len(arrays[0])
    low = np.zeros(rows, dtype=np.int64)
    high = np.full(rows, len(cut.bounds), dtype=np.int64)
    for _ in range(len(cut.bounds).bit_length()):
        open_rows = low < high
        middle = np.where(open_rows, (low + high) // 2, 0)
        at_or_above = _at_or_above(cut, arrays, middle)
        low = np.where(open_rows & at_or_above, middle + 1, low)
        high = np.where(open_rows & ~at_or_above, middle, high)
    ordinals = cast(Ordinals, cut.parts[low])
    for array in arrays:
        if array.null_count:
            ordinals[pc.is_null(array).to_numpy(zero_copy_only=False)] = cut.default
    return ordinals


def _at_or_above(cut: RangeCut, arrays: Sequence[pa.Array], chosen: np.ndarray) -> np.ndarray:
    """For each row whether its key is at or above the bound chosen for it."""
    above = np.zeros(len(chosen), dtype=bool)
    equal = np.ones(len(chosen), dtype=bool)
    taken = pa.array(chosen)
    for array, ranks, values in zip(arrays, cut.ranks, cut.values, strict=True):
        rank = ranks[chosen]
        bound = values.take(taken)
        greater = _as_mask(pc.greater(array, bound))
        same = _as_mask(pc.equal(array, bound))
        above |= equal & np.where(rank == 0, greater, rank < 0)
        equal &= (rank == 0) & same
    return above | equal


def _as_mask(array: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def _raise_for_row(table: Table, columns: Sequence[pa.Array | pa.ChunkedArray], row: int) -> None:
    types = partition_types(table)
    values = [
        datum_of_scalar(t, comparable(t, c.slice(row, 1)), 0)
        for t, c in zip(types, columns, strict=True)
    ]
    texts = [None if v is None else text_of_datum(t, v) for t, v in zip(types, values, strict=True)]
    raise _no_part_error(table, texts)


# --- Words ---------------------------------------------------------------------------------


def _no_part_error(table: Table, texts: Sequence[str | None]) -> CheckViolation:
    names = ", ".join(table.column(c).name for c in table.partition_columns)
    shown = ", ".join("null" if text is None else text for text in texts)
    return CheckViolation(
        f'no partition of relation "{table.name}" found for row',
        detail=f"Partition key of the failing row contains ({names}) = ({shown}).",
        table=table.name,
    )


def describe_bounds(table: Table, part: Part) -> str:
    """The part's bounds as PostgreSQL's `pg_get_expr(relpartbound)` writes them.

    Hash parts are intervals of the ring, which PostgreSQL has no words for.
    """
    bounds = part.bounds
    if table.method is PartitionMethod.HASH:
        return f"FOR VALUES WITH (RING FROM {bounds.ring_low} TO {bounds.ring_high})"
    if bounds.is_default:
        return "DEFAULT"
    if table.method is PartitionMethod.LIST:
        sql_type = partition_types(table)[0]
        shown = (_literal(sql_type, text) for text in bounds.list_values)
        return f"FOR VALUES IN ({', '.join(shown)})"
    if table.method is PartitionMethod.RANGE:
        low = describe_range_bound(table, bounds.range_low)
        return f"FOR VALUES FROM {low} TO {describe_range_bound(table, bounds.range_high)}"
    return ""


def describe_range_bound(table: Table, bound: Sequence[Bound]) -> str:
    """One range bound in parentheses, as PostgreSQL writes it."""
    types = partition_types(table)
    return f"({', '.join(_bound_text(t, b) for t, b in zip(types, bound, strict=True))})"


def _bound_text(sql_type: SqlType, bound: Bound) -> str:
    if bound.kind is not BoundKind.VALUE:
        return bound.kind.value.upper()
    return _literal(sql_type, bound.text)


def _literal(sql_type: SqlType, text: str | None) -> str:
    if text is None:
        return "NULL"
    datum = datum_from_text(sql_type, text)
    if isinstance(datum, bool):
        return text
    if isinstance(datum, (int, float)) and text.lstrip("-").replace(".", "").isdigit():
        return text
    return "'" + text.replace("'", "''") + "'"
