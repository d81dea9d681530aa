"""What every replica of a tablet does: follow the log, keep the stores, answer reads.

    ReplicaState     how far it is; who waits; reads       storage.replica_state
    KeptReplica      checkpoints, pruning, sizes           storage.replica_keeping
    LogFollower      log entries, and their effects        storage.replica_log
    TabletReplica    snapshots to and from other nodes     here

A snapshot is read out of the stores as of one moment, or a later one that the contents name. One
that is taken in replaces both stores, then the participant; until all are of one moment nothing
becomes durable. What a store's disk has no room for is tried again: the log has gone on, so
nothing else will do.
"""

from __future__ import annotations

import logging
from functools import partial

import msgspec

from cluster.errors import IoError
from cluster.probes import Probe, reached
from cluster.raft.snapshot_data import FileSink, FileSnapshot, SnapshotData
from storage.replica_image import ReplicaImage
from storage.replica_log import LogFollower
from storage.transfer import (
    ReceivedContents,
    column_sources,
    replace_columns,
    replace_rows,
    row_sources,
    write_contents,
)

logger = logging.getLogger(__name__)

# Tries to take a snapshot in where the disk has no room for it, and the time between two.
INSTALL_TRIES = 30
INSTALL_AGAIN_S = 2.0


class TabletReplica(LogFollower):
    """A `StreamedStateMachine` (cluster.raft.snapshot_data) over a columnar and a row store."""

    async def open_snapshot(self) -> tuple[int, FileSnapshot]:
        """Everything as of the applied index, in a file."""
        reached(Probe.SNAPSHOT_MADE)
        image: ReplicaImage | None = None
        index = 0

        def freeze() -> None:
            nonlocal image, index
            image, index = self._image(carry_all=True), self._applied_index

        store = self._applier.store
        position, sources = await self._applier.run(partial(column_sources, store), first=freeze)
        assert image is not None
        if self._rows.store is not None:
            # Of this index or a later one, which the contents say of themselves.
            await self._rows.applier.flush()
            sources = [*sources, *row_sources(self._rows.store)]
        path, data = self._staging.new_snapshot("outgoing"), msgspec.msgpack.encode(image)
        await self._runtime.run_blocking(write_contents, path, position, sources, data)
        return index, FileSnapshot(path)

    def receive_snapshot(self) -> FileSink:
        """Where a snapshot of the leader's is gathered."""
        return FileSink(self._staging.new_snapshot("incoming"))

    async def install_snapshot(self, index: int, data: SnapshotData) -> None:
        """Becomes what `open_snapshot` described, durably."""
        assert isinstance(data, FileSnapshot)
        reached(Probe.SNAPSHOT_INSTALLED)
        received = await self._runtime.run_blocking(ReceivedContents, data.path)
        # Until all is as it should be the stores and the participant are of different moments:
        # nothing of that may become durable.
        self._installing = True
        try:
            async with self._checkpointing:
                await self._replace_stores_at_last(received, index)
        finally:
            received.close()
            data.close()
        self._staging.close()
        image = received.contents.image
        self._load_image(image, index)
        self._installing = False
        self._carried_index = index
        self._durable_index = self._applied_index = index
        self._wake_index_waiters()
        for transaction_id in [*self._end_waiters]:
            self._end(transaction_id, None)

    async def _replace_stores_at_last(self, received: ReceivedContents, index: int) -> None:
        """Replaces them as soon as there is room: the log has gone on, so nothing else will do.

        Where there is none for a minute the replica stops, until its node starts again.
        """
        for _ in range(INSTALL_TRIES - 1):
            try:
                await self._replace_stores(received, index)
            except IoError as error:
                reached(Probe.SNAPSHOT_INSTALLED_LATE)
                logger.error("tablet %s: %s", self.tablet_id, error.message)
            else:
                return
            await self._runtime.sleep(INSTALL_AGAIN_S)
        await self._replace_stores(received, index)

    async def _replace_stores(self, received: ReceivedContents, index: int) -> None:
        fragments = received.contents.fragments
        if any(fragment.schema.method.in_row_store for fragment in fragments):
            await self._rows.open(self._applied_index)
        if self._rows.store is not None:
            fill = partial(replace_rows, self._rows.store, received, index)
            await self._rows.applier.replace(fill)
        store = self._applier.store
        await self._applier.replace(partial(replace_columns, store, received, index))
