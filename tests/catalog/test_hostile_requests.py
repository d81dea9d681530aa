"""Well-formed frames with nonsense in them, to every request a node serves.

What decodes is carried out or refused, what does not is refused; nothing ends a background
task, and the node goes on serving. Raft's own messages are left out: their meaning cannot be
told from nonsense (tests/raft feeds them in every order; bytes that are none are here).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tablet_cluster import Cluster, StoreNode, insertion, run_cluster, write_one

from catalog.definition import SchemeDefinition
from catalog.model import PartitionMethod
from catalog.replica_checks import ReplicaChecker
from cluster.errors import DqeError
from cluster.rpc import RpcNode
from cluster.simulation.runtime import SimulatedRuntime

REQUESTS_A_METHOD = 12
# Their bodies are messages of groups that are really there.
MEANINGFUL = ("raft.",)
NUMBERS = (0, 1, 2, 5, 7, -1, 255, 2**31, 2**53, 2**63 - 1, -(2**63))


class Nonsense:
    """Requests for one node, from one seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def header(self, request_type: type[msgspec.Struct]) -> bytes:
        kind = self._chance.randrange(5)
        if kind == 0:
            return self._chance.randbytes(self._chance.randrange(60))
        if kind == 1:
            return msgspec.msgpack.encode(self.value(3))
        fields = {f.name: self._typed(f.type) for f in msgspec.structs.fields(request_type)}
        encoded = msgspec.msgpack.encode(fields)
        if request_type.__struct_config__.array_like:
            encoded = msgspec.msgpack.encode(list(fields.values()))
        if kind == 2 and encoded:
            changed = bytearray(encoded)
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
            return bytes(changed)
        return encoded

    def body(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((0, 0, 8, 300)))

    def _typed(self, wanted: Any) -> object:
        """A value that may fit; None and others where the type is not a plain one."""
        chance = self._chance
        if wanted is int:
            return chance.choice(NUMBERS)
        if wanted is str:
            return chance.choice(("", "x", "n1:1", "no such", "\x00", "x" * 500))
        if wanted is bytes:
            return chance.randbytes(chance.randrange(40))
        if wanted is bool:
            return chance.random() < 0.5
        return chance.choice(((), {}, None, self.value(2)))

    def value(self, depth: int) -> object:
        chance = self._chance
        if depth == 0 or chance.random() < 0.4:
            return chance.choice((None, True, 0, -5, 2**60, 1.5, float("nan"), b"\xff", "text"))
        if chance.random() < 0.5:
            return [self.value(depth - 1) for _ in range(chance.randrange(4))]
        return {str(n): self.value(depth - 1) for n in range(chance.randrange(4))}


async def attack(node: StoreNode, stranger: RpcNode, nonsense: Nonsense) -> int:
    """Sends every method its requests; how many were answered with something else than an error."""
    address = node.rpc.address
    connection = await stranger._peer(address, bulk=False).connect(5)
    answered = 0
    for name, method in list(node.rpc._methods.items()):
        for _ in range(REQUESTS_A_METHOD):
            header, body = nonsense.header(method.decoder.type), nonsense.body()
            if method.name.startswith(MEANINGFUL):
                header, body = header[:5], b"\xc1" + body
            if method.notice is not None:
                connection.notify(name, header, body)
            elif method.stream is not None:
                stream = connection.open_stream(name, header)
                with contextlib.suppress(DqeError, TimeoutError):
                    await asyncio.wait_for(stream.receive(), 0.05)
                stream.close()
            else:
                try:
                    await connection.call(name, header, body, 0.2)
                    answered += 1
                except DqeError:
                    pass
    assert not connection.closed, "nothing of it breaks the protocol of frames"
    return answered


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_nonsense_in_requests_harms_nothing(tmp_path: Path, seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        [node] = await cluster.start(1)
        ReplicaChecker(node.runtime, node.rpc, node.storage, node.catalog, node.tablets, node.id)
        table = await node.table("t", SchemeDefinition(PartitionMethod.NONE))
        fragment = table.parts[0].fragments[0]
        await write_one(node, fragment.tablet_id, insertion(table, fragment, {1: "x"}), 77)
        stranger = RpcNode(
            SimulatedRuntime(seed, "stranger"),
            cluster.network.transport("stranger"),
            cluster_id=lambda: node.storage.identity.cluster_id,
            node_id=lambda: 9,
        )
        assert len(node.rpc._methods) > 20
        answered = await attack(node, stranger, Nonsense(seed))
        assert answered > 3, "nothing was well enough formed to be carried out"
        await stranger.close()
        await node.runtime.sleep(5)
        await write_one(node, fragment.tablet_id, insertion(table, fragment, {2: "y"}), 78)
        assert await node.read(table, fragment) == [(1, "x"), (2, "y")]
        again = await node.table("another", SchemeDefinition(PartitionMethod.NONE))
        assert again.name == "another"

    logging.disable(logging.CRITICAL)
    try:
        run_cluster(tmp_path, scenario)
    finally:
        logging.disable(logging.NOTSET)
