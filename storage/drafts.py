"""What a transaction changes on a tablet before the log has it, and how it is cut into entries.

Changes wait in the draft until they fill a chunk; what is left goes into the entry that
commits or prepares the transaction. Each change belongs to a *command*, a statement of the
transaction, by number: a statement sees those of earlier commands only, and going back to a
savepoint takes those from some command on away. What was logged by then stays in the log and is
named by a `Cut` in the last entry. Here is also the boundary where batches from above get
exactly their fragment's columns and types and are checked to the last byte: what DuckDB refused
when it is applied, after it was logged, would make the tablet unreadable for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from cluster.errors import (
    CharacterNotInRepertoire,
    DataException,
    DqeError,
    InvalidTextRepresentation,
    SerializationFailure,
)
from storage.columnar_apply import registered
from storage.entries import (
    CHUNK_BYTES,
    ChangeHeader,
    Cut,
    TabletEntry,
    encode_changes,
    encode_entry,
)
from storage.fragments import FragmentChange, FragmentId, FragmentSchema
from storage.key_overlay import Key
from storage.open_checks import OpenChecks
from storage.own_rows import OwnRows
from storage.row_closures import NotByRow
from storage.row_keys import row_keys
from storage.row_tables import RowTables
from storage.types import Kind

JSON_KINDS = frozenset({Kind.JSON, Kind.JSONB})

MakeEntry = Callable[[tuple[ChangeHeader, ...]], TabletEntry]

# Of more unchecked rows a draft does not remember which they are.
FEW_ROWS = 10_000
# Locks taken at the commit belong to no statement that could be undone.
LAST_COMMAND = 2**62
# Behind all of them: taking it back is only a word for the lease.
NO_COMMAND = LAST_COMMAND + 1
# A chunk that no transaction comes to: up to the end.
LAST_CHUNK = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a command's first change stands: in which chunk, at which place in it."""

    command: int
    chunk: int
    change: int


@dataclass(slots=True)
class _KeyIndex:
    """Which of a draft's changes of one fragment have which keys, as far as was looked."""

    looked_at: int = 0
    places: dict[Key, list[int]] = field(default_factory=dict)
    truncated: bool = False


