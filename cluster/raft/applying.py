"""One replica's state machine, driven: committed entries, snapshots, restores.

Only one thing is done at a time, and in this order: a snapshot that takes the place of the state
is restored once its mark is durable in the log; what is committed is applied, when it has
gathered for long enough (`gathering`); a snapshot that the core wants is taken once the machine
is that far. There is a task only while something has to be waited for: what a machine can apply in
place (`PromptStateMachine`) it does in the turn of the loop in which that was committed.

A machine that fails stops its replica: nobody knows what it holds then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from cluster.raft.core import RaftCore
from cluster.raft.gathering import Gathering
from cluster.raft.log import Entry
from cluster.raft.proposals import Proposals
from cluster.raft.settings import MIB, RaftSettings
from cluster.raft.snapshot_data import Machine, snapshots_of
from cluster.raft.state import OutgoingSnapshot
from cluster.raft.state_machine import PromptStateMachine
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

# Handed to the state machine in one call.
MAX_APPLY_BYTES = 8 * MIB


class Replica(Protocol):
    """Whose machine it is; told in place what has become of it."""

    def applied(self, entries: Sequence[Entry], results: Sequence[object]) -> None:
        """The machine has applied these, with these results."""
        ...

    def restored(self, index: int) -> None:
        """The machine holds a snapshot of that index instead of what it held."""
        ...

    def stirred(self) -> None:
        """The core, or its place among the timers, is to be looked at again."""
        ...

    def failed(self, error: Exception) -> None:
        """The machine has, and does nothing any more."""
        ...


class Applying:
    """See the module."""

    def __init__(
        self,
        runtime: Runtime,
        settings: RaftSettings,
        core: RaftCore,
        machine: Machine,
        proposals: Proposals,
        replica: Replica,
        *,
        is_prompt: bool,
    ) -> None:
        self._runtime = runtime
        self._core = core
        self._machine = machine
        self._prompt = machine if isinstance(machine, PromptStateMachine) else None
        self._snapshots = snapshots_of(machine)
        self._proposals = proposals
        self._replica = replica
        self._gathering = Gathering(core, settings, is_prompt=is_prompt)
        self._persisted_sequence = 0
        self._to_restore: tuple[int, OutgoingSnapshot] | None = None
        self._snapshot_wanted: int | None = None
        self._taken: tuple[Entry, ...] = ()  # of the core, for the task to apply
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.applied_index = machine.applied_index

    @property
    def due_s(self) -> float | None:
        """When `start` begins with what has gathered, None where nothing waits for its time."""
        return self._gathering.due_s

    # What there is to do.

    def want(self, index: int) -> None:
        """Somebody waits for that entry: once it is committed it is applied at once."""
        self._gathering.want(index)

    def persisted(self, sequence: int) -> None:
        """Writes of the core up to that one are durable."""
        self._persisted_sequence = sequence

    def restore(self, sequence: int, snapshot: OutgoingSnapshot) -> None:
        """Put that in the place of the state once the write is durable."""
        self._to_restore = (sequence, snapshot)

    def want_snapshot(self, index: int) -> None:
        """Offer the core a snapshot once that is applied."""
        self._snapshot_wanted = index

    def start(self) -> None:
        """Begin with what there is to do now, if that is not under way."""
        if self._task is not None or self._closed:
            return
        if self._prompt is not None:
            self._apply_in_place(self._prompt)
        may_have_work = (
            bool(self._taken)
            or self._core.has_committed
            or self._to_restore is not None
            or self._snapshot_wanted is not None
        )
        if may_have_work and not self._closed and self._has_work():
            self._task = self._runtime.spawn(self._work(), f"apply tablet {self._core.group_id}")

    def _has_work(self) -> bool:
        if self._taken:
            return True
        return self._restore_is_due() or self._apply_is_due() or self._snapshot_is_due()

    def _restore_is_due(self) -> bool:
        return self._to_restore is not None and self._to_restore[0] <= self._persisted_sequence

    def _apply_is_due(self) -> bool:
        return self._core.has_committed and self._gathering.is_due(
            self._runtime.monotonic(),
            self.applied_index,
            has_proposals=self._proposals.open_bytes > 0,
        )

    def _snapshot_is_due(self) -> bool:
        wanted = self._snapshot_wanted
        return wanted is not None and wanted <= self.applied_index

    # Doing it.

    def _apply_in_place(self, machine: PromptStateMachine) -> None:
        """Apply what is due until the machine has to wait for something."""
        try:
            while self._apply_is_due() and not self._restore_is_due():
                self._gathering.taken()
                entries = self._core.take_committed(MAX_APPLY_BYTES)
                results = machine.apply_now(entries)
                if results is None:
                    self._taken = entries
                    return
                self._applied(entries, results)
        except Exception as error:  # the driver of foreign code: the replica stops, and no other
            logger.exception("tablet %d cannot apply its log", self._core.group_id)
            self._replica.failed(error)

    async def _work(self) -> None:
        """Apply, restore and take snapshots until there is nothing left to do."""
        try:
            while not self._closed:
                if self._taken:
                    entries, self._taken = self._taken, ()
                    await self._apply(entries)
                elif self._restore_is_due():
                    await self._restore()
                elif self._apply_is_due():
                    self._gathering.taken()
                    await self._apply(self._core.take_committed(MAX_APPLY_BYTES))
                elif self._snapshot_is_due():
                    await self._take_snapshot()
                else:
                    break
        except Exception as error:
            self._replica.failed(error)
            raise
        finally:
            self._task = None
            if self._gathering.due_s is not None:
                self._replica.stirred()

    async def _apply(self, entries: tuple[Entry, ...]) -> None:
        self._applied(entries, await self._machine.apply(entries))

    def _applied(self, entries: tuple[Entry, ...], results: list[object]) -> None:
        assert len(results) == len(entries), "one result an entry"
        self.applied_index = entries[-1].index
        self._replica.applied(entries, results)

    async def _restore(self) -> None:
        assert self._to_restore is not None
        snapshot, self._to_restore = self._to_restore[1], None
        index = snapshot.mark.index
        await self._snapshots.install_snapshot(index, snapshot.data)
        assert self._machine.durable_index >= index, "a restore must be durable"
        self._core.snapshot_installed(self._runtime.monotonic())
        self.applied_index = index
        self._replica.restored(index)

    async def _take_snapshot(self) -> None:
        self._snapshot_wanted = None
        index, data = await self._snapshots.open_snapshot()
        self._core.offer_snapshot(index, data, self._runtime.monotonic())
        self._replica.stirred()

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True

    async def finished(self) -> None:
        """Wait until what was under way has ended."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
