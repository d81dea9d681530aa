"""What a row store's file says of itself: how far its tables are, and the participant's image.

One row of `tablet` is the position, kept in the transactions that change rows; one of `image` is
the participant's image of the last checkpoint. `fragment` is for `row_fragments`. All functions
work in their caller's transaction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from cluster.errors import DataCorrupted
from storage.fragments import TabletId
from storage.operations import StorePosition

Connection: TypeAlias = Any  # apsw's module has no type for a connection that mypy finds

_FORMAT = 1
_CREATE_SQL = (
    "CREATE TABLE tablet (id INTEGER PRIMARY KEY, format INTEGER, applied_index INTEGER,"
    " max_commit_ts INTEGER, schema_version INTEGER, horizon INTEGER) STRICT",
    "CREATE TABLE fragment (fragment_id INTEGER PRIMARY KEY, definition BLOB,"
    " since_index INTEGER) STRICT",
    "CREATE TABLE image (id INTEGER PRIMARY KEY, image_index INTEGER, image BLOB) STRICT",
    f"INSERT INTO tablet VALUES (1, {_FORMAT}, 0, 0, 0, 0)",
    "INSERT INTO image VALUES (1, 0, x'')",
)


def has_meta(connection: Connection) -> bool:
    """Whether the file was made to its end."""
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'image'").fetchall()
    return bool(found)


def create_meta(connection: Connection) -> None:
    """What an empty store says."""
    for statement in _CREATE_SQL:
        connection.execute(statement)


def read_meta(
    connection: Connection, tablet_id: TabletId, path: Path
) -> tuple[StorePosition, int, bytes]:
    """The position, the image's index and the image; DataCorrupted for anything else."""
    tablet = connection.execute("SELECT * FROM tablet").fetchall()
    image = connection.execute("SELECT image_index, image FROM image").fetchall()
    if len(tablet) != 1 or len(image) != 1 or tablet[0][1] != _FORMAT:
        raise DataCorrupted(
            f"the row store of tablet {tablet_id} is damaged",
            detail=f"{path}: unexpected meta data {tablet!r}",
        )
    return StorePosition(*tablet[0][2:]), image[0][0], image[0][1]


def write_position(connection: Connection, position: StorePosition) -> None:
    """The tables are there."""
    connection.execute(
        "UPDATE tablet SET applied_index = ?, max_commit_ts = ?, schema_version = ?,"
        " horizon = ? WHERE id = 1",
        (
            position.applied_index,
            position.max_commit_ts,
            position.schema_version,
            position.horizon,
        ),
    )


def write_image(connection: Connection, image: bytes, image_index: int) -> None:
    """The participant was so at that index."""
    connection.execute(
        "UPDATE image SET image_index = ?, image = ? WHERE id = 1", (image_index, image)
    )
