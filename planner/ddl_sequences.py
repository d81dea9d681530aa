"""CREATE, ALTER, DROP SEQUENCE, and the sequences of serial and identity columns."""

from __future__ import annotations

from catalog import commands
from catalog.definition import SequenceDefinition
from catalog.model import ColumnId, Sequence, TableId
from cluster.errors import (
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
    UndefinedColumn,
    UndefinedTable,
)
from planner.context import PlannerContext
from planner.ddl_names import creation_schema, drop_names, find_relation, find_table, search_path
from planner.ddl_plan import ChangeCatalog
from planner.ddl_types import sql_type
from planner.statements import (
    NO_LIMIT,
    AlterSequence,
    CreateSequence,
    DropSequence,
    ObjectName,
    SequenceOptions,
)
from planner.temporary import named_schema
from storage.types import INT8, Kind, SqlType

_LIMITS = {
    Kind.INT2: 2**15 - 1,
    Kind.INT4: 2**31 - 1,
    Kind.INT8: 2**63 - 1,
}


def plan_create_sequence(statement: CreateSequence, context: PlannerContext) -> ChangeCatalog:
    """CREATE SEQUENCE."""
    schema = creation_schema(context, statement.sequence, temporary=statement.temporary)
    options = statement.options
    command = commands.CreateSequence(
        schema,
        statement.sequence.name,
        sequence_definition(options, INT8),
        statement.if_not_exists,
        _owner(options, schema, context),
    )
    return ChangeCatalog((command,), "CREATE SEQUENCE", statement.notices)


def _owner(
    options: SequenceOptions, schema: str, context: PlannerContext
) -> tuple[TableId, ColumnId] | None:
    if options.owner is None:
        return None
    name, column = options.owner
    table = find_table(context, name)
    if table.schema != schema:
        raise ObjectNotInPrerequisiteState(
            "sequence must be in same schema as table it is linked to"
        )
    found = table.column_named(column)
    if found is None:
        raise UndefinedColumn(
            f'column "{column}" of relation "{table.name}" does not exist', position=name.position
        )
    return table.id, found.id


def sequence_definition(options: SequenceOptions, default_type: SqlType) -> SequenceDefinition:
    """What the options come to for a new sequence."""
    found = default_type if options.type is None else sql_type(options.type)
    if found.kind not in _LIMITS:
        raise InvalidParameterValue("sequence type must be smallint, integer, or bigint")
    increment = 1 if options.increment is None else options.increment
    largest = _LIMITS[found.kind]
    minimum, maximum = (1, largest) if increment > 0 else (-largest - 1, -1)
    if isinstance(options.minimum, int):
        minimum = options.minimum
    if isinstance(options.maximum, int):
        maximum = options.maximum
    start = minimum if increment > 0 else maximum
    definition = SequenceDefinition(
        found,
        start if options.start is None else options.start,
        increment,
        minimum,
        maximum,
        bool(options.cycle),
        1 if options.cache is None else options.cache,
    )
    _check(definition)
    return definition


def _check(definition: SequenceDefinition) -> None:
    """22023 in PostgreSQL's words."""
    largest = _LIMITS[definition.type.kind]
    if definition.increment == 0:
        raise InvalidParameterValue("INCREMENT must not be zero")
    for word, value in (("MINVALUE", definition.minimum), ("MAXVALUE", definition.maximum)):
        if not -largest - 1 <= value <= largest:
            raise InvalidParameterValue(
                f"{word} ({value}) is out of range for sequence data type {definition.type}"
            )
    if definition.minimum >= definition.maximum:
        raise InvalidParameterValue(
            f"MINVALUE ({definition.minimum}) must be less than MAXVALUE ({definition.maximum})"
        )
    _check_number("START", definition.start, definition)
    if definition.cache <= 0:
        raise InvalidParameterValue(f"CACHE ({definition.cache}) must be greater than zero")


