"""What gossiping nodes tell each other.

A PING asks its receiver for a sign of life, brings news, and a digest: how far the sender is
with some of the members. The ACK brings what the sender of the PING lacks, and a digest of what
its own sender lacks, which then comes with a NEWS. ASK begs a third node to ping the target,
and its ACK is carried back. All are notices: any may be lost.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

# The address of a node that nobody has named yet.
ANYONE = 0


class Kind(IntEnum):
    PING = 1
    ACK = 2
    ASK = 3
    NEWS = 4


class Verdict(IntEnum):
    """What is held against a node."""

    NONE = 0
    SUSPECT = 1
    DOWN = 2


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One thing a node says of itself, with the version in which it began to."""

    key: str
    version: int
    value: bytes


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What the receiver may lack of one node.

    The entries are all that changed after version `after` and up to `upto`; entries with a
    higher version may be among them, but others between may be missing. `accused` is the
    version of the node that `verdict` speaks of: a word of the node's own with a higher one
    refutes it.
    """

    node_id: int
    incarnation: int
    address: str
    after: int
    upto: int
    entries: tuple[Entry, ...] = ()
    verdict: int = Verdict.NONE
    accused: int = 0


class Known(msgspec.Struct, frozen=True, array_like=True):
    """How far the sender is with one node: it holds all up to that version."""

    node_id: int
    incarnation: int
    version: int


class Packet(msgspec.Struct, frozen=True, array_like=True):
    """One notice. `target` is whom a PING or ASK is meant for, and who it was that answered."""

    kind: int
    sender: int
    incarnation: int
    address: str
    sequence: int = 0
    target: int = ANYONE
    news: tuple[Delta, ...] = ()
    digest: tuple[Known, ...] = ()


# What the encoding of a delta and of an entry takes at most beside texts and values.
DELTA_BYTES = 48
ENTRY_BYTES = 12


def entry_bytes(entry: Entry) -> int:
    """About what the entry takes in a packet."""
    return ENTRY_BYTES + len(entry.key) + len(entry.value)


def delta_bytes(delta: Delta) -> int:
    """About what the delta takes in a packet."""
    return DELTA_BYTES + len(delta.address) + sum(map(entry_bytes, delta.entries))
