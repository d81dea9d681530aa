"""What a client is told of its statements: rows, tags, errors, and that it is its turn.

Notices and changed settings may travel between any two messages; they go out before whatever ends
a statement. Bytes leave at ReadyForQuery, at Flush, and whenever much has gathered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa

from cluster.errors import DqeError, InternalError
from dqe.wire import messages
from dqe.wire.backend import Session
from dqe.wire.rows import encode_rows
from dqe.wire.transport import ClientTransport
from executor.formatting.text import TextSettings
from planner.plan import ResultColumn

_log = logging.getLogger(__name__)


class ClientGone(Exception):
    """The client closed its end; the session is ended, nothing is answered."""


class Replies:
    """One client's; `its_turn` from ReadyForQuery on, until a message of its is taken."""

    def __init__(self, transport: ClientTransport, session: Session) -> None:
        self._transport = transport
        self._session = session
        self.its_turn = False

    async def rows(
        self, batch: pa.RecordBatch, columns: tuple[ResultColumn, ...], formats: Sequence[int]
    ) -> None:
        """A batch as DataRows; waits while the client takes none."""
        types = [c.type for c in columns]
        for piece in encode_rows(batch, types, formats, self._text_settings()):
            self._transport.write(piece)
        await self.taken()

    async def taken(self) -> None:
        """Returns once the client has taken enough of what was written."""
        await self._transport.drain()
        if self._transport.closed:
            raise ClientGone

    def _text_settings(self) -> TextSettings:
        setting = self._session.setting
        return TextSettings(setting("timezone"), setting("intervalstyle"), setting("bytea_output"))

    def complete(self, tag: str) -> None:
        """A statement is done."""
        self._asides()
        self._transport.write(messages.command_complete(tag))

    def fail(self, error: Exception) -> None:
        """A statement has failed, and with it its transaction."""
        self._session.fail_transaction()
        self._asides()
        told = error if isinstance(error, DqeError) else _internal(error)
        self._transport.write(messages.error_response(told))

    def ready(self) -> None:
        """ReadyForQuery, behind all that was written."""
        self._asides()
        self.its_turn = True
        self._transport.write(messages.ready_for_query(self._session.transaction_status))
        self._transport.flush()

    def _asides(self) -> None:
        for severity, fields in self._session.take_notices():
            self._transport.write(messages.notice_response(fields, severity))
        for name, value in self._session.take_parameter_changes():
            self._transport.write(messages.parameter_status(name, value))


def _internal(error: Exception) -> DqeError:
    _log.exception("a statement failed for a reason of our own", exc_info=error)
    return InternalError(f"internal error: {type(error).__name__}: {error}")
