"""What a client can ask, one dataclass a kind of statement.

The parser makes these; nothing in them is resolved against the catalog. Expressions and
queries inside are sqlglot trees that are **shared** (parsed texts are cached): whoever wants
to change one copies it first. Names are already folded as PostgreSQL folds them (lower case
unless quoted, 63 bytes). `position` counts characters of the whole query string from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from catalog.model import AccessMethod, Durability, PartitionMethod


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A possibly qualified name of a table, view, index, type..."""

    name: str
    schema: str | None = None
    position: int | None = None

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type as written: a folded name, its modifiers, and whether it is an array.

    Names of several words are joined by one space, `timestamp with time zone`.
    """

    name: str
    modifiers: tuple[int, ...] = ()
    array_dimensions: int = 0
    position: int | None = None


@dataclass(frozen=True, slots=True)
class SourceExpression:
    """An expression with the text it was read from, as the catalog keeps it."""

    tree: exp.Expr
    text: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`text` is the statement alone, `offset` where it starts in the query string.

    `notices` are what the parser has to tell, such as names cut to 63 bytes.
    """

    text: str
    offset: int
    notices: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------
# Queries and changes of rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Statement):
    """SELECT, VALUES, TABLE or WITH."""

    tree: exp.Query


@dataclass(frozen=True, slots=True)
class Assignment:
    """`columns = value` of SET; several columns take a row or a subquery.

    `value` None is the keyword DEFAULT (one column). A row is an `exp.Tuple`.
    """

    columns: tuple[str, ...]
    value: exp.Expr | None
    position: int


@dataclass(frozen=True, slots=True)
class OnConflict:
    """ON CONFLICT: the rows meant by `columns` or `constraint` (neither: by any constraint).

    `assignments` None is DO NOTHING. `where` is that of DO UPDATE.
    """

    columns: tuple[str, ...] | None
    constraint: str | None
    assignments: tuple[Assignment, ...] | None
    where: exp.Expr | None
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert(Statement):
    """`source` None is DEFAULT VALUES. In VALUES rows the keyword DEFAULT is `is_default`."""

    table: ObjectName
    alias: str | None
    columns: tuple[str, ...] | None
    source: exp.Query | None
    overriding: str | None  # "system" or "user"
    on_conflict: OnConflict | None
    returning: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Statement):
    """`source` is `SELECT 1 [FROM ...] [WHERE ...]` with the statement's WITH list, if any."""

    table: ObjectName
    alias: str | None
    assignments: tuple[Assignment, ...]
    source: exp.Select
    returning: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Statement):
    """`source` is `SELECT 1 [FROM <using>] [WHERE ...]` with the WITH list, if any."""

    table: ObjectName
    alias: str | None
    source: exp.Select
    returning: tuple[exp.Expr, ...]


class MergeState(StrEnum):
    """Which rows a WHEN clause is about."""

    MATCHED = "matched"
    NO_TARGET = "not matched by target"
    NO_SOURCE = "not matched by source"


class MergeAction(StrEnum):
    UPDATE = "update"
    DELETE = "delete"
    INSERT = "insert"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class MergeClause:
    """WHEN ... THEN ...; `assignments` are UPDATE's, the rest INSERT's (`values` None is
    DEFAULT VALUES)."""

    state: MergeState
    condition: exp.Expr | None
    action: MergeAction
    position: int
    assignments: tuple[Assignment, ...] = ()
    columns: tuple[str, ...] | None = None
    values: exp.Query | None = None
    overriding: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Statement):
    """`source` is `SELECT 1 FROM <using> WHERE <on>` with the statement's WITH list, if any."""

    table: ObjectName
    alias: str | None
    source: exp.Select
    clauses: tuple[MergeClause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Statement):
    """`restart_identity`: sequences of the tables' columns begin again."""

    tables: tuple[ObjectName, ...]
    restart_identity: bool = False


class CopyFormat(StrEnum):
    TEXT = "text"
    CSV = "csv"
    BINARY = "binary"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """COPY's options with the defaults of the format filled in (PostgreSQL manual, COPY).

    `header` is "no", "yes" or "match". `force_*` None is the option left out; ("*",) is all.
    """

    format: CopyFormat = CopyFormat.TEXT
    delimiter: str = "\t"
    null: str = "\\N"
    default: str | None = None
    header: str = "no"
    quote: str = '"'
    escape: str = '"'
    force_quote: tuple[str, ...] | None = None
    force_not_null: tuple[str, ...] | None = None
    force_null: tuple[str, ...] | None = None
    encoding: str = "utf8"
    freeze: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFrom(Statement):
    """COPY table FROM; `path` None is STDIN."""

    table: ObjectName
    columns: tuple[str, ...] | None
    path: str | None
    options: CopyOptions
    where: SourceExpression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTo(Statement):
    """COPY TO of a table (`table`) or a query (`query`); `path` None is STDOUT."""

    table: ObjectName | None
    columns: tuple[str, ...] | None
    query: exp.Query | None
    path: str | None
    options: CopyOptions


