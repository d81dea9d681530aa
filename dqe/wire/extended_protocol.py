"""The extended protocol: Parse, Bind, Describe, Execute and Close, one message at a time.

After an error everything up to the next Sync is skipped (`skips_to_sync`); who reads the messages
sees to that. All up to Sync is one transaction, but a statement alone there commits by itself.
Short statements are answered by `short_statements` where their messages have all come; here
Execute tries the short way for those whose messages came apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.errors import ProtocolViolation, SyntaxError_
from dqe.wire import messages
from dqe.wire.backend import Prepared, Session
from dqe.wire.copy_messages import CopyMessages
from dqe.wire.messages import BodyReader
from dqe.wire.portals import Portal, PortalStore, bind_portal, read_bind, read_parse
from dqe.wire.quick_answers import quick_answer, row_description
from dqe.wire.replies import ClientGone, Replies
from dqe.wire.transport import ClientTransport
from planner.plan import ResultColumn
from storage.types import type_oid

# Unnamed statements whose Parse is known, and how long one may be.
PARSED_KEPT = 64
LONGEST_PARSED_BYTES = 1024


class ExtendedProtocol:
    """One client's: its prepared statements and portals."""

    def __init__(
        self,
        transport: ClientTransport,
        session: Session,
        replies: Replies,
        copying: CopyMessages,
    ) -> None:
        self._transport = transport
        self._session = session
        self._replies = replies
        self._copying = copying
        self.store = PortalStore()
        self.skips_to_sync = False
        # What Parse made of an unnamed statement, by the message's body.
        self.parsed: dict[bytes, Prepared] = {}

    async def handle(self, kind: str, body: bytes) -> None:
        """Answers one of "PBDEC"; an error is told, and begins the skipping."""
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
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the driver loop: one message's failure
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Tells the error; what comes up to Sync is skipped."""
        self._replies.fail(error)
        self.skips_to_sync = True
        # At once, as PostgreSQL does: a client that sent Flush, not Sync, waits for it.
        self._transport.flush()

    # -- statements

    def forget_statement(self, name: str | None) -> bool:
        """DEALLOCATE of a statement that Parse made, None for all; whether there was one."""
        if name is None:
            self.store.statements.clear()
            return True
        return self.store.statements.pop(name, None) is not None

    def prepared_statements(self) -> Mapping[str, Prepared]:
        """The statements that Parse made, by name."""
        statements = self.store.statements.items()
        return {name: known for name, known in statements if known.statement is not None}

    async def _parse(self, body: bytes) -> None:
        again = self.parsed.get(body)
        if again is not None and self._session.quick.plan_of(again) is not None:
            self.store.statements[""] = again
            self._transport.write(messages.PARSE_COMPLETE)
            return
        request = read_parse(body)
        self.store.check_new_statement(request.name)
        statements = await self._session.parse(request.sql)
        if len(statements) > 1:
            raise SyntaxError_("cannot insert multiple commands into a prepared statement")
        if statements:
            prepared = await self._session.prepare(statements[0], request.types)
        else:
            prepared = EmptyStatement()
        self.store.statements[request.name] = prepared
        if not request.name and statements and self._session.quick.plan_of(prepared) is not None:
            self._keep_parsed(body, prepared)
        self._transport.write(messages.PARSE_COMPLETE)

    def _keep_parsed(self, body: bytes, prepared: Prepared) -> None:
        """Some clients parse the same unnamed statement before every execution."""
        if len(self.parsed) >= PARSED_KEPT:
            self.parsed.clear()
        if len(body) <= LONGEST_PARSED_BYTES:
            self.parsed[body] = prepared

    def _describe(self, body: bytes) -> None:
        reader = BodyReader(body)
        kind, name = chr(reader.byte()), reader.text()
        if kind == "S":
            prepared = self.store.statement(name)
            oids = [type_oid(t) for t in prepared.parameters]
            self._transport.write(messages.parameter_description(oids))
            self._write_description(prepared.columns, ())
        elif kind == "P":
            self._describe_portal(name)
        else:
            raise ProtocolViolation(f"invalid DESCRIBE message subtype {ord(kind)}")

    def _describe_portal(self, name: str) -> None:
        """A cursor of DECLARE is a portal too, which clients ask for by its name."""
        declared = None if name in self.store.portals else self._session.cursor_columns(name)
        if declared is not None:
            self._write_description(declared, ())
            return
        portal = self.store.portal(name)
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

    # -- portals

    async def _bind(self, body: bytes) -> None:
        request = read_bind(body)
        prepared = self.store.statement(request.statement)
        if request.portal == "":
            self.close_unnamed_portal()
        elif request.portal in self.store.portals:
            await self._drop_portal(request.portal)
        self.store.portals[request.portal] = bind_portal(request, prepared)
        self._transport.write(messages.BIND_COMPLETE)

    async def _execute(self, body: bytes) -> None:
        reader = BodyReader(body)
        name, max_rows = reader.text(), reader.int32()
        portal = self.store.portal(name)
        if portal.prepared.statement is None:
            self._transport.write(messages.EMPTY_QUERY)
            return
        if portal.answered is not None:
            self._replies.complete(portal.answered)
            return
        if portal.result is None:
            if max_rows <= 0 and await self._answered_quickly(portal):
                return
            if await self._begun(portal):
                return  # a COPY, which is over
        assert portal.result is not None
        if await self._send_rows(portal, max_rows):
            self._transport.write(messages.PORTAL_SUSPENDED)
            return
        self._replies.complete(portal.result.tag)
        await portal.result.close()

    async def _answered_quickly(self, portal: Portal) -> bool:
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

    async def _begun(self, portal: Portal) -> bool:
        """Has the statement run; whether it was a COPY, which is done then."""
        # All up to Sync is one transaction; a lone statement commits by itself.
        more = not self._transport.next_is_sync
        result = await self._session.execute(portal.prepared, portal.parameters, more=more)
        portal.result = result
        try:
            if await self._copying.copied(result):
                return True
        except BaseException:
            await result.close()
            raise
        portal.batches = result.batches() if result.columns is not None else None
        return False

    async def _send_rows(self, portal: Portal, max_rows: int) -> bool:
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
            await self._replies.rows(batch, columns, portal.formats)
            if left is not None:
                left -= batch.num_rows
                if left == 0:
                    return True
        return False

    async def _close(self, body: bytes) -> None:
        reader = BodyReader(body)
        kind, name = chr(reader.byte()), reader.text()
        if kind == "S":
            self.store.statements.pop(name, None)
        elif kind == "P":
            await self._drop_portal(name)
        else:
            raise ProtocolViolation(f"invalid CLOSE message subtype {ord(kind)}")
        self._transport.write(messages.CLOSE_COMPLETE)

    async def _drop_portal(self, name: str) -> None:
        portal = self.store.portals.pop(name, None)
        if portal is not None and portal.result is not None:
            await portal.result.close()

    def close_unnamed_portal(self) -> None:
        """A finished portal holds nothing; one that was left half read is closed when replaced."""
        portal = self.store.portals.get("")
        if portal is not None and portal.batches is None:
            del self.store.portals[""]


class EmptyStatement:
    """What Parse of an empty string prepares."""

    statement = None
    parameters = ()
    columns = None
