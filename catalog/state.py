"""The replicated state machine of the catalog tablet.

Commands come from the log in one order on every node, and applying them reads nothing but the
state: no clock, no chance, no iteration over sets. So every node's copy at one version is the
same, byte for byte (tests/catalog/test_state.py compares them).

Beside the catalog the state holds what must survive with it but is no part of a version: the
timestamp ceiling (T1), the horizon of history (L7), and the outcomes of the last commands by id,
so that a proposer who lost its answer proposes again and gets the first outcome. A retry that
comes more than `REMEMBERED_COMMANDS` commands late would be applied twice; proposers give up long
before.

A command that fails changes nothing but that memory. Every version is an immutable value;
readers keep the one they started with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from catalog import commands
from catalog.changes import (
    columns,
    comments,
    constraints,
    definitions,
    foreign_keys,
    indexes,
    nodes,
    recovery,
    renames,
    replicas,
    schemas,
    sequences,
    tables,
)
from catalog.changes.draft import Draft
from catalog.changes.readable import with_readable
from catalog.codec import Outcome, decode_envelope, outcome_of
from catalog.commands import CommandResult, Envelope
from catalog.model import Catalog, NodeId, TableId
from catalog.model import Sequence as NumberSequence
from cluster.errors import DqeError, ProtocolViolation
from cluster.raft.log import Entry, EntryKind

logger = logging.getLogger(__name__)

REMEMBERED_COMMANDS = 10_000
# Of transactions that committed here: tablets in doubt and clients ask within minutes.
REMEMBERED_DECISIONS = 100_000


class _Snapshot(msgspec.Struct, frozen=True):
    """All of the state, as it goes to a learner or to disk."""

    catalog: Catalog
    timestamp_ceiling: int
    outcomes: list[tuple[str, Outcome]]
    # Of each sequence: its epoch, and the number from which on nothing is spoken for.
    positions: dict[TableId, tuple[int, int]] = {}
    horizon: int = 0
    # When transactions with definitions committed, by id (`changes.definitions`).
    decisions: dict[int, int] = {}


class CatalogState:
    """The catalog and what survives with it. One mutator: `apply_envelope`."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self.catalog = catalog or Catalog()
        self.timestamp_ceiling = 0
        self.horizon = 0
        self.decisions: dict[int, int] = {}
        self.positions: dict[TableId, tuple[int, int]] = {}
        # In the order of application, the oldest first.
        self._outcomes: dict[str, Outcome] = {}

    def apply_envelope(self, envelope: Envelope) -> CommandResult | DqeError:
        """Applies the command unless its id was applied before; its outcome either way."""
        if isinstance(envelope.command, commands.RaiseCeiling):
            # Every few seconds, and no harm in applying one twice: not remembered.
            self.timestamp_ceiling = max(self.timestamp_ceiling, envelope.command.ceiling)
            return CommandResult(self.catalog.version)
        if isinstance(envelope.command, commands.AdvanceHorizon):
            self.horizon = max(self.horizon, envelope.command.horizon)
            return CommandResult(self.catalog.version)
        if isinstance(envelope.command, commands.AdvanceSequence):
            self._advance(envelope.command)
            return CommandResult(self.catalog.version)
        known = self._outcomes.get(envelope.command_id)
        if known is None:
            known = outcome_of(self._apply(envelope))
            self._remember(envelope.command_id, known)
        try:
            return known.unwrap()
        except DqeError as error:
            return error

    def _apply(self, envelope: Envelope) -> CommandResult | DqeError:
        command = envelope.command
        draft = Draft(self.catalog, envelope.avoided)
        try:
            done = _CHANGES[type(command)](draft, command)
        except DqeError as error:
            return error
        if done is None or done is False:
            return CommandResult(self.catalog.version, False, tuple(draft.notices))
        ceiling = self.timestamp_ceiling
        first_id = self.catalog.next_id
        self.catalog = with_readable(self.catalog, draft.finish(), envelope.issued, ceiling)
        if isinstance(command, commands.CommitDefinitions):
            self._note_decision(command)
        return CommandResult(
            self.catalog.version,
            first_id=first_id if isinstance(command, commands.ReserveIds) else None,
            commit_ts=getattr(command, "commit_ts", 0),
            notices=tuple(draft.notices),
            table_id=TableId(done) if _returns_table(command) else None,
            node_id=NodeId(done) if _returns_node(command) else None,
        )

    def _note_decision(self, command: commands.CommitDefinitions) -> None:
        if not (command.participants or command.staged):
            return  # nobody can ask
        self.decisions[command.transaction_id] = command.commit_ts
        while len(self.decisions) > REMEMBERED_DECISIONS:
            del self.decisions[next(iter(self.decisions))]

    def _advance(self, command: commands.AdvanceSequence) -> None:
        sequence = self.catalog.numbered_sequence(command.sequence_id)
        if sequence is not None and sequence.epoch == command.epoch:
            self.positions[sequence.id] = (command.epoch, command.next_number)

    def next_number(self, sequence: NumberSequence) -> int:
        """The first number of the sequence that nobody was given."""
        epoch, number = self.positions.get(sequence.id, (0, 0))
        return number if epoch == sequence.epoch else sequence.first

    def go_on_alone(self, lost: Sequence[int], ceiling: int) -> None:
        """Goes on without the lost nodes, behind whatever they may have known."""
        self.catalog = recovery.gone_on_alone(self.catalog, lost)
        self.timestamp_ceiling = max(self.timestamp_ceiling, ceiling)

    def _remember(self, command_id: str, outcome: Outcome) -> None:
        self._outcomes[command_id] = outcome
        while len(self._outcomes) > REMEMBERED_COMMANDS:
            del self._outcomes[next(iter(self._outcomes))]

    def encode(self) -> bytes:
        """The state as bytes; equal states have equal bytes."""
        outcomes = list(self._outcomes.items())
        known = self.catalog.numbered_sequence
        positions = {i: p for i, p in self.positions.items() if known(i) is not None}
        return msgspec.msgpack.encode(
            _Snapshot(
                self.catalog,
                self.timestamp_ceiling,
                outcomes,
                positions,
                self.horizon,
                self.decisions,
            )
        )

    def replace_by(self, data: bytes | memoryview) -> None:
        """Takes the state that `encode` wrote elsewhere."""
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
        self.catalog = snapshot.catalog
        self.timestamp_ceiling = snapshot.timestamp_ceiling
        self.horizon = snapshot.horizon
        self.decisions = dict(snapshot.decisions)
        self._outcomes = dict(snapshot.outcomes)
        self.positions = dict(snapshot.positions)


