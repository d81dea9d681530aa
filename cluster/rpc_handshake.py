"""Who is there: the first bytes of a connection, and when it is refused.

The side that connects sends the preamble (magic, protocol version) and a HELLO frame; the
side that accepts answers with its own preamble and a WELCOME frame, which names a refusal
where there is one. The preamble is fixed for all versions, so that an old node and a new one
can still tell each other why they part.

A node that is joining has no cluster id yet. It may connect, and be connected to, with the
empty id; until both ends hold the same id only methods registered with `before_join=True`
are served to it.

Left out: proof of identity. Until TLS arrives a cluster id keeps honest nodes apart and
nothing more.
"""

from __future__ import annotations

import struct

import msgspec

from cluster.errors import CannotConnectNow
from cluster.rpc_frames import FrameError

MAGIC = b"dqe-rpc\0"
PROTOCOL_VERSION = 1
# No frame of a connection is believed to be larger before its handshake is done.
MAX_HELLO_BYTES = 64 << 10
HANDSHAKE_TIMEOUT_S = 10.0

_PREAMBLE = struct.Struct("<8sI")
PREAMBLE_SIZE = _PREAMBLE.size


class HandshakeRefused(CannotConnectNow):
    """The peer answers, but will not speak with this node."""


class Hello(msgspec.Struct, frozen=True):
    """What a node says of itself; the address is where it listens, "" where it does not."""

    cluster_id: str
    node_id: int
    address: str = ""


class Welcome(msgspec.Struct, frozen=True):
    """The answer; `refusal` is "" or the reason why the connection ends here."""

    cluster_id: str
    node_id: int
    refusal: str = ""


def preamble() -> bytes:
    """The first bytes each side sends."""
    return _PREAMBLE.pack(MAGIC, PROTOCOL_VERSION)


def check_preamble(data: bytes) -> int:
    """The peer's protocol version; raises FrameError when this is no dqe node at all."""
    magic, version = _PREAMBLE.unpack_from(data)
    if magic != MAGIC:
        raise FrameError("connection does not speak the protocol between dqe nodes")
    return int(version)


def version_refusal(peer_version: int) -> str:
    """Why the version is refused, or ""."""
    if peer_version == PROTOCOL_VERSION:
        return ""
    return f"protocol version {peer_version} met a node of version {PROTOCOL_VERSION}"


def cluster_refusal(own_cluster_id: str, peer_cluster_id: str) -> str:
    """Why the cluster id is refused, or "" (an empty id is not refused but limited)."""
    if not own_cluster_id or not peer_cluster_id or own_cluster_id == peer_cluster_id:
        return ""
    return f"node of cluster {peer_cluster_id} met a node of cluster {own_cluster_id}"


def have_joined(own_cluster_id: str, peer_cluster_id: str) -> bool:
    """Whether the two ends belong to one cluster, so that every method is open."""
    return own_cluster_id != "" and own_cluster_id == peer_cluster_id
