"""Where nodes are and whether they answer: hints, kept apart from the catalog (rule G4).

The catalog holds each node's addresses, but a cluster whose nodes all moved could not elect a
leader to write the new ones down. So every node keeps an **address book**: what the catalog
says, overridden by what nodes announced of themselves later. Nodes exchange books with their
pings (`catalog.liveness`), and the book is kept in the data directory, so that one known
address is enough to find all.

An announcement counts from the wall-clock millisecond at which the announcing process started;
of two, the later wins. A wrong clock can only hide a node until it is heard of again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from catalog.model import Catalog


class Announcement(msgspec.Struct, frozen=True):
    """A node's own word on where it is. The catalog's counts as the oldest, 0."""

    address: str
    started_ms: int = 0


Announcements = dict[int, Announcement]


class BookStore(Protocol):
    """Keeps the book over restarts."""

    def load(self) -> bytes | None: ...

    def save(self, data: bytes) -> None: ...


class AddressBook:
    """Node id -> RPC address, the best that is known here."""

    def __init__(self, store: BookStore) -> None:
        self._store = store
        data = store.load()
        self._known: Announcements = (
            msgspec.msgpack.decode(data, type=Announcements) if data else {}
        )

    @property
    def announcements(self) -> Mapping[int, Announcement]:
        return self._known

    def address_of(self, node_id: int) -> str | None:
        """Where that node was last; None when it was never heard of."""
        known = self._known.get(node_id)
        return known.address if known else None

    def learn(self, announcements: Mapping[int, Announcement]) -> None:
        """Takes what is newer than what is known, and keeps it."""
        newer = {
            node_id: announcement
            for node_id, announcement in announcements.items()
            if self._is_news(node_id, announcement)
        }
        if newer:
            self._known = {**self._known, **newer}
            self._store.save(msgspec.msgpack.encode(self._known))

    def learn_catalog(self, catalog: Catalog) -> None:
        """Takes the catalog's addresses of nodes that did not announce themselves."""
        self.learn({n.id: Announcement(n.rpc_address) for n in catalog.nodes.values()})

    def _is_news(self, node_id: int, announcement: Announcement) -> bool:
        known = self._known.get(node_id)
        if known is None or announcement.started_ms > known.started_ms:
            return True
        # Both from the catalog: the newer copy of it counts.
        return announcement.started_ms == known.started_ms == 0 and announcement != known


class FileStore:
    """One small file, replaced whole: a `BookStore`, and with an index a `SnapshotStore`.

    The new bytes are synced before they take the file's name, and the directory after, so a
    crash leaves the former file or the new one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
