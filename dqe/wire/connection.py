"""One client's conversation: reads a message, has the session do it, writes the answer.

Invariants: exactly one ReadyForQuery for every Query and Sync; after an error in the extended
protocol everything up to the next Sync is skipped; an error that leaves the byte stream in
doubt (a bad length, an unknown type) is FATAL and ends the connection; nothing else does.
Output is flushed at Sync, Flush and the end of a Query, and whenever much has gathered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa

from cluster.errors import (
    AdminShutdown,
    DqeError,
    IdleInTransactionSessionTimeout,
    IdleSessionTimeout,
    InternalError,
    ProtocolViolation,
    QueryCanceled,
    SyntaxError_,
)
from dqe.wire import messages
from dqe.wire.backend import CopyInTarget, CopyOutSource, Prepared, Result, Session
from dqe.wire.extended_query import (
    Portal,
    PortalStore,
    bind_portal,
    read_bind,
    read_parse,
)
from dqe.wire.messages import BodyReader, FrontendMessage
from dqe.wire.pipelines import BIND, PARSE, QUERY, Pipeline, find_pipeline
from dqe.wire.quick_answers import quick_answer, row_description
from dqe.wire.rows import encode_copy_data, encode_rows
from dqe.wire.transport import ClientTransport
from executor.formatting.text import TextSettings
from planner.plan import ResultColumn
from planner.statements import Statement
from storage.types import type_oid

_log = logging.getLogger(__name__)

# Unnamed statements whose Parse is known, and how long one may be.
PARSED_KEPT = 64
LONGEST_PARSED_BYTES = 1024


class ClientGone(Exception):
    """The client closed its end; the session is ended, nothing is answered."""


class Connection:
    """Drives one session by the messages of one client, from the first ReadyForQuery on."""

    def __init__(self, transport: ClientTransport, session: Session) -> None:
        self._transport = transport
        self._session = session
        self._store = PortalStore()
        self._skip_to_sync = False
        self._idle = False
        # What Parse made of an unnamed statement, by the message's body.
        self._parsed: dict[bytes, Prepared] = {}
        # What was found of a message as it came, for when its turn comes.
        self._looked_at: tuple[FrontendMessage, Pipeline | None] | None = None
        session.forget_protocol_prepared = self._forget_statement
        session.protocol_prepared = self._prepared_statements

    def _forget_statement(self, name: str | None) -> bool:
        """DEALLOCATE of a statement that Parse made, None for all; whether there was one."""
        if name is None:
            self._store.statements.clear()
            return True
        return self._store.statements.pop(name, None) is not None

    def _prepared_statements(self) -> Mapping[str, Prepared]:
        statements = self._store.statements.items()
        return {name: known for name, known in statements if known.statement is not None}

    async def serve(self) -> None:
        """Until the client leaves or the stream is broken."""
        self._ready()
        try:
            while (message := await self._next_message()) is not None:
                if message.type == ord("X"):
                    break
                self._idle = False
                if message.type in (BIND, PARSE) and await self._pipelined(message):
                    continue
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

    async def _pipelined(self, first: FrontendMessage) -> bool:
        """Answers a statement whose messages are all there, if it is a short one."""
        if self._skip_to_sync:
            return False
        quick, ahead = self._session.quick, self._transport.ahead
        looked_at, self._looked_at = self._looked_at, None
        if looked_at is not None and looked_at[0] is first:
            found = looked_at[1]
        else:
            found = find_pipeline(first, ahead, self._store.statements, self._parsed, quick)
        if found is None:
            return False
        try:
            answered = await quick.run(found.plan, found.parameters)
        except Exception as error:  # noqa: BLE001 - the driver loop: one statement's failure
            if found.parsed is not None:
                self._store.statements[""] = found.parsed
            self._transport.write(found.head)
            self._extended_failed(error if isinstance(error, DqeError) else _internal(error))
            return True
        if answered is None:
            return False
        self._transport.take(found.length)
        if found.parsed is not None:
            self._store.statements[""] = found.parsed
        self._close_unnamed_portal()
        self._transport.write(found.head + found.answer.body(answered))
        self._ready()
        return True

    def _answer_now(self) -> None:
        """Answers a statement alone whose messages are all there and whose row is at hand, while
        the connection's task waits: to wake it would cost as much."""
        ahead = self._transport.ahead
        if not ahead or self._skip_to_sync or not self._idle:
            return
        first = ahead.popleft()
        try:
            found = self._found_now(first)
        except Exception:  # noqa: BLE001 - to be raised again, in its turn
            found = None
        ahead.appendleft(first)
        if found is not None:
            answer, length = found
            self._transport.take(length)
            self._transport.write(answer)
            self._ready()

    def _found_now(self, first: FrontendMessage) -> tuple[bytes, int] | None:
        """The answer's bytes, and how many messages it answers."""
        quick = self._session.quick
        if first.type == QUERY and first.body.endswith(b"\0"):
            text = quick.plan_of_text(first.body[:-1].decode())
            answer = None if text is None else quick_answer(text[0], ())
            if text is None or answer is None:
                return None
            answered = quick.run_now(*text)
            return None if answered is None else (answer.shown + answer.body(answered), 1)
        if first.type not in (BIND, PARSE):
            return None
        ahead, statements = self._transport.ahead, self._store.statements
        found = find_pipeline(first, ahead, statements, self._parsed, quick)
        self._looked_at = first, found
        if found is None or "" in self._store.portals:
            return None
        answered = quick.run_now(found.plan, found.parameters)
        if answered is None:
            return None
        if found.parsed is not None:
            statements[""] = found.parsed
        return found.head + found.answer.body(answered), found.length + 1

    async def _next_message(self) -> FrontendMessage | None:
        """The client's next message; where it may not be idle for ever, within its time."""
        limit = self._session.idle_limit() if self._idle else None
        if limit is None:
            self._transport.answer_now = self._answer_now
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
        kind = chr(message.type)
        if kind == "S":
            self._skip_to_sync = False
            await self._end_message()
            self._close_unnamed_portal()
            self._ready()
        elif self._skip_to_sync and kind in "PBDEC":
            return
        elif kind == "Q":
            self._skip_to_sync = False
            await self._simple_query(message.body)
            await self._end_message()
            self._ready()
        elif kind == "H":
            self._transport.flush()
        elif kind in "PBDEC":
            await self._extended(kind, message.body)
        elif kind in "dcf":
            return  # what is left of a COPY that failed
        else:
            raise ProtocolViolation(f"unexpected message type {kind!r}")

    async def _end_message(self) -> None:
        """Commits what the statements of the message, or since the last Sync, have changed."""
        try:
            await self._session.end_implicit()
        except DqeError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the driver loop: one commit's failure
            self._fail(_internal(error))

    # -- simple protocol ------------------------------------------------------------------

    async def _simple_query(self, body: bytes) -> None:
        try:
            reader = BodyReader(body)
            sql = reader.text()
            reader.end()
            if await self._simple_quickly(sql):
                return
            statements = await self._session.parse(sql)
            if not statements:
                self._transport.write(messages.EMPTY_QUERY)
            for place, statement in enumerate(statements, 1):
                await self._run_simple(statement, more=place < len(statements))
        except DqeError as error:
            self._fail(error)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the driver loop: one statement's failure
            self._fail(_internal(error))

    async def _simple_quickly(self, sql: str) -> bool:
        """Answers a short statement; false where it is to go the usual way."""
        quick = self._session.quick
        found = quick.plan_of_text(sql)
        if found is None:
            return False
        plan, values = found
        answer = quick_answer(plan, ())
        answered = None if answer is None else await quick.run(plan, values)
        if answer is None or answered is None:
            return False
        self._transport.write(answer.shown + answer.body(answered))
        return True

    async def _run_simple(self, statement: Statement, *, more: bool) -> None:
        result = await self._session.execute(statement, more=more)
        try:
            if await self._copied(result):
                return
            if result.columns is not None:
                formats = (0,) * len(result.columns)
                self._transport.write(row_description(result.columns, formats))
                async for batch in result.batches():
                    await self._write_rows(batch, result.columns, formats)
            self._complete(result.tag)
        finally:
            await result.close()

    # -- extended protocol ----------------------------------------------------------------

    async def _extended(self, kind: str, body: bytes) -> None:
        try:
            if kind == "P":
                await self._parse(body)
            elif kind == "B":
                await self._bind(body)
            elif kind == "D":
                self._describe(body)
            elif kind == "E":
                await self._execute(body)
            else:
                await self._close(body)
        except ProtocolViolation as error:
            self._extended_failed(error)
        except DqeError as error:
            self._extended_failed(error)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the driver loop: one message's failure
            self._extended_failed(_internal(error))

    def _extended_failed(self, error: DqeError) -> None:
        self._fail(error)
        self._skip_to_sync = True
        # At once, as PostgreSQL does: a client that sent Flush, not Sync, waits for it.
        self._transport.flush()

    async def _parse(self, body: bytes) -> None:
        again = self._parsed.get(body)
        if again is not None and self._session.quick.plan_of(again) is not None:
            self._store.statements[""] = again
            self._transport.write(messages.PARSE_COMPLETE)
            return
        request = read_parse(body)
        self._store.check_new_statement(request.name)
        statements = await self._session.parse(request.sql)
        if len(statements) > 1:
            raise SyntaxError_("cannot insert multiple commands into a prepared statement")
        if statements:
            prepared = await self._session.prepare(statements[0], request.types)
        else:
            prepared = EmptyStatement()
        self._store.statements[request.name] = prepared
        if not request.name and statements and self._session.quick.plan_of(prepared) is not None:
            self._keep_parsed(body, prepared)
        self._transport.write(messages.PARSE_COMPLETE)

    def _keep_parsed(self, body: bytes, prepared: Prepared) -> None:
        """Some clients parse the same unnamed statement before every execution."""
        if len(self._parsed) >= PARSED_KEPT:
            self._parsed.clear()
        if len(body) <= LONGEST_PARSED_BYTES:
            self._parsed[body] = prepared

    async def _bind(self, body: bytes) -> None:
        request = read_bind(body)
        prepared = self._store.statement(request.statement)
        if request.portal == "":
            self._close_unnamed_portal()
        elif request.portal in self._store.portals:
            await self._drop_portal(request.portal)
        self._store.portals[request.portal] = bind_portal(request, prepared)
        self._transport.write(messages.BIND_COMPLETE)

    def _describe(self, body: bytes) -> None:
        reader = BodyReader(body)
        kind, name = chr(reader.byte()), reader.text()
        if kind == "S":
            prepared = self._store.statement(name)
            oids = [type_oid(t) for t in prepared.parameters]
            self._transport.write(messages.parameter_description(oids))
            self._write_description(prepared.columns, ())
        elif kind == "P":
            self._describe_portal(name)
        else:
            raise ProtocolViolation(f"invalid DESCRIBE message subtype {ord(kind)}")

    def _describe_portal(self, name: str) -> None:
        """A cursor of DECLARE is a portal too, which clients ask for by its name."""
        declared = None if name in self._store.portals else self._session.cursor_columns(name)
        if declared is not None:
            self._write_description(declared, ())
        else:
            portal = self._store.portal(name)
            prepared = portal.prepared
            plan = None if prepared.columns is None else self._session.quick.plan_of(prepared)
            answer = None if plan is None else quick_answer(plan, portal.formats)
            if answer is not None:
                self._transport.write(answer.description)
            else:
                self._write_description(prepared.columns, portal.formats)

    def _write_description(
        self, columns: tuple[ResultColumn, ...] | None, formats: Sequence[int]
    ) -> None:
        if columns is None:
            self._transport.write(messages.NO_DATA)
        else:
            self._transport.write(row_description(columns, formats or (0,) * len(columns)))

    async def _execute(self, body: bytes) -> None:
        reader = BodyReader(body)
        name, max_rows = reader.text(), reader.int32()
        portal = self._store.portal(name)
        if portal.prepared.statement is None:
            self._transport.write(messages.EMPTY_QUERY)
            return
        if portal.answered is not None:
            self._complete(portal.answered)
            return
        if portal.result is None and max_rows <= 0 and await self._execute_quickly(portal):
            return
        if portal.result is None:
            # All up to Sync is one transaction; a lone statement commits by itself.
            more = not self._transport.next_is_sync
            portal.result = await self._session.execute(
                portal.prepared, portal.parameters, more=more
            )
            try:
                if await self._copied(portal.result):
                    return
            except BaseException:
                await portal.result.close()
                raise
            portal.batches = portal.result.batches() if portal.result.columns is not None else None
        if await self._send_portal_rows(portal, max_rows):
            self._transport.write(messages.PORTAL_SUSPENDED)
            return
        self._complete(portal.result.tag)
        await portal.result.close()

    async def _execute_quickly(self, portal: Portal) -> bool:
        """Answers a short statement; false where it is to go the usual way."""
        quick = self._session.quick
        plan = quick.plan_of(portal.prepared)
        if plan is None or not (quick.in_block or self._transport.next_is_sync):
            return False
        answer = quick_answer(plan, portal.formats)
        answered = None if answer is None else await quick.run(plan, portal.parameters)
        if answer is None or answered is None:
            return False
        # Asked for more, it has no more rows.
        portal.answered = "SELECT 0" if answered.tag.startswith("SELECT") else answered.tag
        self._transport.write(answer.body(answered))
        return True

    async def _send_portal_rows(self, portal: Portal, max_rows: int) -> bool:
        """Sends up to `max_rows` rows (0: all); True when rows may be left."""
        columns = portal.prepared.columns
        left = max_rows if max_rows > 0 else None
        while portal.batches is not None:
            batch = portal.leftover
            portal.leftover = None
            if batch is None:
                batch = await anext(portal.batches, None)
                if batch is None:
                    portal.batches = None
                    return False
            if left is not None and batch.num_rows > left:
                batch, portal.leftover = batch.slice(0, left), batch.slice(left)
            assert columns is not None
            await self._write_rows(batch, columns, portal.formats)
            if left is not None:
                left -= batch.num_rows
                if left == 0:
                    return True
        return False

    async def _close(self, body: bytes) -> None:
        reader = BodyReader(body)
        kind, name = chr(reader.byte()), reader.text()
        if kind == "S":
            self._store.statements.pop(name, None)
        elif kind == "P":
            await self._drop_portal(name)
        else:
            raise ProtocolViolation(f"invalid CLOSE message subtype {ord(kind)}")
        self._transport.write(messages.CLOSE_COMPLETE)

    async def _drop_portal(self, name: str) -> None:
        portal = self._store.portals.pop(name, None)
        if portal is not None and portal.result is not None:
            await portal.result.close()

    def _close_unnamed_portal(self) -> None:
        # A finished portal holds nothing; one that was left half read is closed when replaced.
        portal = self._store.portals.get("")
        if portal is not None and portal.batches is None:
            del self._store.portals[""]

    # -- COPY -----------------------------------------------------------------------------

    async def _copied(self, result: Result) -> bool:
        """Runs the COPY sub-protocol when the result asks for it."""
        if result.copy_in is not None:
            copying = partial(self._copy_in, result.copy_in)
            self._complete(await self._session.within_statement(copying))
            return True
        if result.copy_out is not None:
            await self._session.within_statement(partial(self._copy_out, result.copy_out))
            self._complete(result.tag)
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
            await self._transport.drain()
            self._check_client()
        self._transport.write(messages.COPY_DONE)

    # -- output ---------------------------------------------------------------------------

    async def _write_rows(
        self, batch: pa.RecordBatch, columns: tuple[ResultColumn, ...], formats: Sequence[int]
    ) -> None:
        types = [c.type for c in columns]
        for piece in encode_rows(batch, types, formats, self._text_settings()):
            self._transport.write(piece)
        await self._transport.drain()
        self._check_client()

    def _text_settings(self) -> TextSettings:
        setting = self._session.setting
        return TextSettings(setting("timezone"), setting("intervalstyle"), setting("bytea_output"))

    def _check_client(self) -> None:
        if self._transport.closed:
            raise ClientGone

    def _complete(self, tag: str) -> None:
        self._write_asides()
        self._transport.write(messages.command_complete(tag))

    def _fail(self, error: DqeError) -> None:
        self._session.fail_transaction()
        self._write_asides()
        self._transport.write(messages.error_response(error))

    def _ready(self) -> None:
        self._write_asides()
        self._idle = True
        self._transport.write(messages.ready_for_query(self._session.transaction_status))
        self._transport.flush()

    def _write_asides(self) -> None:
        """Notices and changed settings, which may travel between any two messages."""
        for severity, fields in self._session.take_notices():
            self._transport.write(messages.notice_response(fields, severity))
        for name, value in self._session.take_parameter_changes():
            self._transport.write(messages.parameter_status(name, value))


class EmptyStatement:
    """What Parse of an empty string prepares."""

    statement = None
    parameters = ()
    columns = None


def _internal(error: Exception) -> DqeError:
    _log.exception("a statement failed for a reason of our own", exc_info=error)
    return InternalError(f"internal error: {type(error).__name__}: {error}")
