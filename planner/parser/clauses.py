"""The clauses that say how a table is cut, placed and kept.

PARTITION BY HASH (c) [PARTITIONS n] | RANGE (c, ...) [(parts)] | LIST (c) [(parts)]
COLUMN GROUPS (name (columns) [WITH (...)], ...)
COLOCATE WITH table
REPLICATED
USING row | columnar | hybrid
WITH (replicas = n, durability = 'quorum', region = 'eu', zone = 'a', nodes = '1,2')

They may stand in any order, each once. A part is `PARTITION p VALUES FROM (..) TO (..)`,
`PARTITION p VALUES IN (..)` or `PARTITION p DEFAULT`, each with an optional WITH for placement.
"""

from __future__ import annotations

import dataclasses

from catalog.model import AccessMethod, Durability, PartitionMethod
from cluster.errors import FeatureNotSupported, InvalidParameterValue, SyntaxError_, UndefinedObject
from planner.parser.builder import names_in_parentheses, object_name, source_expression
from planner.parser.tokens import NUMBER, STRING, Cursor
from planner.statements import (
    BoundItem,
    BoundWord,
    GroupClause,
    PartClause,
    PartitionClause,
    PlacementClause,
    SourceExpression,
    StorageClauses,
)

_CLAUSE_STARTS = ("PARTITION BY", "COLUMN", "COLOCATE", "REPLICATED", "USING", "WITH")


def storage_clauses(cursor: Cursor) -> StorageClauses:
    """Take the clauses behind the column list."""
    clauses = StorageClauses()
    seen: set[str] = set()
    while cursor.key in _CLAUSE_STARTS:
        if cursor.key in seen:
            cursor.fail()
        seen.add(cursor.key)
        clauses = _clause(cursor, clauses)
    return clauses


def _clause(cursor: Cursor, clauses: StorageClauses) -> StorageClauses:
    key, position = cursor.key, cursor.position
    cursor.advance()
    if key == "PARTITION BY":
        return dataclasses.replace(clauses, partition=_partition(cursor, position))
    if key == "COLUMN":
        cursor.expect("GROUPS")
        return dataclasses.replace(clauses, groups=_groups(cursor))
    if key == "COLOCATE":
        cursor.expect("WITH")
        return dataclasses.replace(clauses, colocate_with=object_name(cursor))
    if key == "REPLICATED":
        return dataclasses.replace(clauses, replicated=True)
    if key == "USING":
        return dataclasses.replace(clauses, access_method=access_method(cursor))
    return table_options(cursor, clauses)


def access_method(cursor: Cursor) -> AccessMethod:
    """The name of one."""
    position = cursor.position
    name = cursor.name()
    if name == "heap":  # what clients send that name PostgreSQL's default
        return AccessMethod.HYBRID
    try:
        return AccessMethod(name)
    except ValueError:
        raise UndefinedObject(
            f'access method "{name}" does not exist',
            hint="The access methods are row, columnar and hybrid.",
            position=position,
        ) from None


# ---------------------------------------------------------------------------------------
# PARTITION BY


def _partition(cursor: Cursor, position: int) -> PartitionClause:
    method_position = cursor.position
    name = cursor.label()
    methods = {"hash", "range", "list"}
    if name not in methods:
        raise InvalidParameterValue(
            f'unrecognized partitioning strategy "{name}"', position=method_position
        )
    method = PartitionMethod(name)
    columns = _partition_columns(cursor)
    if method is PartitionMethod.HASH:
        return PartitionClause(method, columns, position, part_count=_part_count(cursor))
    parts = _parts(cursor, method) if cursor.key == "(" else None
    return PartitionClause(method, columns, position, parts=parts)


def _partition_columns(cursor: Cursor) -> tuple[str, ...]:
    cursor.expect("(")
    columns = [_partition_column(cursor)]
    while cursor.accept(","):
        columns.append(_partition_column(cursor))
    cursor.expect(")")
    return tuple(columns)


def _partition_column(cursor: Cursor) -> str:
    if cursor.key == "(" or cursor.peek() == "(":
        raise FeatureNotSupported(
            "partition keys must be columns, not expressions",
            hint="Add a column that holds the value and cut the table by it.",
            position=cursor.position,
        )
    return cursor.name()


def _part_count(cursor: Cursor) -> int | None:
    if not cursor.accept("PARTITIONS"):
        return None
    position = cursor.position
    count = cursor.integer()
    if count < 1:
        raise InvalidParameterValue("PARTITIONS must be at least 1", position=position)
    return count


def _parts(cursor: Cursor, method: PartitionMethod) -> tuple[PartClause, ...]:
    cursor.expect("(")
    parts = [_part(cursor, method)]
    while cursor.accept(","):
        parts.append(_part(cursor, method))
    cursor.expect(")")
    return tuple(parts)


def _part(cursor: Cursor, method: PartitionMethod) -> PartClause:
    cursor.expect("PARTITION")
    position = cursor.position
    name = cursor.name()
    if cursor.accept("DEFAULT"):
        part = PartClause(name, position, is_default=True)
    else:
        cursor.expect("VALUES")
        part = bound_spec(cursor, name, position)
        if (part.range_low is not None) != (method is PartitionMethod.RANGE):
            wanted = "VALUES FROM ... TO" if method is PartitionMethod.RANGE else "VALUES IN"
            raise SyntaxError_(
                f"a part of a {method}-partitioned table needs {wanted}", position=position
            )
    if cursor.accept("WITH"):
        part = dataclasses.replace(part, placement=placement(cursor))
    return part


