"""The entries of a tablet's log (rule L2) and their bytes.

Everything in an entry is resolved: values, not expressions. An entry is a small msgpack header
and the bodies of its changes: rows of `storage.stored_changes`, or bare record-batch messages of
Arrow's (their schema is the fragment's, which never changes shape), read without a copy:

    header length (4 bytes, little-endian) | header | padding to 64 | body | padding to 64 | ...

Entries that decide carry the leader term under which the transaction's locks were granted;
an entry that ended up in another term's log has no effect but the abort (rule C2). They also
carry the number of `ingest` chunks that must have come before them.

Left out: `split`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from storage.fragments import (
    FragmentChange,
    FragmentId,
    FragmentSchema,
    Moved,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.stored_changes import StoredChange, decode_rows, encode_rows, row_tables

# Larger changes are cut into chunks of this many bytes before they are logged (rule L6).
CHUNK_BYTES = 4 * 1024 * 1024
_ALIGNMENT = 64
_LENGTH_BYTES = 4


class ChangeHeader(msgspec.Struct, frozen=True, array_like=True):
    """A change of one fragment; the lengths are of its two bodies, 0 where there is none.
    `stored`: they are rows of `storage.stored_changes` instead of Arrow batches. `moved` as of
    `FragmentChange`."""

    fragment_id: FragmentId
    truncate: bool
    delete_bytes: int
    insert_bytes: int
    stored: bool = False
    moved: Moved = Moved.NOT


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """Changes taken back (ROLLBACK TO SAVEPOINT) after they were logged: those of chunk
    `first_chunk` from change `first_change` on, and all up to chunk `last_chunk`."""

    first_chunk: int
    first_change: int
    last_chunk: int

    def keeps(self, chunk: int, change: int) -> bool:
        """Whether the change of that chunk still counts."""
        if not self.first_chunk <= chunk <= self.last_chunk:
            return True
        return chunk == self.first_chunk and change < self.first_change


class Ingest(msgspec.Struct, frozen=True, tag="ingest"):
    """A chunk of a transaction's changes, invisible until its outcome.

    `sequence` counts a transaction's chunks from 0: they may be logged out of order.
    """

    transaction_id: TransactionId
    term: int
    sequence: int
    changes: tuple[ChangeHeader, ...]


class Write(msgspec.Struct, frozen=True, tag="write"):
    """A transaction on this tablet alone: its last changes and its commit, in one."""

    transaction_id: TransactionId
    term: int
    commit_ts: Timestamp
    chunks: int
    changes: tuple[ChangeHeader, ...]
    cuts: tuple[Cut, ...] = ()


class LockedKeys(msgspec.Struct, frozen=True, array_like=True):
    """Keys of a fragment that a transaction holds in a row lock mode (`storage.row_keys`)."""

    fragment_id: FragmentId
    mode: str
    keys: tuple[tuple[Any, ...], ...]  # whole numbers, texts, bytes, truth values


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """This tablet will do what the home decides. It holds the tablet's lock (`exclusive`), or
    the `locked` keys, which the next leader must hold for it too."""

    transaction_id: TransactionId
    term: int
    floor: Timestamp
    home_tablet: TabletId
    exclusive: bool
    chunks: int
    changes: tuple[ChangeHeader, ...]
    cuts: tuple[Cut, ...] = ()
    locked: tuple[LockedKeys, ...] = ()


class Decision(msgspec.Struct, frozen=True, tag="decision"):
    """The home's own changes and the commit of all; `participants` leaves out the home."""

    transaction_id: TransactionId
    term: int
    commit_ts: Timestamp
    participants: tuple[TabletId, ...]
    chunks: int
    changes: tuple[ChangeHeader, ...]
    cuts: tuple[Cut, ...] = ()


class Precommit(msgspec.Struct, frozen=True, tag="precommit"):
    """All participants have prepared, and the home is about to decide on this timestamp (C11).
    It decides nothing: only the home's log does."""

    transaction_id: TransactionId
    commit_ts: Timestamp


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    """The home decided to commit what is prepared here."""

    transaction_id: TransactionId
    commit_ts: Timestamp


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """The transaction is over without effect. Unless `decided` (by the home, or by the
    coordinator that never asked it to commit), what is prepared here stays prepared."""

    transaction_id: TransactionId
    decided: bool


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """Each of these participants has these transactions committed in its log; their home need
    not remember them for it."""

    by_tablet: tuple[tuple[TabletId, tuple[TransactionId, ...]], ...]


class Confirm(msgspec.Struct, frozen=True, tag="confirm"):
    """The same of one transaction, in logs of earlier versions."""

    transaction_id: TransactionId
    tablets: tuple[TabletId, ...]


