"""Which rows have lately got another key, or gone to another part, and so are not gone.

Stores know a row by its key in a fragment: one that gets another key, or goes to another part, is
deleted there and made anew elsewhere. Who waited for it, or read it before, must not take it for
deleted (rule I2). So a change says whether its deleted rows live on (`FragmentChange.moved`), its
log entry with it, and every replica remembers such keys as it applies entries, for it may lead
next.

Bounds: `KEYS_KEPT` keys, and nothing at or below the horizon, where nobody reads. Of more keys, and
of changes that are not looked into, only the fragment is remembered: then any of its rows that is
gone may have moved. Keys that cannot be told apart in memory (`storage.row_keys`) are not
remembered; their rows count as deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

import msgspec

from storage.fragments import FragmentId, Moved, Timestamp
from storage.key_overlay import Key

KEYS_KEPT = 10_000


class MovedKey(msgspec.Struct, frozen=True, array_like=True):
    """A key that a row had in a fragment until a commit, by the log entry of that index."""

    fragment_id: FragmentId
    key: tuple[Any, ...]  # whole numbers, texts, bytes, truth values
    moved: Moved
    timestamp: Timestamp
    index: int


class MovedImage(msgspec.Struct, frozen=True, array_like=True):
    """For a checkpoint; `any_key` has the newest move of fragments of which no key is known."""

    keys: tuple[MovedKey, ...] = ()
    any_key: tuple[tuple[FragmentId, Timestamp], ...] = ()


class MovedRows:
    """Those of one tablet."""

    def __init__(self, image: MovedImage) -> None:
        self._keys: dict[tuple[FragmentId, Key], MovedKey] = {}
        for each in image.keys:
            self._keys[each.fragment_id, each.key] = each
        self._any_key = dict(image.any_key)

    def __bool__(self) -> bool:
        return bool(self._keys or self._any_key)

    def image(self) -> MovedImage:
        """What a replica that begins with it remembers."""
        return MovedImage(tuple(self._keys.values()), tuple(self._any_key.items()))

    def note(
        self,
        fragment_id: FragmentId,
        keys: Iterable[Key],
        moved: Moved,
        timestamp: Timestamp,
        index: int,
    ) -> None:
        """The rows with these keys have moved; the ones noted last are kept longest."""
        for key in keys:
            self._keys.pop((fragment_id, key), None)
            self._keys[fragment_id, key] = MovedKey(fragment_id, key, moved, timestamp, index)
        if len(self._keys) > KEYS_KEPT:
            self._forget_oldest(len(self._keys) - KEYS_KEPT)

    def _forget_oldest(self, least: int) -> None:
        """Many at once: what was taken from the front of a dictionary is gone past again by
        whoever looks for its first."""
        for oldest in list(islice(self._keys, max(least, KEYS_KEPT // 10))):
            found = self._keys.pop(oldest)
            self.note_any(found.fragment_id, found.timestamp)

    def note_any(self, fragment_id: FragmentId, timestamp: Timestamp) -> None:
        """Rows of the fragment have moved, nobody says which."""
        self._any_key[fragment_id] = max(timestamp, self._any_key.get(fragment_id, 0))

    def forget(self, horizon: Timestamp, fragments: Collection[FragmentId]) -> None:
        """Of fragments that are not among these, and of what moved by the horizon, nothing is
        asked any more."""
        kept = (m for m in self._keys.values() if m.timestamp > horizon)
        self._keys = {(m.fragment_id, m.key): m for m in kept if m.fragment_id in fragments}
        self._any_key = {f: t for f, t in self._any_key.items() if t > horizon and f in fragments}

    def after(
        self, fragment_id: FragmentId, key: Key, timestamp: Timestamp, *, is_gone: bool
    ) -> Moved:
        """Whether the row that had the key at the timestamp has moved since; `is_gone` says that
        no row has it now."""
        found = self._keys.get((fragment_id, key))
        if found is not None and found.timestamp > timestamp:
            return found.moved
        if is_gone and self._any_key.get(fragment_id, 0) > timestamp:
            return Moved.TO_PART
        return Moved.NOT

    def behind(self, fragment_id: FragmentId, key: Key, index: int) -> Moved:
        """Whether a row that had the key has moved by a log entry behind that index, and is known
        by its key."""
        found = self._keys.get((fragment_id, key))
        return Moved.NOT if found is None or found.index <= index else found.moved
