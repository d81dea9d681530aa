"""Looks at the transactions of the whole cluster: who is in doubt, who holds and awaits what.

Every node that answers tells of its replicas; whoever asks joins what they say. Nothing is kept
and nothing is decided by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from catalog.model import NodeId
from cluster.errors import DqeError
from cluster.rpc import CallContext, RpcNode
from storage.node import NodeStorage
from storage.transaction_facts import TransactionFacts, joined

ASK = "tablet.AskTransactions"
# A node that does not say soon what it knows is left out.
DEADLINE_S = 2.0


class AskTransactions(msgspec.Struct, frozen=True):
    """What the node's replicas know of transactions without outcome."""


class TransactionWatch:
    """One node's answers and questions."""

    def __init__(
        self,
        rpc: RpcNode,
        storage: NodeStorage,
        live_nodes: Callable[[], Sequence[NodeId]],
        address_of: Callable[[NodeId], str],
    ) -> None:
        self._rpc = rpc
        self._storage = storage
        self._live_nodes = live_nodes
        self._address_of = address_of
        rpc.handle(ASK, AskTransactions, self._serve)

    async def _serve(
        self, context: CallContext, request: AskTransactions, body: bytes | memoryview
    ) -> TransactionFacts:
        tablets = list(self._storage.tablets.values())
        return joined([tablet.transaction_facts() for tablet in tablets])

    async def everywhere(self) -> TransactionFacts:
        """What all nodes that answer know."""
        return joined(list(await asyncio.gather(*map(self._ask, self._live_nodes()))))

    async def _ask(self, node_id: NodeId) -> TransactionFacts:
        try:
            answer = await self._rpc.call(
                self._address_of(node_id),
                ASK,
                AskTransactions(),
                TransactionFacts,
                deadline_s=DEADLINE_S,
            )
        except DqeError:
            return TransactionFacts()
        return answer.header
