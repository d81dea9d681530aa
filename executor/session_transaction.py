"""One transaction over several statements: its snapshots, its commands, its changes, its end.

An explicit block (BEGIN to COMMIT) and an implicit one (the statements of one message, or of an
extended-protocol exchange up to its Sync) are the same thing here. It is made when it begins,
costs nothing until a statement changes or locks something, and is then a `Transaction` of the
driver, which keeps its tablets' leases alive while the client thinks.

- **Commands.** Statements are numbered. A statement reads what earlier ones changed and not
  what it changes itself (rule R5); a savepoint is the number of the next statement, and going
  back to it takes away the changes from that number on.
- **Snapshots.** READ COMMITTED takes a new one a statement. REPEATABLE READ and SERIALIZABLE
  keep the first one, and with it the catalog it was planned with.
- **Reads.** A SERIALIZABLE transaction remembers what it has read (`executor.transaction_reads`);
  where it changes something its commit validates that (rule I4). Serial order is that of commit
  timestamps, so one that only reads has nothing to validate.
- **Failure.** The moment a statement fails, what it changed is taken back: to the innermost
  savepoint, or without one everything, so that a failed block holds nothing while its client
  has not said ROLLBACK.

Handlers of statements know nothing of this: they get a `StatementChanges`, which looks like a
transaction of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain

import pyarrow as pa

from catalog.commands import Command, CommandResult
from catalog.model import CATALOG_TABLET, Catalog, Table
from catalog.patches import Patch
from cluster.errors import DqeError, ObjectNotInPrerequisiteState, SerializationFailure
from executor.deferred_keys import DeferredKeys, Named
from executor.definitions import TransactionDefinitions
from executor.key_changes import KeyChanges
from executor.services import ExecutorServices
from executor.transaction_driver import EXCLUSIVE, SHARED, Transaction
from executor.transaction_faces import Control
from executor.transaction_reads import Reads
from executor.transaction_tokens import TransactionToken, some_tablet
from executor.write_settings import LOCK_DEADLINE_S, WriteSettings
from planner.plan import QueryPlan
from storage.fragments import FragmentChange, FragmentId, OwnChanges, TabletId, Timestamp
from storage.lock_driver import WAIT, RowsLocked
from storage.locks import LockMode
from storage.open_checks import Deferred
from storage.read_sets import RowRange
from storage.row_tables import StoredKey, StoredRow

READ_COMMITTED = ("read committed", "read uncommitted")
SERIALIZABLE = "serializable"


class SessionTransaction:
    """See the module. Ends with `commit` or `roll_back`, whichever comes first."""

    def __init__(self, services: ExecutorServices) -> None:
        self._services = services
        self._opened: Transaction | None = None
        self._undoing: asyncio.Task[None] | None = None
        self._holds = ExitStack()
        self._snapshot: tuple[Timestamp, Catalog] | None = None
        # Whether it reads the past, by its own word or the session's, and so may change nothing.
        self.is_past = False
        self._floor: Timestamp = 0
        self._begun: Timestamp = 0
        # Who its token says is to be asked.
        self._named: TabletId | None = None
        self._reads = Reads()
        self.definitions = TransactionDefinitions(services)
        self.isolation = READ_COMMITTED[0]
        # How long a statement waits for one lock.
        self.lock_deadline_s = LOCK_DEADLINE_S
        # How much it may change altogether; None without a limit.
        self.max_bytes: int | None = None
        # How it commits, and how it keeps others away; settled by its first change or lock.
        self.control = Control()
        # The statement under way, or the part of it that reads what earlier parts have done; the
        # first is number 1. `statement_command` is where the statement began.
        self.command = 0
        self.statement_command = 0
        # What its statement did to values that tie rows to others (`executor.foreign_keys`).
        self.key_changes: list[KeyChanges] = []
        # And what of it is looked at in the end.
        self.deferred_keys = DeferredKeys()

    def settle(self, settings: WriteSettings) -> None:
        """What the session says now of changes holds for the statement to come."""
        self.lock_deadline_s = settings.lock_deadline_s
        self.max_bytes = settings.max_bytes
        self.control = settings.control

    # -- snapshots

    @property
    def keeps_snapshot(self) -> bool:
        """Whether all statements read at the first one's snapshot."""
        return self.isolation not in READ_COMMITTED

    async def snapshot(self) -> tuple[Timestamp, Catalog]:
        """Where the next statement reads, and what it is planned with."""
        if self._snapshot is None:
            timestamp, version = await self._services.timestamps.snapshot()
            self._begun = self._begun or timestamp
            catalog = await self._services.catalog.wait_version(version)
            if not self.keeps_snapshot:
                return timestamp, self.definitions.view(catalog)
            self._snapshot = timestamp, catalog
            self._holds.enter_context(self._services.timestamps.held(timestamp))
        timestamp, catalog = self._snapshot
        if self.definitions.any or self.is_past:
            # The transaction's own tables are younger than its snapshot, and go again where it
            # takes them back; the past is read with the tables of today, wherever they lie.
            catalog = self.definitions.view(self._services.catalog.current)
        return timestamp, catalog

    @property
    def kept_snapshot(self) -> tuple[Timestamp, Catalog] | None:
        """Where all statements read and the catalog of then, once the first has settled it."""
        return self._snapshot

    def read_past(self, timestamp: Timestamp) -> None:
        """All statements are to read at that timestamp; before the first of them."""
        self.is_past = True
        self._snapshot = timestamp, self._services.catalog.current
        self._holds.close()
        self._holds.enter_context(self._services.timestamps.held(timestamp))

    @property
    def has_snapshot(self) -> bool:
        """Whether it is settled where all statements read, or some have read already."""
        return self._snapshot is not None or self.command > 1

    @property
    def has_read(self) -> bool:
        """Whether a statement has run, so that the isolation level is settled."""
        return self.command > 0

    # -- statements

    def begin_command(self) -> None:
        """Another statement begins: it sees the changes of those before."""
        self.command += 1
        self.statement_command = self.command
        self.key_changes.clear()

    def begin_part(self) -> None:
        """What the statement does from here on sees what it did before."""
        self.command += 1

    def own_changes(self) -> OwnChanges | None:
        """What the statement sees besides committed rows; None without changes."""
        if self._opened is None or not self._opened.changed:
            return None
        return OwnChanges(self._opened.id, self.command, self._opened.written)

    def known_rows(
        self, tablet_id: TabletId, fragment_id: FragmentId, keys: Sequence[StoredKey]
    ) -> Sequence[StoredRow | None] | None:
        """Rows by key that the transaction has changed itself, as they are for it now; None where
        the tablet must be asked (`executor.known_rows`)."""
        if self._opened is None:
            return None
        return self._opened.known_rows(tablet_id, fragment_id, keys)

    def statement(self) -> StatementChanges:
        """For the statement under way to lock and change with."""
        return StatementChanges(self)

    @property
    def opened(self) -> Transaction:
        """The driver's transaction, begun if it was not."""
        if self._opened is None:
            settings = WriteSettings(self.lock_deadline_s, self.max_bytes, self.control)
            self._opened = Transaction.opened_by(self._services, settings)
        self._opened.lock_deadline_s = self.lock_deadline_s
        self._opened.max_bytes = self.max_bytes
        return self._opened

    async def token(self) -> str:
        """What the transaction can be asked about by, from any of its statements on. The tablet
        that it names, or the catalog, takes part in the end, so its log knows of that."""
        await self.snapshot()
        if self._named is None:
            self._named = await self._take_part()
        return str(TransactionToken(self.opened.id, self._begun, self._named))

    async def _take_part(self) -> TabletId:
        """A tablet where it has changed something, or some other that takes part from now on; the
        catalog where it defines something, or nobody has a table yet."""
        if not self.definitions.any and (home := self.opened.home) is not None:
            return home
        home = None if self.definitions.any else some_tablet(self._services)
        if home is None:
            await self.definitions.take_part(self.opened.id)
            return CATALOG_TABLET
        await self.opened.take_part(home)
        return home

    @property
    def written(self) -> tuple[TabletId, ...]:
        """The tablets that got changes."""
        return () if self._opened is None else self._opened.written

    async def define(self, listed: Sequence[Command]) -> tuple[Sequence[CommandResult], Patch]:
        """Drafts commands as a part of the statement under way (`executor.definitions`)."""
        return await self.definitions.apply(listed, self.opened.id, self.command)

    def note_reads(self, plan: QueryPlan) -> None:
        """The statement reads what the plan scans; counts where the end validates reads."""
        if self.isolation != SERIALIZABLE:
            return
        for stage in plan.stages:
            for scan in stage.scans:
                self._reads.note_table(scan.table_id)
                for fragment in chain.from_iterable(scan.fragments):
                    self._reads.note_scan(fragment.tablet_id, fragment.fragment_id, scan.ranges)

    def note_key(self, tablet_id: TabletId, fragment_id: FragmentId, key: StoredKey) -> None:
        """The statement looks up a key; counts where the end validates reads."""
        if self.isolation == SERIALIZABLE:
            self._reads.note_key(tablet_id, fragment_id, key)

    def note_range(self, tablet_id: TabletId, fragment_id: FragmentId, read: RowRange) -> None:
        """The statement reads rows by their values, and would see others that come to have them."""
        if self.isolation == SERIALIZABLE:
            self._reads.note_range(tablet_id, fragment_id, read.bare)

    def saw(self, timestamp: Timestamp) -> None:
        """An oracle timestamp from before now: no commit timestamp is below it."""
        self._floor = max(self._floor, timestamp)

    # -- unique constraints that wait for the end

    def check_later(self, left: Iterable[Deferred]) -> None:
        """What the statement did to these constraints is checked later."""
        for constraint in left:
            key = self.deferred_keys.named(constraint)
            if key is not None and not self.deferred_keys.waits(key):
                check = partial(self._check_unique, key)
                self.deferred_keys.wait(self.statement_command, key, check)

    async def _check_unique(self, key: Named) -> None:
        """Checks what is left of a unique constraint, on all tablets of its table."""
        deferred = self.deferred_keys.unique_on(but=key)
        await self.opened.check(self.opened.written, 0, self.command, deferred)

    # -- ends

    def fail(self, command: int | None) -> None:
        """The statement failed: takes back what came since the savepoint at that command, or
        without one everything. In the background; whatever comes next waits for it."""
        if self._undoing is None:
            undo = self._undo(self._opened, command)
            self._undoing = self._services.runtime.spawn(undo, "undo of a failed statement")

    async def _undo(self, opened: Transaction | None, command: int | None) -> None:
        self.definitions.undo(command or 0)
        self.deferred_keys.undo(command or 0)
        if opened is None:
            return
        try:
            if command is not None:
                await opened.take_back(command)
                return
        except DqeError:
            pass  # a tablet lost the transaction: nothing of it is left to keep
        await opened.abort()

    async def _undone(self) -> None:
        undoing, self._undoing = self._undoing, None
        if undoing is not None:
            await asyncio.wait([undoing])

    async def undo_statement(self) -> None:
        """Undoes what the statement under way has done, so that it can run again."""
        self.deferred_keys.undo(self.statement_command)
        if self._opened is not None:
            await self._opened.take_back(self.statement_command)

    async def take_back(self, command: int) -> None:
        """Undoes the statements from that number on."""
        await self._undone()
        self.command += 1
        self.definitions.undo(command)
        self.deferred_keys.undo(command)
        if self._opened is not None:
            await self._opened.take_back(command)

    async def commit(self) -> None:
        """Makes the changes visible, all at once; raises what kept them from it."""
        await self._undone()
        try:
            # What it has read is looked at again as it was, so its snapshot holds until then.
            await self.deferred_keys.check(self.command)
            await self._commit_changes()
        except ObjectNotInPrerequisiteState as error:
            # Statements are planned again for what was defined anew; a whole transaction cannot.
            await self._give_up(error)
            raise SerializationFailure(
                "could not serialize access because a table was defined anew",
                detail=error.message,
                hint="The transaction might succeed if retried.",
            ) from error
        except BaseException as error:
            # What went wrong before the end proper has ended nothing: a lock that was not had.
            await self._give_up(error)
            raise
        finally:
            self._end()
            await self.definitions.end()

    async def _give_up(self, error: BaseException) -> None:
        if self._opened is not None:
            await self._opened.abort(error if isinstance(error, DqeError) else None)

    async def _commit_changes(self) -> None:
        if self._opened is not None:
            reads = None
            if self.isolation == SERIALIZABLE and self._reads.any:
                assert self._snapshot is not None
                reads = self._reads
                reads.base, planned_with = self._snapshot
                catalog = self._services.catalog
                if not self.definitions.any:
                    reads.parts_stand = lambda: (
                        not reads.has_other_parts(planned_with, catalog.current)
                    )
            in_catalog = self.definitions.any or self._named == CATALOG_TABLET
            home = self.definitions if in_catalog else None
            if home is not None and reads is not None:
                # Its timestamp is drawn after they are validated: they are to stay as they are.
                await self._opened.lock(reads.tablets, LockMode.SHARE.value)
            await self._opened.commit(self._floor, checks=False, reads=reads, catalog=home)

    async def roll_back(self) -> None:
        """Ends without effect."""
        await self._undone()
        self._end()
        if self._opened is not None:
            await self._opened.abort()
        await self.definitions.end()

    def _end(self) -> None:
        self._holds.close()


