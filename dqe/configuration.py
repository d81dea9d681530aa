"""What a node is told at its start, and the defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATABASE = "dqe"
DEFAULT_PG_PORT = 5433
DEFAULT_RPC_PORT = 7433
# How the process of a node ends that was decommissioned: there is no use in starting it again.
FORGOTTEN_STATUS = 3

_MIB = 1 << 20
# A node leaves room for its neighbours: half of the machine's memory for DuckDB.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class NodeConfiguration:
    """One node's. Addresses are `host:port`; port 0 picks a free one.

    `join` are addresses of members of the cluster to join; empty with an empty directory
    creates a cluster. `memory_limit_mib` and `threads` bound the node's DuckDB.
    """

    data_directory: Path
    listen: str
    pg: str
    join: tuple[str, ...] = ()
    region: str | None = None
    zone: str | None = None
    memory_limit_mib: int = 0
    threads: int = 0
    # For the whole cluster, from when the node has started; None leaves it as it is.
    dead_after: str | None = None


def default_memory_limit_mib(nodes_on_machine: int = 1) -> int:
    """DuckDB's share of the machine's memory when `nodes_on_machine` nodes live on it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(256, int(total * _MEMORY_SHARE / nodes_on_machine) // _MIB)
