"""The core's view of a log behaves as a plain list of entries does, however it is changed."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.raft.log import (
    Configuration,
    Entry,
    EntryKind,
    GroupImage,
    GroupWrite,
    HardState,
    MemoryLogStorage,
    SnapshotMark,
)
from cluster.raft.log_view import LogView, encode_configuration, entry_bytes

GROUP = 1


class LogViewMachine(RuleBasedStateMachine):
    """`view` beside the plain twin `entries` after `mark`; writes reach `disk` when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryLogStorage()
        self.mark = SnapshotMark(0, 0, Configuration.of([1]))
        self.disk.append_now([GroupWrite(GROUP, HardState(), (), self.mark)])
        self.entries: list[Entry] = []
        self.sequence = 0
        self.in_flight: list[tuple[int, GroupWrite]] = []
        self.open()

    def open(self) -> None:
        image = self.disk.load()[GROUP]
        self.view = LogView(image, lambda low, high: self.disk.entries(GROUP, low, high))

    @property
    def last_index(self) -> int:
        return self.mark.index + len(self.entries)

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.mark.term

    @rule(new_term=st.booleans(), kind=st.sampled_from(EntryKind), size=st.integers(0, 40))
    def append(self, new_term: bool, kind: EntryKind, size: int) -> None:
        data = b"x" * size
        if kind is EntryKind.CONFIGURATION:
            data = encode_configuration(Configuration.of([1, size + 2]))
        entry = Entry(self.last_term + new_term, self.last_index + 1, kind, data)
        self.view.append(entry)
        self.entries.append(entry)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.mark.index + 1, self.last_index))
        self.view.truncate_from(index)
        del self.entries[index - self.mark.index - 1 :]

    @rule()
    def write(self) -> None:
        self.sequence += 1
        entries = self.view.take_unwritten(self.sequence)
        self.in_flight.append((self.sequence, GroupWrite(GROUP, None, entries)))

    @precondition(lambda self: self.in_flight)
    @rule()
    def written(self) -> None:
        sequence, write = self.in_flight.pop(0)
        self.disk.append_now([write])
        self.view.persisted(sequence)

    @precondition(lambda self: self.view.persisted_index > self.mark.index)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.mark.index, self.view.persisted_index))
        configuration = self.configuration_at(index)
        term = self.term_at(index)
        assert term is not None
        del self.entries[: index - self.mark.index]
        self.mark = SnapshotMark(index, term, configuration)
        assert self.view.compact(index) == self.mark
        self.disk.compact(GROUP, self.mark)

    @rule(max_bytes=st.integers(0, 200))
    def shrink(self, max_bytes: int) -> None:
        self.view.shrink_cache(max_bytes)

    @precondition(lambda self: not self.in_flight)
    @rule(ahead=st.integers(1, 5))
    def reset(self, ahead: int) -> None:
        mark = SnapshotMark(self.last_index + ahead, self.last_term + 1, Configuration.of([9]))
        self.view.reset(mark)
        assert self.view.persisted_index < mark.index
        self.sequence += 1
        self.view.take_unwritten(self.sequence)
        self.disk.append_now([GroupWrite(GROUP, None, (), mark)])
        self.view.persisted(self.sequence)
        self.mark, self.entries = mark, []

    @rule()
    def crash(self) -> None:
        self.in_flight = []
        self.open()
        image: GroupImage = self.disk.load()[GROUP]
        self.entries = list(image.entries)

    def term_at(self, index: int) -> int | None:
        if index == self.mark.index:
            return self.mark.term
        if self.mark.index < index <= self.last_index:
            return self.entries[index - self.mark.index - 1].term
        return None

    def configuration_at(self, index: int) -> Configuration:
        found = self.mark.configuration
        for entry in self.entries:
            if entry.index <= index and entry.kind is EntryKind.CONFIGURATION:
                found = msgspec.msgpack.decode(entry.data, type=Configuration)
        return found

    @invariant()
    def same_terms(self) -> None:
        assert (self.view.last_index, self.view.last_term) == (self.last_index, self.last_term)
        for index in range(self.mark.index - 1, self.last_index + 2):
            assert self.view.term_at(index) == self.term_at(index)

    @invariant()
    def same_entries(self) -> None:
        low = self.mark.index + 1
        got: list[Entry] = []
        while low <= self.last_index:
            piece = self.view.slice(low, self.last_index + 1, 100)
            assert len(piece) == 1 or sum(map(entry_bytes, piece)) <= 100
            got.extend(piece)
            low = piece[-1].index + 1
        assert got == self.entries

    @invariant()
    def same_configuration(self) -> None:
        assert self.view.configuration == self.configuration_at(self.last_index)

    @invariant()
    def what_counts_as_durable_is_on_disk(self) -> None:
        image = self.disk.load()[GROUP]
        for entry in self.entries:
            if entry.index <= self.view.persisted_index:
                assert entry in image.entries

    @invariant()
    def backtracking_finds_the_last_entry_of_a_term(self) -> None:
        for term in range(self.last_term + 2):
            for index in range(self.mark.index - 1, self.last_index + 2):
                found = self.view.last_index_with_term_at_most(index, term)
                fitting = [e.index for e in self.entries if e.term <= term and e.index <= index]
                assert found == max(fitting, default=self.mark.index)


LogViewMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, derandomize=True
)
TestLogView = LogViewMachine.TestCase
