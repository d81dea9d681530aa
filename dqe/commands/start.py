"""`dqe start`: one node in the foreground, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import resource
import signal
import sys

import uvloop

from cluster.errors import DqeError
from cluster.runtime import ProductionRuntime
from dqe.configuration import FORGOTTEN_STATUS, NodeConfiguration
from dqe.node import Node

# With Python's default of 5 ms a busy thread starves the calls into DuckDB.
SWITCH_INTERVAL_S = 0.0005
# Room for the wire server's 20,000 clients, and for files.
OPEN_FILES = 32_768

# glibc's mallopt parameters. Blocks of COPY and log entries are some megabytes each; by default
# every one is mapped afresh and given back, and page faults take a third of a load's time.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 256 << 20
# New objects before the youngest are looked through, and how often that before the older are.
_COLLECTED_AFTER = (20_000, 20, 50)
_ARENAS = 4


def run(configuration: NodeConfiguration, *, stop_when_stdin_closes: bool = False) -> int:
    """Runs the node; the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _allow_many_files()
    keep_freed_memory()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(configuration, stop_when_stdin_closes))
    except (DqeError, OSError) as error:
        print(f"dqe: {_told(error)}", file=sys.stderr)
        return 1


def keep_freed_memory() -> None:
    """Has the C library keep large freed blocks for the next one; elsewhere does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_ARENA_MAX, _ARENAS)


def collect_rarely() -> None:
    """Has Python look for unreachable cycles less often, and never through what is here now.

    A look through everything that a node keeps is 20 ms in which no client is answered; almost all
    that statements leave behind goes by its count of references, without any look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)


def _allow_many_files() -> None:
    """Every client is an open file, and the usual limit of 1024 is meant to be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(configuration: NodeConfiguration, stop_when_stdin_closes: bool) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if stop_when_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    runtime = ProductionRuntime()
    node = Node(configuration, runtime)
    forgotten: list[bool] = []

    def end_forgotten() -> None:
        forgotten.append(True)
        stop.set()

    node.on_forgotten = end_forgotten
    starting = runtime.spawn(_started(node), "start")
    stopping = runtime.spawn(stop.wait(), "stop signal")
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    else:
        failure = starting.result()
        if failure is not None:
            await node.stop()
            raise failure
        print(
            f"node {node.node_id}: PostgreSQL on {node.pg_address}, nodes on {node.rpc_address}",
            flush=True,
        )
        collect_rarely()
        await stop.wait()
    await node.stop()
    gc.unfreeze()  # or DuckDB's bindings complain at the end of what was never collected
    return FORGOTTEN_STATUS if forgotten else 0


async def _started(node: Node) -> DqeError | OSError | None:
    """What kept the node from starting; it goes to the user, not into the log."""
    try:
        await node.start()
    except (DqeError, OSError) as error:
        return error
    return None


def _told(error: Exception) -> str:
    if not isinstance(error, DqeError):
        return str(error)
    lines = [error.message]
    lines += [f"DETAIL: {error.detail}"] if error.detail else []
    lines += [f"HINT: {error.hint}"] if error.hint else []
    return "\n".join(lines)
