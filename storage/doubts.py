"""Ends doubts about transactions over several tablets when their coordinator is gone.

A participant that has prepared and hears nothing asks the home (rule C5). A home that has decided
tells its participants again a few seconds later (rule C6): they say what their logs have
committed, most often all of it already, and the home notes that in its own log and need not
remember for them. Both go on until it is settled; nobody ever guesses. Who waits for a transaction
whose home cannot be asked is told so, and does not wait on.

A new leader waits less for word of what it inherits: whoever knew how that ended has told the
leader before, or died with it. But not too little: a coordinator whose home has moved as well
begins again there first, or else the home, not knowing of it, would say that it is over (C9).

Telling is by rounds: a participant gets many decisions in one message, and what several of them
answer goes into one entry, so a home that commits much pays hardly more for it than one that
commits little. One participant is told once at a time; one that does not answer keeps none of the
others waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cluster.errors import DqeError
from cluster.probes import Probe, reached
from cluster.runtime import Runtime
from storage.fragments import TabletId, Timestamp, TransactionId
from storage.participant import Decisions, Participant, Phase
from storage.surroundings import Peers

logger = logging.getLogger(__name__)

# How long to wait for word before asking, and between two questions.
IN_DOUBT_S = 3.0
# The same for what a new leader inherits.
INHERITED_S = 1.0
# Decisions that have waited for this part of it are told along with one that is due; younger
# ones are still on their way from their coordinators.
TOLD_ALONG = 1 / 3
# So many are told in a round, each to each participant counted; the others in the next one.
TOLD_AT_ONCE = 20_000


class Settler(Protocol):
    """What is done at the tablet once it is known how a transaction ended."""

    async def commit(self, transaction_id: TransactionId, commit_ts: Timestamp) -> None: ...

    async def confirm(self, confirmed: Mapping[TabletId, Sequence[TransactionId]]) -> None: ...

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
        self._asking: dict[TransactionId, None] = {}
        self._telling: dict[TabletId, None] = {}
        # What participants have said, and is not noted in the log yet.
        self._confirmed: dict[TabletId, Sequence[TransactionId]] = {}
        self._noting = False
        self._is_new = True

    @property
    def settling(self) -> bool:
        """Whether a question is on its way."""
        return bool(self._asking or self._telling or self._noting)

    def clear(self) -> None:
        """The tablet leads no more."""
        self._due_s.clear()
        self._confirmed.clear()
        self._is_new = True

    def settle_due(self, participant: Participant, now: float) -> None:
        """Asks for, and tells, whatever has been in doubt for long enough."""
        prepared, decided = participant.prepared(), participant.unconfirmed()
        doubtful = [*(t.id for t in prepared), *decided]
        first_s = now + (min(INHERITED_S, IN_DOUBT_S) if self._is_new else IN_DOUBT_S)
        self._is_new = False
        self._due_s = {t: self._due_s.get(t, first_s) for t in doubtful}
        for transaction in prepared:
            if self._due_s[transaction.id] <= now and transaction.id not in self._asking:
                self._due_s[transaction.id] = now + IN_DOUBT_S
                self._asking[transaction.id] = None
                name = f"settle {transaction.id} on tablet {self._tablet_id}"
                self._runtime.spawn(self._settle(participant, transaction.id), name)
        if any(self._due_s[t] <= now for t in decided):
            for tablet_id, commits in self._round(decided, now).items():
                self._telling[tablet_id] = None
                name = f"tell tablet {tablet_id} what tablet {self._tablet_id} decided"
                self._runtime.spawn(self._tell(tablet_id, commits), name)

    # A participant, whose home decides.

    async def _settle(self, participant: Participant, transaction_id: TransactionId) -> None:
        try:
            transaction = participant.transactions.get(transaction_id)
            if transaction is not None and transaction.phase is Phase.PREPARED:
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
            del self._asking[transaction_id]

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

    # A home, whose participants are to confirm.

    def _round(
        self, decided: Decisions, now: float
    ) -> dict[TabletId, list[tuple[TransactionId, Timestamp]]]:
        """What each participant is to be told now, the longest due first."""
        commits: dict[TabletId, list[tuple[TransactionId, Timestamp]]] = {}
        due_s, told = self._due_s, 0
        for transaction_id in sorted(decided, key=due_s.__getitem__):
            if told >= TOLD_AT_ONCE or due_s[transaction_id] > now + IN_DOUBT_S * (1 - TOLD_ALONG):
                break
            due_s[transaction_id] = now + IN_DOUBT_S
            commit_ts, tablets = decided[transaction_id]
            told += len(tablets)
            for tablet_id in tablets:
                if tablet_id not in self._telling:
                    commits.setdefault(tablet_id, []).append((transaction_id, commit_ts))
        return commits

    async def _tell(
        self, tablet_id: TabletId, commits: Sequence[tuple[TransactionId, Timestamp]]
    ) -> None:
        reached(Probe.PARTICIPANTS_TOLD_AGAIN)
        try:
            self._confirmed[tablet_id] = await self._peers().tell_commits(tablet_id, commits)
            if not self._noting:
                await self._note_confirmed()
        except DqeError as error:
            logger.info(
                "tablet %s: tablet %s has not confirmed %d transactions: %s",
                self._tablet_id,
                tablet_id,
                len(commits),
                error.message,
            )
        finally:
            del self._telling[tablet_id]

    async def _note_confirmed(self) -> None:
        """Logs what has been said; what comes meanwhile goes into the next entry."""
        self._noting = True
        try:
            while self._confirmed:
                confirmed, self._confirmed = self._confirmed, {}
                await self._tablet.confirm(confirmed)
        finally:
            self._noting = False
