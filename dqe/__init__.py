"""The front door of dqe: `dqe.connect` for programs, the `dqe` command for people.

    import dqe
    with dqe.connect("postgresql://127.0.0.1:5433/dqe") as connection: ...

and `dqe.LocalCluster` for tests that want a real cluster of processes.

Modules, in the order in which a node comes to life: `cli` (the commands), `commands/` (one a
module), `local_cluster` (several node processes on one machine), `configuration`, `node` (puts
the floors together), `wire/` (the PostgreSQL server), `dbapi` (connections for Python). Beside
them `simulation/` (a whole cluster from one seed) and `tpch` (tables and rows for the demo).

Importing this package loads neither the server nor a driver until they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dqe.dbapi import Connection, Cursor, connect
    from dqe.local_cluster import LocalCluster

apilevel = "2.0"
threadsafety = 2
paramstyle = "pyformat"

_FROM_DBAPI = (
    "BINARY",
    "Binary",
    "Connection",
    "Cursor",
    "DATETIME",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NUMBER",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "ROWID",
    "STRING",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "connect",
)

__all__ = [
    "Connection",
    "Cursor",
    "LocalCluster",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]


def __getattr__(name: str) -> Any:
    if name in _FROM_DBAPI:
        from dqe import dbapi

        return getattr(dbapi, name)
    if name == "LocalCluster":
        from dqe import local_cluster

        return local_cluster.LocalCluster
    raise AttributeError(f"module 'dqe' has no attribute {name!r}")
