"""ALTER TABLE, action by action."""

from __future__ import annotations

from cluster.errors import FeatureNotSupported, InvalidParameterValue
from planner.parser.builder import (
    names_in_parentheses,
    object_name,
    source,
    source_expression,
)
from planner.parser.clauses import access_method, table_options
from planner.parser.sequences import sequence_options
from planner.parser.tables import CONSTRAINT_STARTS, column_clause, refuse, table_constraint
from planner.parser.tokens import Cursor
from planner.parser.types import type_name
from planner.statements import (
    AddColumn,
    AddConstraint,
    AlterAction,
    AlterTable,
    AlterType,
    ConstraintKind,
    DropColumn,
    DropConstraint,
    DropOrigin,
    RenameColumn,
    RenameConstraint,
    RenameTable,
    ResetPlacement,
    SequenceOptions,
    SetAccessMethod,
    SetDefault,
    SetIdentity,
    SetNotNull,
    SetStorage,
    SetTableSchema,
    Statement,
    StorageClauses,
    ValidateConstraint,
)


def alter_table(cursor: Cursor, start: int) -> Statement:
    """Take ALTER TABLE from the word TABLE on."""
    cursor.expect("TABLE")
    if_exists = cursor.accept("IF", "EXISTS")
    cursor.accept("ONLY")
    table = object_name(cursor)
    cursor.accept("*")
    actions = _alter_actions(cursor)
    return AlterTable(**source(cursor, start), table=table, if_exists=if_exists, actions=actions)


def _alter_actions(cursor: Cursor) -> tuple[AlterAction, ...]:
    if cursor.accept("RENAME"):
        return (_rename(cursor),)
    if cursor.accept("SET", "SCHEMA"):
        return (SetTableSchema(cursor.name()),)
    actions = [_alter_action(cursor)]
    while cursor.accept(","):
        actions.append(_alter_action(cursor))
    return tuple(actions)


def _rename(cursor: Cursor) -> AlterAction:
    if cursor.accept("TO"):
        return RenameTable(cursor.name())
    if cursor.accept("CONSTRAINT"):
        constraint = cursor.name()
        cursor.expect("TO")
        return RenameConstraint(constraint, cursor.name())
    cursor.accept("COLUMN")
    column = cursor.name()
    cursor.expect("TO")
    return RenameColumn(column, cursor.name())


def _alter_action(cursor: Cursor) -> AlterAction:
    if cursor.accept("ADD"):
        return _add(cursor)
    if cursor.accept("DROP"):
        return _drop(cursor)
    if cursor.accept("ALTER"):
        cursor.accept("COLUMN")
        return _alter_column(cursor)
    if cursor.accept("VALIDATE", "CONSTRAINT"):
        return ValidateConstraint(cursor.name())
    if cursor.accept("SET"):
        if cursor.key == "(":
            return SetStorage(table_options(cursor, StorageClauses()))
        if cursor.accept("ACCESS", "METHOD"):
            return SetAccessMethod(None if cursor.accept("DEFAULT") else access_method(cursor))
        refuse(cursor, "this form of ALTER TABLE ... SET is not supported")
    if cursor.accept("RESET"):
        return _reset(cursor)
    if not cursor.at_word:
        cursor.fail()
    raise FeatureNotSupported(
        f"ALTER TABLE ... {cursor.key} is not supported", position=cursor.position
    )


def _reset(cursor: Cursor) -> ResetPlacement:
    position = cursor.position
    names = names_in_parentheses(cursor)
    for name in names:
        if name in ("replicas", "durability"):
            raise FeatureNotSupported(
                f'ALTER TABLE ... RESET of "{name}" is not supported',
                hint="SET it to what it is to be.",
                position=position,
            )
        if name not in ("region", "zone", "nodes"):
            raise InvalidParameterValue(f'unrecognized parameter "{name}"', position=position)
    return ResetPlacement(names)


def _add(cursor: Cursor) -> AlterAction:
    if cursor.key in CONSTRAINT_STARTS:
        return _add_constraint(cursor)
    cursor.accept("COLUMN")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    column, constraints = column_clause(cursor)
    return AddColumn(column, tuple(constraints), if_not_exists)


def _add_constraint(cursor: Cursor) -> AddConstraint:
    constraint = table_constraint(cursor)
    position = cursor.position
    if not cursor.accept("NOT", "VALID"):
        return AddConstraint(constraint)
    if constraint.kind not in (ConstraintKind.CHECK, ConstraintKind.FOREIGN_KEY):
        raise FeatureNotSupported(
            f"{constraint.kind.upper()} constraints cannot be marked NOT VALID",
            hint="Leave NOT VALID out: existing rows are checked.",
            position=position,
        )
    return AddConstraint(constraint, validated=False)


def _drop(cursor: Cursor) -> AlterAction:
    is_constraint = cursor.accept("CONSTRAINT")
    if not is_constraint:
        cursor.accept("COLUMN")
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.name()
    cascade = cursor.accept_any(("CASCADE", "RESTRICT")) == "CASCADE"
    if is_constraint:
        return DropConstraint(name, if_exists, cascade)
    return DropColumn(name, if_exists, cascade)


def _alter_column(cursor: Cursor) -> AlterAction:
    column = cursor.name()
    if cursor.accept("SET", "DEFAULT"):
        return SetDefault(column, source_expression(cursor))
    if cursor.accept("DROP", "DEFAULT"):
        return SetDefault(column, None)
    if cursor.accept("SET", "NOT", "NULL"):
        return SetNotNull(column, True)
    if cursor.accept("DROP", "NOT", "NULL"):
        return SetNotNull(column, False)
    if cursor.accept("TYPE") or cursor.accept("SET", "DATA", "TYPE"):
        return _alter_type(cursor, column)
    if cursor.accept("DROP", "IDENTITY"):
        return DropOrigin(column, "identity", cursor.accept("IF", "EXISTS"))
    if cursor.accept("DROP", "EXPRESSION"):
        return DropOrigin(column, "expression", cursor.accept("IF", "EXISTS"))
    if cursor.key in ("ADD", "SET") and cursor.peek() == "GENERATED":
        return _identity(cursor, column)
    if cursor.key in ("TYPE", "SET", "DROP", "ADD", "RESET", "RESTART"):
        refuse(cursor, "this form of ALTER TABLE ... ALTER COLUMN is not supported")
    raise cursor.error()


def _alter_type(cursor: Cursor, column: str) -> AlterType:
    position = cursor.position
    new_type = type_name(cursor)
    if cursor.accept("COLLATE"):
        refuse(cursor, "COLLATE is not supported here")
    using = source_expression(cursor) if cursor.accept("USING") else None
    return AlterType(column, new_type, using, position)


def _identity(cursor: Cursor, column: str) -> SetIdentity:
    """ADD GENERATED ... AS IDENTITY [(options)], SET GENERATED ALWAYS | BY DEFAULT."""
    adds = cursor.expect_any("ADD", "SET") == "ADD"
    cursor.expect("GENERATED")
    always = cursor.expect_any("ALWAYS", "BY") == "ALWAYS"
    if not always:
        cursor.expect("DEFAULT")
    identity = "always" if always else "by default"
    if not adds:
        return SetIdentity(column, identity, None)
    cursor.expect("AS", "IDENTITY")
    options = SequenceOptions()
    if cursor.accept("("):
        options = sequence_options(cursor)
        cursor.expect(")")
    return SetIdentity(column, identity, options)
