"""Reads at tablets' leaders, and what tablets ask each other (`storage.surroundings.Peers`).

All of it may be sent again after an answer was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property

from catalog import tablet_requests as requests
from catalog.model import NodeId
from catalog.tablet_calls import DEADLINE_S
from catalog.tablet_ends import TabletEnds
from catalog.tablet_requests import Done
from catalog.tablet_server import ASK_WAITS
from cluster.errors import DqeError
from storage.deadlocks import WaitEdge
from storage.fragments import OwnChanges, Timestamp, TransactionId
from storage.index_reads import IndexScan
from storage.participant import Outcome as TransactionOutcome
from storage.row_tables import StoredKey, StoredRow

# A node that does not say soon who waits there is left out of a round.
WAITS_DEADLINE_S = 1.0


class TabletPeers(TabletEnds):
    """See the module."""

    # Who waits for the next round of questions who waits for whom.
    _waits_next: asyncio.Task[list[WaitEdge]] | None = None

    @cached_property
    def _waits_turn(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def read_stored(
        self,
        tablet_id: int,
        fragment_id: int,
        keys: tuple[StoredKey, ...],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Sequence[StoredRow | None]:
        """Rows of a fragment by key, as `storage.row_reads` says, from the tablet's leader.

        Keys and rows are as SQLite has them (`storage.row_tables.RowTables` of the fragment's
        definition); None for a key without a row. 55000 where the tablet has the fragment no
        more, or not in a row store.
        """
        request = requests.ReadRows(
            tablet_id,
            fragment_id,
            keys,
            timestamp,
            own.transaction_id if own is not None else 0,
            own.command if own is not None else 0,
        )
        here = self._server.read_rows
        reply = await self._ask(request, requests.Rows, here, deadline_s, again=True)
        return reply.rows

    async def scan_stored(
        self,
        tablet_id: int,
        fragment_id: int,
        scan: IndexScan,
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> Sequence[StoredRow] | None:
        """Rows of a fragment by an index, as `storage.index_reads` says, from the tablet's
        leader; None where the index is not the way to them."""
        mine = () if own is None else (own.transaction_id, own.command)
        request = requests.ScanRows(tablet_id, fragment_id, scan, timestamp, *mine)
        here = self._server.scan_rows
        reply = await self._ask(request, requests.ScannedRows, here, deadline_s, again=True)
        return reply.rows

    async def ask_read_index(self, tablet_id: int, timestamp: Timestamp, deadline_s: float) -> int:
        """How far a replica must follow to serve a read at the timestamp (rule R3)."""
        request = requests.AskReadIndex(tablet_id, timestamp)
        done = await self._ask(request, Done, self._server.read_index, deadline_s, again=True)
        return done.value

    async def wait_edges(self) -> list[WaitEdge]:
        """Who waits for whom on all nodes that answer. Those who ask while the nodes are being
        asked share the next round."""
        if self._waits_next is None:
            self._waits_next = self._runtime.spawn(self._gather_waits(), "waits of all nodes")
        return await asyncio.shield(self._waits_next)

    async def _gather_waits(self) -> list[WaitEdge]:
        async with self._waits_turn:
            self._waits_next = None  # who comes from here on needs a newer answer
            nodes = self._catalog.liveness.live_nodes()
            answers = await asyncio.gather(*map(self._waits_of, nodes))
        return [edge for edges in answers for edge in edges]

    async def _waits_of(self, node_id: NodeId) -> Sequence[WaitEdge]:
        try:
            answer = await self._rpc.call(
                self._catalog.address_of(node_id),
                ASK_WAITS,
                requests.AskWaits(),
                requests.Waits,
                deadline_s=WAITS_DEADLINE_S,
            )
        except DqeError:
            return ()  # what waits there is seen in a later round, or its node is gone
        return answer.header.edges

    async def ask_own_changes(
        self,
        tablet_id: int,
        transaction_id: TransactionId,
        fragment_ids: Sequence[int],
        command: int,
    ) -> bytes:
        """The transaction's own changes, from the leader, for a replica that reads for it."""
        request = requests.AskOwnChanges(tablet_id, transaction_id, 0, tuple(fragment_ids), command)
        found = b""

        async def here(_: requests.AskOwnChanges, deadline_s: float) -> Done:
            nonlocal found
            done, found = await self._server.own_changes(request)
            return done

        def take(body: bytes | memoryview) -> None:
            nonlocal found
            found = bytes(body)

        await self._ask(request, Done, here, DEADLINE_S, again=True, take_body=take)
        return found

    async def ask_home(
        self, tablet_id: int, transaction_id: TransactionId
    ) -> TransactionOutcome | None:
        """What the home says of a transaction in doubt."""
        return await self.status(tablet_id, transaction_id)
