"""Tablets wherever they are led, for this node's coordinators and for its tablets' peers.

    TabletClient    what statements ask (here)
      TabletPeers   reads, and what tablets ask each other (`tablet_peers`)
      TabletEnds    how transactions end (`tablet_ends`)
      TabletCalls   a request finds its leader (`tablet_calls`)

Which requests of statements may be sent again after an answer was lost:

    lock, lock_rows,        yes
      take_back, check
    stage, change_rows      no: the error goes up to the coordinator, nothing was decided
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from catalog import tablet_requests as requests
from catalog.model import Durability, TabletId
from catalog.tablet_calls import DEADLINE_S
from catalog.tablet_peers import TabletPeers
from catalog.tablet_requests import Done
from storage.drafts import NO_COMMAND
from storage.fragments import FragmentChange, Timestamp, TransactionId
from storage.lock_driver import RowsLocked
from storage.open_checks import Deferred


class TabletClient(TabletPeers):
    """See the module."""

    async def lock(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        mode: str,
        deadline_s: float = DEADLINE_S,
        command: int = 0,
        wait: bool = True,
        base: Timestamp | None = None,
    ) -> Timestamp:
        """Locks the tablet for the transaction; the newest commit's timestamp there, 40001 where
        that is above a `base`."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Lock(tablet_id, transaction_id, term, mode, command, wait, base)
        done = await self._ask(request, Done, self._server.lock, deadline_s, again=True)
        self._begun(request, done)
        return done.value

    async def lock_rows(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        fragment_id: int,
        keys: pa.RecordBatch,
        mode: str,
        base: Timestamp,
        command: int,
        policy: str,
        deadline_s: float = DEADLINE_S,
    ) -> RowsLocked:
        """Locks rows of a fragment by key; which of them others changed after `base`."""
        term = self._term(transaction_id, tablet_id)
        request = requests.LockRows(
            tablet_id, transaction_id, term, fragment_id, mode, base, command, policy
        )

        async def here(_: requests.LockRows, deadline_s: float) -> requests.RowsAnswer:
            return await self._server.lock_rows(request, keys, deadline_s)

        answer = await self._ask(
            request, requests.RowsAnswer, here, deadline_s, again=True, keys=keys
        )
        self._begun(request, Done(answer.term))
        return RowsLocked(answer.changed, answer.skipped, answer.as_of, answer.fates)

    async def stage(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        change: FragmentChange,
        deadline_s: float = DEADLINE_S,
        command: int = 0,
        number: int = 0,
    ) -> None:
        """Adds a change of a command to the transaction, behind those staged before."""
        request = requests.Stage(
            tablet_id,
            transaction_id,
            self._term(transaction_id, tablet_id),
            change.fragment_id,
            change.truncate,
            0,
            command,
            number,
            change.definition,
            change.moved,
        )

        async def here(_: requests.Stage, deadline_s: float) -> Done:
            return await self._server.stage(request, change)

        self._begun(request, await self._ask(request, Done, here, deadline_s, change=change))

    async def take_back(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        command: int,
        deadline_s: float = DEADLINE_S,
        number: int = 0,
    ) -> None:
        """Forgets the transaction's changes of this command and later ones; refuses those up to
        `number` that have not come yet."""
        term = self._term(transaction_id, tablet_id)
        request = requests.TakeBack(tablet_id, transaction_id, term, command, number)
        await self._ask(request, Done, self._server.take_back, deadline_s, again=True)

    async def begin_again(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        number: int,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """The transaction, which began at another leader, begins at this one, with nothing. What
        it has changed is told to its statements after `has_come_along`."""
        self._terms.pop((transaction_id, TabletId(tablet_id)), None)
        request = requests.TakeBack(tablet_id, transaction_id, 0, 0, number, is_whole=False)
        done = await self._ask(request, Done, self._server.take_back, deadline_s, again=True)
        self._begun(request, done)

    async def has_come_along(
        self, tablet_id: int, transaction_id: TransactionId, deadline_s: float = DEADLINE_S
    ) -> None:
        """All that the transaction had at its leader before is at this one."""
        term = self._term(transaction_id, tablet_id)
        request = requests.TakeBack(tablet_id, transaction_id, term, NO_COMMAND, is_whole=True)
        await self._ask(request, Done, self._server.take_back, deadline_s, again=True)

    def is_async(self, tablet_id: int) -> bool:
        """Whether what the tablet's leader acknowledges may be lost with its node (rule G5)."""
        tablet = self._catalog.current.tablets.get(TabletId(tablet_id))
        return tablet is not None and tablet.durability is Durability.ASYNC

    def is_led_on(self, tablet_id: int, transaction_id: TransactionId) -> bool:
        """Whether the leader that the transaction began with still leads, by all that this node
        knows: a hint."""
        term = self._term(transaction_id, tablet_id)
        group = self._tablets.group(TabletId(tablet_id))
        return not term or group is None or not group.leader_id or group.term == term

    async def check(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        base: Timestamp = 0,
        command: int = 0,
        deadline_s: float = DEADLINE_S,
        locks: bool = True,
        anew: bool = False,
        deferred: Sequence[Deferred] = (),
    ) -> Sequence[Deferred]:
        """Checks unique constraints over what the transaction has changed so far, and with
        `base` that others changed none of these rows after it; which of those `deferred` are to
        be checked again."""
        term = self._term(transaction_id, tablet_id)
        request = requests.Check(
            tablet_id, transaction_id, term, base, command, locks, anew, tuple(deferred)
        )
        here = self._server.check
        return (await self._ask(request, requests.Checked, here, deadline_s, again=True)).left

    async def change_rows(self, request: requests.ChangeRows) -> requests.RowsChanged:
        """Changes rows by key as part of a transaction, whose `term` is filled in here."""
        deadline_s = request.lock_s + DEADLINE_S
        term = self._term(request.transaction_id, request.tablet_id)
        request = msgspec.structs.replace(request, term=term)
        here = self._server.change_rows
        answer = await self._ask(request, requests.RowsChanged, here, deadline_s)
        self._begun(request, Done(answer.term))
        return answer
