"""`dqe start`: one node in the foreground, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvloop

from cluster.errors import DqeError
from cluster.runtime import ProductionRuntime
from dqe.configuration import NodeConfiguration
from dqe.node import Node

# With Python's default of 5 ms a busy thread starves the calls into DuckDB.
SWITCH_INTERVAL_S = 0.0005


def run(configuration: NodeConfiguration, *, stop_when_stdin_closes: bool = False) -> int:
    """Runs the node; the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(configuration, stop_when_stdin_closes))
    except (DqeError, ValueError, OSError) as error:
        print(f"dqe: {_told(error)}", file=sys.stderr)
        return 1


async def _serve(configuration: NodeConfiguration, stop_when_stdin_closes: bool) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if stop_when_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    runtime = ProductionRuntime()
    node = Node(configuration, runtime)
    starting = runtime.spawn(node.start(), "start")
    stopping = runtime.spawn(stop.wait(), "stop signal")
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    else:
        starting.result()
        print(
            f"node {node.node_id}: PostgreSQL on {node.pg_address}, nodes on {node.rpc_address}",
            flush=True,
        )
        await stop.wait()
    await node.stop()
    return 0


def _told(error: Exception) -> str:
    if not isinstance(error, DqeError):
        return str(error)
    lines = [error.message]
    lines += [f"DETAIL: {error.detail}"] if error.detail else []
    lines += [f"HINT: {error.hint}"] if error.hint else []
    return "\n".join(lines)