# ---------------------------------------------------------------------------------------
# Definitions


@dataclass(frozen=True, slots=True)
class PlacementClause:
    """WITH (region = ..., zone = ..., nodes = '1,2') of a table, part or group."""

    region: str | None = None
    zone: str | None = None
    nodes: tuple[int, ...] = ()


class BoundWord(StrEnum):
    MINVALUE = "minvalue"
    MAXVALUE = "maxvalue"


# A partition bound: a keyword or a constant expression.
BoundItem = BoundWord | SourceExpression


@dataclass(frozen=True, slots=True)
class PartClause:
    """One part: FROM/TO of a range, the values of a list, WITH (modulus, remainder), or DEFAULT."""

    name: str
    position: int
    range_low: tuple[BoundItem, ...] | None = None
    range_high: tuple[BoundItem, ...] | None = None
    list_values: tuple[SourceExpression, ...] | None = None
    modulus: int | None = None
    remainder: int | None = None
    is_default: bool = False
    placement: PlacementClause | None = None


@dataclass(frozen=True, slots=True)
class PartitionClause:
    """PARTITION BY method (columns) [PARTITIONS n | (parts)]."""

    method: PartitionMethod
    columns: tuple[str, ...]
    position: int
    part_count: int | None = None
    parts: tuple[PartClause, ...] | None = None


@dataclass(frozen=True, slots=True)
class GroupClause:
    """One of COLUMN GROUPS (...)."""

    name: str
    columns: tuple[str, ...]
    position: int
    placement: PlacementClause | None = None


@dataclass(frozen=True, slots=True)
class StorageClauses:
    """The clauses behind the column list; None is a clause left out."""

    partition: PartitionClause | None = None
    groups: tuple[GroupClause, ...] | None = None
    colocate_with: ObjectName | None = None
    replicated: bool = False
    access_method: AccessMethod | None = None
    replicas: int | None = None
    durability: Durability | None = None
    placement: PlacementClause | None = None


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """What CREATE or ALTER SEQUENCE says; None is not said, `NO_LIMIT` is NO MINVALUE or NO
    MAXVALUE. `restart` is True without a number. `owner` is a table and a column; `disowned`
    is OWNED BY NONE."""

    type: TypeName | None = None
    start: int | None = None
    increment: int | None = None
    minimum: int | str | None = None
    maximum: int | str | None = None
    cycle: bool | None = None
    cache: int | None = None
    restart: int | bool | None = None
    owner: tuple[ObjectName, str] | None = None
    disowned: bool = False


NO_LIMIT = "no limit"


@dataclass(frozen=True, slots=True)
class ColumnClause:
    """A column of CREATE TABLE with its own constraints taken apart.

    `identity` is "always" or "by default", and `sequence` what it says of its sequence;
    `generated` the expression of GENERATED ALWAYS AS (...) STORED.
    """

    name: str
    type: TypeName
    position: int
    not_null: bool = False
    null: bool = False
    default: SourceExpression | None = None
    identity: str | None = None
    sequence: SequenceOptions | None = None
    generated: SourceExpression | None = None


class ConstraintKind(StrEnum):
    PRIMARY_KEY = "primary key"
    UNIQUE = "unique"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class ConstraintClause:
    """A constraint of the table, or of a column with `columns` of that one."""

    kind: ConstraintKind
    position: int
    name: str | None = None
    columns: tuple[str, ...] = ()
    check: SourceExpression | None = None


@dataclass(frozen=True, slots=True)
class LikeClause:
    """LIKE source with what INCLUDING and EXCLUDING came to."""

    source: ObjectName
    position: int
    defaults: bool = False
    constraints: bool = False
    indexes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable(Statement):
    """`elements` keeps the order of columns and LIKE clauses."""

    table: ObjectName
    if_not_exists: bool
    elements: tuple[ColumnClause | LikeClause, ...]
    constraints: tuple[ConstraintClause, ...]
    clauses: StorageClauses
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTableAs(Statement):
    table: ObjectName
    if_not_exists: bool
    columns: tuple[str, ...] | None
    query: exp.Query
    with_data: bool
    clauses: StorageClauses
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePartition(Statement):
    """CREATE TABLE part PARTITION OF parent FOR VALUES ... | DEFAULT."""

    table: ObjectName
    if_not_exists: bool
    parent: ObjectName
    part: PartClause


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable(Statement):
    tables: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True)
class RenameTable:
    new_name: str


@dataclass(frozen=True, slots=True)
class RenameColumn:
    column: str
    new_name: str


@dataclass(frozen=True, slots=True)
class RenameConstraint:
    constraint: str
    new_name: str


@dataclass(frozen=True, slots=True)
class SetTableSchema:
    schema: str


@dataclass(frozen=True, slots=True)
class AddColumn:
    column: ColumnClause
    constraints: tuple[ConstraintClause, ...]
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class DropColumn:
    column: str
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True)
class SetDefault:
    """`default` None drops it."""

    column: str
    default: SourceExpression | None