class Alter(msgspec.Struct, frozen=True, tag="alter"):
    """From here on the tablet holds exactly these fragments."""

    fragments: tuple[FragmentSchema, ...]
    schema_version: int


class Horizon(msgspec.Struct, frozen=True, tag="horizon"):
    """History that ended at or before this timestamp is no longer wanted."""

    horizon: Timestamp


TabletEntry = (
    Ingest
    | Write
    | Prepare
    | Precommit
    | Decision
    | Commit
    | Abort
    | Confirmed
    | Confirm
    | Alter
    | Horizon
)
ChangeEntry = Ingest | Write | Prepare | Decision

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[TabletEntry] = msgspec.msgpack.Decoder(TabletEntry)


def encode_entry(entry: TabletEntry, bodies: Sequence[bytes | pa.Buffer] = ()) -> bytes:
    """The bytes of an entry with the bodies its headers announce, in their order."""
    header = _encoder.encode(entry)
    parts: list[bytes | pa.Buffer] = [len(header).to_bytes(_LENGTH_BYTES, "little"), header]
    length = _LENGTH_BYTES + len(header)
    for body in bodies:
        padding = -length % _ALIGNMENT
        parts += [bytes(padding), body]
        length += padding + len(body)
    return b"".join(parts)


def decode_entry(data: bytes | pa.Buffer) -> tuple[TabletEntry, list[pa.Buffer]]:
    """The entry and its bodies, which are slices of `data`."""
    view = memoryview(data)
    header_end = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "little")
    entry = _decoder.decode(view[_LENGTH_BYTES:header_end])
    if not isinstance(entry, ChangeEntry) or not entry.changes:
        return entry, []
    whole = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    bodies, position = [], header_end
    for length in _body_lengths(entry.changes):
        position += -position % _ALIGNMENT
        bodies.append(whole.slice(position, length))
        position += length
    assert position == len(view), "an entry is longer or shorter than its header says"
    return entry, bodies


def _body_lengths(changes: Sequence[ChangeHeader]) -> list[int]:
    both = [length for change in changes for length in (change.delete_bytes, change.insert_bytes)]
    return [length for length in both if length]


def encode_changes(
    changes: Sequence[FragmentChange],
) -> tuple[tuple[ChangeHeader, ...], list[bytes | pa.Buffer]]:
    """The headers and bodies of changes whose batches have their fragment's schema."""
    headers: list[ChangeHeader] = []
    bodies: list[bytes | pa.Buffer] = []
    for change in changes:
        if isinstance(change, StoredChange):
            keys, rows = encode_rows(change.keys), encode_rows(change.rows)
            headers.append(ChangeHeader(change.fragment_id, False, len(keys), len(rows), True))
            bodies += [body for body in (keys, rows) if body]
            continue
        lengths: list[int] = []
        for batch in (change.delete_keys, change.insert_rows):
            body = None if batch is None or batch.num_rows == 0 else batch.serialize()
            lengths.append(0 if body is None else body.size)
            bodies += [] if body is None else [body]
        header = ChangeHeader(
            change.fragment_id, change.truncate, lengths[0], lengths[1], moved=change.moved
        )
        headers.append(header)
    return tuple(headers), bodies


def decode_changes(
    headers: Sequence[ChangeHeader],
    bodies: Sequence[pa.Buffer],
    schema_of: Callable[[FragmentId], FragmentSchema | None],
    keeps: Callable[[int], bool] = lambda _: True,
) -> list[FragmentChange]:
    """The changes again, without those of fragments that are gone; of the others those whose
    places `keeps` accepts."""
    remaining = iter(bodies)
    changes: list[FragmentChange] = []
    for place, header in enumerate(headers):
        deletes = next(remaining) if header.delete_bytes else None
        inserts = next(remaining) if header.insert_bytes else None
        schema = schema_of(header.fragment_id)
        if schema is None or not keeps(place):
            continue
        if header.stored:
            rows = decode_rows(deletes), decode_rows(inserts)
            changes.append(StoredChange(row_tables(schema), *rows))
            continue
        changes.append(
            FragmentChange(
                header.fragment_id,
                _read_batch(deletes, schema.key_arrow_schema),
                _read_batch(inserts, schema.arrow_schema),
                header.truncate,
                moved=header.moved,
            )
        )
    return changes


def _read_batch(body: pa.Buffer | None, schema: Callable[[], pa.Schema]) -> pa.RecordBatch | None:
    return None if body is None else pa.ipc.read_record_batch(body, schema())