def _check_number(word: str, value: int, definition: SequenceDefinition) -> None:
    if value < definition.minimum:
        raise InvalidParameterValue(
            f"{word} value ({value}) cannot be less than MINVALUE ({definition.minimum})"
        )
    if value > definition.maximum:
        raise InvalidParameterValue(
            f"{word} value ({value}) cannot be greater than MAXVALUE ({definition.maximum})"
        )


def plan_alter_sequence(statement: AlterSequence, context: PlannerContext) -> ChangeCatalog:
    """ALTER SEQUENCE."""
    sequence = find_sequence(context, statement.sequence)
    if sequence is None:
        if not statement.if_exists:
            raise UndefinedTable(
                f'relation "{statement.sequence.name}" does not exist',
                position=statement.sequence.position,
            )
        notice = f'relation "{statement.sequence.name}" does not exist, skipping'
        return ChangeCatalog((), "ALTER SEQUENCE", (*statement.notices, notice))
    command: commands.Command
    if statement.new_name is not None:
        command = commands.RenameSequence(sequence.id, statement.new_name)
    else:
        command = _altered(sequence, statement.options, context)
    return ChangeCatalog((command,), "ALTER SEQUENCE", statement.notices)


def _altered(
    sequence: Sequence, options: SequenceOptions, context: PlannerContext
) -> commands.AlterSequence:
    found = sequence.type if options.type is None else sql_type(options.type)
    increment = sequence.increment if options.increment is None else options.increment
    largest = _LIMITS.get(found.kind, 0)
    minimum, maximum = sequence.minimum, sequence.maximum
    before = _LIMITS[sequence.type.kind]
    if options.minimum == NO_LIMIT or (options.type is not None and minimum == -before - 1):
        minimum = 1 if increment > 0 else -largest - 1
    elif isinstance(options.minimum, int):
        minimum = options.minimum
    if options.maximum == NO_LIMIT or (options.type is not None and maximum == before):
        maximum = largest if increment > 0 else -1
    elif isinstance(options.maximum, int):
        maximum = options.maximum
    definition = SequenceDefinition(
        found,
        sequence.start if options.start is None else options.start,
        increment,
        minimum,
        maximum,
        sequence.cycle if options.cycle is None else options.cycle,
        sequence.cache if options.cache is None else options.cache,
    )
    _check(definition)
    restart = definition.start if options.restart is True else options.restart
    if restart is not None:
        _check_number("RESTART", restart, definition)
    owner = _owner(options, sequence.schema, context)
    return commands.AlterSequence(
        sequence.id, definition, restart, owner, disowned=options.disowned
    )


def restarted(sequence: Sequence, number: int | None = None) -> commands.AlterSequence:
    """The command that sets the sequence back to where it started, or to a number."""
    definition = SequenceDefinition(
        sequence.type,
        sequence.start,
        sequence.increment,
        sequence.minimum,
        sequence.maximum,
        sequence.cycle,
        sequence.cache,
    )
    return commands.AlterSequence(
        sequence.id, definition, sequence.start if number is None else number
    )


def find_sequence(context: PlannerContext, name: ObjectName) -> Sequence | None:
    """The sequence a name means, along the search path when it has no schema."""
    schemas = search_path(context)
    if name.schema is not None:
        schemas = (named_schema(context, name.schema),)
    for schema in schemas:
        found = context.catalog.find_sequence(name.name, schema)
        if found is not None:
            return found
    return None


def plan_drop_sequence(statement: DropSequence, context: PlannerContext) -> ChangeCatalog:
    """DROP SEQUENCE."""
    names: list[tuple[str, str]] = []
    for name in statement.sequences:
        found = find_sequence(context, name) or find_relation(context, name)
        names += [(found.schema, found.name)] if found else drop_names(context, [name])
    command = commands.DropSequence(tuple(names), statement.if_exists, statement.cascade)
    return ChangeCatalog((command,), "DROP SEQUENCE", statement.notices)
