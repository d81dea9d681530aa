"""Ends doubts about transactions over several tablets when their coordinator is gone.

A participant that has prepared and hears nothing asks the home (rule C5). A home that has
decided and has not heard from all participants tells them again (rule C6). Both go on, every
few seconds, until it is settled; nobody ever guesses. Who waits for a transaction whose home
cannot be asked is told so, and does not wait on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.errors import DqeError
from cluster.probes import Probe, reached
from cluster.runtime import Runtime
from storage.fragments import TabletId, Timestamp, TransactionId
from storage.participant import Participant, Phase
from storage.surroundings import Peers

logger = logging.getLogger(__name__)

# How long to wait for word before asking, and between two questions.
IN_DOUBT_S = 3.0


class Settler(Protocol):
    """What is done at the tablet once it is known how a transaction ended."""

    async def commit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None: ...

    async def confirm(self, transaction_id: TransactionId, tablets: Sequence[TabletId]) -> None: ...

    async def log_decided_abort(self, transaction_id: TransactionId) -> None: ...

    def doubt_stays(self, transaction_id: TransactionId, error: DqeError) -> None: ...


class Doubts:
    """The doubts of one tablet's leader."""

    def __init__(
        self, runtime: Runtime, tablet_id: TabletId, tablet: Settler, peers: Callable[[], Peers]
    ) -> None:
        self._runtime = runtime
        self._tablet_id = tablet_id
        self._tablet = tablet
        self._peers = peers
        self._due_s: dict[TransactionId, float] = {}
        self._settling: dict[TransactionId, None] = {}

    @property
    def settling(self) -> bool:
        """Whether a question is on its way."""
        return bool(self._settling)

    def clear(self) -> None:
        """The tablet leads no more."""
        self._due_s.clear()

    def settle_due(self, participant: Participant, now: float) -> None:
        """Asks for whatever has been in doubt for long enough."""
        doubtful = [t.id for t in participant.prepared()] + list(participant.unconfirmed())
        self._due_s = {t: self._due_s.get(t, now + IN_DOUBT_S) for t in doubtful}
        for transaction_id, due_s in list(self._due_s.items()):
            if due_s <= now and transaction_id not in self._settling:
                self._due_s[transaction_id] = now + IN_DOUBT_S
                self._settling[transaction_id] = None
                name = f"settle {transaction_id} on tablet {self._tablet_id}"
                self._runtime.spawn(self._settle(participant, transaction_id), name)

    async def _settle(self, participant: Participant, transaction_id: TransactionId) -> None:
        try:
            decision = participant.unconfirmed().get(transaction_id)
            transaction = participant.transactions.get(transaction_id)
            if decision is not None:
                await self._tell_participants(transaction_id, *decision)
            elif transaction is not None and transaction.phase is Phase.PREPARED:
                await self._ask_home(transaction_id, transaction.home_tablet)
        except DqeError as error:
            logger.info(
                "tablet %s: transaction %s stays in doubt: %s",
                self._tablet_id,
                transaction_id,
                error.message,
            )
            self._tablet.doubt_stays(transaction_id, error)
        finally:
            del self._settling[transaction_id]

    async def _tell_participants(
        self, transaction_id: TransactionId, commit_ts: Timestamp, tablets: Sequence[TabletId]
    ) -> None:
        reached(Probe.PARTICIPANTS_TOLD_AGAIN)
        told: list[TabletId] = []
        try:
            for tablet_id in tablets:
                await self._peers().tell_commit(tablet_id, transaction_id, commit_ts)
                told.append(tablet_id)
        finally:
            if told:  # one entry of the log for all of them
                await self._tablet.confirm(transaction_id, told)

    async def _ask_home(self, transaction_id: TransactionId, home_tablet: TabletId) -> None:
        reached(Probe.HOME_ASKED)
        outcome = await self._peers().ask_home(home_tablet, transaction_id)
        if outcome is None:
            return
        reached(Probe.HOME_SAID_COMMITTED if outcome.committed else Probe.HOME_SAID_ABORTED)
        if outcome.committed:
            await self._tablet.commit(transaction_id, outcome.commit_ts)
        else:
            await self._tablet.log_decided_abort(transaction_id)
