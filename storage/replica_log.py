"""A replica follows the log: each entry goes to the participant, its effects to the stores.

The participant (who is under way, who ended how) takes in each entry as it is applied. The row
store, where a fragment needs one (`row_side`), takes in its effects before the log's driver goes
on, as far as that is quick; the columnar store follows behind (`applier`).

An `alter` may give a fragment to a store that did not have it: the store begins with the rows
of the other one (`moves`), of that index or a later one, and takes from the log what came after
them. Before a store gives a fragment up, the other one is made durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from cluster.probes import Probe, reached
from cluster.raft.log import Entry, EntryKind
from storage.apply_queue import Queued
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
from storage.fragments import AccessMethod, FragmentChange, FragmentId, Timestamp
from storage.moves import Moves, close_sources, moves_of, open_sources
from storage.operations import AlterOperation, CommitOperation, HorizonOperation
from storage.participant import (
    ApplyChunks,
    DropChunks,
    Ended,
    Granted,
    Instruction,
    LogAbort,
    Refused,
)
from storage.replica_image import staged_entry
from storage.replica_keeping import KeptReplica
from storage.row_keys import has_keys, row_keys
from storage.staging import StagedEntry

# Longer committed entries are not looked into when they are queued for the store.
LOOKED_INTO_BYTES = 256 * 1024
# What was decoded of shorter ones waits for the row store with them.
DECODED_KEPT_BYTES = 16 * 1024

# What was committed, decoded at the first call.
Load = Callable[[], Sequence[FragmentChange]]


class LogFollower(KeptReplica):
    """See the module."""

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        """Takes in log entries; see `StateMachine`."""
        results = [await self._apply_entry(entry) for entry in entries]
        self._rows.apply_now()
        await self._applier.wait_room()
        await self._rows.wait_room()
        return results

    def apply_now(self, entries: Sequence[Entry]) -> list[object] | None:
        """The same where nothing has to be waited for; see `PromptStateMachine`."""
        size_bytes = sum(len(entry.data) for entry in entries)
        if not (self._applier.has_room and self._rows.has_room):
            return None
        if not self._staging.fits_in_memory(size_bytes):
            return None
        all_decoded = [self._decode(entry) for entry in entries]
        if any(isinstance(decoded, Alter) for decoded in all_decoded):
            return None
        results = []
        for decoded, entry in zip(all_decoded, entries, strict=True):
            staged = self._staged(decoded, entry) if isinstance(decoded, ChangeEntry) else None
            assert not isinstance(decoded, Alter)
            results.append(self._take_in(decoded, entry, staged))
            self._has_applied(entry)
        self._rows.apply_now()
        return results

    async def _apply_entry(self, entry: Entry) -> object:
        decoded = self._decode(entry)
        result: object = None
        # A checkpoint must never see half an entry: nothing is awaited once it is begun with.
        if isinstance(decoded, Alter):
            self._take_alter(decoded, entry, await self._moves_of(decoded, entry.index))
        else:
            staged = None
            if isinstance(decoded, ChangeEntry):
                staged = await self._stage(decoded, entry)
            result = self._take_in(decoded, entry, staged)
        self._has_applied(entry)
        return result

    def _decode(self, entry: Entry) -> TabletEntry | None:
        """What the entry says, None where that is nothing, or in the participant's image."""
        if entry.kind is not EntryKind.COMMAND:
            return None
        decoded = decode_entry(entry.data)[0]
        if entry.index > self._image_index:
            return decoded
        if not self._is_unresolved(decoded):
            return None
        reached(Probe.REPLAYED_UNRESOLVED)
        return decoded

    def _has_applied(self, entry: Entry) -> None:
        self._applied_index = entry.index
        self._applier.seen(entry.index)
        self._rows.seen(entry.index)
        self._wake_index_waiters()

    def _is_unresolved(self, decoded: TabletEntry | None) -> bool:
        if not isinstance(decoded, Ingest | Prepare | Precommit):
            return False
        return decoded.transaction_id in self._unresolved

    async def _stage(self, decoded: ChangeEntry, entry: Entry) -> StagedEntry:
        is_kept = isinstance(decoded, Ingest | Prepare)
        if not is_kept or self._staging.fits_in_memory(len(entry.data)):
            return self._staged(decoded, entry)
        return await self._runtime.run_blocking(self._staged, decoded, entry)

    def _staged(self, decoded: ChangeEntry, entry: Entry) -> StagedEntry:
        staged = staged_entry(decoded, entry.term, entry.index, entry.data)
        if not isinstance(decoded, Ingest | Prepare):
            return staged  # its outcome is here already
        return self._staging.keep(staged)

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
            self._moved.forget(self._horizon, self._schemas)
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
        length = sum(entry.length for entry in entries)
        load = partial(self._load_changes, entries)
        load_once = _Once(load) if length <= DECODED_KEPT_BYTES else load
        self._committed_here(index, instruction.commit_ts, entries, load_once)
        if any(entry.moves for entry in entries):
            self._note_moves(instruction.commit_ts, entries, index, load_once)
        self._newest_ts = max(self._newest_ts, instruction.commit_ts)
        if self._history_since is None or instruction.commit_ts < self._history_since:
            self._history_since = instruction.commit_ts
        methods = [self._schemas[f].method for f in fragments if f in self._schemas]
        pushes: list[tuple[Callable[[Queued], None], Load]] = []
        if any(method.in_row_store for method in methods):
            pushes.append((self._rows.push, load_once))
        if any(method.in_columnar_store for method in methods):
            # Which takes it in later, and decodes it again rather than hold it for so long.
            pushes.append((self._applier.push, load))
        done = _AfterAll(len(pushes), partial(self._staging.drop, instruction.transaction_id))
        held = sum(0 if entry.data is None else entry.length for entry in entries)
        truncates = any(entry.truncates for entry in entries)
        is_patient = all(method is AccessMethod.HYBRID for method in methods)
        for push, loads in pushes:
            queued = Queued(
                index,
                partial(_commit_operation, instruction.commit_ts, loads, index),
                length,
                instruction.commit_ts,
                fragments,
                held,
                done.one,
                truncates,
                is_patient=is_patient,
            )
            push(queued)

    def _committed_here(
        self, index: int, commit_ts: Timestamp, entries: Sequence[StagedEntry], load: Load
    ) -> None:
        """For the leader's part: a commit is about to be queued for the store."""

    def _note_moves(
        self, commit_ts: Timestamp, entries: Sequence[StagedEntry], index: int, load: Load
    ) -> None:
        if sum(entry.length for entry in entries) > LOOKED_INTO_BYTES:
            for fragment_id in {f for entry in entries if entry.moves for f in entry.fragments}:
                self._moved.note_any(fragment_id, commit_ts)
            return
        for change in load():
            schema = self._schemas.get(change.fragment_id)
            if not change.moved or change.delete_keys is None or schema is None:
                continue
            if has_keys(schema, schema.key):
                keys = row_keys(schema, change.delete_keys, schema.key)
                self._moved.note(schema.fragment_id, keys, change.moved, commit_ts, index)

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

    def _propose_abort(self, instruction: LogAbort) -> None:
        raise AssertionError(f"a follower cannot log {instruction}")


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


class _Once:
    """What a function gives, which is called once."""

    __slots__ = ("_found", "_load")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._found: Sequence[FragmentChange] | None = None

    def __call__(self) -> Sequence[FragmentChange]:
        if self._found is None:
            self._found = self._load()
        return self._found


def _commit_operation(commit_ts: Timestamp, load: Load, index: int) -> CommitOperation:
    return CommitOperation(commit_ts, load(), index)


def _itself(operation: AlterOperation) -> AlterOperation:
    return operation


def _kept(cuts: Sequence[Cut], chunk: int, change: int) -> bool:
    return not cuts or all(cut.keeps(chunk, change) for cut in cuts)
