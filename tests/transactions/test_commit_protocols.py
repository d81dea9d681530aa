"""`dqe.commit_protocol`: transactions over two tablets in two phases and in three."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from worlds import World, in_world

from catalog import tablet_requests as requests
from cluster.errors import InvalidParameterValue


@pytest.mark.parametrize(("protocol", "precommits"), [("two-phase", 0), ("three-phase", 3)])
def test_both_commit_and_differ_in_a_round(
    tmp_path: Path, protocol: str, precommits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        await one.ask(
            "create table t (id int primary key, v int) partition by hash (id) partitions 4"
        )
        await one.ask(f"set dqe.commit_protocol = '{protocol}'")
        asked = Counter[str]()
        for node in world.nodes:
            client = node.parts.services.tablets
            ask = client._ask  # type: ignore[attr-defined]

            async def counting(request: object, *args: object, **more: object) -> object:
                asked[type(request).__name__] += 1
                return await ask(request, *args, **more)  # noqa: B023

            monkeypatch.setattr(client, "_ask", counting)
        await one.ask("begin; insert into t select i, i from generate_series(1, 20) s(i); commit")
        assert asked[requests.Prepare.__name__] == 3
        assert asked[requests.Precommit.__name__] == precommits
        # The home does all in one where nothing comes between the timestamp and the decision.
        in_one = protocol == "two-phase"
        assert asked[requests.Write.__name__] == in_one
        assert asked[requests.MarkHome.__name__] == asked[requests.Decide.__name__] == (not in_one)
        assert await one.ask("select count(*) from t") == [("20",)]
        asked.clear()
        await one.ask("insert into t values (21, 21)")
        assert asked[requests.Precommit.__name__] == 0

    in_world(tmp_path, test)


def test_it_is_a_setting_of_two_values(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (one,) = await world.clients(1)
        assert await one.ask("show dqe.commit_protocol") == [("two-phase",)]
        await one.refused("set dqe.commit_protocol = 'one-phase'", InvalidParameterValue)
        await one.refused("set dqe.concurrency_control = 'none'", InvalidParameterValue)

    in_world(tmp_path, test)
