"""What must be true of the cluster itself once nothing goes wrong any more.

- Progress: soon every node serves, and through every node every table is written and read.
- Replicas: where two replicas of a tablet stand at the same log index they hold the same rows,
  current and past, and soon all of them stand at the same.
- Catalogs: copies of one version are equal.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from pathlib import Path

import msgspec

from catalog.model import NodeId, TabletId
from dqe.simulation.client import Client
from dqe.simulation.cluster import SimulatedCluster
from dqe.simulation.errors import Violation
from dqe.simulation.machine import SimulatedMachine
from storage.replica_image import ReplicaImage
from storage.transfer import ReceivedContents

PROGRESS_S = 60.0
# A machine that was wiped is dead first, and then replaced.
REPAIR_S = 120.0


async def check_progress(
    cluster: SimulatedCluster, client: Client, tables: tuple[str, ...]
) -> None:
    """Every node serves, and reads every table."""
    await cluster.until(cluster.all_serve, PROGRESS_S, "all nodes serve again")
    for machine in cluster.machines:
        for table in tables:
            await _read(cluster, client, machine, table)


async def _read(
    cluster: SimulatedCluster, client: Client, machine: SimulatedMachine, table: str
) -> None:
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + PROGRESS_S
    while True:
        try:
            await client.ask(f"SELECT count(*) FROM {table}", machine)
            return
        except Exception as error:
            if isinstance(error, Violation) or loop.time() > ends_s:
                raise Violation(f"{machine.name} cannot read {table}: {error}") from error
            cluster.check()
            await asyncio.sleep(0.2)


async def check_replicas(cluster: SimulatedCluster) -> int:
    """All replicas of a tablet come to the same index and hold the same; how many compared."""
    await cluster.until(cluster.is_whole, REPAIR_S, "every tablet has its replicas")
    await cluster.until(
        lambda: not _behind(cluster), PROGRESS_S, "all replicas of a tablet are at one index"
    )
    compared = 0
    found: dict[TabletId, dict[tuple[int, str], list[str]]] = defaultdict(dict)
    for machine in cluster.machines:
        assert machine.life is not None
        for tablet_id, tablet in machine.parts.storage.tablets.items():
            index, data = await machine.life.run_here(tablet.open_snapshot())
            content = digest(data.path)
            data.close()
            found[TabletId(tablet_id)].setdefault((index, content), []).append(machine.name)
            compared += 1
    for tablet_id, contents in found.items():
        if len({index for index, _ in contents}) != len(contents):
            raise Violation(f"the replicas of tablet {tablet_id} differ: {contents}")
    return compared


def _behind(cluster: SimulatedCluster) -> list[TabletId]:
    """The tablets whose replicas do not all stand at one index."""
    indexes: dict[TabletId, dict[NodeId, int]] = defaultdict(dict)
    for machine in cluster.machines:
        if machine.is_serving:
            node_id = NodeId(machine.parts.storage.identity.node_id)
            for tablet_id, tablet in machine.parts.storage.tablets.items():
                indexes[TabletId(tablet_id)][node_id] = tablet.applied_index
    catalog = cluster.machines[0].parts.catalog.current
    return [
        tablet.id
        for tablet in catalog.tablets.values()
        if len({indexes[tablet.id].get(node_id) for node_id in tablet.replicas}) > 1
    ]


def digest(path: Path) -> str:
    """What a replica's snapshot holds, as one number: rows of all fragments, current and past,
    in any order, and the transactions under way."""
    received = ReceivedContents(path)
    try:
        contents = received.contents
        image = msgspec.msgpack.decode(contents.image, type=ReplicaImage)
        total = hashlib.sha256(msgspec.msgpack.encode(image.participant))
        for fragment in sorted(contents.fragments, key=lambda f: f.schema.fragment_id):
            total.update(f"{fragment.schema.fragment_id} {fragment.max_commit_ts}\n".encode())
            for place in (fragment.current, fragment.history):
                batches = received.rows(place)
                lines = sorted(repr(row) for batch in batches for row in batch.to_pylist())
                total.update("\n".join([str(len(lines)), *lines]).encode())
    finally:
        received.close()
    return total.hexdigest()[:16]


def check_catalogs(cluster: SimulatedCluster) -> None:
    """Catalog copies of one version are equal."""
    versions: dict[int, tuple[str, object]] = {}
    for machine in cluster.machines:
        current = machine.parts.catalog.current
        name, other = versions.setdefault(current.version, (machine.name, current))
        if other != current:
            raise Violation(
                f"the catalogs of {name} and {machine.name} differ at version {current.version}"
            )
