"""What the commands say, and end with, where they cannot do what they were asked for."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Self

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


class Connected:
    """What every connection of these tests can do."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[object], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def add_notice_handler(self, handler: Callable[[object], None]) -> None:
        self.handlers.append(handler)


class Silent(Connected):
    """Its node dies with the first statement."""

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


class Stale(Connected):
    """Its node answers from what it knew last, and warns of that with every statement."""

    def execute(self, *_: object) -> "Stale":
        for handler in self.handlers:
            handler(SimpleNamespace(severity="WARNING", message_primary="nobody leads the catalog"))
        return self

    def fetchall(self) -> list[tuple[object, ...]]:
        return []


def test_what_the_node_warns_of_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "connect", lambda *_, **__: Stale())
    result = CliRunner().invoke(app, ["status"])
    assert (result.exit_code, result.stderr) == (0, "WARNING: nobody leads the catalog\n")


class HalfLost(Connected):
    """Of two tablets that have lost their majority the first has no replica left."""

    def __init__(self) -> None:
        super().__init__()
        self.recovered: list[str] = []

    def execute(self, statement: str | bytes, *_: object) -> "HalfLost":
        text = statement.decode() if isinstance(statement, bytes) else statement
        if "recover_tablet(7" in text:
            raise psycopg.errors.ObjectNotInPrerequisiteState("no replica of tablet 7 answers")
        if "recover_tablet(9, '')" in text:
            raise psycopg.errors.InvalidParameterValue("tablet 9 can go on with loss")
        if "recover_tablet" in text:
            self.recovered.append(text)
        return self

    def fetchall(self) -> list[tuple[int, str, str]]:
        return [(7, "t", "nodes 4, 5 do not answer"), (9, "t", "node 4 does not answer")]

    def fetchone(self) -> tuple[str]:
        return ("tablet 9 goes on",)


def test_recover_goes_on_past_a_tablet_that_nobody_can_recover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = HalfLost()
    monkeypatch.setattr(terminal, "connect", lambda *_, **__: cluster)
    result = CliRunner().invoke(app, ["recover", "all"], input="accept data loss\n")
    assert "no replica of tablet 7 answers" in result.stderr
    assert "tablet 9 can go on with loss" in result.stderr
    assert cluster.recovered == ["SELECT dqe.recover_tablet(9, 'accept data loss')"]
    assert result.exit_code == 1
    refused = CliRunner().invoke(app, ["recover", "all"], input="yes\n")
    assert (refused.exit_code, len(cluster.recovered)) == (1, 1)


def test_recover_takes_an_address_alone() -> None:
    result = CliRunner().invoke(app, ["recover", "postgresql://127.0.0.1:1/dqe"])
    assert result.exit_code == 2
    assert "cannot connect to postgresql://127.0.0.1:1/dqe" in result.stderr


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
