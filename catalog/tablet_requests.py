"""What goes over the wire to a tablet's leader: one struct a method of `storage.tablet.Tablet`.

Every request of a transaction names the leader term under which the transaction began at that
tablet, 0 when it has not yet; the answer names the term it was served in. So a coordinator
never goes on at a new leader that knows nothing of the locks and changes given to the old one
(rule C2): it gets 40001.

A change travels as two Arrow IPC streams one after the other in the body, either may be empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from storage.deadlocks import WaitEdge
from storage.drafts import encode_with_changes
from storage.entries import Ingest
from storage.fragments import (
    FragmentChange,
    FragmentId,
    Moved,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.index_reads import IndexScan
from storage.lock_driver import Fate
from storage.open_checks import Deferred
from storage.participant import NO_TABLET
from storage.read_sets import ReadSet


class TransactionRequest(msgspec.Struct, frozen=True):
    """Root of a transaction's requests."""

    tablet_id: TabletId
    transaction_id: TransactionId
    term: int


class Lock(TransactionRequest, frozen=True):
    """Locks the tablet in a table mode, for a command; `wait` or 55P03 at once. With a `base`
    no commit there may be above it; the answer's number is the newest one's timestamp."""

    mode: str
    command: int = 0
    wait: bool = True
    base: Timestamp | None = None


class LockRows(TransactionRequest, frozen=True):
    """Locks the rows of a fragment whose keys are the body; see `storage.lock_driver`."""

    fragment_id: FragmentId
    mode: str
    base: Timestamp
    command: int
    policy: str


class RowsAnswer(msgspec.Struct, frozen=True):
    """The rows are locked; see `storage.lock_driver.RowsLocked`."""

    term: int
    changed: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    as_of: Timestamp = 0
    fates: tuple[Fate, ...] = ()


class Stage(TransactionRequest, frozen=True):
    """`delete_bytes` of the body are the keys to delete, the rest the rows to insert. The
    coordinator numbers changes, so that one that comes late or twice is refused."""

    fragment_id: FragmentId
    truncate: bool
    delete_bytes: int
    command: int = 0
    number: int = 0
    definition: int = 0
    moved: Moved = Moved.NOT


class TakeBack(TransactionRequest, frozen=True):
    """Forgets the changes of this command and later ones, and refuses those up to `number` that
    have not come yet; `is_whole` as of `storage.tablet_changes`."""

    command: int
    number: int = 0
    is_whole: bool | None = None


class Check(TransactionRequest, frozen=True):
    """Checks unique constraints, with `locks` so that it stays so, and with `base` that no row
    was changed by others after it; `anew` and `deferred` as of `storage.tablet_changes`."""

    base: Timestamp
    command: int = 0
    locks: bool = True
    anew: bool = False
    deferred: tuple[Deferred, ...] = ()


class AskOwnChanges(TransactionRequest, frozen=True):
    """What earlier commands than this did to these fragments; the answer's body has it."""

    fragment_ids: tuple[FragmentId, ...]
    command: int


class Write(TransactionRequest, frozen=True):
    """Commits on the tablet alone, or decides for `participants` that have prepared."""

    floor: Timestamp
    participants: tuple[TabletId, ...] = ()


class Prepare(TransactionRequest, frozen=True):
    floor: Timestamp
    home_tablet: TabletId
    validates: bool = False


class Precommit(TransactionRequest, frozen=True):
    commit_ts: Timestamp


class MarkHome(TransactionRequest, frozen=True):
    floor: Timestamp
    validates: bool = False


class Validate(TransactionRequest, frozen=True):
    """Whether what a transaction read here at `base` stands at its commit timestamp."""

    reads: ReadSet
    base: Timestamp
    commit_ts: Timestamp


class Hold(TransactionRequest, frozen=True):
    """Whether the transaction still has the locks that it took here in that term."""


class Decide(TransactionRequest, frozen=True):
    commit_ts: Timestamp
    participants: tuple[TabletId, ...]


class Committing(msgspec.Struct, frozen=True):
    """A transaction was decided to commit: tells tablets that are led where this comes to. Nobody
    answers; who does not hear it asks its home."""

    transaction_id: TransactionId
    commit_ts: Timestamp
    tablet_ids: tuple[TabletId, ...]


class CommitAll(msgspec.Struct, frozen=True):
    """Decisions of one home: transactions and their commit timestamps."""

    tablet_id: TabletId
    commits: tuple[tuple[TransactionId, Timestamp], ...]


class Abort(TransactionRequest, frozen=True):
    pass


class AskStatus(TransactionRequest, frozen=True):
    """`settles`: a transaction that nobody carries out is aborted; else it is not `known`."""

    settles: bool = True


