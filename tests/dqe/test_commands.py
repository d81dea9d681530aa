"""What the commands say, and end with, where they cannot do what they were asked for."""

import asyncio
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from cluster.errors import InvalidParameterValue
from cluster.runtime import ProductionRuntime
from dqe.cli import app
from dqe.commands import terminal
from dqe.configuration import NodeConfiguration
from dqe.node import Node

ASKING = [
    ["status"],
    ["check"],
    ["node", "status"],
    ["node", "drain", "1"],
    ["node", "decommission", "1"],
    ["node", "activate", "1"],
    ["recover", "all"],
]


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
@pytest.mark.parametrize("url", ["garbage", "mysql://host/", "postgresql://127.0.0.1:x/dqe"])
def test_an_address_that_is_none_is_said_in_one_line(command: list[str], url: str) -> None:
    result = CliRunner().invoke(app, [*command, url])
    assert result.exit_code == 2, result.exception
    assert result.stderr.startswith(f"dqe: cannot connect to {url}: ")
    assert len(result.stderr.splitlines()) == 1


class Silent:
    """A connection whose node dies with the first statement."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def execute(self, *_: object) -> None:
        raise psycopg.OperationalError("server closed the connection")


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_a_statement_that_fails_is_said_in_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "connect", lambda *_, **__: Silent())
    result = CliRunner().invoke(app, command)
    assert result.exit_code == (2 if command == ["check"] else 1), result.exception
    assert result.stderr == "dqe: server closed the connection\n"


def test_a_local_cluster_needs_a_directory_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["local", "--data", str(tmp_path / "file" / "data")])
    assert result.exit_code == 1, result.exception
    assert "cannot be used" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_local_cluster_refuses_a_wrong_dead_after_before_it_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = CliRunner().invoke(app, ["local", "--data", str(data), "--dead-after", "soon"])
    assert (result.exit_code, result.stderr) == (1, 'dqe: invalid duration: "soon"\n')
    assert not data.exists()


@pytest.mark.parametrize(
    ("listen", "pg"),
    [
        ("0.0.0.0:7433", "127.0.0.1:5433"),
        ("[::]:7433", "127.0.0.1:5433"),
        ("127.0.0.1:7433", "127.0.0.1:7433"),
    ],
)
def test_a_node_refuses_addresses_that_cannot_serve(tmp_path: Path, listen: str, pg: str) -> None:
    async def start() -> None:
        await Node(NodeConfiguration(tmp_path / "data", listen, pg), ProductionRuntime()).start()

    with pytest.raises(InvalidParameterValue):
        asyncio.run(start())
    assert not (tmp_path / "data").exists()
