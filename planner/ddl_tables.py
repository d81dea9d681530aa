"""CREATE TABLE in its forms: from clauses to a `TableDefinition`.

What can be checked without cutting the table is checked here (types, defaults, CHECKs,
constraints that contradict each other); the rest, from duplicate columns to overlapping parts,
by the catalog, whose answer is the same on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from catalog import commands
from catalog.definition import (
    CheckDefinition,
    ColumnDefinition,
    ForeignKeyDefinition,
    GroupDefinition,
    PartDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.model import (
    Bound,
    BoundKind,
    ColumnId,
    PartitionMethod,
    Placement,
    Table,
    UniqueConstraint,
)
from catalog.system_tables.objects import relation_oid
from cluster.errors import (
    FeatureNotSupported,
    IndeterminateDatatype,
    InvalidObjectDefinition,
    InvalidParameterValue,
    InvalidTableDefinition,
    SyntaxError_,
)
from planner.binder import bind_query, bind_scalar
from planner.context import PlannerContext
from planner.ddl_keys import foreign_key_definition
from planner.ddl_names import creation_schema, find_table, placement_of
from planner.ddl_plan import ChangeCatalog, CreateAndFill
from planner.ddl_sequences import sequence_definition
from planner.ddl_types import column_type
from planner.optimizer import plan_query
from planner.parser.expressions import parse_expression
from planner.parser.tokens import fold
from planner.statements import (
    BoundWord,
    ColumnClause,
    ConstraintClause,
    ConstraintKind,
    CreatePartition,
    CreateTable,
    CreateTableAs,
    LikeClause,
    PartClause,
    SequenceOptions,
    SourceExpression,
    StorageClauses,
)
from planner.temporary import temporary_schema
from storage.types import TEXT, Kind, SqlType


@dataclass(slots=True)
class _Draft:
    """A definition while it is collected."""

    columns: list[ColumnDefinition] = field(default_factory=list)
    primary_key: UniqueDefinition | None = None
    unique: list[UniqueDefinition] = field(default_factory=list)
    checks: list[CheckDefinition] = field(default_factory=list)
    foreign_keys: list[ForeignKeyDefinition] = field(default_factory=list)


def plan_create_table(statement: CreateTable, context: PlannerContext) -> ChangeCatalog:
    """CREATE TABLE (...)."""
    schema = creation_schema(context, statement.table, temporary=statement.temporary)
    draft = _Draft()
    for element in statement.elements:
        if isinstance(element, LikeClause):
            _copy_definition(draft, element, context)
        else:
            draft.columns.append(column_definition(element, context))
    for constraint in statement.constraints:
        if constraint.kind is ConstraintKind.FOREIGN_KEY:
            own = (schema, statement.table.name)
            draft.foreign_keys.append(foreign_key_definition(constraint, context, own))
        else:
            _add_constraint(draft, statement.table.name, constraint, context)
    check_generated(draft.columns, statement.table.name, context)
    definition = TableDefinition(
        schema,
        statement.table.name,
        tuple(draft.columns),
        draft.primary_key,
        tuple(draft.unique),
        tuple(draft.checks),
        _scheme(schema, statement.clauses, context),
        statement.clauses.access_method,
        tuple(draft.foreign_keys),
    )
    command = commands.CreateTable(definition, statement.if_not_exists)
    return ChangeCatalog((command,), "CREATE TABLE", statement.notices)


def plan_create_table_as(statement: CreateTableAs, context: PlannerContext) -> CreateAndFill:
    """CREATE TABLE AS: columns are the query's."""
    schema = creation_schema(context, statement.table, temporary=statement.temporary)
    bound = bind_query(statement.query, context)
    names = [column.name for column in bound.columns]
    if statement.columns is not None:
        if len(statement.columns) > len(names):
            raise SyntaxError_("too many column names were specified")
        names[: len(statement.columns)] = statement.columns
    columns = tuple(
        ColumnDefinition(name, _result_type(name, column.type))
        for name, column in zip(names, bound.columns, strict=True)
    )
    definition = TableDefinition(
        schema,
        statement.table.name,
        columns,
        scheme=_scheme(schema, statement.clauses, context),
        access_method=statement.clauses.access_method,
    )
    command = commands.CreateTable(definition, statement.if_not_exists)
    source = plan_query(bound, context) if statement.with_data else None
    return CreateAndFill(command, source, "CREATE TABLE AS", statement.notices)


