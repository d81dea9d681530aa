"""Short statements, answered from the messages that have come, before anything else is tried.

    answer_now   as the bytes come in, while the connection's task sleeps: to wake it would cost
                 as much as the read of a row that is at hand
    answered     when the message's turn has come: what takes more than that

Both find out by `pipelines` whether the messages are a statement that the session has a short way
for (`backend.QuickStatements`), and answer it by one write. What is declined anywhere is handled
message by message, nothing of it having happened; what was found out is kept for that turn.
"""

from __future__ import annotations

from dqe.wire.backend import Session
from dqe.wire.extended_protocol import ExtendedProtocol
from dqe.wire.messages import FrontendMessage
from dqe.wire.pipelines import BIND, PARSE, QUERY, Pipeline, find_pipeline, text_pipeline
from dqe.wire.replies import Replies
from dqe.wire.transport import ClientTransport


class ShortStatements:
    """One client's."""

    def __init__(
        self,
        transport: ClientTransport,
        session: Session,
        replies: Replies,
        extended: ExtendedProtocol,
    ) -> None:
        self._transport = transport
        self._session = session
        self._replies = replies
        self._extended = extended
        # What was found of a message as it came, for when its turn comes.
        self._looked_at: tuple[FrontendMessage, Pipeline | None] | None = None

    async def answered(self, first: FrontendMessage) -> bool:
        """Answers the statement that begins with this message; false where it is to be handled by
        itself."""
        if first.type not in (QUERY, BIND, PARSE) or self._extended.skips_to_sync:
            return False
        looked_at, self._looked_at = self._looked_at, None
        known = looked_at is not None and looked_at[0] is first
        found = looked_at[1] if looked_at is not None and known else None
        try:
            found = found if known else self._found(first)
            if found is None:
                return False
            answered = await self._session.quick.run(found.plan, found.parameters)
        except Exception as error:  # noqa: BLE001 - the driver loop: one statement's failure
            self._failed(first, found, error)
            return True
        if answered is None:
            return False
        self._transport.take(found.length)
        self._answer(found, found.answer.body(answered))
        return True

    def answer_now(self) -> None:
        """Answers a statement alone whose messages are all there and whose row is at hand."""
        ahead = self._transport.ahead
        if not ahead or self._extended.skips_to_sync or not self._replies.its_turn:
            return
        first = ahead.popleft()
        try:
            found = self._found(first)
            body = None if found is None else self._body_now(found)
        except Exception:  # noqa: BLE001 - to be raised again, in its turn
            found = body = None
        else:
            self._looked_at = first, found
        ahead.appendleft(first)
        if found is not None and body is not None:
            self._looked_at = None
            self._transport.take(found.length + 1)
            self._answer(found, body)

    def _found(self, first: FrontendMessage) -> Pipeline | None:
        quick = self._session.quick
        if first.type == QUERY:
            return text_pipeline(first, quick)
        if first.type not in (BIND, PARSE):
            return None
        extended, ahead = self._extended, self._transport.ahead
        return find_pipeline(first, ahead, extended.store.statements, extended.parsed, quick)

    def _body_now(self, found: Pipeline) -> bytes | None:
        if not found.is_text and "" in self._extended.store.portals:
            return None
        answered = self._session.quick.run_now(found.plan, found.parameters)
        return None if answered is None else found.answer.body(answered)

    def _answer(self, found: Pipeline, body: bytes) -> None:
        if not found.is_text:
            self._bound(found)
            self._extended.close_unnamed_portal()
        self._transport.write(found.head + body)
        self._replies.ready()

    def _failed(self, first: FrontendMessage, found: Pipeline | None, error: Exception) -> None:
        if first.type == QUERY:
            self._replies.fail(error)
            self._replies.ready()
            return
        if found is not None:
            self._bound(found)
            self._transport.write(found.head)
        self._extended.failed(error)

    def _bound(self, found: Pipeline) -> None:
        if found.parsed is not None:
            self._extended.store.statements[""] = found.parsed
