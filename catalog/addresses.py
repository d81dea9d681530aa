"""Where nodes are and whether they answer: hints, kept apart from the catalog (rule G4).

The catalog holds each node's addresses, but a cluster whose nodes all moved could not elect a
leader to write the new ones down. So every node keeps an **address book**: what the catalog
says, overridden by what nodes announced of themselves later. Gossip carries the announcements
(`catalog.liveness`), and the book is kept in the data directory, so that one known address is
enough to find all.

An announcement counts from the wall-clock millisecond at which the announcing process started;
of two, the later wins. A wrong clock can only hide a node until it is heard of again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from catalog.model import Catalog
from cluster.errors import DataCorrupted
from cluster.raft.state_machine import SnapshotStore

logger = logging.getLogger(__name__)


class Announcement(msgspec.Struct, frozen=True):
    """A node's own word on where it is. The catalog's counts as the oldest, 0."""

    address: str
    started_ms: int = 0


Announcements = dict[int, Announcement]


class AddressBook:
    """Node id -> RPC address, the best that is known here."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._known: Announcements = {}
        try:
            kept = store.load()
        except DataCorrupted as error:
            # The catalog's copy, --join and the others' gossip know them, too.
            logger.error("%s; the addresses of other nodes are gathered anew", error)
            kept = None
        if kept is not None:
            self._known = msgspec.msgpack.decode(kept[1], type=Announcements)
        self._saved = self._known
        # Of nodes that the catalog has forgotten, for as long as this process lives: the last
        # word to them is that they are.
        self._forgotten: Announcements = {}
        self._indexed: Announcements = {}
        self._by_address: dict[str, int] = {}

    @property
    def announcements(self) -> Mapping[int, Announcement]:
        return self._known

    def address_of(self, node_id: int) -> str | None:
        """Where that node was last; None when it was never heard of, or another node is there
        now: what is meant for one must not come to the other."""
        known = self._known.get(node_id) or self._forgotten.get(node_id)
        if known is None or self.node_at(known.address) != node_id:
            return None
        return known.address

    def node_at(self, address: str) -> int:
        """The node that announced that address last; 0 where nobody did."""
        if self._indexed is not self._known:
            self._indexed = self._known
            newest_last = sorted(self._known.items(), key=lambda item: item[1].started_ms)
            everybody = (*self._forgotten.items(), *newest_last)
            self._by_address = {known.address: node_id for node_id, known in everybody}
        return self._by_address.get(address, 0)

    def learn(self, announcements: Mapping[int, Announcement]) -> None:
        """Takes what is newer than what is known."""
        newer = {
            node_id: announcement
            for node_id, announcement in announcements.items()
            if self._is_news(node_id, announcement)
        }
        if newer:
            self._known = {**self._known, **newer}

    def learn_catalog(self, catalog: Catalog) -> None:
        """Takes the catalog's addresses of nodes that did not announce themselves. Those of
        nodes that it has forgotten are told to nobody and not kept."""
        gone = [n for n in self._known if n not in catalog.nodes and n < catalog.next_node_id]
        if gone:
            self._forgotten = {**self._forgotten, **{n: self._known[n] for n in gone}}
            self._known = {n: known for n, known in self._known.items() if n not in gone}
        self.learn({n.id: Announcement(n.rpc_address) for n in catalog.nodes.values()})

    async def keep(self) -> None:
        """Writes the book down if it changed since it was."""
        if self._known is not self._saved:
            known = self._known
            await self._store.save(0, msgspec.msgpack.encode(known))
            self._saved = known

    def _is_news(self, node_id: int, announcement: Announcement) -> bool:
        known = self._known.get(node_id)
        if known is None or announcement.started_ms > known.started_ms:
            return True
        # Both from the catalog: the newer copy of it counts.
        return announcement.started_ms == known.started_ms == 0 and announcement != known
