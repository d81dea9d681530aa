"""The commands that change the catalog: one msgspec struct each, tagged by its class name.

A command is what the catalog tablet's log holds. Its outcome is a `CommandResult` or a
`DqeError`, the same on every node. Names are already resolved to a schema; ids are those of
the catalog copy the statement was planned with, and a command whose object has vanished since
fails as PostgreSQL would.
"""

from __future__ import annotations

import msgspec

from catalog.definition import (
    CheckDefinition,
    ColumnDefinition,
    ForeignKeyDefinition,
    IndexDefinition,
    PartDefinition,
    SchemeDefinition,
    SequenceDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.model import (
    AccessMethod,
    ColumnId,
    Durability,
    NodeId,
    NodeState,
    Placement,
    Sequence,
    Table,
    TableId,
    TableStatistics,
    Tablet,
    TabletId,
)
from catalog.patches import Patch
from storage.types import SqlType


class Command(msgspec.Struct, frozen=True, tag=True):
    """Root of all commands."""


class CreateCluster(Command, frozen=True):
    """The first entry of every cluster's log: its identity and its first node."""

    cluster_id: str
    rpc_address: str
    pg_address: str
    region: str | None = None
    zone: str | None = None


class AddNode(Command, frozen=True):
    """A new member. The result's `node_id` is its id; replicated tables get a replica there."""

    rpc_address: str
    pg_address: str
    region: str | None = None
    zone: str | None = None


class SetNodeAddresses(Command, frozen=True):
    """A member came back, perhaps elsewhere. A dead one is active again."""

    node_id: NodeId
    rpc_address: str
    pg_address: str
    region: str | None = None
    zone: str | None = None


class SetNodeState(Command, frozen=True):
    node_id: NodeId
    state: NodeState


class ForgetNode(Command, frozen=True):
    """Takes out a node that was decommissioned and holds nothing any more."""

    node_id: NodeId


class MoveReplicas(Command, frozen=True):
    """Where a tablet's replicas are to be, the preferred leader first, the voters before others.

    `before` are its `replicas` as the proposer saw them: if they are others by now, 40001. New
    ones must be on active nodes that the tablet's placement allows (22023).
    """

    tablet_id: TabletId
    before: tuple[NodeId, ...]
    replicas: tuple[NodeId, ...]
    voters: int


class ConfirmReplicas(Command, frozen=True):
    """The leader's word: these follow now as they should, and the group has let these go."""

    tablet_id: TabletId
    joined: tuple[NodeId, ...]
    left: tuple[NodeId, ...]


class RecoverTablet(Command, frozen=True):
    """The operator's word: go on with one replica, though its group's majority is lost.

    The tablet begins another incarnation on `survivor`; all others are dropped. Commits at or
    above `loss_timestamp` may be lost.
    """

    tablet_id: TabletId
    survivor: NodeId
    loss_timestamp: int


class SetTableDurability(Command, frozen=True):
    """When a commit counts as safe (rule G5); holds for co-located tables, too."""

    table_id: TableId
    durability: Durability


class SetTablePlacement(Command, frozen=True):
    """Where a table's replicas may lie from now on; parts and groups keep their own wishes."""

    table_id: TableId
    placement: Placement | None


class SetTableReplicas(Command, frozen=True):
    """How many replicas a table, and all that share its tablets, are to have from now on.

    `by_default`: nobody asked for it.
    """

    table_id: TableId
    replicas: int
    by_default: bool = False


class CreateSchema(Command, frozen=True):
    name: str
    if_not_exists: bool = False


class RenameSchema(Command, frozen=True):
    """With all that is in it."""

    name: str
    new_name: str


class SetComment(Command, frozen=True):
    """Of a table, view or sequence, or of a table's column; None takes it away."""

    object_id: TableId
    column: str | None
    text: str | None


class DropSchema(Command, frozen=True):
    name: str
    if_exists: bool = False
    cascade: bool = False


class CreateTable(Command, frozen=True):
    definition: TableDefinition
    if_not_exists: bool = False


class DropTable(Command, frozen=True):
    """Drops all of `names` (schema, name) or none; `cascade` takes dependent views along."""

    names: tuple[tuple[str, str], ...]
    if_exists: bool = False
    cascade: bool = False


class AttachPart(Command, frozen=True):
    """CREATE TABLE p PARTITION OF t FOR VALUES ..."""

    table_id: TableId
    part: PartDefinition
    if_not_exists: bool = False


class DetachPart(Command, frozen=True):
    """Drops a part with its rows."""

    table_id: TableId
    part_name: str


class RenameTable(Command, frozen=True):
    """Also moves it to another schema, and renames views."""

    schema: str
    name: str
    new_schema: str
    new_name: str


class RenameColumn(Command, frozen=True):
    """`new_checks` are the table's CHECK texts over the new name, in their order."""

    table_id: TableId
    name: str
    new_name: str
    new_checks: tuple[str, ...] | None = None


class AddColumn(Command, frozen=True):
    """A column at the end, in the group named (the first when None).

    Prepares a re-cut: whoever drafts it finishes it, and moves the rows.
    """

    table_id: TableId
    column: ColumnDefinition
    group: str | None = None
    if_not_exists: bool = False


class DropColumn(Command, frozen=True):
    """`drop_checks` are the names of the CHECK constraints that read the column.

    Prepares a re-cut: whoever drafts it finishes it, and moves the rows.
    """

    table_id: TableId
    name: str
    if_exists: bool = False
    drop_checks: tuple[str, ...] = ()


class SetColumnDefault(Command, frozen=True):
    table_id: TableId
    name: str
    default: str | None


class SetColumnNotNull(Command, frozen=True):
    """The executor has checked the rows before it sets `not_null`."""

    table_id: TableId
    name: str
    not_null: bool


class SetAccessMethod(Command, frozen=True):
    """Which stores keep the table's rows; the tablets move them (`storage.moves`). None for the
    cluster's default."""

    table_id: TableId
    method: AccessMethod | None


class AlterColumnType(Command, frozen=True):
    """Prepares a re-cut: the executor converts the rows."""

    table_id: TableId
    name: str
    new_type: SqlType


class SetColumnOrigin(Command, frozen=True):
    """Where a column's values come from: `identity` with a `sequence` makes it an identity column,
    without one changes which it is; None makes it none, or with `expression` not generated."""

    table_id: TableId
    name: str
    identity: str | None = None
    sequence: SequenceDefinition | None = None
    expression: bool = False
    if_exists: bool = False


class AddCheck(Command, frozen=True):
    """`validated`: the executor tests the rows."""

    table_id: TableId
    check: CheckDefinition
    validated: bool = True


class ValidateConstraint(Command, frozen=True):
    """The executor tests the rows."""

    table_id: TableId
    name: str


class AddUnique(Command, frozen=True):
    """Prepares a re-cut: the new fragments check the constraint."""

    table_id: TableId
    unique: UniqueDefinition


class DropConstraint(Command, frozen=True):
    """Of a key it prepares a re-cut. `cascade` takes foreign keys that refer to it along."""

    table_id: TableId
    name: str
    if_exists: bool = False
    cascade: bool = False


class RenameConstraint(Command, frozen=True):
    table_id: TableId
    name: str
    new_name: str


class PrepareRecut(Command, frozen=True):
    """Makes new, empty fragments for a table that is to be cut by another scheme.

    They are in `Catalog.recuts` of a draft, whose maker finishes it and moves the rows; nobody
    proposes it to the catalog itself. Preparing again drops the earlier attempt. `primary_key` is
    one for a table that has none: the hidden row id goes, the key's columns become NOT NULL.
    """

    table_id: TableId
    scheme: SchemeDefinition
    primary_key: UniqueDefinition | None = None


class FinishRecut(Command, frozen=True):
    """The prepared fragments become the table's; the former ones are dropped.

    `schema_version` is the one the rows were copied at: if the table changed since, 40001.
    """

    table_id: TableId
    schema_version: int


class AbortRecut(Command, frozen=True):
    """Drops what was prepared, by a version that did so in the catalog itself."""

    table_id: TableId


class ReserveIds(Command, frozen=True):
    """Sets ids aside for what a transaction drafts; the result's `first_id` is the first."""

    count: int


class StageDefinitions(Command, frozen=True):
    """Registers an open transaction that defines something, and makes what it needs of tablets
    and sequences before it commits. More may be staged by and by. See `changes.definitions`."""

    transaction_id: int
    node_id: NodeId
    tables: tuple[Table, ...] = ()
    tablets: tuple[Tablet, ...] = ()
    sequences: tuple[Sequence, ...] = ()


class CommitDefinitions(Command, frozen=True):
    """The decision of a transaction that defines something: from here on it is so.

    `participants` are tablets that have prepared to commit rows at `commit_ts` with it. 40001
    where what it changes is not what it was drafted against any more, or what was `staged` of it
    is not there any more.
    """

    transaction_id: int
    patch: Patch
    commit_ts: int = 0
    participants: tuple[TabletId, ...] = ()
    staged: bool = True


class AbortDefinitions(Command, frozen=True):
    """The transaction's definitions never were; it cannot commit from here on."""

    transaction_id: int


class CreateView(Command, frozen=True):
    schema: str
    name: str
    query: str
    columns: tuple[tuple[str, SqlType], ...]
    or_replace: bool = False
    # The tables and views the query reads: these cannot be dropped without CASCADE.
    depends_on: tuple[TableId, ...] = ()


class DropView(Command, frozen=True):
    names: tuple[tuple[str, str], ...]
    if_exists: bool = False
    cascade: bool = False


class CreateSequence(Command, frozen=True):
    """`owner` is the table and column that it goes with."""

    schema: str
    name: str
    definition: SequenceDefinition
    if_not_exists: bool = False
    owner: tuple[TableId, ColumnId] | None = None


class DropSequence(Command, frozen=True):
    names: tuple[tuple[str, str], ...]
    if_exists: bool = False
    cascade: bool = False


class AlterSequence(Command, frozen=True):
    """`restart` sets it back to this number. `owner` None leaves it; `disowned` takes it away."""

    sequence_id: TableId
    definition: SequenceDefinition
    restart: int | None = None
    owner: tuple[TableId, ColumnId] | None = None
    disowned: bool = False


class RenameSequence(Command, frozen=True):
    sequence_id: TableId
    name: str


class AdvanceSequence(Command, frozen=True):
    """The numbers before `next_number` are spoken for (rule S4); of an epoch gone by, nothing."""

    sequence_id: TableId
    epoch: int
    next_number: int


class AddForeignKey(Command, frozen=True):
    """The executor has checked the rows of both tables before, and keeps writers out."""

    table_id: TableId
    definition: ForeignKeyDefinition


class DropForeignKey(Command, frozen=True):
    table_id: TableId
    name: str


class CreateIndex(Command, frozen=True):
    """An index that is kept from now on. A unique one is not `ready` before `FinishIndex`."""

    table_id: TableId
    definition: IndexDefinition
    if_not_exists: bool = False


class FinishIndex(Command, frozen=True):
    """The executor has found that no rows contradict the unique index."""

    table_id: TableId
    index_id: TableId


class DropIndex(Command, frozen=True):
    """Drops all of `names` (schema, name) or none."""

    names: tuple[tuple[str, str], ...]
    if_exists: bool = False
    cascade: bool = False


class RenameIndex(Command, frozen=True):
    schema: str
    name: str
    new_name: str


class SetStatistics(Command, frozen=True):
    table_id: TableId
    statistics: TableStatistics


class SetClusterSetting(Command, frozen=True):
    """None takes the setting back to its default."""

    name: str
    value: str | None


class RaiseCeiling(Command, frozen=True):
    """The oracle's promise to stay below `ceiling` (rule T1); lower ones change nothing."""

    ceiling: int


class AdvanceHorizon(Command, frozen=True):
    """Nobody may read below `horizon` any more (rule L7); lower ones change nothing."""

    horizon: int


AnyCommand = (
    CreateCluster
    | AddNode
    | SetNodeAddresses
    | SetNodeState
    | ForgetNode
    | MoveReplicas
    | ConfirmReplicas
    | RecoverTablet
    | SetTableDurability
    | SetTablePlacement
    | SetTableReplicas
    | CreateSchema
    | DropSchema
    | CreateTable
    | DropTable
    | AttachPart
    | DetachPart
    | RenameTable
    | RenameColumn
    | AddColumn
    | DropColumn
    | SetColumnDefault
    | SetColumnNotNull
    | SetAccessMethod
    | AlterColumnType
    | SetColumnOrigin
    | AddCheck
    | ValidateConstraint
    | AddUnique
    | DropConstraint
    | RenameConstraint
    | PrepareRecut
    | FinishRecut
    | AbortRecut
    | ReserveIds
    | StageDefinitions
    | CommitDefinitions
    | AbortDefinitions
    | CreateView
    | DropView
    | SetStatistics
    | SetClusterSetting
    | RaiseCeiling
    | AdvanceHorizon
    | CreateSequence
    | DropSequence
    | AlterSequence
    | RenameSequence
    | AdvanceSequence
    | AddForeignKey
    | DropForeignKey
    | CreateIndex
    | FinishIndex
    | DropIndex
    | RenameIndex
    | RenameSchema
    | SetComment
)


class Envelope(msgspec.Struct, frozen=True):
    """A command with the id under which it is applied once, however often it is proposed.

    `avoided` are nodes that did not answer its proposer: new replicas go elsewhere if they can.
    `issued` is a timestamp that the oracle had handed out when it was proposed, 0 for none.
    """

    command_id: str
    command: AnyCommand
    avoided: tuple[NodeId, ...] = ()
    issued: int = 0


class CommandResult(msgspec.Struct, frozen=True):
    """What a command did.

    `version` is the catalog version from which it shows. `changed` is False where IF EXISTS or
    IF NOT EXISTS made it do nothing; `notices` are the words for that, as PostgreSQL's.
    `first_id` is the first of ids set aside, `commit_ts` what a transaction's definitions committed
    at.
    """

    version: int
    changed: bool = True
    notices: tuple[str, ...] = ()
    table_id: TableId | None = None
    node_id: NodeId | None = None
    first_id: int | None = None
    commit_ts: int = 0