class ChangeRows(TransactionRequest, frozen=True):
    """Does with rows of a fragment, by their keys, what a program says (`storage.row_programs`),
    with these values; `rows` are new ones, a key each, for an INSERT. With `scan` its rows are
    those that an index leads to, the newest or as of `timestamp`.

    `mode` "" where nobody else can have the keys. `ends`: commits at once. `shows`: the answer
    has the rows. A lock is waited for `lock_s`. `definition` is the version of the table's that
    the program was made for.
    """

    fragment_id: FragmentId
    keys: tuple[tuple[Any, ...], ...]
    mode: str
    program: bytes
    values: tuple[Any, ...]
    rows: tuple[tuple[Any, ...], ...] = ()
    command: int = 0
    base: Timestamp = 0
    number: int = 0
    ends: bool = False
    shows: bool = False
    lock_s: float = 30.0
    definition: int = 0
    scan: IndexScan | None = None
    timestamp: Timestamp | None = None


class RowsChanged(msgspec.Struct, frozen=True):
    """How many rows were changed or locked; `rows` is each of these before and after, None where
    there is none, and before it was only locked. Not `by_row`: the statement is to go the usual
    way, nothing was done."""

    term: int
    changed: int = 0
    rows: tuple[tuple[tuple[Any, ...] | None, tuple[Any, ...] | None], ...] = ()
    as_of: Timestamp = 0
    commit_ts: Timestamp = 0
    by_row: bool = True


class ReadRows(msgspec.Struct, frozen=True):
    """Rows by key, as SQLite has keys and rows; `transaction_id` 0 for nobody's own changes."""

    tablet_id: TabletId
    fragment_id: FragmentId
    keys: tuple[tuple[Any, ...], ...]
    timestamp: Timestamp | None
    transaction_id: TransactionId = 0
    command: int = 0


class Rows(msgspec.Struct, frozen=True):
    """One a key asked for, None where there is none."""

    rows: tuple[tuple[Any, ...] | None, ...]


class ScanRows(msgspec.Struct, frozen=True):
    """Rows of a fragment by an index (`storage.index_reads`); `transaction_id` as of ReadRows."""

    tablet_id: TabletId
    fragment_id: FragmentId
    scan: IndexScan
    timestamp: Timestamp | None
    transaction_id: TransactionId = 0
    command: int = 0


class ScannedRows(msgspec.Struct, frozen=True):
    """None where the index is not the way to them."""

    rows: tuple[tuple[Any, ...], ...] | None


class AskReadIndex(msgspec.Struct, frozen=True):
    tablet_id: TabletId
    timestamp: Timestamp


class AskWaits(msgspec.Struct, frozen=True):
    """Who waits for whom on the node's tablets."""


class Waits(msgspec.Struct, frozen=True):
    edges: tuple[WaitEdge, ...]


class Done(msgspec.Struct, frozen=True):
    """The request was carried out in that term; `value` is the method's number, if any."""

    term: int
    value: int = 0


class Checked(msgspec.Struct, frozen=True):
    """The constraints that are `left` to be checked, of the transaction at the tablet."""

    term: int
    left: tuple[Deferred, ...] = ()


class Committed(msgspec.Struct, frozen=True):
    """Those of the transactions that are committed in the tablet's log."""

    transaction_ids: tuple[TransactionId, ...]


class Status(msgspec.Struct, frozen=True):
    """`running`, or ended with `commit_ts`, 0 when aborted. `home` decides what is prepared."""

    running: bool
    commit_ts: Timestamp = 0
    known: bool = True
    home: TabletId = NO_TABLET


def encode_change(change: FragmentChange) -> tuple[int, bytes]:
    """The length of the first part of the body, and the body."""
    deletes = _to_ipc(change.delete_keys)
    return len(deletes), deletes + _to_ipc(change.insert_rows)


def decode_change(request: Stage, body: bytes | memoryview) -> FragmentChange:
    """The change that `encode_change` described."""
    view = memoryview(body)
    return FragmentChange(
        request.fragment_id,
        _from_ipc(view[: request.delete_bytes]),
        _from_ipc(view[request.delete_bytes :]),
        request.truncate,
        request.definition,
        request.moved,
    )


def encode_keys(keys: pa.RecordBatch) -> bytes:
    """The body of LockRows."""
    return _to_ipc(keys)


def decode_keys(body: bytes | memoryview) -> pa.RecordBatch:
    """The keys again."""
    keys = _from_ipc(memoryview(body))
    assert keys is not None, "no rows are asked to be locked"
    return keys


def _to_ipc(batch: pa.RecordBatch | None) -> bytes:
    if batch is None or batch.num_rows == 0:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _from_ipc(data: memoryview) -> pa.RecordBatch | None:
    if not len(data):
        return None
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_next_batch()


def encode_own_changes(transaction_id: TransactionId, changes: Sequence[FragmentChange]) -> bytes:
    """Changes as the bytes of an `Ingest` entry, which say how they are cut."""
    return encode_with_changes(lambda headers: Ingest(transaction_id, 0, 0, headers), changes)
