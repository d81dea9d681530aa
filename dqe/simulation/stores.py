"""The stores of a simulated node: real DuckDB, in memory, with the memory of a crash.

What a store promises after a crash is that it reopens at some log index between the one it
holds durably and the one it had applied (rule D1). So each database that a node attaches lies
in memory, and copies of it are kept: one at each CHECKPOINT, which is what is durable, and now
and then one at a COMMIT. At a crash the seed picks one of those since the last checkpoint, and
the node's next life finds it.

The data directory holds an empty file in each store's place: code that lists, measures or
removes files finds what it would find.

A DuckDB instance takes 0.2 s to set up, so instances are made once a process and lent to one
machine after the other, with one thread each.
"""

from __future__ import annotations

import contextlib
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from cluster.probes import Probe, reached
from storage.duckdb_node import SETTINGS, DuckDbNode, Setup, quote_name

MEMORY_LIMIT = "256MiB"
# How often a commit is one that a crash may go back to.
IMAGE_AT_COMMIT = 0.3
# What each node defines anew, on an instance that is older than it.
NODE_FUNCTIONS = ("pg_nextval", "pg_currval", "pg_lastval", "pg_setval")
# Every transaction of a store says how far it is, in this statement.
_POSITION = re.compile(r'INSERT INTO "(t\d+)"\.tablet')
_CHECKPOINT = re.compile(r'CHECKPOINT "(t\d+)"')


class Instances:
    """DuckDB instances, lent out one a machine."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._free: list[duckdb.DuckDBPyConnection] = []

    def take(self) -> duckdb.DuckDBPyConnection:
        return self._free.pop() if self._free else self._make()

    def give_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The instance is as it was when taken: no databases, no open cursors."""
        self._free.append(connection)

    def _make(self) -> duckdb.DuckDBPyConnection:
        config: dict[str, str | bool | int | float | list[str]]
        config = {"memory_limit": MEMORY_LIMIT, "threads": 1}
        connection = duckdb.connect(":memory:", config=config)
        for name, value in SETTINGS:
            connection.execute(f"SET GLOBAL {name} = {value}")
        self._setup(connection)
        return connection


@dataclass(slots=True)
class _Images:
    """Copies of one store: the durable one, and later ones that may have survived."""

    durable: str | None = None
    later: list[str] = field(default_factory=list)


