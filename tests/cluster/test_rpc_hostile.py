"""Bad bytes at the listening port: that connection ends, everything else goes on."""

from __future__ import annotations

import asyncio
import gc
import logging
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rpc_fixtures import Text, nodes, run

from cluster.rpc import RpcNode
from cluster.rpc_frames import (
    COPY_BELOW_BYTES,
    Frame,
    FrameDecoder,
    FrameError,
    FrameKind,
    encode_frame,
)
from cluster.rpc_handshake import MAGIC, Hello, Welcome, preamble


def as_bytes(kind: FrameKind, frame_id: int = 0, **fields: object) -> bytes:
    return b"".join(encode_frame(kind, frame_id, **fields))  # type: ignore[arg-type]


def greeting(cluster_id: str = "c1") -> bytes:
    hello = msgspec.msgpack.encode(Hello(cluster_id, 9, "nowhere:1"))
    return preamble() + as_bytes(FrameKind.HELLO, header=hello)


HEADER = msgspec.msgpack.encode(Text("x"))
VALID = [
    as_bytes(FrameKind.CALL, 1, value=1000, method=b"echo", header=HEADER, body=b"body"),
    as_bytes(FrameKind.NOTICE, method=b"notice", header=HEADER),
    as_bytes(FrameKind.OPEN, 2, method=b"echo_stream", header=HEADER),
    as_bytes(FrameKind.DATA, 2, header=b"h", body=bytes(9000)),
    as_bytes(FrameKind.CREDIT, 2, value=100),
    as_bytes(FrameKind.END, 2),
    as_bytes(FrameKind.CANCEL, 1),
    as_bytes(FrameKind.PING),
]

frames = st.builds(
    lambda kind, frame_id, value, flags, method, header, body: as_bytes(
        kind, frame_id, value=value, flags=flags, method=method, header=header, body=body
    ),
    st.sampled_from(list(FrameKind)),
    st.integers(0, 5) | st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.sampled_from([b"echo", b"echo_stream", b"notice", b"watch_stream", b""])
    | st.binary(max_size=9),
    st.just(HEADER) | st.binary(max_size=30),
    st.binary(max_size=50),
)
mutated = st.builds(
    lambda parts, at, bit: _flip(b"".join(parts), at, bit),
    st.lists(st.sampled_from(VALID), min_size=1, max_size=8),
    st.integers(0, 1 << 20),
    st.integers(0, 7),
)


def _flip(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(changed)] ^= 1 << bit
    return bytes(changed)