def _result_type(name: str, found: SqlType) -> SqlType:
    if found.kind is Kind.UNKNOWN:
        return TEXT
    if found.kind in (Kind.ANY, Kind.RECORD, Kind.VOID):
        raise IndeterminateDatatype(
            f'the type of column "{name}" cannot be told from the query',
            hint="Cast it to the type that the column is to have.",
        )
    return found


def plan_create_partition(statement: CreatePartition, context: PlannerContext) -> ChangeCatalog:
    """CREATE TABLE p PARTITION OF t."""
    parent = find_table(context, statement.parent)
    if statement.table.schema not in (None, parent.schema):
        raise FeatureNotSupported(
            "a partition lies in the schema of its table", position=statement.table.position
        )
    command = commands.AttachPart(
        parent.id, part_definition(statement.part), statement.if_not_exists
    )
    return ChangeCatalog((command,), "CREATE TABLE", statement.notices)


# ---------------------------------------------------------------------------------------
# Columns and constraints


def column_definition(clause: ColumnClause, context: PlannerContext) -> ColumnDefinition:
    """A column with its type known and its default checked."""
    if clause.null and clause.not_null:
        raise SyntaxError_(
            f'conflicting NULL/NOT NULL declarations for column "{clause.name}"',
            position=clause.position,
        )
    if clause.type.name in _SERIAL:
        clause = _serial(clause)
    found = column_type(clause.type, clause.name)
    _check_origins(clause, found)
    default = None
    if clause.default is not None:
        default = default_text(clause.default, found, context)
    sequence = None
    if clause.sequence is not None:
        sequence = sequence_definition(clause.sequence, found)
    generated = None if clause.generated is None else clause.generated.text
    return ColumnDefinition(
        clause.name, found, clause.not_null, default, sequence, clause.identity, generated
    )


_SERIAL = {
    "serial": "integer", "serial4": "integer", "bigserial": "bigint", "serial8": "bigint",
    "smallserial": "smallint", "serial2": "smallint",
}  # fmt: skip


def _serial(clause: ColumnClause) -> ColumnClause:
    """A serial column: an integer that a sequence of its own gives values to."""
    if clause.default is not None:
        raise SyntaxError_(
            f'multiple default values specified for column "{clause.name}"',
            position=clause.position,
        )
    if clause.null:
        raise SyntaxError_(
            f'conflicting NULL/NOT NULL declarations for column "{clause.name}"',
            position=clause.position,
        )
    integer = replace(clause.type, name=_SERIAL[clause.type.name])
    return replace(clause, type=integer, not_null=True, sequence=SequenceOptions())


def _check_origins(clause: ColumnClause, found: SqlType) -> None:
    """A value comes from one place, and identity columns are integers."""
    given = [
        word
        for word, present in (
            ("default", clause.default is not None),
            ("identity", clause.identity is not None),
            ("generation expression", clause.generated is not None),
        )
        if present
    ]
    if len(given) > 1:
        raise SyntaxError_(
            f'both {given[0]} and {given[1]} specified for column "{clause.name}"',
            position=clause.position,
        )
    if clause.identity is not None and found.kind not in (Kind.INT2, Kind.INT4, Kind.INT8):
        raise InvalidParameterValue("identity column type must be smallint, integer, or bigint")


