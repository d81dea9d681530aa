"""One group's log as the core sees it: terms of all entries, the newest entries themselves.

A log may be far larger than memory (bulk loads pass through it), but the core asks of old
entries nothing but their terms, and terms come in runs. So the view keeps the runs, every
configuration in the log, and a cache of entries that always includes those not yet durable;
what a lagging follower (or apply) needs beyond that is fetched from the log storage.

Indexes, in order:

    mark.index <= (cache) <= persisted_index <= written_index <= last_index

`written_index` is what has been handed to the driver to write, `persisted_index` what the
driver has reported durable. A truncation pulls both back, *and* the claims of writes still
in flight: their report must not make durable what a later write replaces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from cluster.raft.log import Configuration, Entry, EntryKind, GroupImage, SnapshotMark

Fetch = Callable[[int, int], list[Entry]]  # low <= index < high

# What an entry costs in memory and in frames beside its data.
ENTRY_OVERHEAD_BYTES = 32

_decode_configuration = msgspec.msgpack.Decoder(Configuration).decode
encode_configuration = msgspec.msgpack.Encoder().encode


def entry_bytes(entry: Entry) -> int:
    """The size an entry is counted with, against every bound."""
    return len(entry.data) + ENTRY_OVERHEAD_BYTES


class LogView:
    """See the module. The core is its only writer."""

    __slots__ = (
        "_cache",
        "_cache_bytes",
        "_cache_first",
        "_fetch",
        "_in_flight",
        "_run_starts",
        "_run_terms",
        "appended_bytes",
        "configurations",
        "last_index",
        "last_term",
        "mark",
        "persisted_index",
        "written_index",
    )

    mark: SnapshotMark
    configurations: list[tuple[int, Configuration]]  # (index, value), the mark's first
    last_index: int
    last_term: int
    persisted_index: int
    written_index: int
    appended_bytes: int  # of all entries that were ever added
    _run_starts: list[int]
    _run_terms: list[int]
    _cache: list[Entry]
    _cache_first: int
    _cache_bytes: int
    _in_flight: list[tuple[int, int]]  # (a write's sequence, its last index)

    def __init__(self, image: GroupImage, fetch: Fetch) -> None:
        self._fetch = fetch
        self._in_flight = []
        self.appended_bytes = 0
        self._start_at(image.snapshot)
        for entry in image.entries:
            assert entry.index == self.last_index + 1, "the log has a gap"
            self._push(entry)
        self.persisted_index = self.written_index = self.last_index

    # -- reading ---------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The newest in the log, committed or not: the one that counts (thesis 4.1)."""
        return self.configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """Where the newest configuration stands."""
        return self.configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The configuration as of that entry, which lies at or above the mark."""
        found = self.configurations[0][1]
        for position, configuration in self.configurations:
            if position <= index:
                found = configuration
        return found

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None where the log does not reach (any more)."""
        if index == self.last_index:
            return self.last_term
        if not self.mark.index <= index < self.last_index:
            return None
        return self._run_terms[bisect_right(self._run_starts, index) - 1]

    def last_index_with_term_at_most(self, index: int, term: int) -> int:
        """The last entry at or below `index` whose term is at most `term`, or the mark's."""
        if index <= self.mark.index:
            return self.mark.index
        index = min(index, self.last_index)
        run = bisect_right(self._run_starts, index) - 1
        while run > 0 and self._run_terms[run] > term:
            index = self._run_starts[run] - 1
            run -= 1
        return index if self._run_terms[run] <= term else self.mark.index

    def entry(self, index: int) -> Entry:
        """One entry that is in the log."""
        if index >= self._cache_first:
            return self._cache[index - self._cache_first]
        return self._fetch(index, index + 1)[0]

    def slice(self, low: int, high: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries low <= index < high, cut at `max_bytes` but never to nothing."""
        assert self.mark.index < low <= high <= self.last_index + 1, "outside the log"
        if low < self._cache_first:
            chosen: Sequence[Entry] = self._fetch(low, min(high, self._cache_first))
        else:
            first = low - self._cache_first
            chosen = self._cache[first : first + high - low]
        if len(chosen) == 1:
            return (chosen[0],)
        size = 0
        for count, entry in enumerate(chosen):
            size += entry_bytes(entry)
            if size > max_bytes and count > 0:
                return tuple(chosen[:count])
        return tuple(chosen)

    def bytes_from(self, index: int) -> int:
        """The size of the entries from there on that are in the cache."""
        return sum(map(entry_bytes, self._cache[max(0, index - self._cache_first) :]))

    # -- changing --------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Add the next entry."""
        assert entry.index == self.last_index + 1, "append leaves a gap"
        assert entry.term >= self.last_term, "terms never fall along a log"
        self._push(entry)

    def truncate_from(self, index: int) -> None:
        """Remove the entry at `index` and all behind it."""
        assert self.mark.index < index <= self.last_index, "truncation outside the log"
        if index <= self._cache_first:
            self._cache, self._cache_bytes, self._cache_first = [], 0, index
        else:
            keep = index - self._cache_first
            self._cache_bytes -= sum(map(entry_bytes, self._cache[keep:]))
            del self._cache[keep:]
        self.last_term = self.term_at(index - 1) or 0
        self.last_index = index - 1
        while self._run_starts[-1] >= index:
            self._run_starts.pop()
            self._run_terms.pop()
        while self.configurations[-1][0] >= index:
            self.configurations.pop()
        self._retract(index - 1)

    def reset(self, mark: SnapshotMark) -> None:
        """Start again behind a snapshot."""
        persisted_index = self.persisted_index
        self._start_at(mark)
        self.persisted_index = persisted_index
        self.written_index = mark.index
        self._retract(0)

    def compact(self, index: int) -> SnapshotMark:
        """Forget all up to `index`, which is applied and durable in the state machine."""
        assert self.mark.index <= index <= self.persisted_index, "compaction outside the log"
        mark = SnapshotMark(index, self.term_at(index) or 0, self.configuration_at(index))
        run = bisect_right(self._run_starts, index) - 1
        del self._run_starts[:run], self._run_terms[:run]
        self._run_starts[0] = index
        self.configurations = [
            (index, mark.configuration),
            *((at, value) for at, value in self.configurations if at > index),
        ]
        self.mark = mark
        self._drop_cached(index)
        return mark

    def shrink_cache(self, max_bytes: int) -> None:
        """Let go of the oldest durable entries once the cache is over its bound; of some more
        than that, since to let go costs what the cache holds."""
        if self._cache_bytes <= max_bytes:
            return
        excess, upto = self._cache_bytes - max_bytes + max_bytes // 8, self._cache_first - 1
        for entry in self._cache:
            if excess <= 0 or entry.index > self.persisted_index:
                break
            excess -= entry_bytes(entry)
            upto = entry.index
        self._drop_cached(upto)

    # -- writing to disk -------------------------------------------------------------------

    def take_unwritten(self, sequence: int) -> tuple[Entry, ...]:
        """The entries to write now; `sequence` names the write for `persisted`."""
        first = self.written_index + 1
        self._in_flight.append((sequence, self.last_index))
        if first > self.last_index:
            return ()
        self.written_index = self.last_index
        return tuple(self._cache[first - self._cache_first :])

    def persisted(self, sequence: int) -> None:
        """All writes up to `sequence` are durable."""
        while self._in_flight and self._in_flight[0][0] <= sequence:
            self.persisted_index = max(self.persisted_index, self._in_flight.pop(0)[1])

    def _retract(self, index: int) -> None:
        self.persisted_index = min(self.persisted_index, index)
        self.written_index = min(self.written_index, max(index, self.mark.index))
        self._in_flight = [(number, min(last, index)) for number, last in self._in_flight]

    # -- inside ----------------------------------------------------------------------------

    def _start_at(self, mark: SnapshotMark) -> None:
        self.mark = mark
        self.last_index, self.last_term = mark.index, mark.term
        self._run_starts, self._run_terms = [mark.index], [mark.term]
        self.configurations = [(mark.index, mark.configuration)]
        self._cache = []
        self._cache_first = mark.index + 1
        self._cache_bytes = 0
        self.persisted_index = self.written_index = mark.index

    def _push(self, entry: Entry) -> None:
        if entry.term != self.last_term:
            self._run_starts.append(entry.index)
            self._run_terms.append(entry.term)
        if entry.kind is EntryKind.CONFIGURATION:
            self.configurations.append((entry.index, _decode_configuration(entry.data)))
        self.last_index, self.last_term = entry.index, entry.term
        self._cache.append(entry)
        size_bytes = entry_bytes(entry)
        self._cache_bytes += size_bytes
        self.appended_bytes += size_bytes

    def _drop_cached(self, upto: int) -> None:
        count = min(upto + 1 - self._cache_first, len(self._cache))
        if count > 0:
            self._cache_bytes -= sum(map(entry_bytes, islice(self._cache, count)))
            del self._cache[:count]
            self._cache_first += count
        if not self._cache:
            self._cache_first = max(self._cache_first, upto + 1)
