"""The messages of COPY: rows from the client until it ends or gives up, rows to it until the end.

All of a COPY is one statement: cancel requests and the time limit reach it at any message.
"""

from __future__ import annotations

from functools import partial

from cluster.errors import ProtocolViolation, QueryCanceled
from dqe.wire import messages
from dqe.wire.backend import CopyInTarget, CopyOutSource, Result, Session
from dqe.wire.messages import BodyReader
from dqe.wire.replies import ClientGone, Replies
from dqe.wire.rows import encode_copy_data
from dqe.wire.transport import ClientTransport


class CopyMessages:
    """One client's."""

    def __init__(self, transport: ClientTransport, session: Session, replies: Replies) -> None:
        self._transport = transport
        self._session = session
        self._replies = replies

    async def copied(self, result: Result) -> bool:
        """Carries a COPY out, if that is what the result asks for."""
        if result.copy_in is not None:
            copying = partial(self._copy_in, result.copy_in)
            self._replies.complete(await self._session.within_statement(copying))
            return True
        if result.copy_out is not None:
            await self._session.within_statement(partial(self._copy_out, result.copy_out))
            self._replies.complete(result.tag)
            return True
        return False

    async def _copy_in(self, target: CopyInTarget) -> str:
        self._transport.write(messages.copy_in_response(target.binary, target.column_count))
        self._transport.flush()
        while (message := await self._transport.next_message()) is not None:
            kind = chr(message.type)
            if kind == "d":
                await target.feed(message.body)
            elif kind == "c":
                return await target.finish()
            elif kind == "f":
                reason = BodyReader(message.body).text()
                await target.fail(reason)
                raise QueryCanceled(f"COPY from stdin failed: {reason}")
            elif kind not in "HS":
                await target.fail("unexpected message")
                raise ProtocolViolation(f"unexpected message type {kind!r} during COPY from stdin")
        await target.fail("the client left")
        raise ClientGone

    async def _copy_out(self, source: CopyOutSource) -> None:
        self._transport.write(messages.copy_out_response(source.binary, source.column_count))
        async for rows in source.messages():
            self._transport.write(encode_copy_data(rows))
            await self._replies.taken()
        self._transport.write(messages.COPY_DONE)