def check_generated(
    columns: Sequence[ColumnDefinition], table_name: str, context: PlannerContext
) -> None:
    """Generation expressions bind over the other columns, and give the same every time."""
    plain = [(c.name, c.type) for c in columns if c.generated is None]
    made = {c.name for c in columns if c.generated is not None}
    for column in columns:
        if column.generated is None:
            continue
        tree = parse_expression(column.generated).copy()
        if tree.find(exp.Query):
            raise FeatureNotSupported("cannot use subquery in column generation expression")
        for name in columns_read(tree, table_name):
            if name in made:
                raise InvalidObjectDefinition(
                    f'cannot use generated column "{name}" in column generation expression',
                    detail="A generated column cannot reference another generated column.",
                )
        bound = bind_scalar(tree, plain, context, expected=column.type)
        if any(n._meta and n._meta.get("volatile") for n in bound.walk()) or _reads_clock(tree):
            raise InvalidObjectDefinition("generation expression is not immutable")


_CLOCKS = ("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday")


def _reads_clock(tree: exp.Expr) -> bool:
    clocks = (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentUser)
    return tree.find(*clocks) is not None or any(
        call.name.lower() in _CLOCKS for call in tree.find_all(exp.Anonymous)
    )


def default_text(default: SourceExpression, column: SqlType, context: PlannerContext) -> str | None:
    """The default's text once it is known to fit the column; None for DEFAULT NULL."""
    if isinstance(default.tree, exp.Null):
        return None
    if default.tree.find(exp.Query):
        raise FeatureNotSupported(
            "cannot use subquery in DEFAULT expression", position=default.position
        )
    if default.tree.find(exp.Column):
        raise FeatureNotSupported(
            "cannot use column reference in DEFAULT expression", position=default.position
        )
    bind_query(exp.Select(expressions=[default.tree.copy()]), context, expected=[column])
    return default.text


def _add_constraint(
    draft: _Draft, table_name: str, clause: ConstraintClause, context: PlannerContext
) -> None:
    if clause.kind is ConstraintKind.PRIMARY_KEY:
        if draft.primary_key is not None:
            raise InvalidTableDefinition(
                f'multiple primary keys for table "{table_name}" are not allowed',
                position=clause.position,
            )
        draft.primary_key = key_definition(clause)
    elif clause.kind is ConstraintKind.UNIQUE:
        draft.unique.append(key_definition(clause))
    else:
        draft.checks.append(check_definition(table_name, draft.columns, clause, context))


def key_definition(clause: ConstraintClause) -> UniqueDefinition:
    """A primary key or unique constraint."""
    return UniqueDefinition(clause.columns, clause.name, clause.deferrable, clause.deferred)


def check_definition(
    table_name: str,
    columns: Sequence[ColumnDefinition],
    clause: ConstraintClause,
    context: PlannerContext,
) -> CheckDefinition:
    """A CHECK once it is known to bind over the table's columns."""
    assert clause.check is not None
    tree = clause.check.tree.copy()
    if tree.find(exp.Query):
        raise FeatureNotSupported(
            "cannot use subquery in check constraint", position=clause.check.position
        )
    used = columns_read(tree, table_name)
    bind_scalar(tree, [(c.name, c.type) for c in columns], context)
    names = clause.columns or used
    return CheckDefinition(clause.check.text, clause.name, tuple(names))


def columns_read(tree: exp.Expr, table_name: str) -> tuple[str, ...]:
    """The columns an expression names, in order, with qualifications by its table taken off."""
    names: list[str] = []
    for column in tree.find_all(exp.Column):
        qualifier = column.args.get("table")
        if qualifier is not None and folded_name(qualifier) == table_name:
            column.set("table", None)
        name = folded_name(column.this)
        if name not in names:
            names.append(name)
    return tuple(names)


def folded_name(identifier: exp.Expr) -> str:
    """The name an identifier of a tree means."""
    return identifier.name if identifier.args.get("quoted") else fold(identifier.name)


