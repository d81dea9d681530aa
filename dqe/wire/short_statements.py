"""Short statements, answered from the messages that have come, before anything else is tried.

    answer_now   as the bytes come in, while the connection's task sleeps: to wake it would cost
                 as much as the read of a row that is at hand. Where another node has the row, the
                 connection is held until that has answered, and the task sleeps on
    answered     when the message's turn has come: what takes more than that

Both find out by `pipelines` whether the messages are a statement that the session has a short way
for (`backend.QuickStatements`), and answer it by one write. What is declined anywhere is handled
message by message, nothing of it having happened; what was found out is kept for that turn.
"""

from __future__ import annotations

from dqe.wire.backend import QuickAnswered, Session
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
        # What was found of a message as it came, for when its turn comes; with its error, where it
        # has failed already.
        self._looked_at: tuple[FrontendMessage, Pipeline | None, Exception | None] | None = None

    async def answered(self, first: FrontendMessage) -> bool:
        """Answers the statement that begins with this message; false where it is to be handled by
        itself."""
        if first.type not in (QUERY, BIND, PARSE) or self._extended.skips_to_sync:
            return False
        looked_at, self._looked_at = self._looked_at, None
        found = error = None
        try:
            if looked_at is not None and looked_at[0] is first:
                _, found, error = looked_at
            else:
                found = self._found(first)
            if error is not None:
                raise error
            if found is None:
                return False
            answered = await self._session.quick.run(found.plan, found.parameters)
        except Exception as failure:  # noqa: BLE001 - the driver loop: one statement's failure
            self._failed(first, found, failure)
            return True
        if answered is None:
            return False
        self._transport.take(found.length)
        self._answer(found, found.answer.body(answered))
        return True

    def answer_now(self) -> bool:
        """Answers a statement whose messages are all there, if that takes no task; false where it
        has not, or not yet."""
        ahead = self._transport.ahead
        if not ahead or self._extended.skips_to_sync or not self._replies.its_turn:
            return False
        first = ahead.popleft()
        found: Pipeline | None = None
        answered: QuickAnswered | bool = False
        try:
            found = self._found(first)
            if found is not None:
                answered = self._run_now(first, found)
            self._looked_at = first, found, None
        except Exception as error:  # noqa: BLE001 - to be told in its turn
            self._looked_at = first, found, error
        ahead.appendleft(first)
        if answered is True:
            self._transport.hold()
            return False
        return found is not None and answered is not False and self._told(first, found, answered)

    def _run_now(self, first: FrontendMessage, found: Pipeline) -> QuickAnswered | bool:
        if not found.is_text and "" in self._extended.store.portals:
            return False

        def then(told: QuickAnswered | Exception | None) -> None:
            answered = False
            try:
                answered = self._told(first, found, told)
            finally:
                self._transport.release(answered=answered)

        return self._session.quick.run_now(found.plan, found.parameters, then)

    def _told(
        self, first: FrontendMessage, found: Pipeline, told: QuickAnswered | Exception | None
    ) -> bool:
        """Answers the first of the messages ahead; false where its turn is to come, with what is
        known of it."""
        if told is None or isinstance(told, Exception):
            self._looked_at = first, None if told is None else found, told
            return False
        body = found.answer.body(told)
        if self._transport.closed:
            return False
        self._looked_at = None
        self._transport.take(found.length + 1)
        self._answer(found, body)
        return True

    def _found(self, first: FrontendMessage) -> Pipeline | None:
        quick = self._session.quick
        if first.type == QUERY:
            return text_pipeline(first, quick)
        if first.type not in (BIND, PARSE):
            return None
        extended, ahead = self._extended, self._transport.ahead
        return find_pipeline(first, ahead, extended.store.statements, extended.parsed, quick)

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
