"""A log that cannot be read back stops its node, before anything is said that it cannot keep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from raft_hosts import Hosts, leader_of, until

from cluster.errors import DataCorrupted, DqeError
from cluster.raft.log import Entry
from cluster.raft.settings import RaftSettings
from cluster.simulation.loop import run_simulation


def broken(error: Exception) -> Callable[[int, int, int], list[Entry]]:
    def entries(group_id: int, low: int, high: int) -> list[Entry]:
        raise error

    return entries


@pytest.mark.parametrize(
    "error", [DataCorrupted("write-ahead log is damaged"), OSError(5, "Input/output error")]
)
def test_leader_that_cannot_read_its_log_stops_and_another_goes_on(error: Exception) -> None:
    async def main() -> None:
        hosts = await Hosts(3).start()
        for host in hosts.hosts.values():
            host.settings = RaftSettings(cached_log_bytes=1)
        groups, machines = await hosts.open([1, 2, 3])
        leader = await leader_of(groups)
        behind = next(n for n in groups if n != leader.node_id)
        hosts.isolate(behind)
        for count in range(50):
            await leader.propose(b"%d" % count, deadline_s=1)
        hosts.logs[leader.node_id].entries = broken(error)  # type: ignore[method-assign]
        hosts.network.heal()
        await until(lambda: leader.node_id in hosts.fatal)
        assert hosts.fatal[leader.node_id] is error
        with pytest.raises(DqeError):
            await leader.propose(b"no more", deadline_s=1)
        assert not leader.is_leader
        # The others have it all between them.
        second = await leader_of(groups, but=leader.node_id)
        await second.propose(b"goes on", deadline_s=5)
        alive = [n for n in groups if n != leader.node_id]
        await until(lambda: all(len(machines[n].notes) == 51 for n in alive))
        await asyncio.sleep(0)
        await hosts.close()

    logging.disable(logging.CRITICAL)
    try:
        run_simulation(main())
    finally:
        logging.disable(logging.NOTSET)
