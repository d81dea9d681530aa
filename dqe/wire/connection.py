"""One client's conversation: reads a message, has the session do it, writes the answer.

    short statements      `short_statements`, where their messages have all come
    Query                 here
    Parse to Close        `extended_protocol`
    COPY's messages       `copy_messages`
    what the client gets  `replies`

Invariants: exactly one ReadyForQuery for every Query and Sync; after an error in the extended
protocol everything up to the next Sync is skipped; an error that leaves the byte stream in
doubt (a bad length, an unknown type) is FATAL and ends the connection; nothing else does.
Output is flushed at Sync, Flush and the end of a Query, and whenever much has gathered.
"""

from __future__ import annotations

import asyncio

from cluster.errors import (
    AdminShutdown,
    IdleInTransactionSessionTimeout,
    IdleSessionTimeout,
    ProtocolViolation,
)
from dqe.wire import messages
from dqe.wire.backend import Session
from dqe.wire.copy_messages import CopyMessages
from dqe.wire.extended_protocol import ExtendedProtocol
from dqe.wire.messages import BodyReader, FrontendMessage
from dqe.wire.quick_answers import row_description
from dqe.wire.replies import ClientGone, Replies
from dqe.wire.short_statements import ShortStatements
from dqe.wire.transport import ClientTransport
from planner.statements import Statement


class Connection:
    """Drives one session by the messages of one client, from the first ReadyForQuery on."""

    def __init__(self, transport: ClientTransport, session: Session) -> None:
        self._transport = transport
        self._session = session
        self._replies = Replies(transport, session)
        self._copying = CopyMessages(transport, session, self._replies)
        self._extended = ExtendedProtocol(transport, session, self._replies, self._copying)
        self._short = ShortStatements(transport, session, self._replies, self._extended)
        session.forget_protocol_prepared = self._extended.forget_statement
        session.protocol_prepared = self._extended.prepared_statements

    async def serve(self) -> None:
        """Until the client leaves or the stream is broken."""
        self._replies.ready()
        try:
            while (message := await self._next_message()) is not None:
                if message.type == ord("X"):
                    break
                self._replies.its_turn = False
                if not await self._short.answered(message):
                    await self._handle(message)
        except ClientGone:
            pass
        except (
            ProtocolViolation,
            IdleInTransactionSessionTimeout,
            IdleSessionTimeout,
        ) as error:
            self._transport.write(messages.error_response(error, "FATAL"))
        finally:
            self._transport.close()

    async def _next_message(self) -> FrontendMessage | None:
        """The client's next message; where it may not be idle for ever, within its time."""
        limit = self._session.idle_limit() if self._replies.its_turn else None
        if limit is None:
            self._transport.answer_now = self._short.answer_now
            return await self._transport.next_message()
        self._transport.answer_now = None
        seconds, error = limit
        try:
            async with asyncio.timeout(seconds):
                return await self._transport.next_message()
        except TimeoutError:
            raise error from None

    def stop(self) -> None:
        """Tells the client that the node goes down, and hangs up."""
        reason = AdminShutdown("terminating connection due to administrator command")
        self._transport.write(messages.error_response(reason, "FATAL"))
        self._transport.close()

    async def _handle(self, message: FrontendMessage) -> None:
        kind, extended = chr(message.type), self._extended
        if kind == "S":
            extended.skips_to_sync = False
            await self._end_message()
            extended.close_unnamed_portal()
            self._replies.ready()
        elif extended.skips_to_sync and kind in "PBDEC":
            return
        elif kind == "Q":
            extended.skips_to_sync = False
            await self._simple_query(message.body)
            await self._end_message()
            self._replies.ready()
        elif kind == "H":
            self._transport.flush()
        elif kind in "PBDEC":
            await extended.handle(kind, message.body)
        elif kind in "dcf":
            return  # what is left of a COPY that failed
        else:
            raise ProtocolViolation(f"unexpected message type {kind!r}")

    async def _end_message(self) -> None:
        """Commits what the statements of the message, or since the last Sync, have changed."""
        try:
            await self._session.end_implicit()
        except Exception as error:  # noqa: BLE001 - the driver loop: one commit's failure
            self._replies.fail(error)

    async def _simple_query(self, body: bytes) -> None:
        try:
            reader = BodyReader(body)
            sql = reader.text()
            reader.end()
            statements = await self._session.parse(sql)
            if not statements:
                self._transport.write(messages.EMPTY_QUERY)
            for place, statement in enumerate(statements, 1):
                await self._run_simple(statement, more=place < len(statements))
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the driver loop: one statement's failure
            self._replies.fail(error)

    async def _run_simple(self, statement: Statement, *, more: bool) -> None:
        result = await self._session.execute(statement, more=more)
        try:
            if await self._copying.copied(result):
                return
            if result.columns is not None:
                formats = (0,) * len(result.columns)
                self._transport.write(row_description(result.columns, formats))
                async for batch in result.batches():
                    await self._replies.rows(batch, result.columns, formats)
            self._replies.complete(result.tag)
        finally:
            await result.close()