class StoreShelf:
    """What the stores of one machine hold, through all its lives."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, chance: random.Random) -> None:
        self.connection = connection
        self._chance = chance
        self._images: dict[Path, _Images] = {}
        self._copies = 0
        # Writing to the disk fails, as on a full one.
        self.full = False

    def reopen(self, name: str, path: Path) -> None:
        """Attaches the store of a path under a name, as the last crash or checkpoint left it."""
        self.connection.execute(f"ATTACH ':memory:' AS {quote_name(name)}")
        if not path.exists():
            path.touch()
            self.forget(path)
        durable = self._images.setdefault(path, _Images()).durable
        if durable is not None:
            self._copy(durable, name)

    def checkpointed(self, name: str, path: Path) -> None:
        """The store as it is now survives whatever comes."""
        images = self._images[path]
        self._drop_all(images)
        images.durable = self._copy_of(name)

    def committed(self, name: str, path: Path) -> None:
        """The store as it is now may survive a crash."""
        if self._chance.random() < IMAGE_AT_COMMIT:
            self._images[path].later.append(self._copy_of(name))

    def crash(self) -> None:
        """Each store is as at its last checkpoint, or somewhere behind it."""
        for images in self._images.values():
            copies = [images.durable, *images.later]
            chosen = self._chance.randrange(len(copies))
            if chosen > 0:
                reached(Probe.STORE_REOPENED_BEHIND_CHECKPOINT)
            kept = copies.pop(chosen)
            for copy in copies:
                self._drop(copy)
            images.durable, images.later = kept, []

    def forget(self, path: Path) -> None:
        """The file was removed."""
        images = self._images.pop(path, None)
        if images is not None:
            self._drop_all(images)

    def clear(self) -> None:
        """Drops everything; the instance may be lent to another machine."""
        for path in list(self._images):
            self.forget(path)

    def _copy_of(self, name: str) -> str:
        self._copies += 1
        copy = f"image {self._copies}"
        self.connection.execute(f"ATTACH ':memory:' AS {quote_name(copy)}")
        self._copy(name, copy)
        return copy

    def _copy(self, source: str, target: str) -> None:
        self.connection.execute(f"COPY FROM DATABASE {quote_name(source)} TO {quote_name(target)}")

    def _drop(self, copy: str | None) -> None:
        if copy is not None:
            self.connection.execute(f"DETACH {quote_name(copy)}")

    def _drop_all(self, images: _Images) -> None:
        for copy in (images.durable, *images.later):
            self._drop(copy)
        images.durable, images.later = None, []


class SimulatedDuckDb(DuckDbNode):
    """One life's DuckDB, over the shelf of its machine."""

    def __init__(self, shelf: StoreShelf) -> None:
        self._shelf = shelf
        self._connection = shelf.connection
        self._paths: dict[str, Path] = {}
        self._cursors: list[Any] = []
        self.dead = False

    def cursor(self) -> Any:
        self.check_alive()
        cursor = self._connection.cursor()
        self._cursors.append(cursor)
        return cursor

    def store_cursor(self) -> Any:
        return SimulatedCursor(self, self.cursor())

    def attach(self, name: str, path: Path) -> None:
        self.check_alive()
        self._shelf.reopen(name, path)
        self._paths[name] = path

    def detach(self, name: str) -> None:
        if not self.dead:
            self._connection.execute(f"DETACH {quote_name(name)}")
            del self._paths[name]

    def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """The life is over: what it had open is closed, what it had attached is gone."""
        if self.dead:
            return
        self.dead = True
        for cursor in self._cursors:
            _close(cursor)
        self._cursors.clear()
        for name in self._paths:
            self._connection.execute(f"DETACH {quote_name(name)}")

    # For cursors.

    def check_alive(self) -> None:
        """The code of a node that crashed must find nothing to work on."""
        if self.dead:
            raise duckdb.ConnectionException("the node that opened this database has crashed")

    def write_position(self, statement: str) -> str | None:
        """The store whose position the statement writes."""
        found = _POSITION.match(statement)
        return found and found[1]

    def checkpoint_of(self, statement: str) -> str | None:
        """The store that the statement checkpoints."""
        found = _CHECKPOINT.match(statement)
        return found and found[1]

    def checkpointed(self, name: str) -> None:
        self._check_room()
        self._shelf.checkpointed(name, self._paths[name])

    def committed(self, name: str) -> None:
        self._shelf.committed(name, self._paths[name])

    def _check_room(self) -> None:
        if self._shelf.full:
            raise duckdb.IOException("could not write: no space left on device")


def _close(cursor: Any) -> None:
    """Ends a cursor, and with it the functions that its node defined through it."""
    for name in NODE_FUNCTIONS:
        with contextlib.suppress(duckdb.Error):
            cursor.remove_function(name)
    cursor.close()


class SimulatedCursor:
    """A store's cursor that sees checkpoints and commits pass by."""

    def __init__(self, node: SimulatedDuckDb, cursor: Any) -> None:
        self._node = node
        self._cursor = cursor
        self._written: str | None = None

    def execute(self, statement: str, *parameters: Any) -> SimulatedCursor:
        self._node.check_alive()
        checkpoint = self._node.checkpoint_of(statement)
        if checkpoint is not None:
            self._node.checkpointed(checkpoint)
            return self
        self._cursor.execute(statement, *parameters)
        written = self._node.write_position(statement)
        if written is not None:
            self._written = written
        elif statement == "COMMIT" and self._written is not None:
            self._node.committed(self._written)
            self._written = None
        elif statement == "ROLLBACK":
            self._written = None
        return self

    def cursor(self) -> Any:
        return self._node.cursor()

    def close(self) -> None:
        self._cursor.close()

    def __enter__(self) -> SimulatedCursor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