def bound_spec(cursor: Cursor, name: str, position: int) -> PartClause:
    """Take what follows FOR VALUES: FROM/TO, IN, or WITH (MODULUS, REMAINDER)."""
    if cursor.accept("IN"):
        cursor.expect("(")
        values = [source_expression(cursor)]
        while cursor.accept(","):
            values.append(source_expression(cursor))
        cursor.expect(")")
        return PartClause(name, position, list_values=tuple(values))
    if cursor.accept("FROM"):
        low = _range_bound(cursor)
        cursor.expect("TO")
        return PartClause(name, position, range_low=low, range_high=_range_bound(cursor))
    cursor.expect("WITH", "(")
    numbers: dict[str, int] = {}
    while True:
        word = cursor.expect_any("MODULUS", "REMAINDER").lower()
        numbers[word] = cursor.integer()
        if not cursor.accept(","):
            break
    cursor.expect(")")
    if len(numbers) != 2:
        raise SyntaxError_("a hash part needs MODULUS and REMAINDER", position=position)
    return PartClause(name, position, modulus=numbers["modulus"], remainder=numbers["remainder"])


def _range_bound(cursor: Cursor) -> tuple[BoundItem, ...]:
    cursor.expect("(")
    items = [_bound_item(cursor)]
    while cursor.accept(","):
        items.append(_bound_item(cursor))
    cursor.expect(")")
    return tuple(items)


def _bound_item(cursor: Cursor) -> BoundItem | SourceExpression:
    if cursor.key in ("MINVALUE", "MAXVALUE"):
        return BoundWord(cursor.expect_any("MINVALUE", "MAXVALUE").lower())
    return source_expression(cursor)


# ---------------------------------------------------------------------------------------
# COLUMN GROUPS


def _groups(cursor: Cursor) -> tuple[GroupClause, ...]:
    cursor.expect("(")
    groups = [_group(cursor)]
    while cursor.accept(","):
        groups.append(_group(cursor))
    cursor.expect(")")
    return tuple(groups)


def _group(cursor: Cursor) -> GroupClause:
    position = cursor.position
    name = cursor.name()
    columns = names_in_parentheses(cursor)
    where = placement(cursor) if cursor.accept("WITH") else None
    return GroupClause(name, columns, position, where)


# ---------------------------------------------------------------------------------------
# WITH (...)


def placement(cursor: Cursor) -> PlacementClause:
    """Take `(region = ..., zone = ..., nodes = ...)`."""
    return _placement_of(_option_list(cursor), ())


def table_options(cursor: Cursor, clauses: StorageClauses) -> StorageClauses:
    """Take a table's `(option = value, ...)` into its clauses."""
    options = _option_list(cursor)
    where = _placement_of(options, ("replicas", "durability", "fillfactor"))
    replicas = _replicas(options)
    return dataclasses.replace(
        clauses,
        replicas=replicas if replicas is not None else clauses.replicas,
        durability=_durability(options) or clauses.durability,
        placement=where if where != PlacementClause() else clauses.placement,
    )


_Options = dict[str, tuple[str, int]]


def _option_list(cursor: Cursor) -> _Options:
    cursor.expect("(")
    options: _Options = {}
    while True:
        position = cursor.position
        name = cursor.label()
        cursor.expect("=")
        if name in options:
            raise InvalidParameterValue(
                f'parameter "{name}" specified more than once', position=position
            )
        options[name] = (_option_value(cursor), position)
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options


def _option_value(cursor: Cursor) -> str:
    if cursor.key == STRING:
        return cursor.string()
    if cursor.key == NUMBER:
        return str(cursor.integer())
    return cursor.label()


def _placement_of(options: _Options, others: tuple[str, ...]) -> PlacementClause:
    for name, (_, position) in options.items():
        if name not in ("region", "zone", "nodes", *others):
            raise InvalidParameterValue(f'unrecognized parameter "{name}"', position=position)
    region = options.get("region")
    zone = options.get("zone")
    return PlacementClause(
        region=region[0] if region else None,
        zone=zone[0] if zone else None,
        nodes=_node_ids(*options["nodes"]) if "nodes" in options else (),
    )


def _node_ids(text: str, position: int) -> tuple[int, ...]:
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isdigit() for piece in pieces):
        raise InvalidParameterValue(
            f'invalid value for parameter "nodes": "{text}"',
            hint="Give node ids, such as '1,3'.",
            position=position,
        )
    return tuple(int(piece) for piece in pieces)


def _replicas(options: _Options) -> int | None:
    if "replicas" not in options:
        return None
    text, position = options["replicas"]
    if not text.isdigit() or not 1 <= int(text) <= 15:
        raise InvalidParameterValue(
            f'invalid value for parameter "replicas": "{text}"',
            hint="The number of replicas is 1 to 15.",
            position=position,
        )
    return int(text)


def _durability(options: _Options) -> Durability | None:
    if "durability" not in options:
        return None
    text, position = options["durability"]
    try:
        return Durability(text.lower())
    except ValueError:
        raise InvalidParameterValue(
            f'invalid value for parameter "durability": "{text}"',
            hint="The choices are sync, quorum and async.",
            position=position,
        ) from None


def collation(cursor: Cursor) -> None:
    """The name behind COLLATE; 0A000 for any order but that of the C collation."""
    position = cursor.position
    name = object_name(cursor).name
    if name.upper() not in ("C", "POSIX", "DEFAULT", "UCS_BASIC"):
        raise FeatureNotSupported(
            f'collation "{name}" is not supported',
            hint="Text is ordered in the C collation.",
            position=position,
        )
