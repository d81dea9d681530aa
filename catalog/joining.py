"""How an empty node becomes a member (S3).

A node with an empty directory and `--join` asks any member for an identity. The member has the
catalog's leader log an `AddNode`, and answers with the cluster's id, the node's id and the
known addresses; the node writes these down before it does anything else. The leader then adds
it to the catalog's Raft group as a learner, through which its copy of the catalog comes.

The request carries a `join_id` chosen by the asking node and kept in its directory, so that
asking again (the answer was lost, the member went away) gives the same identity.
"""

from __future__ import annotations

import logging

import msgspec

from catalog.addresses import Announcements
from cluster.errors import CannotConnectNow, DqeError
from cluster.rpc import HandshakeRefused, RpcNode
from cluster.runtime import Runtime

logger = logging.getLogger(__name__)

METHOD = "catalog.join"
REQUEST_TIMEOUT_S = 10.0
RETRY_PAUSE_S = 0.3


class JoinRequest(msgspec.Struct, frozen=True):
    """What a node says of itself when it wants to become a member."""

    join_id: str
    rpc_address: str
    pg_address: str
    region: str | None = None
    zone: str | None = None


class Joined(msgspec.Struct, frozen=True):
    """The identity given, for the data directory, and where the others are."""

    cluster_id: str
    node_id: int
    known: Announcements


async def join_cluster(
    runtime: Runtime,
    rpc: RpcNode,
    seeds: tuple[str, ...],
    request: JoinRequest,
    deadline_s: float,
) -> Joined:
    """Asks the seeds in turn until one answers; when none did in time, 57P03 with the last word."""
    ends_s = runtime.monotonic() + deadline_s
    last: DqeError = CannotConnectNow("no address to join was given")
    told: set[str] = set()
    while True:
        for address in seeds:
            try:
                reply = await rpc.call(
                    address, METHOD, request, Joined, deadline_s=REQUEST_TIMEOUT_S
                )
            except HandshakeRefused:
                # Another cluster or version: asking again will not change it.
                raise
            except CannotConnectNow as error:
                last = error
                if str(error) not in told:
                    told.add(str(error))
                    logger.info("cannot join through %s yet: %s", address, error)
                continue
            return reply.header
        if runtime.monotonic() >= ends_s:
            raise CannotConnectNow(
                f"no member of a cluster let this node in at {', '.join(seeds)}",
                detail=f"The last one asked: {last.message}.",
                hint="The first node of a cluster is started without --join.",
            ) from last
        await runtime.sleep(RETRY_PAUSE_S)
