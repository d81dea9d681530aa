"""A home and two participants, and a transaction over them that stops behind any step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from storage_doubles import Bench, Row, SkippingRuntime, insert, run

from cluster.raft.log import EntryKind
from storage.entries import TabletEntry, decode_entry
from storage.fragments import TabletId, Timestamp, TransactionId
from storage.tablet import Tablet

HOME, OTHERS = 1, (2, 3)
TABLETS = (HOME, *OTHERS)

STEPS = [
    *(f"locked {t}" for t in TABLETS),
    *(f"staged {t}" for t in TABLETS),
    *(f"prepared {t}" for t in OTHERS),
    "marked",
    "drawn",
    "decided",
    *(f"{what} {t}" for t in OTHERS for what in ("committed", "confirmed")),
]
# Of three phases, between "drawn" and "decided".
PRECOMMITTED = [f"precommitted {t}" for t in OTHERS]


class Three(Bench):
    """The tablets, which are opened again after a crash."""

    def __init__(self, runtime: SkippingRuntime, directory: Path) -> None:
        super().__init__(runtime, directory)
        self.clock = runtime
        self.tablets: dict[TabletId, Tablet] = {}

    async def open_all(self) -> None:
        self.tablets = {tablet_id: await self.open(tablet_id) for tablet_id in TABLETS}

    async def crash(self) -> None:
        await super().crash()
        await self.open_all()

    async def checkpoint(self) -> None:
        for tablet in self.tablets.values():
            await tablet.checkpoint()

    async def commit_in_steps(
        self, transaction_id: TransactionId, *, three_phase: bool = False
    ) -> AsyncIterator[str]:
        """What a coordinator does (rule C4), pausing behind every step."""
        tablets = self.tablets
        for tablet_id in TABLETS:
            await tablets[tablet_id].lock(transaction_id)
            yield f"locked {tablet_id}"
        for tablet_id in TABLETS:
            await tablets[tablet_id].stage(transaction_id, insert((1, "a")))
            yield f"staged {tablet_id}"
        floor = self.oracle.now()
        for tablet_id in OTHERS:
            await tablets[tablet_id].prepare(transaction_id, floor, HOME)
            yield f"prepared {tablet_id}"
        await tablets[HOME].mark_home(transaction_id, floor)
        yield "marked"
        commit_ts = self.oracle.now()
        yield "drawn"
        if three_phase:
            for tablet_id in OTHERS:
                await tablets[tablet_id].precommit(transaction_id, commit_ts)
                yield f"precommitted {tablet_id}"
        await tablets[HOME].decide(transaction_id, commit_ts, OTHERS)
        yield "decided"
        for tablet_id in OTHERS:
            await tablets[tablet_id].commit(transaction_id, commit_ts)
            yield f"committed {tablet_id}"
            await tablets[HOME].confirm({tablet_id: [transaction_id]})
            yield f"confirmed {tablet_id}"

    async def until(self, last: str, *, three_phase: bool = False) -> TransactionId:
        """A transaction whose coordinator falls silent behind this step."""
        transaction_id = self.begin()
        async for step in self.commit_in_steps(transaction_id, three_phase=three_phase):
            if step == last:
                break
        return transaction_id

    def logged(self, tablet_id: TabletId) -> list[TabletEntry]:
        entries = [entry for entry in self.logs[tablet_id] if entry.kind is EntryKind.COMMAND]
        return [decode_entry(entry.data)[0] for entry in entries]

    async def check_rows(self, wanted: list[Row], at: Timestamp | None = None) -> None:
        """Every tablet has these rows."""
        for tablet in self.tablets.values():
            assert await self.read(tablet, at) == wanted

    async def check_nothing_is_left(self) -> None:
        for tablet in self.tablets.values():
            assert not tablet._participant.transactions
            assert not tablet._participant.unconfirmed()
            await asyncio.wait_for(self.write(tablet, insert((99, "free"))), 30)


def in_three(directory: Path, test: Callable[[Three], Awaitable[None]]) -> None:
    """Runs the test against fresh tablets."""

    async def main(runtime: SkippingRuntime) -> None:
        three = Three(runtime, directory)
        await three.open_all()
        await test(three)
        await three.close()

    run(main)
