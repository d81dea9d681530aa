"""Statements that define things inside of a transaction block, so that ROLLBACK undoes them.

The catalog knows no transactions yet: what a command does shows at once, to every session. So
only what can be taken back again is let in:

    CREATE of a table, view, schema or sequence    undone by dropping it
    DROP of a table                                it is renamed out of the way, and dropped at
                                                   COMMIT, or given its name back
    anything about what this block created         goes away with it

The rest is refused with a hint (0A000). Tables that a statement fills (CREATE TABLE AS) are
filled by the transaction itself, and others see them empty until it commits.

Left out: other sessions see tables come and go before COMMIT; a node that dies in the middle
leaves a created table behind, or a dropped one under the name it was given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from catalog import commands
from catalog.commands import AnyCommand, Command, CommandResult
from catalog.model import Catalog, TableId
from cluster.errors import DqeError, FeatureNotSupported, ObjectInUse
from executor.services import ExecutorServices
from planner.ddl_plan import ChangeCatalog, CreateAndFill, DdlPlan

logger = logging.getLogger(__name__)

HINT = "Run it outside of a transaction block."


@dataclass(frozen=True, slots=True)
class _Done:
    """What a statement did: how to undo it, and what is left to do at COMMIT."""

    command: int
    undo: Command
    finish: Command | None = None


@dataclass(slots=True)
class BlockDefinitions:
    """The definitions of one block, in their order."""

    services: ExecutorServices
    _done: list[_Done] = field(default_factory=list)
    _made: dict[TableId, int] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether anything was defined."""
        return bool(self._done)

    def admitted(
        self, plan: DdlPlan, catalog: Catalog, tag: str, written: Sequence[int]
    ) -> DdlPlan:
        """What to run instead of the plan; raises where it could not be undone.

        `written` are the tablets that the block has changed: what has rows in them that nobody
        sees yet cannot be cut anew.
        """
        if isinstance(plan, CreateAndFill):
            return plan
        if isinstance(plan, ChangeCatalog):
            listed = [new for c in plan.commands for new in self._instead(c, catalog, tag, written)]
            return ChangeCatalog(tuple(listed), plan.tag, plan.notices)
        self._check_made(plan.table_id, catalog, tag, written)
        return plan

    def note(self, command: Command, result: CommandResult, number: int) -> None:
        """The block's statement of that number has carried the command out."""
        if not result.changed:
            return
        done = _undoing(command)
        if done is not None:
            self._done.append(_Done(number, *done))
        if isinstance(command, commands.CreateTable) and result.table_id is not None:
            self._made[result.table_id] = number

    async def undo(self, since: int = 0) -> None:
        """Takes back what statements from that number on have done, the last first."""
        while self._done and self._done[-1].command >= since:
            await self._carry_out(self._done.pop().undo)
        self._made = {table: number for table, number in self._made.items() if number < since}

    async def finish(self) -> None:
        """The block has committed."""
        done, self._done = self._done, []
        for one in done:
            if one.finish is not None:
                await self._carry_out(one.finish)

    async def _carry_out(self, command: Command) -> None:
        assert isinstance(command, AnyCommand)
        try:
            result = await self.services.catalog.execute(command)
            await self.services.catalog.ensure_everywhere(result.version)
        except DqeError as error:
            # The outcome of the transaction stands; what stays behind can be dropped by hand.
            logger.error("%s could not be carried out: %s", command, error.message)

    # -- what may be done

    def _instead(
        self, command: Command, catalog: Catalog, tag: str, written: Sequence[int]
    ) -> list[Command]:
        if isinstance(
            command, commands.CreateTable | commands.CreateSchema | commands.CreateSequence
        ):
            return [command]
        if isinstance(command, commands.CreateView):
            if not _exists(catalog, command.schema, command.name):
                return [command]
            raise _refused(tag)
        if isinstance(command, commands.DropTable):
            return self._drop_tables(command, catalog, tag)
        table_id = getattr(command, "table_id", None)
        if table_id is not None:
            self._check_made(table_id, catalog, tag, written)
            return [command]
        if getattr(command, "if_exists", False) and not _any_exists(command, catalog):
            return [command]
        raise _refused(tag)

    def _drop_tables(
        self, command: commands.DropTable, catalog: Catalog, tag: str
    ) -> list[Command]:
        listed: list[Command] = []
        for schema, name in command.names:
            one = commands.DropTable(((schema, name),), command.if_exists, command.cascade)
            table = catalog.find_table(name, schema)
            if table is None or table.id in self._made:
                listed.append(one)
            elif any(table.id in view.depends_on for view in catalog.views.values()):
                if command.cascade:
                    raise _refused(f"{tag} CASCADE")
                listed.append(one)  # which names the views and changes nothing
            else:
                number = self.services.ids.next()
                listed.append(commands.RenameTable(schema, name, schema, f"dropped {number}"))
        return listed

    def _check_made(
        self, table_id: TableId, catalog: Catalog, tag: str, written: Sequence[int]
    ) -> None:
        if table_id not in self._made:
            raise _refused(tag)
        table = catalog.tables[table_id]
        tablets = {fragment.tablet_id for part in table.parts for fragment in part.fragments}
        if tablets.intersection(written):
            raise ObjectInUse(
                f'cannot {tag} "{table.name}" because it has rows of this transaction',
                hint="Define the table before rows are written to it.",
            )


def _undoing(command: Command) -> tuple[Command, Command | None] | None:
    match command:
        case commands.CreateTable(definition=made):
            return commands.DropTable(((made.schema, made.name),), True, True), None
        case commands.CreateView(schema=schema, name=name):
            return commands.DropView(((schema, name),), True, True), None
        case commands.CreateSchema(name=name):
            return commands.DropSchema(name, True, True), None
        case commands.CreateSequence(schema=schema, name=name, owner=None):
            return commands.DropSequence(((schema, name),), True, True), None
        case commands.RenameTable(schema=schema, name=name, new_schema=moved, new_name=new):
            back = commands.RenameTable(moved, new, schema, name)
            if not new.startswith("dropped "):
                return back, None
            return back, commands.DropTable(((moved, new),), True, True)
    return None


def _any_exists(command: Command, catalog: Catalog) -> bool:
    if isinstance(command, commands.DropSchema):
        return command.name in catalog.schemas
    names = getattr(command, "names", ())
    return any(_exists(catalog, schema, name) for schema, name in names)


def _exists(catalog: Catalog, schema: str, name: str) -> bool:
    found = (
        catalog.find_table(name, schema),
        catalog.find_view(name, schema),
        catalog.find_sequence(name, schema),
    )
    return any(one is not None for one in found)


def _refused(tag: str) -> FeatureNotSupported:
    return FeatureNotSupported(
        f"{tag} cannot run inside a transaction block, which could not undo it", hint=HINT
    )
