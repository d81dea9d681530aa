"""Thousands of connections that say nothing, or half of something."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Iterator

import pytest
from rpc_fixtures import Text, nodes, run
from test_rpc_hostile import greeting

from cluster import rpc_server

CROWD = 2000


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * CROWD if hard == resource.RLIM_INFINITY else min(3 * CROWD, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def crowd(address: str, said: bytes) -> list[socket.socket]:
    """Connections that say these bytes, if any, and then no more."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    opened = []
    for _ in range(CROWD):
        peer = socket.socket()
        peer.setblocking(False)
        await loop.sock_connect(peer, (host, int(port)))
        if said:
            await loop.sock_sendall(peer, said)
        opened.append(peer)
    return opened


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("said", [b"", greeting()[:9], greeting()[:-1]])
def test_those_that_do_not_greet_are_let_go(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_server, "HANDSHAKE_TIMEOUT_S", 2.0)
    logging.disable(logging.CRITICAL)

    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            peers = await crowd(rpcs[0].address, said)
            reply = await rpcs[1].call(rpcs[0].address, "echo", Text("x"), Text, deadline_s=30)
            assert reply.header.text == "X"
            while len(rpcs[0]._incoming) > 1:
                await asyncio.sleep(0.05)
            for peer in peers:
                peer.close()

    try:
        run(test)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("many_files")
def test_those_that_greet_and_go_without_a_word_leave_nothing() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            peers = await crowd(rpcs[0].address, greeting())
            while len(rpcs[0]._incoming) < CROWD:
                await asyncio.sleep(0.02)
            reply = await rpcs[1].call(rpcs[0].address, "echo", Text("x"), Text, deadline_s=30)
            assert reply.header.text == "X"
            for peer in peers:
                peer.close()
            while len(rpcs[0]._incoming) > 1:
                await asyncio.sleep(0.02)

    run(test)
