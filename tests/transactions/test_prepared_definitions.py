"""Statements that were prepared before a definition changed what they answer.

Clients read rows as they were described, so what would come otherwise is refused before anything
is done, as PostgreSQL does; asked to prepare it again the session answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worlds import World, in_world

from cluster.errors import FeatureNotSupported, SyntaxError_, UndefinedColumn
from executor.session_state import Prepared

READS = ("SELECT * FROM t", "SELECT v FROM t WHERE id = 1", "SELECT max(v) AS m FROM t")
CHANGES = ("INSERT INTO t VALUES ($1, 7) RETURNING v", "UPDATE t SET v = $1 RETURNING *")
TOLD = "cached plan must not change result type"


async def prepared(world: World, sql: str) -> tuple[Any, Prepared]:
    client = await world.client()
    (statement,) = await client.session.parse(sql)
    return client, await client.session.prepare(statement)


async def run(client: Any, statement: Prepared, *values: str) -> None:
    result = await client.session.execute(statement, values)
    async for _ in result.batches():
        pass
    await result.close()


@pytest.mark.parametrize("method", ["row", "columnar"])
@pytest.mark.parametrize("sql", [*READS, *CHANGES])
def test_another_result_type_is_refused(tmp_path: Path, sql: str, method: str) -> None:
    async def test(world: World) -> None:
        other = await world.client()
        await other.ask(f"CREATE TABLE t (id int PRIMARY KEY, v int) USING {method}")
        await other.ask("INSERT INTO t VALUES (1, 1)")
        client, statement = await prepared(world, sql)
        values = ["1" if "UPDATE" in sql else "2"] if "$1" in sql else []
        await run(client, statement, *values)
        await other.ask("CREATE TABLE unrelated (id int)")
        await run(client, statement, *(["3"] if "INSERT" in sql else values))
        await other.ask("ALTER TABLE t ALTER COLUMN v TYPE text")
        before = await other.ask("SELECT * FROM t ORDER BY id")
        with pytest.raises(FeatureNotSupported, match=TOLD):
            await run(client, statement, *(["4"] if "INSERT" in sql else values))
        assert await other.ask("SELECT * FROM t ORDER BY id") == before
        await other.ask("ALTER TABLE t DROP COLUMN v")
        with pytest.raises((FeatureNotSupported, UndefinedColumn, SyntaxError_)):
            await run(client, statement, *(["5"] if "INSERT" in sql else values))

    in_world(tmp_path, test)


def test_definitions_of_the_block_itself_count(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await client.ask("CREATE TABLE t (id int PRIMARY KEY)")
        await client.ask("PREPARE p AS SELECT * FROM t")
        await client.ask("BEGIN; ALTER TABLE t ADD COLUMN v int")
        error = await client.refused("EXECUTE p", FeatureNotSupported)
        assert error.message == TOLD
        await client.ask("ROLLBACK")
        assert await client.ask("EXECUTE p") == []

    in_world(tmp_path, test)
