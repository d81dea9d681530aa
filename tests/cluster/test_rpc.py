"""RPC over loopback sockets and over the short circuit: the promises of `cluster.rpc`."""

from __future__ import annotations

import asyncio

import pytest
from rpc_fixtures import Number, Text, nodes, run

from cluster.errors import (
    AnswerLost,
    CannotConnectNow,
    DqeError,
    InternalError,
    ObjectNotInPrerequisiteState,
    Outcome,
    ProgramLimitExceeded,
    ProtocolViolation,
    QueryCanceled,
    UndefinedFunction,
    UniqueViolation,
)
from cluster.rpc import HandshakeRefused, StreamClosed
from cluster.rpc_frames import MAX_BODY_BYTES
from cluster.rpc_stream import WINDOW_BYTES

# Every promise holds for another node and for the node itself.
PEERS = pytest.mark.parametrize("peer", [1, 0], ids=["remote", "local"])


@PEERS
def test_call_brings_reply_and_body(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            for size in (0, 1, 5_000, 100_000, 9 << 20):
                body = bytes(range(256)) * (size // 256) + bytes(size % 256)
                reply = await rpcs[0].call(
                    rpcs[peer].address, "echo", Text("hello"), Text, body=body, deadline_s=20
                )
                assert reply.header == Text("HELLO")
                assert bytes(reply.body) == body
            context = probes[peer].contexts[-1]
            assert context.peer_node_id == 1
            assert 0 < context.remaining_s() <= 20

    run(test)


@PEERS
def test_many_calls_in_flight_answer_each_its_own(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            replies = await asyncio.gather(
                *(
                    rpcs[0].call(
                        rpcs[peer].address,
                        "echo",
                        Text(f"m{i}"),
                        Text,
                        body=bytes([i % 251]) * (i % 97),
                        deadline_s=20,
                    )
                    for i in range(2000)
                )
            )
            assert [r.header.text for r in replies] == [f"M{i}" for i in range(2000)]
            assert all(bytes(r.body) == bytes([i % 251]) * (i % 97) for i, r in enumerate(replies))

    run(test)


@PEERS
def test_errors_arrive_as_their_class(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            address = rpcs[peer].address
            with pytest.raises(UniqueViolation) as caught:
                await rpcs[0].call(address, "fail", Text("ours"), Text, deadline_s=5)
            assert caught.value.constraint == "t_a"
            assert caught.value.detail == "Key (a)=(1) already exists."
            with pytest.raises(InternalError, match="KeyError: 'not ours'"):
                await rpcs[0].call(address, "fail", Text("other"), Text, deadline_s=5)
            with pytest.raises(UndefinedFunction, match="nonsense"):
                await rpcs[0].call(address, "nonsense", Text(""), Text, deadline_s=5)
            with pytest.raises(ProtocolViolation):
                await rpcs[0].call(address, "echo", Number(1), Text, deadline_s=5)
            with pytest.raises(ProtocolViolation):
                await rpcs[0].call(address, "echo", Text("x"), Number, deadline_s=5)
            with pytest.raises(ProtocolViolation):
                await rpcs[0].call(address, "echo_stream", Text("x"), Text, deadline_s=5)

    run(test)


@PEERS
def test_a_node_that_is_starting_is_to_be_asked_again(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            rpcs[peer].is_starting = True
            with pytest.raises(CannotConnectNow, match="is starting up"):
                await rpcs[0].call(rpcs[peer].address, "nonsense", Number(1), Number, deadline_s=20)

    run(test)


@PEERS
def test_deadline_raises_and_cancels_the_handler(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            with pytest.raises(AnswerLost, match=r"did not answer within 0.05 s") as caught:
                await rpcs[0].call(rpcs[peer].address, "hang", Text("a"), Text, deadline_s=0.05)
            assert caught.value.outcome is Outcome.UNKNOWN
            await probes[peer].until(lambda: probes[peer].cancelled == ["a"])

    run(test)


@PEERS
def test_cancelled_caller_cancels_the_handler(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            call = asyncio.ensure_future(
                rpcs[0].call(rpcs[peer].address, "hang", Text("a"), Text, deadline_s=50)
            )
            await probes[peer].until(lambda: probes[peer].started == ["a"])
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await probes[peer].until(lambda: probes[peer].cancelled == ["a"])

    run(test)


def test_unreachable_peer_is_named() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            address = rpcs[1].address
            await rpcs[1].close()
            with pytest.raises(CannotConnectNow, match=address) as caught:
                await rpcs[0].call(address, "echo", Text("x"), Text, deadline_s=5)
            assert caught.value.outcome is Outcome.DID_NOT_HAPPEN
            with pytest.raises(CannotConnectNow, match=address):
                await rpcs[0].open_stream(address, "echo_stream", Text("x"))

    run(test)


def test_peer_lost_in_mid_call_fails_calls_and_streams_and_later_calls_reconnect() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            address = rpcs[1].address
            call = asyncio.ensure_future(
                rpcs[0].call(address, "hang", Text("a"), Text, deadline_s=50)
            )
            stream = await rpcs[0].open_stream(address, "watch_stream", Text("elsewhere"))
            await probes[1].until(lambda: len(probes[1].started) == 2)
            for connection in list(rpcs[1]._incoming):
                connection._connection.abort()
            with pytest.raises(AnswerLost, match=f"connection to node at {address} was lost"):
                await call
            with pytest.raises(AnswerLost):
                await stream.receive()
            await probes[1].until(lambda: probes[1].cancelled == ["a"])
            await probes[1].until(lambda: len(probes[1].errors) == 1)
            reply = await rpcs[0].call(address, "echo", Text("again"), Text, deadline_s=5)
            assert reply.header.text == "AGAIN"

    run(test)


def test_stopping_node_says_so_to_calls_in_flight() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            call = asyncio.ensure_future(
                rpcs[0].call(rpcs[1].address, "hang", Text("a"), Text, deadline_s=50)
            )
            await probes[1].until(lambda: probes[1].started == ["a"])
            await rpcs[1].close()
            # Nobody knows how far it got.
            with pytest.raises(AnswerLost, match="node is stopping") as lost:
                await call
            assert lost.value.outcome is Outcome.UNKNOWN

    run(test)


@PEERS
def test_notices_arrive_in_order_and_survive_a_failing_one(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            sent = [f"n{i}" for i in range(300)]
            for text in [*sent[:150], "boom", *sent[150:]]:
                rpcs[0].notify(rpcs[peer].address, "notice", Text(text))
            rpcs[0].notify(rpcs[peer].address, "nonsense", Text("x"))
            await probes[peer].until(lambda: len(probes[peer].notices) == 300)
            assert probes[peer].notices == sent

    run(test)


def test_notices_to_a_dead_peer_are_dropped_and_counted() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            address = rpcs[1].address
            await rpcs[1].close()
            for _ in range(3000):
                rpcs[0].notify(address, "notice", Text("x"))
            with pytest.raises(CannotConnectNow):
                await rpcs[0].call(address, "echo", Text("x"), Text, deadline_s=5)
            assert rpcs[0].dropped_notices == 3000

    run(test)


@PEERS
def test_stream_echoes_everything_in_order(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            stream = await rpcs[0].open_stream(rpcs[peer].address, "echo_stream", Text(""))
            sent = [(str(i).encode(), bytes([i % 256]) * (i * 37 % 70_000)) for i in range(400)]

            async def produce() -> None:
                for header, body in sent:
                    await stream.send(body, header)
                await stream.finish()

            producer = asyncio.ensure_future(produce())
            received = []
            while (message := await stream.receive()) is not None:
                received.append((message[0], bytes(message[1])))
            await producer
            assert received == sent

    run(test)


@PEERS
def test_slow_reader_holds_the_sender_back_and_nothing_else(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            address = rpcs[peer].address
            stream = await rpcs[0].open_stream(address, "count", Number(50))
            await probes[peer].until(lambda: len(probes[peer].started) >= 5)
            for _ in range(20):
                await rpcs[0].call(address, "echo", Text("x"), Text, deadline_s=5)
            other = await rpcs[0].open_stream(address, "echo_stream", Text(""))
            await other.send(b"x")
            assert await other.receive() == (b"", b"x")
            other.close()
            # A window, the message that overdraws it, and the one that waits to be sent.
            assert len(probes[peer].started) <= WINDOW_BYTES // (1 << 20) + 1
            numbers = []
            while (message := await stream.receive()) is not None:
                numbers.append(int(message[0]))
            assert numbers == list(range(50))

    run(test)


@PEERS
def test_message_larger_than_the_window_passes(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            stream = await rpcs[0].open_stream(rpcs[peer].address, "echo_stream", Text(""))
            body = bytes(range(256)) * (3 * WINDOW_BYTES // 256)
            await stream.send(body)
            message = await stream.receive()
            assert message is not None
            assert bytes(message[1]) == body
            stream.close()

    run(test)


@PEERS
@pytest.mark.parametrize("where", ["in stream", "elsewhere"])
def test_abort_reaches_the_handler_wherever_it_waits(peer: int, where: str) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            stream = await rpcs[0].open_stream(rpcs[peer].address, "watch_stream", Text(where))
            await probes[peer].until(lambda: probes[peer].started == [where])
            stream.abort(QueryCanceled("enough"))
            await probes[peer].until(lambda: len(probes[peer].errors) == 1)
            expected = QueryCanceled if where == "in stream" else asyncio.CancelledError
            assert isinstance(probes[peer].errors[0], expected)
            with pytest.raises(QueryCanceled, match="enough"):
                await stream.receive()

    run(test)


@PEERS
def test_failing_stream_handler_is_heard_by_the_opener(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            stream = await rpcs[0].open_stream(rpcs[peer].address, "nonsense", Text(""))
            with pytest.raises(UndefinedFunction):
                await stream.receive()

    run(test)


@PEERS
def test_sender_learns_that_the_handler_is_gone(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            stream = await rpcs[0].open_stream(rpcs[peer].address, "count", Number(0))
            assert await stream.receive() is None
            with pytest.raises(StreamClosed):
                await stream.send(b"x")

    run(test)


@PEERS
def test_context_manager_closes_the_other_end(peer: int) -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, probes):
            async with await rpcs[0].open_stream(
                rpcs[peer].address, "watch_stream", Text("in stream")
            ):
                await probes[peer].until(lambda: probes[peer].started == ["in stream"])
            await probes[peer].until(lambda: len(probes[peer].errors) == 1)
            assert isinstance(probes[peer].errors[0], QueryCanceled)

    run(test)


def test_body_over_the_bound_is_refused_and_the_connection_lives() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):
            address = rpcs[1].address
            body = memoryview(bytearray(MAX_BODY_BYTES + 1))
            with pytest.raises(ProgramLimitExceeded, match="too large"):
                await rpcs[0].call(address, "echo", Text("x"), Text, body=body, deadline_s=5)
            stream = await rpcs[0].open_stream(address, "echo_stream", Text("x"))
            with pytest.raises(ProgramLimitExceeded, match="too large"):
                await stream.send(body)
            await stream.send(b"fits")
            assert await stream.receive() == (b"", b"fits")
            stream.close()

    run(test)


def test_node_of_another_cluster_is_refused() -> None:
    async def test() -> None:
        async with nodes(2, ["c1", "c2"]) as (rpcs, _):
            with pytest.raises(HandshakeRefused, match="node of cluster c1 met a node of cluster"):
                await rpcs[0].call(rpcs[1].address, "echo", Text("x"), Text, deadline_s=5)

    run(test)


def test_joining_node_is_served_the_join_and_after_it_everything() -> None:
    async def test() -> None:
        ids = ["", "c1"]
        async with nodes(2, ids) as (rpcs, _):
            for caller, called in ((0, 1), (1, 0)):
                address = rpcs[called].address
                reply = await rpcs[caller].call(address, "join", Text("x"), Text, deadline_s=5)
                assert reply.header.text == "X"
                with pytest.raises(ObjectNotInPrerequisiteState):
                    await rpcs[caller].call(address, "echo", Text("x"), Text, deadline_s=5)
            ids[0] = "c1"
            for caller, called in ((0, 1), (1, 0)):
                address = rpcs[called].address
                reply = await rpcs[caller].call(address, "echo", Text("y"), Text, deadline_s=5)
                assert reply.header.text == "Y"

    run(test)


def test_a_question_is_answered_in_place_or_by_the_handler() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):

            async def handle(context: object, request: Number, body: object) -> Number:
                return Number(-request.number)

            def at_once(request: Number) -> Number | None:
                if request.number < 0:
                    raise UniqueViolation("negative")
                return Number(request.number * 2) if request.number % 2 else None

            rpcs[1].handle("double", Number, handle, at_once=at_once)
            address = rpcs[1].address
            # Nothing is sent where no connection is there yet.
            assert rpcs[0].ask(address, "double", Number(3), deadline_s=20) is None
            await rpcs[0].call(address, "echo", Text("hello"), Text, deadline_s=20)
            asked = [rpcs[0].ask(address, "double", Number(n), deadline_s=20) for n in (3, 4, -1)]
            frames = [await answer for answer in asked if answer is not None]
            assert [rpcs[0].answer_of(frame, Number) for frame in frames[:2]] == [
                Number(6),
                Number(-4),
            ]
            with pytest.raises(UniqueViolation):
                rpcs[0].answer_of(frames[2], Number)

    run(test)


def test_a_question_ends_with_its_connection_and_may_be_given_up() -> None:
    async def test() -> None:
        async with nodes(2) as (rpcs, _):

            async def never(context: object, request: Number, body: object) -> Number:
                await asyncio.Event().wait()
                raise AssertionError

            rpcs[1].handle("never", Number, never)
            address = rpcs[1].address
            await rpcs[0].call(address, "echo", Text("hello"), Text, deadline_s=20)
            late = rpcs[0].ask(address, "never", Number(1), deadline_s=0.05)
            given_up = rpcs[0].ask(address, "never", Number(1), deadline_s=20)
            lost = rpcs[0].ask(address, "never", Number(1), deadline_s=20)
            assert late is not None
            assert given_up is not None
            assert lost is not None
            given_up.set_exception(QueryCanceled("enough"))
            with pytest.raises(QueryCanceled):
                await given_up
            with pytest.raises(AnswerLost):
                await late
            await rpcs[1].close()
            # The handler is cancelled and says so, or the connection is gone before.
            with pytest.raises(DqeError):
                rpcs[0].answer_of(await lost, Number)

    run(test)
