"""What a SERIALIZABLE transaction has read, remembered for its commit to validate (rule I4).

    a key looked up, there or not          that key
    rows by an index, or by conditions     the range of values that was asked for
    any other scan, and of too much        the fragment

A table that gets another part meanwhile has rows where nobody would look for them: whoever has read
the table has read that it has no more parts (`has_other_parts`). The transaction that makes the
part holds the tablets of the others until every node knows of it, so who has validated those
finds it in its node's catalog.

What a statement read stays read where the statement is undone, by an error or a savepoint: the
client has seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from catalog.model import Catalog, Table, TableId
from storage.fragments import FragmentId, TabletId, Timestamp
from storage.read_sets import ReadSet, RowRange
from storage.row_tables import StoredKey

# Of more keys and ranges that a transaction has read their fragments are validated as a whole.
READS_NOTED = 10_000

_Whole = dict[FragmentId, None]
_Keys = dict[FragmentId, dict[StoredKey, None]]
_Ranges = dict[FragmentId, dict[RowRange, None]]


@dataclass(slots=True)
class Reads:
    """What was read at the snapshot `base`, by tablet."""

    base: Timestamp = 0
    # Whether none of the tables has other parts by now; asked once the tablets have validated.
    parts_stand: Callable[[], bool] = lambda: True
    _tables: set[TableId] = field(default_factory=set)
    _fragments: dict[TabletId, _Whole] = field(default_factory=dict)
    _keys: dict[TabletId, _Keys] = field(default_factory=dict)
    _ranges: dict[TabletId, _Ranges] = field(default_factory=dict)
    _count: int = 0

    @property
    def any(self) -> bool:
        """Whether anything was read."""
        return bool(self._tables) or bool(self.tablets)

    @property
    def tablets(self) -> list[TabletId]:
        """Where anything was read."""
        return sorted({*self._fragments, *self._keys, *self._ranges})

    def note_table(self, table_id: TableId) -> None:
        """The table was scanned, whatever part of it has anything to look at."""
        self._tables.add(table_id)

    def has_other_parts(self, then: Catalog, now: Catalog) -> bool:
        """Whether a table that was read has rows elsewhere now than `then`."""
        if now is then:
            return False
        for table_id, table in then.tables.items():
            other = now.tables.get(table_id)
            if other is table or other is None or not self._has_read(table):
                continue
            if not _fragments_of(other) <= _fragments_of(table):
                return True
        return False

    def _has_read(self, table: Table) -> bool:
        if table.id in self._tables:
            return True
        read = (self._fragments, self._keys, self._ranges)
        places = [(f.tablet_id, f.id) for part in table.parts for f in part.fragments]
        return any(
            fragment_id in by_tablet.get(tablet_id, ())
            for by_tablet in read
            for tablet_id, fragment_id in places
        )

    def note(self, tablet_id: TabletId, fragment_id: FragmentId) -> None:
        """The fragment was read, or some part of it that nothing tells."""
        self._fragments.setdefault(tablet_id, {})[fragment_id] = None

    def note_scan(
        self, tablet_id: TabletId, fragment_id: FragmentId, ranges: Sequence[RowRange]
    ) -> None:
        """The ranges were read, without any the fragment."""
        for each in ranges:
            self.note_range(tablet_id, fragment_id, each)
        if not ranges:
            self.note(tablet_id, fragment_id)

    def note_key(self, tablet_id: TabletId, fragment_id: FragmentId, key: StoredKey) -> None:
        """The key was looked up."""
        known = self._keys.setdefault(tablet_id, {}).setdefault(fragment_id, {})
        if key not in known and self._has_room(tablet_id, fragment_id):
            known[key] = None

    def note_range(self, tablet_id: TabletId, fragment_id: FragmentId, read: RowRange) -> None:
        """The rows of the range were read, or some of them."""
        known = self._ranges.setdefault(tablet_id, {}).setdefault(fragment_id, {})
        if read not in known and self._has_room(tablet_id, fragment_id):
            known[read] = None

    def _has_room(self, tablet_id: TabletId, fragment_id: FragmentId) -> bool:
        """Whether one more is remembered; else the fragment is."""
        if self._count >= READS_NOTED:
            self.note(tablet_id, fragment_id)
            return False
        self._count += 1
        return True

    def at(self, tablet_id: TabletId) -> ReadSet:
        """What was read there; of fragments that were read as a whole nothing more."""
        whole = self._fragments.get(tablet_id, {})
        keys = self._keys.get(tablet_id, {}).items()
        ranges = self._ranges.get(tablet_id, {}).items()
        return ReadSet(
            tuple(whole),
            tuple((f, tuple(known)) for f, known in keys if f not in whole),
            tuple((f, tuple(known)) for f, known in ranges if f not in whole),
        )


def _fragments_of(table: Table) -> set[FragmentId]:
    return {fragment.id for part in table.parts for fragment in part.fragments}
