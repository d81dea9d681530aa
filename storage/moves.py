"""Fragments that change their stores: what an `alter` asks for, and how a store begins.

A fragment that comes into a store begins with the rows it has in the other one, as of the
`alter` or later, and says up to which log index those reach, so it takes nothing twice. Where the
other store keeps it (columnar to hybrid, row to hybrid) that is done in the background, by the
store's applier, from a read transaction opened now. Where the other store gives it up in the same
entry (row to columnar and back) it is done here and now, durably, and the log waits: so a user's
change of that kind goes by way of hybrid, and only a replica that was away meets it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from storage.applier import StoreApplier
from storage.columnar import ColumnarStore
from storage.fragments import FragmentId, FragmentSchema, FragmentSize
from storage.operations import (
    AlterOperation,
    FragmentSource,
    HorizonOperation,
    StorePosition,
)
from storage.row_side import RowSide
from storage.row_store import RowStore


@dataclass(frozen=True, slots=True)
class Moves:
    """What an `alter` does to the stores, beside making and dropping fragments.

    `gives_up`: a store loses a fragment that the tablet keeps. The sources are for the applier
    of each store, by fragment.
    """

    into_rows: tuple[FragmentSchema, ...]
    into_columns: tuple[FragmentSchema, ...]
    gives_up: bool
    needs_row_store: bool
    to_rows: Mapping[FragmentId, FragmentSource] = field(default_factory=dict)
    to_columnar: Mapping[FragmentId, FragmentSource] = field(default_factory=dict)


def moves_of(before: Mapping[FragmentId, FragmentSchema], after: Sequence[FragmentSchema]) -> Moves:
    """Compares the fragments of a tablet before and behind an `alter`."""
    kept = [(before[s.fragment_id].method, s) for s in after if s.fragment_id in before]
    return Moves(
        tuple(s for old, s in kept if s.method.in_row_store and not old.in_row_store),
        tuple(s for old, s in kept if s.method.in_columnar_store and not old.in_columnar_store),
        any(
            (old.in_row_store and not s.method.in_row_store)
            or (old.in_columnar_store and not s.method.in_columnar_store)
            for old, s in kept
        ),
        any(schema.method.in_row_store for schema in after),
    )


async def open_sources(
    moves: Moves, columns: StoreApplier[ColumnarStore], rows: RowSide, index: int
) -> Moves:
    """The moves with the sources of what is done in the background; the rest is done.

    `index` is that of the `alter`: a store that has it already needs none.
    """
    to_rows: dict[FragmentId, FragmentSource] = {}
    to_columnar: dict[FragmentId, FragmentSource] = {}
    for schema in moves.into_rows:
        target, origin = rows.applier, columns
        if target.store.position.applied_index < index:
            await _move(schema, target, origin, schema.method.in_columnar_store, to_rows)
    for schema in moves.into_columns:
        if columns.store.position.applied_index < index:
            await _move(schema, columns, rows.applier, schema.method.in_row_store, to_columnar)
    return replace(moves, to_rows=to_rows, to_columnar=to_columnar)


Applier = StoreApplier[ColumnarStore] | StoreApplier[RowStore]


async def _move(
    schema: FragmentSchema,
    target: Applier,
    origin: Applier,
    origin_keeps_it: bool,
    sources: dict[FragmentId, FragmentSource],
) -> None:
    fragment_id = schema.fragment_id
    # A change that came shortly before may wait still: to drop it here, or to bring it there.
    await target.flush()
    await origin.flush()
    if fragment_id not in origin.store.fragments or fragment_id in target.store.fragments:
        return  # dropped later in a log that is replayed, or moved before a crash
    source = await origin.run(partial(origin.store.source, fragment_id))
    if origin_keeps_it:
        sources[fragment_id] = source
        return
    try:
        await target.run(partial(_adopt, target.store, schema, source))
    finally:
        source.close()


def _adopt(store: ColumnarStore | RowStore, schema: FragmentSchema, source: FragmentSource) -> None:
    """Gives the store the fragment outside of the log, durably."""
    position = store.position
    schemas = [*store.fragments.values(), schema]
    alter = AlterOperation(schemas, position.schema_version, {schema.fragment_id: source})
    store.apply([alter], position.applied_index)
    store.checkpoint(store.image, store.image_index)


def begin_with(
    store: RowStore | ColumnarStore,
    schemas: Sequence[FragmentSchema],
    sources: Mapping[FragmentId, FragmentSource],
    position: StorePosition,
    image: bytes,
    image_index: int,
) -> None:
    """Makes the store hold exactly these fragments, at that position, durably. Blocks."""
    alter = AlterOperation(schemas, position.schema_version, sources)
    horizon = HorizonOperation(position.horizon)
    store.apply([AlterOperation([], 0), alter, horizon], position.applied_index)
    store.checkpoint(image, image_index)


def close_sources(sources: Mapping[FragmentId, FragmentSource]) -> None:
    """Gives the read transactions back."""
    for source in sources.values():
        source.close()


def sum_sizes(*stores: Iterable[FragmentSize]) -> list[FragmentSize]:
    """What fragments occupy in all stores together; their rows count once."""
    total: dict[FragmentId, FragmentSize] = {}
    for size in (size for sizes in stores for size in sizes):
        other = total.get(size.fragment_id)
        if other is not None:
            size = FragmentSize(
                size.fragment_id,
                max(size.rows, other.rows),
                max(size.history_rows, other.history_rows),
                size.size_bytes + other.size_bytes,
            )
        total[size.fragment_id] = size
    return list(total.values())
