"""What a checkpoint keeps of a replica beside its rows.

Transactions without an outcome are in the image by name only; their entries stay in the log, so
the durable index stays below the first of them. After a restart the log is replayed from there:
of the entries up to the image only those of the named transactions count again. Entries that
came by a snapshot from another replica were never in this node's log: they are *carried* in
the image until their transaction ends.
"""

from __future__ import annotations

import msgspec

from storage.entries import ChangeEntry, Ingest
from storage.fragments import FragmentSchema
from storage.moved_rows import MovedImage
from storage.participant import ParticipantImage
from storage.staging import StagedEntry


class CarriedEntry(msgspec.Struct, frozen=True, array_like=True):
    """An entry of a transaction without outcome, kept outside the log."""

    term: int
    index: int
    data: bytes


class ReplicaImage(msgspec.Struct, frozen=True):
    """The participant at a checkpoint; `first_unresolved` is the oldest log entry it needs. `moved`
    are rows that others may have read where they are no more."""

    participant: ParticipantImage = ParticipantImage()
    carried: tuple[CarriedEntry, ...] = ()
    first_unresolved: int | None = None
    fragments: tuple[FragmentSchema, ...] = ()
    schema_version: int = 0
    moved: MovedImage = MovedImage()


def durable_index(image: ReplicaImage, index: int) -> int:
    """The log is needed behind it, once the image of that index is durable."""
    return index if image.first_unresolved is None else min(index, image.first_unresolved - 1)


def staged_entry(decoded: ChangeEntry, term: int, index: int, data: bytes) -> StagedEntry:
    """What is kept of a log entry with changes."""
    # Chunks are numbered; an entry that prepares or decides comes behind all of them.
    sequence = decoded.sequence if isinstance(decoded, Ingest) else decoded.chunks
    fragments = frozenset(change.fragment_id for change in decoded.changes)
    truncates = any(change.truncate for change in decoded.changes)
    moves = any(change.moved for change in decoded.changes)
    return StagedEntry(
        decoded.transaction_id,
        term,
        index,
        sequence,
        fragments,
        len(data),
        data,
        truncates=truncates,
        moves=moves,
    )
