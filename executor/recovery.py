"""Giving up the lost majority of a tablet, by an operator's word.

Nothing here is done without it: what only the lost replicas knew to be committed is gone, and
nobody can say what it was. The word is asked for when everything else has been looked at, so
that its refusal says what is at stake. The live replica that is furthest goes on alone, as
another incarnation (`catalog.tablet_incarnations`), and the repair loop gives it companions.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from catalog.catalog_group import WORD
from catalog.commands import RecoverTablet
from catalog.model import NodeId, Tablet, TabletId
from catalog.recovery import METHOD, AskPosition, Position
from catalog.repair_report import tables_of
from catalog.repair_view import RepairView
from cluster.errors import (
    CannotConnectNow,
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
    UndefinedObject,
)

if TYPE_CHECKING:
    from executor.services import ExecutorServices

_ASK_TIMEOUT_S = 3.0
# A timestamp is milliseconds and a counter of so many bits.
_COUNTER_BITS = 18


async def recover_tablet(services: ExecutorServices, tablet_id: int, word: str) -> str:
    """Has the tablet go on with one replica; what was done, in words.

    42704 when there is no such tablet, 55000 when it has its majority or no replica answers,
    22023 without the operator's word.
    """
    catalog = services.catalog.current
    tablet = catalog.tablets.get(TabletId(tablet_id))
    if tablet is None:
        raise UndefinedObject(f"tablet {tablet_id} does not exist")
    live = frozenset(services.catalog.liveness.live_nodes())
    if RepairView(catalog, live).has_quorum(tablet):
        raise ObjectNotInPrerequisiteState(
            f"tablet {tablet_id} has a majority of its replicas, and needs no recovery"
        )
    found = await _positions(services, tablet, live)
    if not found:
        raise ObjectNotInPrerequisiteState(
            f"no replica of tablet {tablet_id} answers",
            detail=f"Its replicas are on nodes {', '.join(map(str, tablet.holders))}.",
        )
    survivor = max(found, key=lambda node_id: (found[node_id], -node_id))
    newest = found[survivor].newest_commit_ts
    if word != WORD:
        raise InvalidParameterValue(
            f"tablet {tablet_id} can go on only with loss of data",
            detail=_at_stake(services, tablet, survivor, newest),
            hint=f"Say '{WORD}' if no other replica will ever come back.",
        )
    await services.catalog.execute(RecoverTablet(tablet.id, survivor, newest + 1))
    return f"tablet {tablet_id} goes on with the replica on node {survivor} alone"


async def _positions(
    services: ExecutorServices, tablet: Tablet, live: frozenset[NodeId]
) -> dict[NodeId, Position]:
    """How far each live replica is."""
    nodes = [node_id for node_id in tablet.holders if node_id in live]
    asked = await asyncio.gather(*(_ask(services, n, tablet) for n in nodes))
    return {n: position for n, position in zip(nodes, asked, strict=True) if position is not None}


async def _ask(services: ExecutorServices, node_id: NodeId, tablet: Tablet) -> Position | None:
    try:
        reply = await services.rpc.call(
            services.catalog.address_of(node_id),
            METHOD,
            AskPosition(tablet.id),
            Position,
            deadline_s=_ASK_TIMEOUT_S,
        )
    except CannotConnectNow:
        return None
    return reply.header


def _at_stake(services: ExecutorServices, tablet: Tablet, survivor: NodeId, newest_ts: int) -> str:
    tables = tables_of(services.catalog.current).get(tablet.id, [])
    since = datetime.fromtimestamp((newest_ts >> _COUNTER_BITS) / 1000, UTC)
    others = [node_id for node_id in tablet.holders if node_id != survivor]
    return (
        f"It holds rows of {', '.join(tables) or 'no table'}. The replica on node {survivor} has"
        f" commits up to {since:%Y-%m-%d %H:%M:%S.%f} UTC; later ones may be lost, and with"
        " them, in part, transactions over several tablets. The replicas on nodes"
        f" {', '.join(map(str, others))} will be dropped."
    )
