"""Listens for PostgreSQL clients, lets them in, and finds the session a cancel is meant for.

Until security arrives any user name is let in, but only from a loopback address; encryption
is declined (`N`), which clients with sslmode=prefer accept.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable

from cluster.errors import (
    DqeError,
    InvalidAuthorization,
    InvalidCatalogName,
    ProtocolViolation,
    TooManyConnections,
)
from cluster.runtime import Runtime
from dqe.wire import messages
from dqe.wire.backend import Session
from dqe.wire.connection import Connection
from dqe.wire.transport import ClientTransport

_log = logging.getLogger(__name__)

DATABASE = "dqe"
MAX_CONNECTIONS = 20_000
# As PostgreSQL's authentication_timeout.
STARTUP_TIMEOUT_S = 60.0

# (process id, user, startup settings) -> session
SessionFactory = Callable[[int, str, dict[str, str]], Awaitable[Session]]

# Settings told to every client at the start, as PostgreSQL 18 does.
REPORTED_SETTINGS = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "search_path",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
)


class WireServer:
    """The node's PostgreSQL port."""

    def __init__(
        self,
        runtime: Runtime,
        open_session: SessionFactory,
        startup_timeout_s: float = STARTUP_TIMEOUT_S,
    ) -> None:
        self._runtime = runtime
        self._startup_timeout_s = startup_timeout_s
        self._open_session = open_session
        self._server: asyncio.Server | None = None
        self._transports: set[ClientTransport] = set()
        self._connections: dict[int, Connection] = {}
        self._sessions: dict[int, tuple[int, Session]] = {}
        self._next_process_id = 1

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens; returns the address in use (port 0 picks a free one)."""
        address = await self.bind(host, port)
        await self.open()
        return address

    async def bind(self, host: str, port: int) -> tuple[str, int]:
        """Takes the address without answering yet; clients that come are refused."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientTransport(self._accept), host, port, backlog=1024, start_serving=False
        )
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def open(self) -> None:
        """Begins to answer clients."""
        assert self._server is not None, "bind comes first"
        await self._server.start_serving()

    async def close(self) -> None:
        """Stops listening and ends every connection with 57P01."""
        if self._server is not None:
            self._server.close()
        for _, session in list(self._sessions.values()):
            session.cancel()
        for connection in list(self._connections.values()):
            connection.stop()
        for transport in list(self._transports):
            transport.close()

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def _accept(self, transport: ClientTransport) -> None:
        self._transports.add(transport)
        self._runtime.spawn(self._serve(transport), "pg-connection")

    async def _serve(self, transport: ClientTransport) -> None:
        try:
            parameters = await self._started_up(transport)
            if parameters is not None:
                await self._run_session(transport, parameters)
        except DqeError as error:
            if isinstance(error, ProtocolViolation):
                _log.warning("turned away a client at %s: %s", transport.peer_host(), error)
            transport.write(messages.error_response(error, "FATAL"))
        finally:
            transport.close()
            self._transports.discard(transport)

    async def _started_up(self, transport: ClientTransport) -> dict[str, str] | None:
        """`_start_up` within its time: who says nothing must not hold a connection for good."""
        try:
            async with asyncio.timeout(self._startup_timeout_s):
                return await self._start_up(transport)
        except TimeoutError:
            raise ProtocolViolation(
                f"no startup packet came within {self._startup_timeout_s:.0f} s"
            ) from None

    async def _start_up(self, transport: ClientTransport) -> dict[str, str] | None:
        """The StartupMessage's parameters, or None when the connection is over already."""
        while (packet := await transport.next_startup_packet()) is not None:
            code, body = packet
            if code in (messages.SSL_REQUEST, messages.GSS_REQUEST):
                transport.write(b"N")
                transport.flush()
                transport.restart_startup()
            elif code == messages.CANCEL_REQUEST:
                self._cancel(body)
                return None
            elif code >> 16 == 3:
                return self._admit(transport, code & 0xFFFF, body)
            else:
                raise ProtocolViolation(
                    f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: "
                    "server supports 3.0"
                )
        return None

    def _admit(self, transport: ClientTransport, minor: int, body: bytes) -> dict[str, str]:
        parameters = messages.startup_parameters(body)
        if "user" not in parameters:
            raise InvalidAuthorization("no PostgreSQL user name specified in startup packet")
        host = transport.peer_host()
        if host != "local" and not ipaddress.ip_address(host.split("%")[0]).is_loopback:
            raise InvalidAuthorization(
                f'no entry lets in host "{host}"',
                hint="Until authentication arrives, connections are from loopback only.",
            )
        database = parameters.get("database", parameters["user"])
        if database != DATABASE:
            raise InvalidCatalogName(
                f'database "{database}" does not exist',
                hint=f'The database is called "{DATABASE}".',
            )
        if len(self._connections) >= MAX_CONNECTIONS:
            raise TooManyConnections("sorry, too many clients already")
        unknown = [name for name in parameters if name.startswith("_pq_.")]
        if minor > 0 or unknown:
            transport.write(messages.negotiate_protocol_version(0, unknown))
        return parameters

    async def _run_session(self, transport: ClientTransport, parameters: dict[str, str]) -> None:
        transport.end_startup()
        process_id = self._next_process_id
        self._next_process_id += 1
        secret = self._runtime.random.getrandbits(32)
        settings = startup_settings(parameters)
        session = await self._open_session(process_id, parameters["user"], settings)
        connection = Connection(transport, session)
        self._sessions[process_id] = (secret, session)
        self._connections[process_id] = connection
        transport.on_lost = session.cancel
        try:
            transport.write(messages.AUTHENTICATION_OK)
            for name in REPORTED_SETTINGS:
                transport.write(messages.parameter_status(name, session.setting(name.lower())))
            transport.write(messages.backend_key_data(process_id, secret))
            await connection.serve()
        finally:
            del self._sessions[process_id]
            del self._connections[process_id]
            await session.close()

    def _cancel(self, body: bytes) -> None:
        """A CancelRequest: obeyed when the secret is right, and never answered."""
        if len(body) != 8:
            return
        process_id = int.from_bytes(body[:4], "big")
        secret = int.from_bytes(body[4:], "big")
        known = self._sessions.get(process_id)
        if known is not None and known[0] == secret:
            known[1].cancel()


def startup_settings(parameters: dict[str, str]) -> dict[str, str]:
    """The settings among startup parameters, `options` (`-c name=value`) included."""
    reserved = ("user", "database", "options", "replication")
    settings = {
        name: value
        for name, value in parameters.items()
        if name not in reserved and not name.startswith("_pq_.")
    }
    words = _split_options(parameters.get("options", ""))
    pending = False
    for word in words:
        if pending or word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            settings[name.replace("-", "_")] = value
            pending = False
        elif word == "-c":
            pending = True
        elif word.startswith("-c"):
            name, _, value = word[2:].partition("=")
            settings[name] = value
        else:
            raise ProtocolViolation(f"invalid command-line argument for server process: {word}")
    return settings


def _split_options(options: str) -> list[str]:
    """Words of `options`, where a backslash protects the next character."""
    words, word, escaped = [], "", False
    for character in options:
        if escaped:
            word, escaped = word + character, False
        elif character == "\\":
            escaped = True
        elif character.isspace():
            if word:
                words.append(word)
            word = ""
        else:
            word += character
    return [*words, word] if word else words