class StatementChanges:
    """One statement's part of a session's transaction, in the shape of a `Transaction`.

    Its `commit` ends the statement, not the transaction: constraints are checked, and what was
    found stays so by locks that are kept. Its `abort` is the session's to carry out.
    """

    def __init__(self, transaction: SessionTransaction) -> None:
        self._transaction = transaction
        self._written: dict[TabletId, None] = {}

    @property
    def id(self) -> int:
        return self._transaction.opened.id

    async def lock(
        self,
        tablets: Iterable[TabletId],
        mode: str = EXCLUSIVE,
        *,
        wait: bool = True,
    ) -> None:
        """Locks whole tablets until the transaction's end."""
        await self._transaction.opened.lock(tablets, mode, self._transaction.command, wait)

    async def lock_rows(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode,
        base: Timestamp,
        policy: str = WAIT,
        *,
        binding: bool = False,
    ) -> RowsLocked:
        """Locks rows by key until the transaction's end; which others changed after `base`."""
        transaction = self._transaction
        return await transaction.opened.lock_rows(
            tablet_id,
            fragment_id,
            keys,
            mode,
            base,
            policy,
            transaction.command,
            binding,
        )

    def key_changes(self, table: Table) -> KeyChanges:
        """Where the statement's changes of the table are recorded."""
        found = KeyChanges(table)
        self._transaction.key_changes.append(found)
        return found

    def writes_deferrable(self, table: Table) -> None:
        """Rows come into a table with unique constraints that may be checked later."""
        self._transaction.deferred_keys.note_written(table)

    async def stage(self, tablet_id: TabletId, change: FragmentChange) -> None:
        """Sends a change on its way, as one of the statement's."""
        self._written[tablet_id] = None
        await self._transaction.opened.stage(tablet_id, change, self._transaction.command)

    async def drain(self) -> None:
        await self._transaction.opened.drain()

    @property
    def changed(self) -> bool:
        return bool(self._written)

    async def commit(self, floor: Timestamp, *, checks: bool) -> Timestamp:
        """The statement is done; raises 23505, and 40001 where its snapshot is kept and a row
        it changes was changed by another transaction after it."""
        transaction = self._transaction
        transaction.saw(floor)
        if not self._written:
            return floor
        opened = transaction.opened
        await opened.drain()
        if not opened.control.optimistic:
            await self.lock(self._written, SHARED)
        base = floor if transaction.keeps_snapshot else 0
        if checks or base:
            deferred = transaction.deferred_keys.unique_on()
            written = sorted(self._written)
            left = await opened.check(written, base, transaction.command, deferred)
            transaction.check_later(left)
        return floor

    async def abort(self, error: DqeError | None = None) -> None:
        """Left to the session, which knows the savepoints."""