def _copy_definition(draft: _Draft, like: LikeClause, context: PlannerContext) -> None:
    source = find_table(context, like.source)
    for column in source.visible_columns:
        default = column.default if like.defaults else None
        if like.defaults and column.sequence is not None and column.identity is None:
            default = f"nextval('{relation_oid(column.sequence)}')"
        not_null = column.not_null
        draft.columns.append(ColumnDefinition(column.name, column.type, not_null, default))
    if like.constraints:
        draft.checks.extend(CheckDefinition(c.expression, c.name) for c in source.checks)
    if like.indexes:
        if source.primary_key is not None:
            draft.primary_key = _like(source, source.primary_key)
        draft.unique.extend(_like(source, unique) for unique in source.unique)


def _like(source: Table, key: UniqueConstraint) -> UniqueDefinition:
    return UniqueDefinition(
        _names(source, key.columns), deferrable=key.deferrable, deferred=key.deferred
    )


def _names(table: Table, columns: Iterable[ColumnId]) -> tuple[str, ...]:
    return tuple(table.column(column_id).name for column_id in columns)


# ---------------------------------------------------------------------------------------
# How it is cut


def _scheme(schema: str, clauses: StorageClauses, context: PlannerContext) -> SchemeDefinition:
    """The clauses' scheme; a temporary table lies on the session's node if nothing is said."""
    if schema == temporary_schema(context) and clauses == StorageClauses():
        return SchemeDefinition(
            part_count=1, replicas=1, placement=Placement(nodes=(context.node_id,))
        )
    return scheme_definition(clauses, context)


def scheme_definition(clauses: StorageClauses, context: PlannerContext) -> SchemeDefinition:
    """The scheme the clauses describe."""
    partition = clauses.partition
    if clauses.replicated and partition is not None:
        raise InvalidTableDefinition(
            "a REPLICATED table cannot be partitioned", position=partition.position
        )
    colocate_with = None
    if clauses.colocate_with is not None:
        host = find_table(context, clauses.colocate_with)
        colocate_with = (host.schema, host.name)
    method = PartitionMethod.REPLICATED if clauses.replicated else None
    return SchemeDefinition(
        method=partition.method if partition else method,
        columns=partition.columns if partition else (),
        part_count=partition.part_count if partition else None,
        parts=tuple(part_definition(p) for p in (partition.parts or ())) if partition else (),
        groups=tuple(
            GroupDefinition(g.name, g.columns, placement_of(g.placement))
            for g in clauses.groups or ()
        ),
        colocate_with=colocate_with,
        replicas=clauses.replicas,
        durability=clauses.durability,
        placement=placement_of(clauses.placement),
    )


def part_definition(part: PartClause) -> PartDefinition:
    """A part with its bounds as texts."""
    return PartDefinition(
        part.name,
        low=tuple(_bound(item) for item in part.range_low or ()),
        high=tuple(_bound(item) for item in part.range_high or ()),
        values=tuple(constant_text(value) for value in part.list_values or ()),
        is_default=part.is_default,
        modulus=part.modulus,
        remainder=part.remainder,
        placement=placement_of(part.placement),
    )


def _bound(item: BoundWord | SourceExpression) -> Bound:
    if isinstance(item, BoundWord):
        return Bound(BoundKind(item.value))
    text = constant_text(item)
    if text is None:
        raise InvalidObjectDefinition("cannot specify NULL in range bound", position=item.position)
    return Bound(BoundKind.VALUE, text)


def constant_text(source: SourceExpression) -> str | None:
    """The text of a constant, None for NULL; a cast or a typed literal is its literal."""
    node: exp.Expr = source.tree
    sign = ""
    while True:
        if isinstance(node, exp.Paren | exp.Cast):
            node = node.this
        elif isinstance(node, exp.Neg) and not sign:
            sign, node = "-", node.this
        else:
            break
    if isinstance(node, exp.Null) and not sign:
        return None
    if isinstance(node, exp.Literal) and not (sign and node.is_string):
        return sign + node.name
    if isinstance(node, exp.Boolean) and not sign:
        return "true" if node.this else "false"
    raise FeatureNotSupported(
        "partition bounds must be constants",
        hint="Write the value out as a literal.",
        position=source.position,
    )
