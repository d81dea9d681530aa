"""What the planner is given besides the statement: catalog, place and session settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from catalog.model import Catalog, NodeId
from planner.bound import SystemTable


@dataclass(frozen=True, slots=True)
class PlannerContext:
    """One statement's surroundings. The planner reads no clock: `now` is the transaction's
    start and `statement_now` the statement's, both aware.

    `node_id` is the coordinator. `live_nodes` are those thought to answer, a hint used to
    choose among copies and places for stages; empty means all active nodes of the catalog.
    `settings` are the session's, by lower-case name (`timezone`, `search_path`,
    `dqe.*` ...). `session` holds `user`, `database`, `backend_pid`, `server_version`, ...
    """

    catalog: Catalog
    node_id: NodeId
    now: datetime
    statement_now: datetime
    settings: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    live_nodes: tuple[NodeId, ...] = ()
    # All nodes, the nearest first, where any replica may answer; else tablets are read where
    # they are led.
    nearest: tuple[NodeId, ...] = ()
    # Rows at hand, by the name they have in `GIVEN_SCHEMA`.
    given: Mapping[str, SystemTable] = field(default_factory=dict)