@dataclass(slots=True)
class Draft:
    """A transaction's changes that are not in the log yet.

    `chunks` counts those given to the log, `in_flight` are the ones it has not answered,
    `error` the first that failed: the transaction can only be aborted then. `inserts_into`
    names the fragments that got rows, each with the first command that gave it some.
    `unchecked_rows` came since unique constraints were checked last; `unchecked` has them as
    long as they are few.
    """

    changes: list[FragmentChange] = field(default_factory=list)
    size_bytes: int = 0
    chunks: int = 0
    in_flight: list[asyncio.Task[None]] = field(default_factory=list)
    error: DqeError | None = None
    inserts_into: dict[FragmentId, int] = field(default_factory=dict)
    unchecked_rows: int = 0
    unchecked: list[FragmentChange] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    # What deferred unique constraints have left to check.
    open_checks: OpenChecks = field(default_factory=OpenChecks)
    # Of each fragment that changed: the first command that did, and the version of the table's
    # definition that its changes were made for.
    made_for: dict[FragmentId, tuple[int, int]] = field(default_factory=dict)
    # False while the transaction is coming along from another leader: changes are still to come.
    is_whole: bool = True
    _newest_number: int = 0
    _starts: list[_Start] = field(default_factory=list)
    _indexes: dict[FragmentId, _KeyIndex] = field(default_factory=dict)
    _own: dict[FragmentId, OwnRows] = field(default_factory=dict)

    def add(self, change: FragmentChange, command: int = 0, *, is_checked: bool = False) -> None:
        """Keeps the change behind all earlier ones; commands come in ascending order. With
        `is_checked` its rows are known to keep the unique constraints."""
        if not self._starts or self._starts[-1].command != command:
            assert not self._starts or self._starts[-1].command < command
            self._starts.append(_Start(command, self.chunks, len(self.changes)))
        self.changes.append(change)
        self.size_bytes += change.size_bytes
        if change.insert_count:
            self.inserts_into.setdefault(change.fragment_id, command)
        if change.insert_count and not is_checked:
            self.unchecked_rows += change.insert_count
            self.unchecked.append(change)
            if self.unchecked_rows > FEW_ROWS:
                self.unchecked.clear()

    def note(self, change: FragmentChange, command: int) -> None:
        """The command changes the fragment, as that version of its table is defined."""
        first, _ = self.made_for.get(change.fragment_id, (command, 0))
        self.made_for[change.fragment_id] = first, change.definition

    def expect(self, number: int) -> None:
        """A change of that number comes; 40001 where a later one has come, or it was given up.
        0 for changes that are not numbered."""
        if number and number <= self._newest_number:
            raise SerializationFailure(
                "could not serialize access: a change came late",
                hint="The transaction might succeed if retried.",
            )
        self.refuse_late(number)

    def refuse_late(self, number: int) -> None:
        """Changes up to that number count no more if they come now."""
        self._newest_number = max(self._newest_number, number)

    def checked(self) -> None:
        """All rows so far keep the unique constraints."""
        self.unchecked_rows = 0
        self.unchecked.clear()

    @property
    def every_cut(self) -> tuple[Cut, ...]:
        """For the last entry."""
        return tuple(self.cuts)

    def cuts_before(self, command: int) -> tuple[Cut, ...]:
        """What to leave out of all changes to have those that count, of earlier commands."""
        start = self._start_of(command)
        if start is None:
            return tuple(self.cuts)
        return (*self.cuts, Cut(start.chunk, start.change, LAST_CHUNK))

    def take_back(self, command: int) -> None:
        """Forgets the changes of this command and later ones."""
        self.open_checks.take_back(command)
        start = self._start_of(command)
        if start is None:
            return
        kept = 0
        if start.chunk == self.chunks:
            kept = start.change
        else:
            self.cuts.append(Cut(start.chunk, start.change, self.chunks - 1))
        del self.changes[kept:]
        self._indexes.clear()
        self._own.clear()
        self.size_bytes = sum(change.size_bytes for change in self.changes)
        self._starts = [s for s in self._starts if s.command < command]
        self.checked()  # a statement's rows are, by its end
        self.inserts_into = {f: c for f, c in self.inserts_into.items() if c < command}
        self.made_for = {f: made for f, made in self.made_for.items() if made[0] < command}

    def own_rows(self, tables: RowTables) -> OwnRows:
        """Where the changes left rows of a fragment. `NotByRow` once some are in the log: they
        would have to be read from there."""
        if self.chunks:
            raise NotByRow("a transaction that is in the log already")
        own = self._own.setdefault(tables.schema.fragment_id, OwnRows(tables))
        own.follow(self.changes)
        return own

    def own_rows_before(self, tables: RowTables, command: int) -> OwnRows | None:
        """The same of earlier commands than this; None where later ones have changed something,
        or not all is in memory."""
        if self.chunks or self.in_flight or self.error is not None or not self.is_whole:
            return None
        return self.own_rows(tables) if self._start_of(command) is None else None

    def touching(
        self, schema: FragmentSchema, new: Sequence[FragmentChange]
    ) -> list[FragmentChange]:
        """Of the changes of the fragment, in their order, the `new` ones and all that share a
        key with one that is among them. So checking the keys of each of many statements does
        not mean looking at all of them each time."""
        index = self._indexes.setdefault(schema.fragment_id, _KeyIndex())
        for place in range(index.looked_at, len(self.changes)):
            change = self.changes[place]
            if change.fragment_id == schema.fragment_id:
                index.truncated |= change.truncate
                for key in _keys_of(schema, change):
                    index.places.setdefault(key, []).append(place)
        index.looked_at = len(self.changes)
        if index.truncated:
            return [c for c in self.changes if c.fragment_id == schema.fragment_id]
        found: set[int] = set()
        todo = {key for change in new for key in _keys_of(schema, change)}
        seen: set[Key] = set()
        while todo:
            seen |= todo
            places = {place for key in todo for place in index.places[key]} - found
            found |= places
            todo = {k for place in places for k in _keys_of(schema, self.changes[place])} - seen
        return [self.changes[place] for place in sorted(found)]

    def _start_of(self, command: int) -> _Start | None:
        """Where the changes of this command and later ones begin."""
        return next((start for start in self._starts if start.command >= command), None)

    def take(self) -> list[FragmentChange]:
        """The changes; the draft has none then."""
        self._indexes.clear()
        self._own.clear()
        changes, self.changes, self.size_bytes = self.changes, [], 0
        return changes


