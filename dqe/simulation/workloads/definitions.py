"""Tables are created, changed and dropped while rows are written to them.

- A table or column that was acknowledged is there through every node from then on, and one
  whose DROP was acknowledged is nowhere (rule T3).
- A table and the rows put into it by one block are there together or not at all (rule S1).
- Rows that were acknowledged stay, whatever is done to the table's columns; a new column has its
  default in every row.

Nobody knows what becomes of a definition whose answer was lost, so its table is let alone from
then on, and names are used once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from dqe.simulation.client import Asked, Client
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.shapes import by_hash

LIVE_TABLES = 4
# What a statement may meet whose table is being defined: it is not there, or is there already.
UNDEFINED = ("42P01", "42703", "42P07", "42701")


class State(Enum):
    """Of a table or column, as far as its clients know."""

    CHANGING = auto()
    THERE = auto()
    GONE = auto()


@dataclass(slots=True)
class _Thing:
    """A table: its acknowledged rows, and its columns besides the key."""

    name: str
    state: State = State.CHANGING
    rows: set[int] = field(default_factory=set)
    possible: set[int] = field(default_factory=set)
    columns: dict[str, State] = field(default_factory=dict)
    # One definition at a time is under way.
    is_changing: bool = False


class Definitions:
    """See the module."""

    tables = ("things",)

    def __init__(self) -> None:
        self._things: list[_Thing] = []
        self._count = 0
        self._row = 0
        self._defined = 0
        self._reads = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS things (id bigint PRIMARY KEY) "
            + by_hash(client.chance, "id", 2)
        )
        self._things.append(_Thing("things", State.THERE))

    async def step(self, client: Client) -> None:
        choice = client.chance.random()
        if choice < 0.2:
            await self._define(client)
        elif choice < 0.65:
            await self._insert(client)
        else:
            await self.look(client)

    # Definitions.

    async def _define(self, client: Client) -> None:
        live = [t for t in self._things if t.state is State.THERE and not t.is_changing]
        if len(live) < LIVE_TABLES:
            await self._create(client)
            return
        thing = client.chance.choice(live)
        thing.is_changing = True
        try:
            if thing.name == "things" or client.chance.random() < 0.6:
                await self._change_columns(client, thing)
            else:
                await self._drop(client, thing)
        finally:
            thing.is_changing = False

    async def _create(self, client: Client) -> None:
        self._count += 1
        thing = _Thing(f"thing{self._count}")
        self._things.append(thing)
        create = f"CREATE TABLE {thing.name} (id bigint PRIMARY KEY) "
        create += by_hash(client.chance, "id", client.chance.choice((1, 2)))
        if client.chance.random() < 0.5:
            asked = await client.try_to(create)
            made, refused = asked.answer is not None, asked.refused
        else:
            self._row += 1
            row = self._row
            thing.possible.add(row)

            async def body() -> None:
                await client.ask(create)
                await client.ask(f"INSERT INTO {thing.name} (id) VALUES ({row})")

            ended = await client.transact(body)
            made, refused = ended.committed, ended.refused
            thing.rows |= {row} if made else set()
        self._settle(thing, made=made, refused=refused, before=State.GONE, after=State.THERE)

    async def _drop(self, client: Client, thing: _Thing) -> None:
        thing.state = State.CHANGING
        asked = await client.try_to(f"DROP TABLE {thing.name}")
        made = asked.answer is not None
        self._settle(thing, made=made, refused=asked.refused, before=State.THERE, after=State.GONE)

    def _settle(
        self, thing: _Thing, *, made: bool, refused: bool, before: State, after: State
    ) -> None:
        if made:
            thing.state = after
            self._defined += 1
        elif refused:
            thing.state = before

    async def _change_columns(self, client: Client, thing: _Thing) -> None:
        there = [name for name, state in thing.columns.items() if state is State.THERE]
        if there and client.chance.random() < 0.5:
            name, before, after = client.chance.choice(there), State.THERE, State.GONE
            definition = f"DROP COLUMN {name}"
        else:
            self._count += 1
            name, before, after = f"c{self._count}", State.GONE, State.THERE
            definition = f"ADD COLUMN {name} bigint DEFAULT {self._count}"
        thing.columns[name] = State.CHANGING
        asked = await client.try_to(f"ALTER TABLE {thing.name} {definition}", UNDEFINED)
        if asked.answer is not None:
            thing.columns[name] = after
            self._defined += 1
        elif asked.refused:
            thing.columns[name] = before

    # Rows.

    def _any(self, client: Client) -> _Thing:
        return client.chance.choice([t for t in self._things if t.state is not State.GONE])

    async def _insert(self, client: Client) -> None:
        thing = self._any(client)
        self._row += 1
        row, before = self._row, thing.state
        thing.possible.add(row)
        asked = await client.try_to(f"INSERT INTO {thing.name} (id) VALUES ({row})", UNDEFINED)
        if asked.answer is not None:
            thing.rows.add(row)
        elif asked.refused:
            thing.possible.discard(row)
        self._check_there(thing, before, asked)

    async def look(self, client: Client) -> None:
        await self._look_at(client, self._any(client))

    async def _look_at(self, client: Client, thing: _Thing) -> bool:
        known = [name for name, state in thing.columns.items() if state is State.THERE]
        column = client.chance.choice(known) if known else None
        before, rows = thing.state, set(thing.rows)
        wanted = "id" if column is None else f"id, {column}"
        asked = await client.try_to(f"SELECT {wanted} FROM {thing.name}", UNDEFINED)
        if column is None or thing.columns[column] is State.THERE:
            self._check_there(thing, before, asked)
        if asked.answer is None:
            return False
        self._reads += 1
        found = {row[0] for row in asked.answer.rows}
        if not rows <= found or not found <= thing.possible:
            raise Violation(
                f"{thing.name} has not {sorted(rows - found)}, but {sorted(found - thing.possible)}"
            )
        if column is not None:
            self._check_defaults(thing, column, [row[1] for row in asked.answer.rows])
        return True

    def _check_defaults(self, thing: _Thing, column: str, values: list[int | None]) -> None:
        wrong = {value for value in values if value != int(column[1:])}
        if wrong:
            raise Violation(f"column {column} of {thing.name} has the values {wrong}")

    def _check_there(self, thing: _Thing, before: State, asked: Asked) -> None:
        """It was there when it was asked for, and still is: then nobody may deny it."""
        steady = before is thing.state is State.THERE
        if steady and asked.sqlstate in UNDEFINED:
            raise Violation(f"{thing.name} is there, and a client was told {asked.sqlstate}")

    async def check(self, client: Client) -> None:
        for thing in self._things:
            if thing.state is State.THERE and not await self._look_at(client, thing):
                raise Violation(f"{thing.name} cannot be read")
            if thing.state is State.GONE:
                asked = await client.try_to(f"SELECT id FROM {thing.name}", UNDEFINED)
                if asked.answer is not None:
                    raise Violation(f"{thing.name} was dropped and is there")

    def summary(self) -> dict[str, int]:
        return {"defined": self._defined, "rows": self._row, "reads": self._reads}
