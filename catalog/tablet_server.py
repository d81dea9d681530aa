"""Carries out what tablets of this node are asked, for whoever asks: the leader's side.

A request of a transaction names the leader term under which it began at the tablet
(`tablet_requests`); another leader refuses it with `LeaderChanged` (rule C2). `tablet_rpc` is the
side that asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pyarrow as pa

from catalog import tablet_requests as requests
from catalog.model import TabletId
from catalog.service import CatalogService
from catalog.tablet_requests import Done, Status
from catalog.tablets import TabletManager
from cluster.probes import Probe, reached
from cluster.rpc import CallContext, RpcNode
from storage import row_programs
from storage.fragments import FragmentChange, OwnChanges
from storage.locks import LockMode
from storage.node import NodeStorage
from storage.participant import leader_changed
from storage.row_closures import NotByRow
from storage.row_tables import RowTables, StoredKey, StoredRow
from storage.tablet import Tablet
from storage.tablet_row_locks import RowsFound, RowWork, Works

ASK_WAITS = "tablet.AskWaits"
COMMITTING = "tablet.Committing"

# A method of `TabletServer`: request, seconds left -> answer.
Handler = Callable[..., Awaitable[msgspec.Struct]]

Request = (
    requests.TransactionRequest
    | requests.CommitAll
    | requests.AskReadIndex
    | requests.ReadRows
    | requests.ScanRows
)


class TabletServer:
    """Carries requests out on the tablets of this node."""

    def __init__(
        self, rpc: RpcNode, storage: NodeStorage, tablets: TabletManager, catalog: CatalogService
    ) -> None:
        self._storage = storage
        self._tablets = tablets
        self._timestamps = catalog.timestamps
        handlers: list[tuple[type[Request], Handler]] = [
            (requests.Lock, self.lock),
            (requests.TakeBack, self.take_back),
            (requests.Check, self.check),
            (requests.ChangeRows, self.change_rows),
            (requests.Write, self.write),
            (requests.Prepare, self.prepare),
            (requests.Precommit, self.precommit),
            (requests.MarkHome, self.mark_home),
            (requests.Validate, self.validate),
            (requests.Hold, self.hold),
            (requests.Decide, self.decide),
            (requests.CommitAll, self.commit_all),
            (requests.Abort, self.abort),
            (requests.AskStatus, self.status),
            (requests.AskReadIndex, self.read_index),
            (requests.ScanRows, self.scan_rows),
        ]
        for request_type, handler in handlers:
            rpc.handle(method_name(request_type), request_type, _served(handler))
        rpc.handle(
            method_name(requests.ReadRows),
            requests.ReadRows,
            _served(self.read_rows),
            at_once=self.read_rows_now,
        )
        rpc.handle(method_name(requests.Stage), requests.Stage, self._serve_stage)
        rpc.handle(ASK_WAITS, requests.AskWaits, self._serve_waits)
        rpc.handle_notice(COMMITTING, requests.Committing, self._serve_committing)
        rpc.handle(method_name(requests.LockRows), requests.LockRows, self._serve_lock_rows)
        rpc.handle(
            method_name(requests.AskOwnChanges), requests.AskOwnChanges, self._serve_own_changes
        )

    async def lock(self, request: requests.Lock, deadline_s: float) -> Done:
        tablet = await self._led(request)
        newest = await tablet.lock(
            request.transaction_id,
            request.mode,
            deadline_s,
            request.command,
            request.wait,
            request.base,
        )
        return self._done(request, newest)

    async def _serve_waits(
        self, context: CallContext, request: requests.AskWaits, body: bytes | memoryview
    ) -> requests.Waits:
        tablets = list(self._storage.tablets.values())
        return requests.Waits(tuple(edge for tablet in tablets for edge in tablet.wait_edges()))

    async def _serve_lock_rows(
        self, context: CallContext, request: requests.LockRows, body: bytes | memoryview
    ) -> requests.RowsAnswer:
        keys = requests.decode_keys(body)
        return await self.lock_rows(request, keys, context.remaining_s())

    async def lock_rows(
        self, request: requests.LockRows, keys: pa.RecordBatch, deadline_s: float
    ) -> requests.RowsAnswer:
        tablet = await self._led(request)
        locked = await tablet.lock_rows(
            request.transaction_id,
            request.fragment_id,
            keys,
            request.mode,
            request.base,
            request.command,
            request.policy,
            deadline_s,
        )
        return requests.RowsAnswer(
            tablet.term, locked.changed, locked.skipped, locked.as_of, locked.fates
        )

    async def _serve_stage(
        self, context: CallContext, request: requests.Stage, body: bytes | memoryview
    ) -> Done:
        return await self.stage(request, requests.decode_change(request, body))

    async def stage(self, request: requests.Stage, change: FragmentChange) -> Done:
        tablet = await self._led(request)
        await tablet.stage(request.transaction_id, change, request.command, request.number)
        return self._done(request)

    async def take_back(self, request: requests.TakeBack, deadline_s: float) -> Done:
        tablet = await self._led(request)
        await tablet.take_back(
            request.transaction_id, request.command, request.number, request.is_whole
        )
        return self._done(request)

    async def check(self, request: requests.Check, deadline_s: float) -> requests.Checked:
        tablet = await self._led(request)
        left = await tablet.check(
            request.transaction_id,
            request.base,
            request.command,
            deadline_s,
            request.locks,
            request.anew,
            request.deferred,
        )
        return requests.Checked(self._done(request).term, tuple(left))

    async def _serve_own_changes(
        self, context: CallContext, request: requests.AskOwnChanges, body: bytes | memoryview
    ) -> tuple[Done, bytes]:
        return await self.own_changes(request)

    async def own_changes(self, request: requests.AskOwnChanges) -> tuple[Done, bytes]:
        tablet = self._storage.tablet(request.tablet_id)
        changes = await tablet.own_changes(
            request.transaction_id, request.fragment_ids, request.command
        )
        return self._done(request), requests.encode_own_changes(request.transaction_id, changes)

    async def change_rows(
        self, request: requests.ChangeRows, deadline_s: float
    ) -> requests.RowsChanged:
        tablet = await self._led(request)
        works = row_works(request)
        deadline_s = min(deadline_s, request.lock_s)
        try:
            if request.ends:
                changed = await tablet.write_rows(
                    request.transaction_id,
                    request.fragment_id,
                    works,
                    self._timestamps.commit_timestamp,
                    deadline_s,
                    request.definition,
                )
            else:
                changed = await tablet.change_rows(
                    request.transaction_id,
                    request.fragment_id,
                    works,
                    request.command,
                    request.base,
                    deadline_s,
                    request.number,
                    request.definition,
                )
        except NotByRow:
            return requests.RowsChanged(tablet.term, by_row=False)
        rows = tuple(pair for pair in changed.rows if pair[0] is not pair[1])
        return requests.RowsChanged(
            tablet.term,
            len(rows),
            rows if request.shows else (),
            changed.as_of,
            changed.commit_ts,
        )

    async def write(self, request: requests.Write, deadline_s: float) -> Done:
        tablet = await self._led(request)
        commit_ts = await tablet.write(
            request.transaction_id,
            request.floor,
            self._timestamps.commit_timestamp,
            request.participants,
        )
        return self._done(request, commit_ts)

    async def prepare(self, request: requests.Prepare, deadline_s: float) -> Done:
        tablet = await self._led(request)
        await tablet.prepare(
            request.transaction_id, request.floor, request.home_tablet, request.validates
        )
        return self._done(request)

    async def precommit(self, request: requests.Precommit, deadline_s: float) -> Done:
        tablet = self._storage.tablet(request.tablet_id)
        await tablet.precommit(request.transaction_id, request.commit_ts)
        return self._done(request)

    async def mark_home(self, request: requests.MarkHome, deadline_s: float) -> Done:
        tablet = await self._led(request)
        await tablet.mark_home(request.transaction_id, request.floor, request.validates)
        return self._done(request)

    async def validate(self, request: requests.Validate, deadline_s: float) -> Done:
        tablet = self._storage.tablet(request.tablet_id)
        await tablet.validate(
            request.transaction_id,
            request.reads,
            request.base,
            request.commit_ts,
            deadline_s,
        )
        return self._done(request)

    async def hold(self, request: requests.Hold, deadline_s: float) -> Done:
        tablet = await self._led(request)
        await tablet.hold(request.transaction_id, deadline_s)
        return self._done(request)

    async def decide(self, request: requests.Decide, deadline_s: float) -> Done:
        tablet = await self._led(request)
        commit_ts = await tablet.decide(
            request.transaction_id, request.commit_ts, request.participants
        )
        return self._done(request, commit_ts)

    def _serve_committing(
        self, context: CallContext, notice: requests.Committing, body: bytes | memoryview
    ) -> None:
        self.committing(notice)

    def committing(self, notice: requests.Committing) -> None:
        """Has the tablets that are here log their commits."""
        for tablet_id in notice.tablet_ids:
            tablet = self._storage.tablets.get(tablet_id)
            if tablet is not None:
                tablet.learn_commit(notice.transaction_id, notice.commit_ts)

    async def commit_all(
        self, request: requests.CommitAll, deadline_s: float
    ) -> requests.Committed:
        tablet = self._storage.tablet(request.tablet_id)
        return requests.Committed(tuple(await tablet.commit_all(request.commits)))

    async def abort(self, request: requests.Abort, deadline_s: float) -> Done:
        await self._storage.tablet(request.tablet_id).abort(request.transaction_id)
        return self._done(request)

    async def status(self, request: requests.AskStatus, deadline_s: float) -> Status:
        tablet = self._storage.tablet(request.tablet_id)
        if not request.settles and not await tablet.remembers(request.transaction_id):
            return Status(running=False, known=False)
        outcome = await tablet.status(request.transaction_id)
        if outcome is None:
            return Status(running=True, home=tablet.home_of(request.transaction_id))
        return Status(running=False, commit_ts=outcome.commit_ts)

    async def read_rows(self, request: requests.ReadRows, deadline_s: float) -> requests.Rows:
        tablet = self._storage.tablet(request.tablet_id)
        rows = await tablet.read_stored(
            request.fragment_id, request.keys, request.timestamp, _own(request), deadline_s
        )
        return requests.Rows(tuple(rows))

    async def scan_rows(
        self, request: requests.ScanRows, deadline_s: float
    ) -> requests.ScannedRows:
        tablet = self._storage.tablet(request.tablet_id)
        rows = await tablet.scan_stored(
            request.fragment_id, request.scan, request.timestamp, _own(request), deadline_s
        )
        return requests.ScannedRows(None if rows is None else tuple(rows))

    def read_rows_now(self, request: requests.ReadRows) -> requests.Rows | None:
        """The same where nothing has to be waited for, else None."""
        own = (request.transaction_id, request.command) if request.transaction_id else None
        tablet = self._storage.tablet(request.tablet_id)
        rows = tablet.read_stored_now(request.fragment_id, request.keys, own, request.timestamp)
        return None if rows is None else requests.Rows(tuple(rows))

    async def read_index(self, request: requests.AskReadIndex, deadline_s: float) -> Done:
        tablet = self._storage.tablet(request.tablet_id)
        return Done(0, await tablet.read_index(request.timestamp, deadline_s))

    async def _led(self, request: requests.TransactionRequest) -> Tablet:
        """The request's tablet, once it serves here, in the term that the request names: what
        the transaction has locked and changed there is gone in any other (rule C2)."""
        tablet = self._storage.tablet(request.tablet_id)
        group = self._tablets.group(TabletId(request.tablet_id))
        _check_term(request, 0 if group is None else group.term)
        await tablet.serves()
        # From here to what is asked of the tablet the loop does not turn.
        _check_term(request, tablet.term)
        return tablet

    def _done(self, request: requests.TransactionRequest, value: int = 0) -> Done:
        return Done(self._storage.tablet(request.tablet_id).term, value)


def _check_term(request: requests.TransactionRequest, term: int) -> None:
    if request.term not in (0, term):
        reached(Probe.LEADER_CHANGED_IN_TRANSACTION)
        raise leader_changed()


def _own(request: requests.ReadRows | requests.ScanRows) -> OwnChanges | None:
    """The changes that a read is to see."""
    if not request.transaction_id:
        return None
    return OwnChanges(request.transaction_id, request.command, (request.tablet_id,))


def row_works(request: requests.ChangeRows) -> Works:
    """What the request wants of each row."""
    program = row_programs.compiled(request.program)
    values = program.values(request.values)
    mode = LockMode(request.mode) if request.mode else None
    inserts = bool(request.rows) and not program.proposes

    def meant(tables: RowTables, row: StoredRow) -> bool:
        return program.means(tables, values, row)

    def work(tables: RowTables, key: StoredKey) -> RowWork:
        return RowWork(key, program.change(tables, values), mode, only_locks=program.only_locks)

    if request.scan is not None:
        table_mode = LockMode.ROW_SHARE if program.only_locks else LockMode.ROW_EXCLUSIVE
        return RowsFound(request.scan, request.timestamp, table_mode, meant, work)

    def works(tables: RowTables) -> list[RowWork]:
        if not request.rows:
            return [work(tables, key) for key in request.keys]
        return [
            RowWork(
                key,
                program.change(tables, values, row),
                mode,
                inserts,
                proposes=program.proposes,
                updates=program.updates,
            )
            for key, row in zip(request.keys, request.rows, strict=True)
        ]

    return works


def method_name(request_type: type[Request]) -> str:
    """The RPC method that takes such requests, as `tablet.MarkHome`."""
    return f"tablet.{request_type.__name__}"


def _served(handler: Handler) -> Handler:
    async def serve(
        context: CallContext, request: Request, body: bytes | memoryview
    ) -> msgspec.Struct:
        return await handler(request, context.remaining_s())

    return serve
