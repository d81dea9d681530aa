"""What every replica of a tablet does: follow the log, keep the store, answer reads.

The log drives three things. The participant (who is under way, who ended how) takes in each
entry as it is applied. The row store, where a fragment needs one (`storage.row_side`), takes in
its effects before the log's driver goes on, as far as that is quick; the columnar store follows
behind through `storage.applier`. So there are these indexes:

    applied_index            what the participant has taken in; what the log's driver sees
    stores' applied index    what the tables hold; a read brings it up to what it needs
    durable_index            from where the log is needed after a crash: the least of the stores'

At a checkpoint each file takes the participant's image and everything applied, the row store's
first. After a restart the older image of the two counts, and a store that is ahead of it takes
only what it has not seen.

An `alter` may give a fragment to a store that did not have it: the store begins with the rows
of the other one (`storage.moves`), of that index or a later one, and takes from the log what
came after them. Before a store gives a fragment up, the other one is made durable.

Of a checkpoint more: Transactions
without an outcome then are in the image by name only; their entries stay in the log, so the
durable index stays below the first of them. After a restart the log is replayed from there:
of the entries up to the image only those of the named transactions count again. Entries that
came by a snapshot from another replica were never in this node's log: they are *carried* in
the image until their transaction ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from cluster.errors import IoError
from cluster.probes import Probe, reached
from cluster.raft.log import Entry, EntryKind
from cluster.raft.snapshot_data import FileSink, FileSnapshot, SnapshotData
from cluster.runtime import Runtime
from storage.applier import StoreApplier
from storage.apply_queue import Queued
from storage.columnar import ColumnarStore
from storage.columnar_apply import FragmentTables
from storage.damage import scan
from storage.entries import (
    Abort,
    Alter,
    ChangeEntry,
    Commit,
    Confirm,
    Confirmed,
    Cut,
    Decision,
    Horizon,
    Ingest,
    Precommit,
    Prepare,
    TabletEntry,
    Write,
    decode_changes,
    decode_entry,
)
from storage.fragments import (
    AccessMethod,
    FragmentChange,
    FragmentId,
    FragmentSchema,
    FragmentSize,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.locks import LockRequest
from storage.moves import Moves, close_sources, moves_of, open_sources, sum_sizes
from storage.operations import AlterOperation, CommitOperation, HorizonOperation
from storage.participant import (
    ApplyChunks,
    DropChunks,
    Ended,
    Granted,
    Instruction,
    LogAbort,
    Outcome,
    Participant,
    ParticipantImage,
    Refused,
)
from storage.row_scan import RowScan
from storage.row_side import RowSide
from storage.staging import StagedEntry, Staging
from storage.tasks import deadline
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


class CarriedEntry(msgspec.Struct, frozen=True, array_like=True):
    """An entry of a transaction without outcome, kept outside the log."""

    term: int
    index: int
    data: bytes


class ReplicaImage(msgspec.Struct, frozen=True):
    """The participant at a checkpoint; `first_unresolved` is the oldest log entry it needs."""

    participant: ParticipantImage = ParticipantImage()
    carried: tuple[CarriedEntry, ...] = ()
    first_unresolved: int | None = None
    fragments: tuple[FragmentSchema, ...] = ()
    schema_version: int = 0


class TabletReplica:
    """A `StreamedStateMachine` (cluster.raft.snapshot_data) over a columnar and a row store."""

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
        self._image_index = index
        self._unresolved = frozenset(image.participant.unresolved)
        self._carried_index = 0
        for carried in image.carried:
            self._apply_kept(carried)
            self._carried_index = carried.index
        self._durable_index = _durable_index(image, index)
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
        staged = self._staging.keep(_staged(decoded, carried.term, carried.index, carried.data))
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

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        """Takes in log entries; see `StateMachine`."""
        results = [await self._apply_entry(entry) for entry in entries]
        self._rows.apply_now()
        await self._applier.wait_room()
        await self._rows.wait_room()
        return results

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

    async def _apply_entry(self, entry: Entry) -> object:
        decoded = decode_entry(entry.data)[0] if entry.kind is EntryKind.COMMAND else None
        if entry.index <= self._image_index:
            if self._is_unresolved(decoded):
                reached(Probe.REPLAYED_UNRESOLVED)
            else:
                decoded = None
        staged = None
        if isinstance(decoded, ChangeEntry):
            staged = await self._stage(decoded, entry)
        moves = None
        if isinstance(decoded, Alter):
            moves = await self._moves_of(decoded, entry.index)
        # No await from here on: a checkpoint must never see half an entry.
        result: object = None
        if isinstance(decoded, Alter):
            assert moves is not None
            self._take_alter(decoded, entry, moves)
        else:
            result = self._take_in(decoded, entry, staged)
        self._applied_index = entry.index
        self._applier.seen(entry.index)
        self._rows.seen(entry.index)
        self._wake_index_waiters()
        return result

    def _is_unresolved(self, decoded: TabletEntry | None) -> bool:
        if not isinstance(decoded, Ingest | Prepare | Precommit):
            return False
        return decoded.transaction_id in self._unresolved

    async def _stage(self, decoded: ChangeEntry, entry: Entry) -> StagedEntry:
        staged = _staged(decoded, entry.term, entry.index, entry.data)
        if not isinstance(decoded, Ingest | Prepare):
            return staged  # its outcome is here already
        if self._staging.fits_in_memory(len(entry.data)):
            return self._staging.keep(staged)
        return await self._runtime.run_blocking(self._staging.keep, staged)

    def _take_in(
        self,
        decoded: ChangeEntry | Precommit | Commit | Abort | Confirmed | Confirm | Horizon | None,
        entry: Entry,
        staged: StagedEntry | None,
    ) -> object:
        if decoded is None:
            return None
        if isinstance(decoded, Horizon):
            self._horizon = max(self._horizon, decoded.horizon)
            self._history_since = self._horizon + 1 if self._newest_ts > self._horizon else None
            operation = HorizonOperation(decoded.horizon)
            # Reads are held to it here already, and need not wait for it in the stores.
            none: frozenset[FragmentId] = frozenset()
            queued = Queued(
                entry.index,
                lambda: operation,
                len(entry.data),
                fragments=none,
                is_patient=True,
            )
            self._applier.push(queued)
            self._rows.push(queued)
            return None
        result, instructions = self._participant.apply(decoded, entry.term, staged)
        self._follow(instructions, entry.index)
        if isinstance(decoded, Confirmed | Confirm):
            return None
        return result

    # Definition.

    async def _moves_of(self, alter: Alter, index: int) -> Moves:
        """Makes the fragments ready to change their stores; what each store begins with."""
        moves = moves_of(self._schemas, alter.fragments)
        if moves.needs_row_store:
            await self._rows.open(index - 1)
        if moves.gives_up:
            # What a store gives up must be in the other one whatever happens.
            await self.checkpoint()
        return await open_sources(moves, self._applier, self._rows, index)

    def _take_alter(self, alter: Alter, entry: Entry, moves: Moves) -> None:
        self._schemas = {schema.fragment_id: schema for schema in alter.fragments}
        self._schema_version = alter.schema_version
        for push, sources in (
            (self._applier.push, moves.to_columnar),
            (self._rows.push, moves.to_rows),
        ):
            operation = AlterOperation(alter.fragments, alter.schema_version, sources)
            push(
                Queued(
                    entry.index,
                    partial(_itself, operation),
                    len(entry.data),
                    done=partial(close_sources, sources),
                    is_slow=True,
                )
            )

    # What the participant asks for.

    def _follow(self, instructions: Iterable[Instruction], index: int = 0) -> None:
        for instruction in instructions:
            if isinstance(instruction, ApplyChunks):
                self._push_commit(instruction, index)
            elif isinstance(instruction, DropChunks):
                self._staging.drop(instruction.transaction_id)
            elif isinstance(instruction, Granted | Refused):
                self._answer(instruction.request, granted=isinstance(instruction, Granted))
            elif isinstance(instruction, Ended):
                self._end(instruction.transaction_id, instruction.outcome)
            else:
                self._propose_abort(instruction)

    def _push_commit(self, instruction: ApplyChunks, index: int) -> None:
        entries: Sequence[StagedEntry] = sorted(instruction.chunks, key=lambda e: e.sequence)
        fragments = frozenset(fragment for entry in entries for fragment in entry.fragments)
        self._committed_here(index, instruction.commit_ts, entries)
        self._newest_ts = max(self._newest_ts, instruction.commit_ts)
        if self._history_since is None or instruction.commit_ts < self._history_since:
            self._history_since = instruction.commit_ts
        methods = [self._schemas[f].method for f in fragments if f in self._schemas]
        pushes = []
        if any(method.in_row_store for method in methods):
            pushes.append(self._rows.push)
        if any(method.in_columnar_store for method in methods):
            pushes.append(self._applier.push)
        done = _AfterAll(len(pushes), partial(self._staging.drop, instruction.transaction_id))
        queued = Queued(
            index,
            partial(self._commit_operation, instruction.commit_ts, entries, index),
            sum(entry.length for entry in entries),
            instruction.commit_ts,
            fragments,
            sum(0 if entry.data is None else entry.length for entry in entries),
            done.one,
            any(entry.truncates for entry in entries),
            is_patient=all(method is AccessMethod.HYBRID for method in methods),
        )
        for push in pushes:
            push(queued)

    def _committed_here(
        self, index: int, commit_ts: Timestamp, entries: Sequence[StagedEntry]
    ) -> None:
        """For the leader's part: a commit is about to be queued for the store."""

    def _commit_operation(
        self, commit_ts: Timestamp, entries: Sequence[StagedEntry], index: int
    ) -> CommitOperation:
        return CommitOperation(commit_ts, self._load_changes(entries), index)

    def _load_changes(
        self, entries: Sequence[StagedEntry], cuts: Sequence[Cut] = ()
    ) -> list[FragmentChange]:
        """The changes in staged entries, in order, without what the cuts or those in the last
        entry leave out; blocks on the disk. Runs on any thread."""
        decoded = [decode_entry(buffer) for buffer in self._staging.load(entries)]
        if decoded and isinstance(last := decoded[-1][0], Write | Prepare | Decision):
            cuts = [*cuts, *last.cuts]
        changes: list[FragmentChange] = []
        for staged, (entry, bodies) in zip(entries, decoded, strict=True):
            assert isinstance(entry, ChangeEntry)
            keeps = partial(_kept, cuts, staged.sequence)
            changes += decode_changes(entry.changes, bodies, self._schemas.get, keeps)
        return changes

    def _answer(self, request: LockRequest, *, granted: bool) -> None:
        waiter = self._lock_waiters.pop(request.number, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(granted)

    def _end(self, transaction_id: TransactionId, outcome: Outcome | None) -> None:
        for waiter in self._end_waiters.pop(transaction_id, []):
            if not waiter.done():
                waiter.set_result(None)

    def _propose_abort(self, instruction: LogAbort) -> None:
        raise AssertionError(f"a follower cannot log {instruction}")

    # Reading.

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

    # Keeping.

    @property
    def horizon(self) -> Timestamp:
        """Nobody may read below it here any more (rule L7)."""
        return self._horizon

    def may_have_history(self, horizon: Timestamp) -> bool:
        """Whether rows that are kept may have ended by that horizon."""
        return self._history_since is not None and self._history_since <= horizon

    async def prune(self, most_rows: int) -> bool:
        """Deletes some of the history that ended by the horizon, looking at about so many rows a
        store; whether there is more."""
        appliers: list[StoreApplier[Any]] = [self._applier]
        if self._rows.store is not None:
            appliers.append(self._rows.applier)
        for applier in appliers:
            if applier.store.prunable:
                await applier.alone(partial(applier.store.prune, most_rows))
        return any(applier.store.prunable for applier in appliers)

    @property
    def unsaved_bytes(self) -> int:
        """Log bytes whose effects the next checkpoint would make durable."""
        return max(self._applier.unsaved_bytes, self._rows.unsaved_bytes)

    @property
    def has_unsaved(self) -> bool:
        """Whether a checkpoint would raise the durable index or save an effect."""
        return self._applied_index > self._applier.store.image_index

    async def checkpoint(self) -> None:
        """Makes everything applied durable; the log may be cut up to `durable_index` after."""
        if self._installing:
            return
        async with self._checkpointing:
            if not self._installing:
                await self._checkpoint()

    async def _checkpoint(self) -> None:
        durable: list[int] = []

        def freeze() -> tuple[bytes, int]:
            image = self._image()
            if image.first_unresolved is not None:
                reached(Probe.CHECKPOINT_IN_TRANSACTION)
            durable.append(_durable_index(image, self._applied_index))
            return msgspec.msgpack.encode(image), self._applied_index

        await self._rows.checkpoint(freeze)
        await self._applier.checkpoint(freeze)
        self._durable_index = max(self._durable_index, min(durable))

    async def checkpoint_whole(self) -> None:
        """A checkpoint behind which nothing of the log is needed: staged changes and all."""

        def freeze() -> tuple[bytes, int]:
            return msgspec.msgpack.encode(self._image(carry_all=True)), self._applied_index

        index = self._applied_index
        await self._rows.checkpoint(freeze)
        await self._applier.checkpoint(freeze)
        assert self._applied_index == index, "the log went on"
        self._carried_index = self._durable_index = index

    @property
    def newest_commit_ts(self) -> Timestamp:
        """The highest commit timestamp that the stores have taken in."""
        rows = self._rows.store.position.max_commit_ts if self._rows.store is not None else 0
        return max(self._applier.store.position.max_commit_ts, rows)

    def on_damage(self, callback: Callable[[], None]) -> None:
        """Be told, on the loop, when the store's file is found damaged at an apply."""
        self._applier.on_damage = callback
        self._rows.on_damage = callback

    async def scan(self) -> None:
        """Reads the whole stores; raises DataCorrupted where a file is damaged."""
        await self._applier.run(self._scan)
        if self._rows.store is not None:
            await self._rows.applier.run(self._rows.store.verify)

    def _scan(self) -> None:
        store = self._applier.store
        with store.cursor() as cursor:
            for fragment_id in list(store.fragments):
                tables = store.tables(fragment_id)
                scan(cursor, (tables.current, tables.history))

    async def sizes(self) -> list[FragmentSize]:
        """What each fragment of the tablet occupies here."""
        sizes = await self._applier.run(self._applier.store.size)
        if self._rows.store is None:
            return sizes
        return sum_sizes(sizes, await self._rows.applier.run(self._rows.store.size))

    async def close(self) -> None:
        """Stops following the log; what is not durable is replayed at the next start."""
        await self._applier.close()
        await self._rows.close()
        self._staging.close()
        self._applier.store.close()

    async def drop(self) -> None:
        """Removes the replica's files."""
        await self._applier.close()
        await self._rows.drop()
        self._staging.close()
        self._applier.store.drop()

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
        )


class _AfterAll:
    """Calls back once `one` was called for each store."""

    def __init__(self, count: int, callback: Callable[[], None]) -> None:
        self._left = count
        self._callback = callback
        if not count:
            callback()

    def one(self) -> None:
        self._left -= 1
        if not self._left:
            self._callback()


def _itself(operation: AlterOperation) -> AlterOperation:
    return operation


def _kept(cuts: Sequence[Cut], chunk: int, change: int) -> bool:
    return all(cut.keeps(chunk, change) for cut in cuts)


def _durable_index(image: ReplicaImage, index: int) -> int:
    return index if image.first_unresolved is None else min(index, image.first_unresolved - 1)


def _staged(decoded: ChangeEntry, term: int, index: int, data: bytes) -> StagedEntry:
    # Chunks are numbered; an entry that prepares or decides comes behind all of them.
    sequence = decoded.sequence if isinstance(decoded, Ingest) else decoded.chunks
    fragments = frozenset(change.fragment_id for change in decoded.changes)
    truncates = any(change.truncate for change in decoded.changes)
    return StagedEntry(
        decoded.transaction_id,
        term,
        index,
        sequence,
        fragments,
        len(data),
        data,
        truncates=truncates,
    )