def _returns_table(command: commands.AnyCommand) -> bool:
    return isinstance(
        command,
        commands.CreateTable
        | commands.CreateView
        | commands.RenameTable
        | commands.RenameColumn
        | commands.AddColumn
        | commands.DropColumn
        | commands.SetColumnDefault
        | commands.SetColumnNotNull
        | commands.SetAccessMethod
        | commands.PrepareRecut
        | commands.CreateIndex,
    )


def _returns_node(command: commands.AnyCommand) -> bool:
    return isinstance(command, commands.AddNode | commands.CreateCluster)


def _drop_schema(draft: Draft, command: commands.DropSchema) -> bool:
    found = schemas.drop_schema(draft, command)
    if found is None:
        return False
    tables.remove_tables(draft, found, cascade=command.cascade)
    return True


# What each command does: a function that changes a draft and returns an id, or False or None
# when there was nothing to change.
_CHANGES: dict[type[commands.Command], Callable[..., int | bool | None]] = {
    commands.CreateCluster: nodes.create_cluster,
    commands.AddNode: nodes.add_node,
    commands.SetNodeAddresses: nodes.set_node_addresses,
    commands.SetNodeState: nodes.set_node_state,
    commands.ForgetNode: replicas.forget_node,
    commands.MoveReplicas: replicas.move_replicas,
    commands.ConfirmReplicas: replicas.confirm_replicas,
    commands.RecoverTablet: replicas.recover_tablet,
    commands.SetTableDurability: replicas.set_table_durability,
    commands.SetTablePlacement: replicas.set_table_placement,
    commands.SetTableReplicas: replicas.set_table_replicas,
    commands.CreateSchema: schemas.create_schema,
    commands.DropSchema: _drop_schema,
    commands.RenameSchema: renames.rename_schema,
    commands.SetComment: comments.set_comment,
    commands.CreateTable: tables.create_table,
    commands.DropTable: tables.drop_table,
    commands.AttachPart: tables.attach_part,
    commands.DetachPart: tables.detach_part,
    commands.PrepareRecut: tables.prepare_recut,
    commands.FinishRecut: tables.finish_recut,
    commands.AbortRecut: tables.abort_recut,
    commands.ReserveIds: definitions.reserve_ids,
    commands.StageDefinitions: definitions.stage_definitions,
    commands.CommitDefinitions: definitions.commit_definitions,
    commands.AbortDefinitions: definitions.abort_definitions,
    commands.RenameTable: columns.rename_table,
    commands.RenameColumn: columns.rename_column,
    commands.AddColumn: columns.add_column,
    commands.DropColumn: columns.drop_column,
    commands.SetColumnDefault: columns.set_column_default,
    commands.SetColumnNotNull: columns.set_column_not_null,
    commands.SetAccessMethod: columns.set_access_method,
    commands.AlterColumnType: constraints.alter_column_type,
    commands.SetColumnOrigin: constraints.set_column_origin,
    commands.AddCheck: constraints.add_check,
    commands.ValidateConstraint: constraints.validate_constraint,
    commands.AddUnique: constraints.add_unique,
    commands.DropConstraint: constraints.drop_constraint,
    commands.RenameConstraint: constraints.rename_constraint,
    commands.CreateView: schemas.create_view,
    commands.DropView: schemas.drop_view,
    commands.CreateSequence: sequences.create_sequence,
    commands.AlterSequence: sequences.alter_sequence,
    commands.RenameSequence: sequences.rename_sequence,
    commands.DropSequence: sequences.drop_sequence,
    commands.AddForeignKey: foreign_keys.add_foreign_key,
    commands.DropForeignKey: foreign_keys.drop_foreign_key,
    commands.CreateIndex: indexes.create_index,
    commands.FinishIndex: indexes.finish_index,
    commands.DropIndex: indexes.drop_index,
    commands.RenameIndex: indexes.rename_index,
    commands.SetStatistics: nodes.set_statistics,
    commands.SetClusterSetting: nodes.set_cluster_setting,
}


