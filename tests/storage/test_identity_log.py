"""A data directory goes with one write-ahead log (rule G3)."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from cluster.errors import DataCorrupted
from cluster.raft.log import GroupWrite, HardState
from cluster.runtime import ProductionRuntime
from storage.node import NodeStorage


def use(directory: Path, cluster_id: str = "") -> tuple[int, int]:
    """Opens the directory, writes to the log; its id and how far it is."""

    async def main() -> tuple[int, int]:
        runtime = ProductionRuntime()
        storage = await NodeStorage.open(runtime, directory)
        if cluster_id:
            storage.set_identity(cluster_id, 7)
        before = storage.log.durable_position
        await storage.log.append([GroupWrite(1, HardState(1, 1, 0))])
        assert storage.log.durable_position > before
        found = storage.log.log_id, storage.log.durable_position
        await storage.close()
        await runtime.close()
        return found

    return asyncio.run(main())


def test_position_only_grows_over_restarts(tmp_path: Path) -> None:
    log_id, position = use(tmp_path, "c")
    for _ in range(3):
        again, further = use(tmp_path)
        assert again == log_id
        assert further > position
        position = further


def test_emptied_or_foreign_log_is_refused(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    use(own, "c")
    use(other, "c")
    shutil.rmtree(own / "wal")
    with pytest.raises(DataCorrupted, match="has lost its write-ahead log"):
        use(own)
    shutil.rmtree(own / "wal")
    shutil.copytree(other / "wal", own / "wal")
    with pytest.raises(DataCorrupted, match="has lost its write-ahead log"):
        use(own)


def test_directory_from_before_takes_the_log_it_has(tmp_path: Path) -> None:
    use(tmp_path, "c")
    file = tmp_path / "identity.json"
    identity = json.loads(file.read_text())
    log_id = identity.pop("log_id")
    assert log_id
    del identity["checksum"]
    file.write_text(json.dumps(identity))
    use(tmp_path)
    assert json.loads(file.read_text())["log_id"] == log_id
    shutil.rmtree(tmp_path / "wal")
    with pytest.raises(DataCorrupted):
        use(tmp_path)
