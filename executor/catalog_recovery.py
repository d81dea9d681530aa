"""Giving up the lost majority of the catalog, by an operator's word.

Without its majority the catalog takes no definitions and hands out no timestamps, so that nothing
goes on. As with a tablet (`executor.recovery`) nothing is done without the word, which is asked
for when everything else has been looked at. The live copy that is furthest goes on alone
(`catalog.catalog_incarnations`); nodes that do not answer are taken for dead, and the other nodes,
and nodes that join, become voters beside it.

It is asked of a cluster without a catalog, so all that is used is what the live nodes know.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from catalog.catalog_group import GO_ON_METHOD, WORD, GoneOnAlone, GoOnAlone
from catalog.model import NodeId
from catalog.oracle import CEILING_AHEAD_MS, milliseconds_of, timestamp_at
from catalog.recovery import CATALOG_METHOD, AskCatalogPosition, CatalogPosition
from cluster.errors import CannotConnectNow, InvalidParameterValue, ObjectNotInPrerequisiteState

if TYPE_CHECKING:
    from executor.services import ExecutorServices

_ASK_TIMEOUT_S = 3.0
_GO_ON_TIMEOUT_S = 20.0

Positions = dict[NodeId, CatalogPosition]


async def recover_catalog(services: ExecutorServices, word: str) -> str:
    """Has the catalog go on with one copy; what was done, in words.

    55000 when it has its majority, 22023 without the operator's word.
    """
    live = services.catalog.liveness.live_nodes()
    found = await _positions(services, live)
    survivor = max(found, key=lambda node_id: (found[node_id], -node_id))
    _refuse_needless(found, found[survivor])
    lost = tuple(n for n in services.catalog.current.nodes if n not in live and n not in found)
    if word != WORD:
        raise InvalidParameterValue(
            "the catalog can go on only with loss of data",
            detail=_at_stake(found[survivor], survivor, lost),
            hint=f"Say '{WORD}' if these nodes will never come back.",
        )
    version = await _go_on(services, found, survivor, lost)
    await services.catalog.wait_version(version, _GO_ON_TIMEOUT_S)
    return f"the catalog goes on with the copy of node {survivor} alone"


async def _go_on(
    services: ExecutorServices, found: Positions, survivor: NodeId, lost: tuple[NodeId, ...]
) -> int:
    seen = max(position.newest_ts for position in found.values())
    # What the lost leader had handed out, and nobody here has seen, cannot be further.
    ceiling = max(seen, timestamp_at(services.runtime.wall_ms())) + timestamp_at(CEILING_AHEAD_MS)
    reply = await services.rpc.call(
        services.catalog.address_of(survivor),
        GO_ON_METHOD,
        GoOnAlone(WORD, found[survivor].incarnation, lost, ceiling),
        GoneOnAlone,
        deadline_s=_GO_ON_TIMEOUT_S,
    )
    return reply.header.version


async def _positions(services: ExecutorServices, live: tuple[NodeId, ...]) -> Positions:
    """How far each copy is, of those that answer."""
    asked = await asyncio.gather(*(_ask(services, node_id) for node_id in live))
    found = {n: position for n, position in zip(live, asked, strict=True) if position is not None}
    if not found:
        raise ObjectNotInPrerequisiteState("no node has a whole copy of the catalog")
    return found


async def _ask(services: ExecutorServices, node_id: NodeId) -> CatalogPosition | None:
    try:
        reply = await services.rpc.call(
            services.catalog.address_of(node_id),
            CATALOG_METHOD,
            AskCatalogPosition(),
            CatalogPosition,
            deadline_s=_ASK_TIMEOUT_S,
        )
    except CannotConnectNow:
        return None
    return reply.header


def _refuse_needless(found: Positions, furthest: CatalogPosition) -> None:
    """55000 where the catalog leads, or can have a leader by itself."""
    voters = furthest.voters
    answer = [n for n in voters if n in found]
    leads = any(position.leads for position in found.values())
    if leads or 2 * len(answer) > len(voters):
        raise ObjectNotInPrerequisiteState(
            "the catalog has a majority of its voters, and needs no recovery",
            detail=f"Nodes {_listed(voters)} vote, and nodes {_listed(answer)} answer.",
        )


def _at_stake(position: CatalogPosition, survivor: NodeId, lost: tuple[NodeId, ...]) -> str:
    told = datetime.fromtimestamp(milliseconds_of(position.told_ts) / 1000, UTC)
    silent = [n for n in position.voters if n in lost]
    return (
        f"Most of its voters, nodes {_listed(silent)}, do not answer. The copy on node {survivor}"
        f" is of about {told:%Y-%m-%d %H:%M:%S} UTC: later definitions (CREATE, ALTER, DROP,"
        " settings) may be lost, and with them rows that were committed together with one, and"
        " numbers of sequences may be given out twice. Nodes"
        f" {_listed(lost)} will be taken for dead; tables without a majority of their replicas"
        " have to be recovered, too."
    )


def _listed(nodes: tuple[int, ...] | tuple[NodeId, ...] | list[int] | list[NodeId]) -> str:
    return ", ".join(map(str, nodes)) or "none"