@dataclass(frozen=True, slots=True)
class SetNotNull:
    column: str
    not_null: bool


@dataclass(frozen=True, slots=True)
class SetAccessMethod:
    """`method` None for DEFAULT."""

    method: AccessMethod | None


@dataclass(frozen=True, slots=True)
class AddConstraint:
    constraint: ConstraintClause


@dataclass(frozen=True, slots=True)
class DropConstraint:
    constraint: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class SetStorage:
    """SET (replicas = ..., durability = ...)."""

    clauses: StorageClauses


AlterAction = (
    RenameTable
    | RenameColumn
    | RenameConstraint
    | SetTableSchema
    | SetAccessMethod
    | AddColumn
    | DropColumn
    | SetDefault
    | SetNotNull
    | AddConstraint
    | DropConstraint
    | SetStorage
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTable(Statement):
    table: ObjectName
    if_exists: bool
    actions: tuple[AlterAction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSchema(Statement):
    name: str
    if_not_exists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSchema(Statement):
    names: tuple[str, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateView(Statement):
    view: ObjectName
    columns: tuple[str, ...] | None
    query: exp.Query
    query_text: str
    or_replace: bool
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSequence(Statement):
    sequence: ObjectName
    options: SequenceOptions
    if_not_exists: bool
    temporary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterSequence(Statement):
    """`new_name` is that of RENAME TO; the options are then empty."""

    sequence: ObjectName
    options: SequenceOptions
    if_exists: bool
    new_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSequence(Statement):
    sequences: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropView(Statement):
    views: tuple[ObjectName, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex(Statement):
    """There are no indexes: names one that does not exist, unless IF EXISTS lets that pass."""

    indexes: tuple[ObjectName, ...]
    if_exists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribute(Statement):
    """`SELECT create_distributed_table('t', 'c', ...)` or `create_reference_table('t')`.

    `column` None makes a reference table, which lies whole on every node.
    """

    function: str
    table: ObjectName
    column: str | None = None
    part_count: int | None = None
    colocate_with: ObjectName | None = None
    colocate_none: bool = False


# ---------------------------------------------------------------------------------------
# Session and utility


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyze(Statement):
    """`tables` empty is every table; a table's columns are None for all."""

    tables: tuple[tuple[ObjectName, tuple[str, ...] | None], ...]
    verbose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacuum(Statement):
    """There is nothing to do by hand; `analyze` asks for statistics as ANALYZE does."""

    tables: tuple[tuple[ObjectName, tuple[str, ...] | None], ...]
    analyze: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Statement):
    statement: Statement
    analyze: bool = False
    verbose: bool = False
    costs: bool = True
    timing: bool = True
    summary: bool | None = None
    format: str = "text"  # or "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVariable(Statement):
    """SET; `value` None is DEFAULT. A list of values is joined with ", "."""

    name: str
    value: str | None
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Statement):
    """`name` "all" shows every setting."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Statement):
    """`name` "all" resets every setting."""

    name: str


@dataclass(frozen=True, slots=True)
class TransactionModes:
    isolation: str | None = None  # "read committed", ...
    read_only: bool | None = None
    deferrable: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Statement):
    """BEGIN or START TRANSACTION; `tag` is which."""

    modes: TransactionModes
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTransaction(Statement):
    """SET TRANSACTION, or (`session`) SET SESSION CHARACTERISTICS AS TRANSACTION."""

    modes: TransactionModes
    session: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTable(Statement):
    """LOCK TABLE; `mode` is one of PostgreSQL's eight, in small letters."""

    tables: tuple[ObjectName, ...]
    mode: str
    nowait: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Statement):
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Statement):
    chain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Savepoint(Statement):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSavepoint(Statement):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackToSavepoint(Statement):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare(Statement):
    """SQL's PREPARE name [(types)] AS statement."""

    name: str
    types: tuple[TypeName, ...]
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Statement):
    name: str
    arguments: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deallocate(Statement):
    """`name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declare(Statement):
    """DECLARE name CURSOR FOR query; `scroll` is whether it must go back, None if not said."""

    name: str
    query: Query
    hold: bool
    binary: bool
    scroll: bool | None = None


class FetchDirection(StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"
    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Statement):
    """FETCH or (`move`) MOVE; `count` None is ALL.

    The count goes FORWARD (backward where it is negative), or says where ABSOLUTE or RELATIVE
    a single row is.
    """

    cursor: str
    direction: FetchDirection
    count: int | None
    move: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCursor(Statement):
    """`name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(Statement):
    what: str  # "ALL", "PLANS", "SEQUENCES", "TEMP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisten(Statement):
    """Nothing can be listened to, so there is nothing to end; connection pools ask for it."""


def is_default(node: exp.Expr | None) -> bool:
    """Whether a value of a VALUES row is the keyword DEFAULT."""
    return isinstance(node, exp.Var) and node.name.upper() == "DEFAULT"
