"""When rows were last changed, as far as a leader has seen it: for rules I2 and I3.

Who locks a row wants to know whether others changed it after the snapshot it was read at. The
store could tell, but it lags behind the log. So the leader remembers the commit timestamps of
the rows changed last, by key.

Invariant: a row that is not remembered was last changed at or below the floor of its fragment.
The floors rise when a leader begins its term, when a large change is not looked into row by
row, and when more rows than `ROWS_KEPT` would be remembered. Below a floor the store decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from storage.fragments import FragmentId, Timestamp
from storage.key_overlay import Key

ROWS_KEPT = 100_000
_NEVER: tuple[Timestamp, Timestamp] = (0, 0)


class RecentVersions:
    """The newest commit of each row that changed lately."""

    def __init__(self) -> None:
        self._floor: Timestamp = 0
        self._floors: dict[FragmentId, Timestamp] = {}
        self._term_floor: Timestamp = 0
        self._newest: dict[FragmentId, Timestamp] = {}
        # The rows that changed last stand last, each with the highest timestamp up to it: commits
        # do not come in their order.
        self._rows: dict[tuple[FragmentId, Key], tuple[Timestamp, Timestamp]] = {}
        self._highest: Timestamp = 0

    def begin_term(self, newest: Timestamp) -> None:
        """Nothing is known of commits up to this timestamp."""
        self._floor = self._term_floor = newest
        self._floors.clear()
        self._newest.clear()
        self._rows.clear()

    def newest(self, fragment_id: FragmentId) -> Timestamp:
        """No commit to the fragment is above it, and one may be as high."""
        return self._newest.get(fragment_id, self._term_floor)

    def committed(self, fragment_id: FragmentId, timestamp: Timestamp) -> None:
        """A commit touches the fragment."""
        self._newest[fragment_id] = max(timestamp, self.newest(fragment_id))

    def note(self, fragment_id: FragmentId, keys: Iterable[Key], timestamp: Timestamp) -> None:
        """These rows were changed by a commit at the timestamp."""
        highest = self._highest = max(timestamp, self._highest)
        for key in keys:
            row = fragment_id, key
            self._rows[row] = max(timestamp, self._rows.pop(row, _NEVER)[0]), highest
        if len(self._rows) > ROWS_KEPT:
            self._forget(len(self._rows) - ROWS_KEPT)

    def _forget(self, least: int) -> None:
        """Forgets the rows that changed first, many at once: what was taken from the front of a
        dictionary is gone past again by whoever looks for its first."""
        for oldest in list(islice(self._rows, max(least, ROWS_KEPT // 10))):
            self._floor = max(self._floor, self._rows.pop(oldest)[0])

    def note_any(self, fragment_id: FragmentId, timestamp: Timestamp) -> None:
        """Any row of the fragment may have been changed by a commit at the timestamp."""
        self._floors[fragment_id] = max(timestamp, self._floors.get(fragment_id, 0))

    def changed_after(
        self, fragment_id: FragmentId, keys: Sequence[Key], base: Timestamp
    ) -> list[int] | None:
        """The places of keys whose rows were changed after `base`; None where only the store
        can tell."""
        if base < max(self._floor, self._floors.get(fragment_id, 0)):
            return None
        rows = self._rows
        return [
            place
            for place, key in enumerate(keys)
            if rows.get((fragment_id, key), _NEVER)[0] > base
        ]

    def keys_after(self, fragment_id: FragmentId, base: Timestamp, most: int) -> list[Key] | None:
        """The keys of the fragment's rows that were changed after `base`; None where only the
        store can tell, or more rows of the tablet than `most` would have to be looked at."""
        if base < max(self._floor, self._floors.get(fragment_id, 0)):
            return None
        found = []
        for looked_at, (row, (timestamp, highest)) in enumerate(reversed(self._rows.items())):
            if highest <= base:
                break
            if looked_at >= most:
                return None
            if row[0] == fragment_id and timestamp > base:
                found.append(row[1])
        return found
