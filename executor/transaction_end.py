"""Carries out what `TransactionMachine` says: the end of one transaction.

Once the end has begun it is carried through whether or not the statement is still wanted: its
result is the transaction's, not the statement's. One task does that, for all transactions alike;
a step that is asked of several tablets at once takes a task each, any other is done in place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from catalog.model import CATALOG_TABLET
from cluster.errors import AnswerLost, DqeError, InternalError, StatementCompletionUnknown
from cluster.runtime import Runtime
from executor import transaction as machine
from executor.transaction_faces import CatalogHome, TabletAccess, TimestampSource
from executor.transaction_places import TabletPlace
from executor.transaction_reads import Reads
from storage.conflicts import read_write_conflict
from storage.fragments import TabletId, Timestamp, TransactionId

logger = logging.getLogger(__name__)

COMMIT_DEADLINE_S = 30.0


class TransactionEnd:
    """How one transaction ends: `run` it once."""

    def __init__(
        self,
        runtime: Runtime,
        tablets: TabletAccess,
        timestamps: TimestampSource,
        transaction_id: TransactionId,
        place: Callable[[TabletId], TabletPlace],
    ) -> None:
        self._runtime = runtime
        self._tablets = tablets
        self._timestamps = timestamps
        self.id = transaction_id
        self._place = place
        self._machine = machine.TransactionMachine()
        self._reads: Reads | None = None
        self._catalog: CatalogHome | None = None
        self._held: Sequence[TabletId] = ()

    @property
    def ended(self) -> bool:
        """Whether it has ended, either way."""
        return self._machine.ended

    async def commit(
        self,
        tablets: Sequence[TabletId],
        floor: Timestamp,
        reads: Reads | None,
        *,
        three_phase: bool = False,
        catalog: CatalogHome | None = None,
        held: Sequence[TabletId] = (),
    ) -> Timestamp:
        """Commits what was changed on the tablets, the first of which is the home; raises what
        kept it from committing. `catalog` is the home where that is the catalog's tablet. With
        `held`: only if it has its locks there when the commit timestamp is drawn."""
        self._reads, self._held = reads, held
        self._catalog = catalog
        validates = reads is not None or bool(held)
        answer = await self._run(
            machine.Commit(tuple(tablets), floor, validates, three_phase, catalog is not None)
        )
        if answer.error is not None:
            raise answer.error
        if catalog is not None:
            await catalog.everywhere()
        assert answer.timestamp is not None
        return answer.timestamp

    async def abort(self, tablets: Sequence[TabletId], error: DqeError) -> None:
        """Ends it without effect."""
        await self._run(machine.Abort(tuple(tablets), error))

    def release(self, tablets: Sequence[TabletId]) -> None:
        """Tells tablets where it only locked that it is over."""
        for tablet_id in tablets:
            self._send_abort(tablet_id)

    async def _run(self, event: machine.Event) -> machine.Answer:
        """Runs the end to its answer, whatever becomes of the statement meanwhile."""
        task = self._runtime.spawn(self._drive(event), f"end of transaction {self.id}")
        cancelled = False
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled and task.result().error is not None:
            raise asyncio.CancelledError
        return task.result()

    async def _drive(self, event: machine.Event) -> machine.Answer:
        events: asyncio.Queue[machine.Event] = asyncio.Queue()
        out = 0  # how many of what was asked at once have not answered
        while True:
            asked, commits = [], []
            answer = None
            for instruction in self._machine.step(event):
                if isinstance(instruction, machine.Answer):
                    answer = instruction
                elif isinstance(instruction, machine.SendCommit):
                    commits.append(instruction)
                elif isinstance(instruction, machine.SendAbort):
                    self._send_abort(instruction.tablet)
                else:
                    asked.append(instruction)
            if commits:
                self._announce(commits)
            if answer is not None:
                return answer
            if len(asked) == 1 and not out:
                event = await self._event_of(asked[0])
                continue
            for instruction in asked:
                report = self._report(instruction, events)
                self._runtime.spawn(report, f"commit of transaction {self.id}")
            out += len(asked) - 1
            event = await events.get()

    async def _report(
        self, instruction: machine.Instruction, events: asyncio.Queue[machine.Event]
    ) -> None:
        events.put_nowait(await self._event_of(instruction))

    async def _event_of(self, instruction: machine.Instruction) -> machine.Event:
        try:
            return await self._ask(instruction)
        except DqeError as error:
            return machine.Failed(getattr(instruction, "tablet", None), error)
        except Exception as error:  # the driver loop: the end waits for every answer
            logger.exception("a step of transaction %d failed", self.id)
            return machine.Failed(
                getattr(instruction, "tablet", None), _unforeseen(instruction, error)
            )

    async def _ask_catalog(
        self, catalog: CatalogHome, instruction: machine.Instruction
    ) -> machine.Event:
        match instruction:
            case machine.SendWrite():
                return machine.Decided(await catalog.decide(()))
            case machine.SendMarkHome(tablet, _):
                await catalog.mark()
                return machine.Marked(tablet)
            case machine.SendDecide(_, _, participants):
                return machine.Decided(await catalog.decide(participants))
        raise InternalError(f"{instruction} is nothing for the catalog")

    async def _ask(self, instruction: machine.Instruction) -> machine.Event:
        deadline_s = COMMIT_DEADLINE_S
        if self._catalog is not None and getattr(instruction, "tablet", None) == CATALOG_TABLET:
            return await self._ask_catalog(self._catalog, instruction)
        match instruction:
            case machine.SendWrite(tablet, floor, participants):
                written = await self._place(tablet).ask(
                    lambda: self._tablets.write(tablet, self.id, floor, deadline_s, participants)
                )
                return machine.Decided(written)
            case machine.SendPrepare(tablet, floor, home):
                await self._place(tablet).ask(lambda: self._prepare(tablet, floor, home))
                return machine.Marked(tablet)
            case machine.SendMarkHome(tablet, floor):
                await self._place(tablet).ask(
                    lambda: self._tablets.mark_home(
                        tablet, self.id, floor, deadline_s, self._reads is not None
                    )
                )
                return machine.Marked(tablet)
            case machine.ValidateReads(timestamp):
                await self._validate(timestamp)
                return machine.Validated()
            case machine.DrawTimestamp():
                return machine.Drawn(await self._timestamps.commit_timestamp())
            case machine.SendPrecommit(tablet, timestamp):
                await self._tablets.precommit(tablet, self.id, timestamp, deadline_s)
                return machine.Precommitted(tablet)
            case machine.SendDecide(tablet, timestamp, participants):
                decided = await self._tablets.decide(
                    tablet, self.id, timestamp, participants, deadline_s
                )
                return machine.Decided(decided)
        raise InternalError(f"no event answers {instruction}")

    async def _prepare(self, tablet: TabletId, floor: Timestamp, home: TabletId) -> None:
        try:
            await self._tablets.prepare(
                tablet, self.id, floor, home, COMMIT_DEADLINE_S, self._reads is not None
            )
        except StatementCompletionUnknown as error:
            # Nothing is decided by it: whether it is logged will be seen at the next leader.
            raise AnswerLost(error.message, detail=error.detail) from error

    async def _validate(self, timestamp: Timestamp) -> None:
        reads = self._reads or Reads()
        found = await asyncio.gather(
            *(
                self._tablets.validate(
                    tablet_id,
                    self.id,
                    reads.at(tablet_id),
                    reads.base,
                    timestamp,
                    COMMIT_DEADLINE_S,
                )
                for tablet_id in reads.tablets
            ),
            *(self._tablets.hold(t, self.id, COMMIT_DEADLINE_S) for t in self._held),
            return_exceptions=True,
        )
        for error in found:
            if error is not None:
                raise error
        if not reads.parts_stand():
            raise read_write_conflict()

    def _announce(self, commits: Sequence[machine.SendCommit]) -> None:
        tablets, commit_ts = [commit.tablet for commit in commits], commits[0].timestamp
        if self._catalog is None:
            self._tablets.announce(self.id, commit_ts, tablets)
            return

        async def announce() -> None:
            await self._known()
            self._tablets.announce(self.id, commit_ts, tablets)

        self._runtime.spawn(announce(), f"outcome of transaction {self.id}")

    def _send_abort(self, tablet: TabletId) -> None:
        if tablet != CATALOG_TABLET:  # what is staged there is given up by whoever staged it
            self._runtime.spawn(self._abort(tablet), f"outcome of transaction {self.id}")

    async def _abort(self, tablet: TabletId) -> None:
        """A tablet that does not hear it finds it out: by its lease, or from the home."""
        await self._known()
        with suppress(DqeError):
            await self._tablets.abort(tablet, self.id, COMMIT_DEADLINE_S)

    async def _known(self) -> None:
        """Locks end where a definition that committed is known: those who waited for them are
        to find it."""
        if self._catalog is not None:
            await self._catalog.everywhere()


def _unforeseen(instruction: machine.Instruction, error: Exception) -> DqeError:
    """An error that no step should raise; whether a decision was logged cannot be told."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(instruction, machine.SendWrite | machine.SendDecide):
        return StatementCompletionUnknown(
            "it is not known whether the transaction was committed", detail=text
        )
    return InternalError(text)
