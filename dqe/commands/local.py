"""`dqe local`: a cluster of node processes on this machine, in the foreground."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from catalog.repair_settings import check_dead_after
from cluster.errors import InvalidParameterValue
from dqe.commands.stop_signal import StopSignal
from dqe.local_cluster import LocalCluster, LocalClusterError

_WATCH_EVERY_S = 0.2


class Stopped(Exception):
    """The user asked to stop before the cluster was ready."""


def run(
    node_count: int,
    data: Path,
    pg_port: int,
    regions: tuple[str, ...],
    dead_after: str | None = None,
) -> int:
    """Until SIGINT or SIGTERM; the exit status."""
    stop = StopSignal()
    try:
        if dead_after is not None:
            check_dead_after(dead_after)
        cluster = LocalCluster(node_count, data, pg_port, regions=regions, dead_after=dead_after)
    except (InvalidParameterValue, LocalClusterError) as error:
        print(f"dqe: {error}", file=sys.stderr)
        return 1
    try:
        cluster.start()
        _wait_ready(cluster, stop)
        _say_ready(cluster)
        while not stop.wait(_WATCH_EVERY_S):
            cluster.watch()
    except Stopped:
        pass
    except LocalClusterError as error:
        print(f"dqe: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.stop()
    return 0


def _wait_ready(cluster: LocalCluster, stop: StopSignal) -> None:
    """Ready, or `Stopped` as soon as the user asks."""
    failure: list[BaseException] = []

    def wait() -> None:
        try:
            cluster.wait_ready()
        except BaseException as error:  # noqa: BLE001 - carried to the waiting thread
            failure.append(error)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    while waiter.is_alive():
        waiter.join(_WATCH_EVERY_S)
        if stop.is_set:
            raise Stopped
    if failure:
        raise failure[0]


def _say_ready(cluster: LocalCluster) -> None:
    ports = ", ".join(str(node.pg_port) for node in cluster.nodes)
    print(
        f"ready: {len(cluster.nodes)} nodes on 127.0.0.1, PostgreSQL ports {ports}; "
        f"try: psql -h 127.0.0.1 -p {cluster.nodes[0].pg_port} -U dqe dqe",
        flush=True,
    )
