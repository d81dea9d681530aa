"""Unique keys among changes that the store does not hold yet, so that small checks are quick.

A check in the store alone would first have to apply everything queued: 10 ms for a one-row
INSERT behind another one. The leader remembers, for each small committed change still in the
queue, which unique keys it added or took away. A new row then conflicts if the newest word on
its key here says present; if there is no word, the store decides (`uniqueness`).

Invariants:
- a word counts only while the store's applied index is below it; later the store has it;
- the overlay speaks for a fragment only if every queued change of it has been looked into
  (`covers`), else the caller brings the store up and checks there.

Left out, and answered by not covering: truncations, changes over `SMALL_ROWS`, deletes where a
unique constraint is not over the fragment's key (their other values are not in the log), and
key types whose Python equality is not SQL's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from storage.fragments import FragmentChange, FragmentId, FragmentSchema
from storage.types import Kind

SMALL_ROWS = 200
_WORDS_KEPT = 100_000
_EXACT_KINDS = frozenset(
    {Kind.INT2, Kind.INT4, Kind.INT8, Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.BOOL}
)

Key = tuple[object, ...]
Columns = tuple[str, ...]


class KeyOverlay:
    """What queued changes did to unique keys. All on the event loop."""

    def __init__(self) -> None:
        self._words: dict[tuple[FragmentId, Columns], dict[Key, tuple[int, bool]]] = {}
        self._unseen: dict[FragmentId, int] = {}
        self._unseen_all = 0

    def skip(self, index: int, fragment_ids: Sequence[FragmentId] | None = None) -> None:
        """The change of that log index has not been looked into (None: any fragment's)."""
        if fragment_ids is None:
            self._unseen_all = max(self._unseen_all, index)
            return
        for fragment_id in fragment_ids:
            self._unseen[fragment_id] = index

    def note(self, index: int, schema: FragmentSchema, change: FragmentChange) -> None:
        """Looks into a committed change of a fragment with unique constraints."""
        if not is_small(change) or not is_exact(schema) or self._words_kept() > _WORDS_KEPT:
            self.skip(index, [schema.fragment_id])
            return
        for _, columns in schema.unique:
            words = self._words.setdefault((schema.fragment_id, columns), {})
            if change.delete_keys is not None and change.delete_keys.num_rows:
                if set(columns) != set(schema.key):
                    self.skip(index, [schema.fragment_id])
                    return
                words.update(
                    (key, (index, False)) for key in batch_keys(change.delete_keys, columns)
                )
            if change.insert_rows is not None:
                words.update(
                    (key, (index, True)) for key in batch_keys(change.insert_rows, columns)
                )

    def covers(self, fragment_id: FragmentId, applied_index: int) -> bool:
        """Whether `find` knows of everything above the store's applied index."""
        unseen = max(self._unseen_all, self._unseen.get(fragment_id, 0))
        return unseen <= applied_index

    def find(
        self, fragment_id: FragmentId, columns: Columns, key: Key, applied_index: int
    ) -> bool | None:
        """Whether the key is there according to the queue; None where the store decides."""
        index, present = self._words.get((fragment_id, columns), {}).get(key, (0, False))
        return present if index > applied_index else None

    def forget(self, applied_index: int) -> None:
        """The store holds everything up to here, and nothing is queued."""
        self._words.clear()
        self._unseen = {f: index for f, index in self._unseen.items() if index > applied_index}

    def _words_kept(self) -> int:
        return sum(len(words) for words in self._words.values())


def is_small(change: FragmentChange) -> bool:
    """Whether the change is worth looking into in Python."""
    counts = [b.num_rows for b in (change.delete_keys, change.insert_rows) if b is not None]
    return not change.truncate and sum(counts) <= SMALL_ROWS


def is_exact(schema: FragmentSchema) -> bool:
    """Whether all columns in unique constraints have types that Python compares as SQL does."""
    return all(
        schema.column(name).type.kind in _EXACT_KINDS
        for _, columns in schema.unique
        for name in columns
    )


def batch_keys(batch: pa.RecordBatch, columns: Columns) -> Iterator[Key]:
    """The keys in a batch, without those that have a NULL: they conflict with nothing."""
    values = [batch.column(name).to_pylist() for name in columns]
    return (key for key in zip(*values, strict=True) if None not in key)