async def _throw(node: RpcNode, data: bytes) -> None:
    """Sends the bytes, says no more, and reads until the node ends the connection."""
    host, _, port = node.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        writer.write_eof()
        while await reader.read(1 << 16):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.binary(max_size=200)
        | st.lists(frames, max_size=6).map(b"".join).map(lambda data: greeting() + data)
        | mutated.map(lambda data: greeting() + data)
        | st.integers(0, 400).map(lambda cut: (greeting() + b"".join(VALID))[:cut]),
        min_size=1,
        max_size=10,
    )
)
def test_no_bytes_harm_the_node(attacks: list[bytes]) -> None:
    logging.disable(logging.CRITICAL)

    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            stream = await rpcs[1].open_stream(rpcs[0].address, "echo_stream", Text(""))
            await asyncio.gather(*(_throw(rpcs[0], attack) for attack in attacks))
            reply = await rpcs[1].call(rpcs[0].address, "echo", Text("alive"), Text, deadline_s=9)
            assert reply.header.text == "ALIVE"
            await stream.send(b"alive too")
            assert await stream.receive() == (b"", b"alive too")
            stream.close()
            while len(rpcs[0]._incoming) > 2:
                await asyncio.sleep(0)
            names = [
                name
                for name in rpcs[0]._runtime._tasks.running()  # type: ignore[attr-defined]
                if not name.startswith("connect")
            ]
            assert len(names) <= 1, f"handlers leaked: {names}"

    try:
        run(test)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("http", b"GET / HTTP/1.1\r\n\r\n"),
        ("another cluster", greeting("other")),
        ("another version", MAGIC + struct.pack("<I", 99)),
        ("huge frame before the handshake", preamble() + struct.pack("<II", 1 << 20, 0)),
        ("huge frame", greeting() + struct.pack("<II", (1 << 32) - 1, 0)),
        ("reused id", greeting() + VALID[0] + VALID[0]),
        ("unknown stream", greeting() + as_bytes(FrameKind.DATA, 77)),
        ("reply to nothing", greeting() + as_bytes(FrameKind.REPLY, 1)),
        ("no handshake", preamble() + VALID[0]),
        ("credit from nowhere", greeting() + VALID[2] + as_bytes(FrameKind.CREDIT, 2, value=9)),
        ("data after end", greeting() + VALID[2] + VALID[5] + VALID[3]),
    ],
)
def test_broken_protocol_ends_the_connection_and_is_logged(
    name: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with nodes(1) as (rpcs, _):
            host, _, port = rpcs[0].address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(data)
            # The node closes without being asked to.
            try:
                while await reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            while rpcs[0]._incoming:
                await asyncio.sleep(0)

    run(test)
    assert any(record.levelno >= logging.ERROR for record in caplog.records), name


def test_refusal_names_both_clusters_and_both_versions() -> None:
    async def answer(data: bytes, address: str) -> bytes:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answered = await reader.read()
        writer.close()
        return answered

    async def test() -> None:
        async with nodes(1) as (rpcs, _):
            for sent, words in (
                (greeting("other"), "node of cluster other met a node of cluster c1"),
                (MAGIC + struct.pack("<I", 99), "protocol version 99 met a node of version 1"),
            ):
                answered = await answer(sent, rpcs[0].address)
                [frame] = FrameDecoder().feed(answered[len(preamble()) :])
                assert msgspec.msgpack.decode(frame.header, type=Welcome).refusal == words

    run(test)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(FrameKind)),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=20),
            st.binary(max_size=200),
            st.sampled_from([0, 1, COPY_BELOW_BYTES - 1, COPY_BELOW_BYTES, 20_000]),
        ),
        max_size=6,
    ),
    st.lists(st.integers(1, 9000), min_size=1, max_size=20),
)
def test_decoder_gives_what_was_encoded_however_it_is_cut(
    specs: list[tuple[FrameKind, int, int, bytes, bytes, int]], cuts: list[int]
) -> None:
    expected = [
        Frame(kind, number, value, 0, method, header, bytes(range(256)) * (size // 256 + 1))
        for kind, number, value, method, header, size in specs
    ]
    data = b"".join(
        as_bytes(f.kind, f.id, value=f.value, method=f.method, header=f.header, body=f.body)
        for f in expected
    )
    decoder, decoded, position, step = FrameDecoder(), [], 0, 0
    while position < len(data):
        size = cuts[step % len(cuts)]
        decoded += decoder.feed(data[position : position + size])
        position, step = position + size, step + 1
    assert [replace(frame, body=bytes(frame.body)) for frame in decoded] == expected
    assert decoder.pending_bytes == 0


@given(mutated)
def test_no_changed_bit_passes_the_decoder(data: bytes) -> None:
    original = FrameDecoder()
    good: list[Frame] = []
    try:
        good = original.feed(data)
    except FrameError:
        return
    # No error: the change made the decoder wait for bytes that never came; what was given
    # before it must be frames that were sent.
    valid = {(f.kind, f.id, bytes(f.body)) for part in VALID for f in FrameDecoder().feed(part)}
    assert all((f.kind, f.id, bytes(f.body)) in valid for f in good)
    assert original.pending_bytes > 0


def test_connections_leave_nothing_behind() -> None:
    async def test() -> None:
        async with nodes(1) as (rpcs, _):
            before = connections()  # of other tests in this process
            for _ in range(50):
                await _throw(rpcs[0], greeting() + b"".join(VALID))
            while rpcs[0]._incoming:
                await asyncio.sleep(0)
            assert connections() <= before + 1

    def connections() -> int:
        gc.collect()
        return sum(type(o).__name__ == "ServerConnection" for o in gc.get_objects())

    # A log record that is kept would keep its error, and that the connection.
    logging.disable(logging.CRITICAL)
    try:
        run(test)
    finally:
        logging.disable(logging.NOTSET)
