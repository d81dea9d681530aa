"""The end of temporary tables: with their session, or at the latest when its node starts again.

A node that never comes back leaves its sessions' temporary schemas behind; DROP SCHEMA removes
them.
"""

from __future__ import annotations

import logging

from catalog.commands import DropSchema
from catalog.model import TEMPORARY_SCHEMA_PREFIX
from cluster.errors import DqeError
from executor.services import ExecutorServices

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0


def new_schema_name(services: ExecutorServices) -> str:
    """A name that no session had before."""
    return f"{_prefix(services)}{services.ids.next()}"


def _prefix(services: ExecutorServices) -> str:
    return f"{TEMPORARY_SCHEMA_PREFIX}{services.node_id}_"


async def drop_temporary(services: ExecutorServices, schema: str) -> None:
    """Drops a session's temporary schema, if it ever had one."""
    if schema in services.catalog.current.schemas:
        await services.catalog.execute(DropSchema(schema, if_exists=True, cascade=True))


def drop_in_background(services: ExecutorServices, schema: str) -> None:
    """The same for a session that is gone: tried until it works."""
    if schema in services.catalog.current.schemas:
        services.runtime.spawn(_drop(services, [schema]), "drop temporary tables")


def drop_left_behind(services: ExecutorServices) -> None:
    """Drops what sessions of this node's former life left; to be called before it has any."""
    prefix = _prefix(services)
    left = [name for name in services.catalog.current.schemas if name.startswith(prefix)]
    if left:
        services.runtime.spawn(_drop(services, left), "drop temporary tables left behind")


async def _drop(services: ExecutorServices, schemas: list[str]) -> None:
    for schema in schemas:
        while True:
            try:
                await drop_temporary(services, schema)
                break
            except DqeError as error:
                logger.info("cannot drop %s yet: %s", schema, error.message)
                await services.runtime.sleep(RETRY_AFTER_S)
