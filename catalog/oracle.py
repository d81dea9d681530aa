"""The timestamp oracle: who hands out numbers, sans-IO (rules T1 and T4).

A timestamp is `milliseconds << 18 | counter`, so it tells the time roughly and leaves room for
262,144 numbers a millisecond. The leader of the catalog tablet hands them out from memory,
strictly increasing, and always below a **ceiling** that the catalog's log holds. A new leader
starts above the logged ceiling, and so above everything that any former leader gave out,
whatever the clocks say: clocks only decide how far the numbers run ahead, never their order.

The driver (`catalog.oracle_service`) does what this class asks for:

1. `start` once a leader's term has an entry applied, with the ceiling the state machine holds.
2. `wanted_ceiling` after each `take`, and on a timer: if it names one, propose it and report
   it with `ceiling_logged` when it is applied. Nothing is handed out above the logged ceiling.
3. `stop` when leadership ends. After each `take`, check the lease, and drop the numbers when it
   is not valid: a deposed leader may have taken numbers that a new one has gone beyond.

Left out: numbers are not handed back; those dropped leave gaps, which nothing minds.
"""

from __future__ import annotations

COUNTER_BITS = 18
# How far ahead of the numbers the ceiling is logged, and when it is raised again.
CEILING_AHEAD_MS = 3000
CEILING_LOW_MS = 1500
# The most numbers one request may take.
MAX_COUNT = 100_000


def timestamp_at(wall_ms: int) -> int:
    """The first timestamp of that millisecond."""
    return wall_ms << COUNTER_BITS


def milliseconds_of(timestamp: int) -> int:
    """The millisecond since 1970 in which the timestamp falls, roughly."""
    return timestamp >> COUNTER_BITS


class TimestampOracle:
    """Numbers below a logged ceiling. `last` is the highest ever handed out here."""

    def __init__(self) -> None:
        self._ceiling = 0  # numbers up to and including this one are covered by the log
        self._last = 0
        self._serving = False

    @property
    def serving(self) -> bool:
        return self._serving

    @property
    def last(self) -> int:
        return self._last

    def start(self, logged_ceiling: int) -> None:
        """Begins a leader's term: nothing at or below the ceiling will be handed out."""
        self._ceiling = max(self._ceiling, logged_ceiling)
        self._last = max(self._last, self._ceiling)
        self._serving = True

    def stop(self) -> None:
        """Ends it; `take` gives nothing until the next `start`."""
        self._serving = False

    def wanted_ceiling(self, wall_ms: int) -> int | None:
        """The ceiling to log now, or None while the present one is far enough ahead."""
        if not self._serving:
            return None
        now = max(self._last, timestamp_at(wall_ms))
        if self._ceiling - now > timestamp_at(CEILING_LOW_MS):
            return None
        return now + timestamp_at(CEILING_AHEAD_MS)

    def ceiling_logged(self, ceiling: int) -> None:
        """The state machine holds this ceiling."""
        self._ceiling = max(self._ceiling, ceiling)

    def take(self, count: int, wall_ms: int) -> int | None:
        """The first of `count` consecutive numbers above all former ones; None while the
        ceiling must be raised first, or when this is not the leader."""
        assert 1 <= count <= MAX_COUNT
        if not self._serving:
            return None
        first = max(self._last + 1, timestamp_at(wall_ms))
        if first + count - 1 > self._ceiling:
            return None
        self._last = first + count - 1
        return first
