"""When a group's log is cut, and how much of it is kept for members that lag behind it.

It is cut to what the state machine holds durably (rule L3), and no further than somebody still
wants. Replaying entries is cheaper than a snapshot, until there are more of them than the state is
large; and what one group keeps, keeps the segments of the node's one log for all groups. So a
follower that answers holds back the cut up to `live_bytes` of entries, one that is silent up to
`silent_bytes` and not for longer than `silent_s` (by then the repair loop replaces it, or it
takes a snapshot when it comes back).

Sizes are noted as entries are applied, a sample a step; those of entries from before a restart
count as nothing, which keeps more for a while, never less.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.probes import Probe, reached
from cluster.raft.core import RaftCore
from cluster.raft.log import Entry, LogStorage
from cluster.raft.log_view import entry_bytes
from cluster.raft.settings import MIB

# While entries are applied the log is cut when this much could go; whatever its size, no more
# entries than these are kept for a follower.
COMPACT_AT_ENTRIES = 256
MAX_RETAINED_ENTRIES = 65_536

_STEP_BYTES = 1 * MIB


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds; see the module."""

    live_bytes: int = 256 * MIB
    silent_bytes: int = 64 * MIB
    silent_s: float = 600.0


RETENTION = Retention()


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


class LogCutter:
    """Cuts one group's log."""

    def __init__(self, core: RaftCore, log: LogStorage) -> None:
        self._core = core
        self._log = log
        self._sizes = AppliedSizes(RETENTION.live_bytes)

    def applied(self, entries: Sequence[Entry]) -> None:
        """These entries have been applied."""
        self._sizes.applied(entries[-1].index, sum(map(entry_bytes, entries)))

    def cut(self, applied_index: int, durable_index: int, least_entries: int) -> None:
        """Cut up to what is applied, durable and not wanted, unless too little would go."""
        index = min(durable_index, applied_index)
        mark_index = self._core.mark.index
        if index - mark_index < least_entries:
            return
        index = min(index, self._kept_from(applied_index))
        if index - mark_index >= least_entries:
            reached(Probe.LOG_COMPACTED)
            self._log.compact(self._core.group_id, self._core.compact(index))

    def _kept_from(self, applied_index: int) -> int:
        """The log may be cut up to there; behind it somebody still wants entries."""
        sizes, core = self._sizes, self._core
        live = max(core.compaction_floor(), sizes.index_before(RETENTION.live_bytes))
        silent = max(
            core.compaction_floor(RETENTION.silent_s), sizes.index_before(RETENTION.silent_bytes)
        )
        return max(min(live, silent), applied_index - MAX_RETAINED_ENTRIES)
