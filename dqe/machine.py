"""What a node takes from where it runs: network, disk, threads, a port for clients, its end.

`OsMachine` is this computer. `dqe.simulation` has another one, on which the same node code
runs without sockets, threads and real time.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Protocol

from cluster.errors import DqeError
from cluster.raft.settings import RaftSettings
from cluster.runtime import Runtime
from cluster.transport import TcpTransport, Transport
from dqe.wire.server import SessionFactory, WireServer
from executor.stage_threads import StageThreads
from storage.duckdb_node import DuckDbLimits, Setup
from storage.node import NodeStorage

logger = logging.getLogger(__name__)

_FAILED_LOG_STATUS = 70  # EX_SOFTWARE: a service manager starts the node again


class ClientServer(Protocol):
    """Where clients come in."""

    async def bind(self, host: str, port: int) -> tuple[str, int]:
        """Takes the address; clients that come are not answered yet."""
        ...

    async def open(self) -> None:
        """Answers clients from here on."""
        ...

    async def close(self) -> None:
        """Lets clients go and takes no more."""
        ...


class Machine(Protocol):
    """See the module."""

    @property
    def raft_settings(self) -> RaftSettings:
        """Times and bounds of all Raft groups."""
        ...

    def transport(self) -> Transport:
        """The network."""
        ...

    def stage_threads(self) -> StageThreads:
        """Where query stages run."""
        ...

    def client_server(self, open_session: SessionFactory) -> ClientServer:
        """The way in for clients."""
        ...

    async def open_storage(
        self, directory: Path, limits: DuckDbLimits, setup: Setup
    ) -> NodeStorage:
        """The data directory; see `NodeStorage.open`."""
        ...

    def end_process(self, error: BaseException) -> None:
        """The log could not be written, or the node is not what it was: nothing may be
        acknowledged from here on (rules L1, G3)."""
        ...


class OsMachine:
    """This computer."""

    raft_settings = RaftSettings()

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def transport(self) -> Transport:
        return TcpTransport()

    def stage_threads(self) -> StageThreads:
        return StageThreads()

    def client_server(self, open_session: SessionFactory) -> ClientServer:
        return WireServer(self._runtime, open_session)

    async def open_storage(
        self, directory: Path, limits: DuckDbLimits, setup: Setup
    ) -> NodeStorage:
        return await NodeStorage.open(
            self._runtime, directory, limits=limits, setup=setup, on_log_failure=self.end_process
        )

    def end_process(self, error: BaseException) -> None:
        if isinstance(error, DqeError):
            reason = f"{error.message}. {error.detail or ''}"
        else:
            reason = f"the write-ahead log failed: {error}"
        logger.critical("this node stops: %s", reason)
        logging.shutdown()
        os._exit(_FAILED_LOG_STATUS)
