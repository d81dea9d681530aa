"""How much of a group's log is kept for members that lag behind it.

Replaying entries is cheaper than a snapshot, until there are more of them than the state is
large; and what one group keeps, keeps the segments of the node's one log for all groups. So a
follower that answers holds back the cut up to `live_bytes` of entries, one that is silent up to
`silent_bytes` and not for longer than `silent_s` (by then the repair loop replaces it, or it
takes a snapshot when it comes back).

Sizes are noted as entries are applied, a sample a step; those of entries from before a restart
count as nothing, which keeps more for a while, never less.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from cluster.raft.settings import MIB

_STEP_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds; see the module."""

    live_bytes: int = 256 * MIB
    silent_bytes: int = 64 * MIB
    silent_s: float = 600.0


class AppliedSizes:
    """Which entries the last so many bytes are."""

    def __init__(self, longest_bytes: int) -> None:
        self._longest_bytes = longest_bytes
        self._total = 0
        self._indexes: list[int] = []
        self._totals: list[int] = []  # of everything up to that index

    def applied(self, index: int, size_bytes: int) -> None:
        """Everything up to `index` is applied, so many more bytes."""
        self._total += size_bytes
        if not self._totals or self._total - self._totals[-1] >= _STEP_BYTES:
            self._indexes.append(index)
            self._totals.append(self._total)
            self._forget()

    def _forget(self) -> None:
        old = bisect_left(self._totals, self._total - self._longest_bytes)
        # One sample older than the bound says where it begins.
        del self._indexes[: max(old - 1, 0)], self._totals[: max(old - 1, 0)]

    def index_before(self, size_bytes: int) -> int:
        """The last index behind which more than so many bytes were applied; 0 for none."""
        found = bisect_left(self._totals, self._total - size_bytes)
        return self._indexes[found - 1] if found > 0 else 0
