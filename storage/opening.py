"""Opens a tablet's stores; what does not open is built from the other one, or begins anew.

    columnar   row store   then
    opens      opens       as they are
    opens      does not    built from the columnar store, if that has every fragment it needs
    does not   opens       the columnar one is built from the row store, on the same condition
    does not   does not    both begin anew: the log brings them up, or another replica does

A row store without a checkpoint is none (`row_side`). Where a condition fails, both begin anew.
Files that do not open, or are not used, are set aside until the tablet is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import apsw
import duckdb
import msgspec

from cluster.errors import DataCorrupted
from storage.columnar import ColumnarStore
from storage.duckdb_node import DuckDbNode
from storage.fragments import FragmentSchema, TabletId
from storage.moves import begin_with, close_sources
from storage.replica_image import ReplicaImage
from storage.row_files import remove_files
from storage.row_store import RowStore

logger = logging.getLogger(__name__)

StoreType = TypeVar("StoreType", ColumnarStore, RowStore)


def open_stores(
    node: DuckDbNode, tablet_id: TabletId, path: Path
) -> tuple[ColumnarStore, RowStore | None]:
    """The stores whose columnar file is at `path`. Blocks."""
    opener = _Opener(node, tablet_id, path)
    try:
        return opener.open()
    except (DataCorrupted, apsw.Error, duckdb.Error) as error:
        # Damage that showed itself only when one store was read to build the other.
        logger.error("tablet %s: building a store failed: %s", tablet_id, error)
        opener.set_aside_all()
        return ColumnarStore(node, tablet_id, path), None


def rows_path(path: Path) -> Path:
    """Where the row store lies beside a columnar one."""
    return path.with_suffix(".rows")


def damaged_path(path: Path) -> Path:
    """Where a file that is not used any more lies until the tablet is dropped."""
    return path.with_suffix(".damaged" if path.suffix == ".duckdb" else ".rows-damaged")


class _Opener:
    def __init__(self, node: DuckDbNode, tablet_id: TabletId, path: Path) -> None:
        self._node = node
        self._tablet_id = tablet_id
        self._path = path
        self._columnar: ColumnarStore | None = None
        self._rows: RowStore | None = None

    def open(self) -> tuple[ColumnarStore, RowStore | None]:
        if self._path.exists():
            self._columnar = self._tried(self._open_columnar, self._path)
        if rows_path(self._path).exists():
            self._rows = self._tried(self._open_rows, rows_path(self._path))
        if self._rows is not None and not self._rows.image_index:
            self._rows.drop()
            self._rows = None
        if self._columnar is None and self._rows is not None:
            self._build_columnar(self._rows)
        elif self._rows is None and self._columnar is not None:
            self._build_rows(self._columnar)
        return self._columnar or self._open_columnar(), self._rows

    def _open_columnar(self) -> ColumnarStore:
        return ColumnarStore(self._node, self._tablet_id, self._path)

    def _open_rows(self) -> RowStore:
        return RowStore(self._tablet_id, rows_path(self._path))

    def _tried(self, open_store: Callable[[], StoreType], path: Path) -> StoreType | None:
        try:
            return open_store()
        except DataCorrupted as error:
            logger.error("%s: rebuilding it (%s)", error.message, error.detail)
            set_aside(path)
            return None

    def _build_columnar(self, rows: RowStore) -> None:
        schemas = _schemas(rows.image)
        if not all(schema.method.in_row_store for schema in schemas):
            self._begin_anew()
            return
        rows.verify()
        self._columnar = self._open_columnar()
        wanted = [schema for schema in schemas if schema.method.in_columnar_store]
        _build(self._columnar, rows, wanted)

    def _build_rows(self, columnar: ColumnarStore) -> None:
        wanted = [s for s in _schemas(columnar.image) if s.method.in_row_store]
        if not wanted:
            return
        if not all(schema.method.in_columnar_store for schema in wanted):
            self._begin_anew()
            return
        remove_files(rows_path(self._path))
        self._rows = self._open_rows()
        _build(self._rows, columnar, wanted)

    def _begin_anew(self) -> None:
        logger.error("tablet %s: its rows are not all here; they come anew", self._tablet_id)
        self.set_aside_all()

    def set_aside_all(self) -> None:
        """Closes both, so that new files can be made in their places."""
        if self._columnar is not None:
            self._columnar.close()
        if self._rows is not None:
            self._rows.close()
        self._columnar = self._rows = None
        for path in (self._path, rows_path(self._path)):
            set_aside(path)


def _build(
    store: ColumnarStore | RowStore,
    origin: ColumnarStore | RowStore,
    schemas: Sequence[FragmentSchema],
) -> None:
    """Fills a new store with these fragments, as of the other one's position."""
    here = origin.fragments
    sources = {
        s.fragment_id: origin.source(s.fragment_id) for s in schemas if s.fragment_id in here
    }
    try:
        begin_with(store, schemas, sources, origin.position, origin.image, origin.image_index)
    finally:
        close_sources(sources)


def _schemas(image: bytes) -> tuple[FragmentSchema, ...]:
    return msgspec.msgpack.decode(image, type=ReplicaImage).fragments if image else ()


def set_aside(path: Path) -> None:
    """Takes a store's file away from where it would be opened."""
    if path.exists():
        path.replace(damaged_path(path))
    remove_files(path)