def made_rows(
    schema: FragmentSchema, changes: Sequence[FragmentChange]
) -> dict[Key, pa.RecordBatch]:
    """Rows of a fragment that a transaction made itself, each first in a batch: by its changes, in
    their order, no committed row with that key was there before."""
    made: dict[Key, pa.RecordBatch] = {}
    there: set[Key] = set()
    for change in changes:
        if change.fragment_id != schema.fragment_id:
            continue
        if change.truncate:
            return made
        if change.delete_keys is not None:
            gone = row_keys(schema, change.delete_keys, schema.key)
            there.update(key for key in gone if key not in made)
        if change.insert_rows is not None:
            new = row_keys(schema, change.insert_rows, schema.key)
            for place, key in enumerate(new):
                if key not in there:
                    made.setdefault(key, change.insert_rows.slice(place, 1))
    return made


def _keys_of(schema: FragmentSchema, change: FragmentChange) -> list[Key]:
    batches = [b for b in (change.delete_keys, change.insert_rows) if b is not None]
    return [key for batch in batches for key in row_keys(schema, batch, schema.key)]


def encode_with_changes(make: MakeEntry, changes: Sequence[FragmentChange]) -> bytes:
    """The bytes of the entry made for these changes."""
    headers, bodies = encode_changes(changes)
    return encode_entry(make(headers), bodies)


def in_shape(change: FragmentChange, schema: FragmentSchema) -> FragmentChange:
    """The change with its columns in the fragment's order and types.

    A column that is missing or cannot be converted without loss is a mistake of the caller:
    KeyError, pyarrow.ArrowInvalid. 22021 for text that is not UTF-8, 22000 for other values
    that no store takes.
    """
    return FragmentChange(
        change.fragment_id,
        _conform(change.delete_keys, schema.key_arrow_schema()),
        _conform(change.insert_rows, schema.arrow_schema()),
        change.truncate,
        change.definition,
        change.moved,
    )


def check_json(
    cursor: duckdb.DuckDBPyConnection, batch: pa.RecordBatch, schema: FragmentSchema
) -> None:
    """22P02 for a value of a json column that is not JSON. Blocks."""
    for column in schema.columns:
        if column.type.kind not in JSON_KINDS:
            continue
        with registered(cursor, "values", pa.table({"v": batch.column(column.name)})):
            bad = cursor.execute(
                "SELECT CAST(v AS VARCHAR) FROM values WHERE NOT json_valid(v) LIMIT 1"
            ).fetchall()
        if bad:
            raise InvalidTextRepresentation(
                f"invalid input syntax for type {column.type}",
                detail=f'"{bad[0][0]}" is not valid JSON.',
                column=column.label or None,
            )


def has_json(schema: FragmentSchema) -> bool:
    """Whether `check_json` has anything to do."""
    return any(column.type.kind in JSON_KINDS for column in schema.columns)


def _conform(batch: pa.RecordBatch | None, schema: pa.Schema) -> pa.RecordBatch | None:
    if batch is None:
        return None
    batch = _converted(batch, schema)
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise CharacterNotInRepertoire(
                'invalid byte sequence for encoding "UTF8"', detail=str(error)
            ) from error
        raise DataException("a value cannot be stored", detail=str(error)) from error
    return batch


def _converted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for column in schema:
        array = batch.column(column.name)
        arrays.append(array if array.type == column.type else array.cast(column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def pieces(change: FragmentChange) -> Iterator[FragmentChange]:
    """The same change as several of about `CHUNK_BYTES` at most."""
    if change.size_bytes <= CHUNK_BYTES:
        yield change
        return
    if change.truncate:
        yield FragmentChange(change.fragment_id, truncate=True)
    for keys in _slices(change.delete_keys):
        yield FragmentChange(change.fragment_id, delete_keys=keys, moved=change.moved)
    for rows in _slices(change.insert_rows):
        yield FragmentChange(change.fragment_id, insert_rows=rows)


def _slices(batch: pa.RecordBatch | None) -> Iterator[pa.RecordBatch]:
    if batch is None or batch.num_rows == 0:
        return
    count = -(-batch.nbytes // CHUNK_BYTES)
    rows = -(-batch.num_rows // max(count, 1))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)
