"""What a log entry means for a store, whichever engine keeps it.

A store takes operations in log order, many at a time, and says by its position how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import pyarrow as pa

from storage.fragments import FragmentChange, FragmentId, FragmentSchema, TabletId, Timestamp

# Batches of all columns with `begin_ts`, and `end_ts` too for history.
Batches: TypeAlias = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class FragmentSource:
    """The rows of a fragment in another store, which this one is to begin with.

    They are those of log index `index`, none later than `max_commit_ts`; `open` gives current
    rows and history, each to be read to its end, the current ones first. `close` it after use.
    """

    index: int
    max_commit_ts: Timestamp
    open: Callable[[], tuple[Batches, Batches]]
    close: Callable[[], None]


@dataclass(frozen=True, slots=True)
class CommitOperation:
    """A transaction's changes, visible from `timestamp` on. In log order, not time order.

    `index` is its log entry; a fragment filled from a source of a later index has it already.
    """

    timestamp: Timestamp
    changes: Sequence[FragmentChange]
    index: int = 0


@dataclass(frozen=True, slots=True)
class AlterOperation:
    """From here on the tablet holds exactly these fragments; `sources` for those that are new
    in this store but not in the tablet."""

    schemas: Sequence[FragmentSchema]
    schema_version: int
    sources: Mapping[FragmentId, FragmentSource] = field(default_factory=dict)

    def newest(self) -> list[Timestamp]:
        """The newest commit timestamp of each source."""
        return [source.max_commit_ts for source in self.sources.values()]


@dataclass(frozen=True, slots=True)
class HorizonOperation:
    """Nobody reads below `horizon` any more; history that ended by then may go (`Store.prune`)."""

    horizon: Timestamp


Operation = CommitOperation | AlterOperation | HorizonOperation


@dataclass(frozen=True, slots=True)
class StorePosition:
    """How far a store is."""

    applied_index: int = 0
    max_commit_ts: Timestamp = 0
    schema_version: int = 0
    horizon: Timestamp = 0


class Store(Protocol):
    """What the applier and the replica need of a store; one caller at a time."""

    tablet_id: TabletId
    # What the participant's image of the last checkpoint stands for.
    image_index: int

    @property
    def position(self) -> StorePosition:
        """How far the tables are."""
        ...

    def apply(self, operations: Sequence[Operation], applied_index: int) -> None:
        """Takes in the effects of the log up to `applied_index`, all or none of them."""
        ...

    @property
    def prunable(self) -> bool:
        """Whether there may be history that ended by the horizon."""
        ...

    def prune(self, most_rows: int) -> None:
        """Deletes some of it, looking at about so many rows."""
        ...

    def relieve(self) -> None:
        """Called on a thread after each `apply` there: keeps what the engine piles up bounded."""
        ...

    def checkpoint(self, image: bytes, image_index: int) -> None:
        """Makes all that was applied durable, together with the participant's image."""
        ...