class CatalogStateMachine:
    """`CatalogState` as a Raft group's state machine, with callbacks for those who follow it.

    It lives in memory; `cluster.raft.state_machine.DurableSnapshots` gives it a file.
    `on_applied` is called after every batch that made a new version or raised the ceiling.
    """

    def __init__(self, on_applied: Callable[[], None] = lambda: None) -> None:
        self.state = CatalogState()
        self._applied_index = 0
        self._on_applied = on_applied

    @property
    def applied_index(self) -> int:
        return self._applied_index

    @property
    def durable_index(self) -> int:
        return 0

    async def apply(self, entries: Sequence[Entry]) -> list[object]:
        """One outcome an entry: a CommandResult, a DqeError, or None for the core's own."""
        results = [self._apply_entry(entry) for entry in entries]
        self._on_applied()
        return results

    def _apply_entry(self, entry: Entry) -> object:
        assert entry.index == self._applied_index + 1, "catalog log applied out of order"
        self._applied_index = entry.index
        if entry.kind is not EntryKind.COMMAND:
            return None
        try:
            envelope = decode_envelope(entry.data)
        except msgspec.MsgspecError as error:
            # The same bytes on every node, so every node skips them alike.
            logger.error("catalog entry %d is no command: %s", entry.index, error)
            return ProtocolViolation("catalog command cannot be read", detail=str(error))
        return self.state.apply_envelope(envelope)

    def go_on_alone(self, lost: Sequence[int], ceiling: int) -> None:
        """Counts as an entry: an operator gave up the majority of this copy's group
        (`catalog.catalog_incarnations`)."""
        self.state.go_on_alone(lost, ceiling)
        self._applied_index += 1
        self._on_applied()

    async def snapshot(self) -> tuple[int, bytes]:
        return self._applied_index, self.state.encode()

    async def restore(self, index: int, data: bytes) -> None:
        self.state.replace_by(data)
        self._applied_index = index
        self._on_applied()
