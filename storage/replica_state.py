"""A replica of a tablet between two log entries: how far it is, who waits for what, what is read.

There are these indexes:

    applied_index            what the participant has taken in; what the log's driver sees
    stores' applied index    what the tables hold; a read brings it up to what it needs
    durable_index            from where the log is needed after a crash: the least of the stores'

After a restart the older image of the two stores counts (`replica_image`), and a store that is
ahead of it takes only what it has not seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from cluster.probes import Probe, reached
from cluster.runtime import Runtime
from storage.applier import StoreApplier
from storage.columnar import ColumnarStore
from storage.columnar_apply import FragmentTables
from storage.entries import Ingest, Prepare, decode_entry
from storage.fragments import FragmentId, FragmentSchema, TabletId, Timestamp, TransactionId
from storage.locks import LockRequest
from storage.moved_rows import MovedRows
from storage.participant import Outcome, Participant
from storage.replica_image import CarriedEntry, ReplicaImage, durable_index, staged_entry
from storage.row_scan import RowScan
from storage.row_side import RowSide
from storage.staging import Staging
from storage.tasks import deadline


class ReplicaState:
    """See the module."""

    def __init__(
        self, runtime: Runtime, store: ColumnarStore, staging: Staging, rows: RowSide
    ) -> None:
        self.tablet_id: TabletId = store.tablet_id
        self._runtime = runtime
        self._staging = staging
        self._applier = StoreApplier(runtime, store, budget=staging.queues)
        self._rows = rows
        self._schemas: dict[FragmentId, FragmentSchema] = {}
        self._schema_version = 0
        self._horizon: Timestamp = 0
        # No commit is later, and no row that is kept ended earlier than these.
        self._newest_ts: Timestamp = 0
        self._history_since: Timestamp | None = None
        # By the request's number.
        self._lock_waiters: dict[int, asyncio.Future[bool]] = {}
        self._end_waiters: dict[TransactionId, list[asyncio.Future[None]]] = {}
        self._index_waiters: list[tuple[int, asyncio.Future[None]]] = []
        # A snapshot is replacing everything. It waits for a checkpoint under way.
        self._installing = False
        self._checkpointing = asyncio.Lock()
        images = [(store.image_index, store.image)]
        if rows.store is not None:
            images.append((rows.store.image_index, rows.store.image))
        index, data = min(images)
        self._load_image(data, index)
        self._applied_index = self._durable_index

    def _load_image(self, data: bytes, index: int) -> None:
        image = msgspec.msgpack.decode(data, type=ReplicaImage) if data else ReplicaImage()
        self._schemas = {schema.fragment_id: schema for schema in image.fragments}
        self._schema_version = image.schema_version
        self._participant = Participant(image.participant)
        self._moved = MovedRows(image.moved)
        self._image_index = index
        self._unresolved = frozenset(image.participant.unresolved)
        self._carried_index = 0
        for carried in image.carried:
            self._apply_kept(carried)
            self._carried_index = carried.index
        self._durable_index = durable_index(image, index)
        # A log that is replayed raises it again to where it was.
        positions = [self._applier.store.position]
        if self._rows.store is not None:
            positions.append(self._rows.store.position)
        self._horizon = max(self._horizon, *(position.horizon for position in positions))
        self._newest_ts = max(position.max_commit_ts for position in positions)
        self._history_since = self._horizon + 1 if self._newest_ts > self._horizon else None

    def _apply_kept(self, carried: CarriedEntry) -> None:
        decoded, _ = decode_entry(carried.data)
        assert isinstance(decoded, Ingest | Prepare)
        staged = self._staging.keep(
            staged_entry(decoded, carried.term, carried.index, carried.data)
        )
        self._participant.apply(decoded, carried.term, staged)

    # The state machine.

    @property
    def applied_index(self) -> int:
        """The last log entry taken in."""
        return self._applied_index

    @property
    def durable_index(self) -> int:
        """The log is needed from the next entry on."""
        return self._durable_index

    @property
    def schemas(self) -> dict[FragmentId, FragmentSchema]:
        """The fragments as the log has them. Not to be changed."""
        return self._schemas

    @property
    def schema_version(self) -> int:
        """The version that came with the last `alter`."""
        return self._schema_version

    def _image(self, *, carry_all: bool = False) -> ReplicaImage:
        participant = self._participant.image()
        entries = sorted(
            (
                entry
                for transaction_id in participant.unresolved
                for entry in self._participant.transactions[transaction_id].chunks
            ),
            key=lambda entry: entry.index,
        )
        carried = [e for e in entries if carry_all or e.index <= self._carried_index]
        in_log = [e.index for e in entries if e not in carried]
        buffers = self._staging.load(carried)
        return ReplicaImage(
            participant,
            tuple(
                CarriedEntry(e.term, e.index, b.to_pybytes())
                for e, b in zip(carried, buffers, strict=True)
            ),
            min(in_log, default=None),
            tuple(self._schemas.values()),
            self._schema_version,
            self._moved.image(),
        )

    # Waiting.

    def _answer(self, request: LockRequest, *, granted: bool) -> None:
        waiter = self._lock_waiters.pop(request.number, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(granted)

    def _end(self, transaction_id: TransactionId, outcome: Outcome | None) -> None:
        for waiter in self._end_waiters.pop(transaction_id, []):
            if not waiter.done():
                waiter.set_result(None)

    async def wait_applied(self, index: int, deadline_s: float) -> None:
        """Returns once the log is taken in up to `index`; 57P03 when that takes too long."""
        if self._applied_index >= index:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._index_waiters.append((index, waiter))
        async with deadline(deadline_s, f"tablet {self.tablet_id} did not catch up"):
            await waiter

    def _wake_index_waiters(self) -> None:
        if not self._index_waiters:
            return
        waiting = self._index_waiters
        self._index_waiters = [w for w in waiting if w[0] > self._applied_index]
        for index, waiter in waiting:
            if index <= self._applied_index and not waiter.done():
                waiter.set_result(None)

    async def _wait_pending(self, timestamp: Timestamp) -> None:
        """Returns once every transaction that may commit at or below S has its outcome here."""
        await self._wait_ends(self._participant.pending_below(timestamp))

    async def _wait_ends(self, pending: Sequence[TransactionId]) -> None:
        if pending:
            reached(Probe.READ_WAITED)
        waiters = [self._end_waiter(transaction_id) for transaction_id in pending]
        for waiter in waiters:
            await waiter

    def _end_waiter(self, transaction_id: TransactionId) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end_waiters.setdefault(transaction_id, []).append(waiter)
        return waiter

    # Reading.

    async def _bring_up(
        self, fragment_ids: Sequence[FragmentId], timestamp: Timestamp
    ) -> dict[FragmentId, FragmentTables]:
        """The store's tables once they hold what a read at the timestamp needs.

        A fragment that is not here is left out; `snapshot.open_views` says so.
        """
        in_rows = [f for f in fragment_ids if self._only_in_rows(f)]
        in_columns = [f for f in fragment_ids if f not in in_rows]
        if in_columns and self._applier.needed_by(in_columns, timestamp):
            await self._applier.flush()
        store = self._applier.store
        found = {f: store.tables(f) for f in in_columns if f in store.fragments}
        if in_rows:
            await self._rows.bring_up(in_rows, timestamp)
            found |= self._rows.tables(in_rows)
        return found

    async def row_scan(self, timestamp: Timestamp) -> RowScan | None:
        """The row store at or behind the timestamp, where a fragment is in it.

        The caller has made a read at the timestamp possible, and closes the scan.
        """
        held = [f for f, schema in self._schemas.items() if schema.method.in_row_store]
        if not held or self._rows.store is None:
            return None
        await self._rows.bring_up(held, timestamp)
        self._rows.applier.settle()
        return self._rows.store.snapshot()

    def _only_in_rows(self, fragment_id: FragmentId) -> bool:
        schema = self._schemas.get(fragment_id)
        return schema is not None and not schema.method.in_columnar_store
