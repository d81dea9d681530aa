"""Random tables and their fragmentations, as DDL for dqe and for PostgreSQL, and their rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from differential_values import CLASSES, TYPES, ColumnSpec, sql_literal

# Types that a table may be cut by; floats are refused, the rest only make dull cuts.
_HASHABLE = (
    "smallint", "integer", "bigint", "numeric(10,2)", "text", "varchar(12)", "char(5)", "date",
    "timestamp", "timestamptz", "uuid", "boolean",
)  # fmt: skip
_RANGES = {
    "smallint": ("0", "3"), "integer": ("0", "3"), "bigint": ("-1", "2"),
    "numeric(10,2)": ("0.5", "2"), "text": ("'a'", "'b'"), "varchar(12)": ("'a'", "'b'"),
    "char(5)": ("'a'", "'b'"), "date": ("'2024-01-02'", "'2024-02-01'"),
    "timestamp": ("'2024-01-01'", "'2024-01-02'"),
    "timestamptz": ("'2024-01-01 00:00:01+00'", "'2024-01-02 00:00+00'"),
}  # fmt: skip
_LISTS = {
    "smallint": ("0, 1", "2"), "integer": ("1", "2, 3, NULL"), "bigint": ("0", "1"),
    "numeric(10,2)": ("0, 1", "2.00"), "text": ("'a', 'b'", "'ab', ''"),
    "varchar(12)": ("'a'", "'A', NULL"), "char(5)": ("'a'", "'b', 'ab'"),
    "boolean": ("true", "false"), "date": ("'2024-01-01'", "'2024-01-02', NULL"),
}  # fmt: skip
_KEY_TYPES = ("smallint", "integer", "bigint", "numeric(10,2)")


@dataclass(slots=True)
class TableSpec:
    """A table; `clauses` is how dqe cuts it and `rows` what was inserted, as texts."""

    name: str
    columns: list[ColumnSpec]
    key: tuple[str, ...]
    clauses: str = ""
    rows: list[tuple[str | None, ...]] = field(default_factory=list)

    def ddl(self, *, cut: bool) -> str:
        """CREATE TABLE, with dqe's clauses or as PostgreSQL takes it."""
        parts = [f"{c.name} {c.type}{'' if c.nulls else ' not null'}" for c in self.columns]
        if self.key:
            parts.append(f"primary key ({', '.join(self.key)})")
        text = f"create table {self.name} ({', '.join(parts)})"
        return f"{text} {self.clauses}".rstrip() if cut else text

    def insert_values(self, rows: Sequence[tuple[str | None, ...]]) -> str:
        """INSERT of these rows."""
        lines = []
        for row in rows:
            values = zip(self.columns, row, strict=True)
            lines.append("(" + ", ".join(sql_literal(c.type, v) for c, v in values) + ")")
        return f"insert into {self.name} values {', '.join(lines)}"

    def copy_text(self, rows: Sequence[tuple[str | None, ...]]) -> str:
        """The rows in COPY's text format."""
        return "".join("\t".join(_copied(value) for value in row) + "\n" for row in rows)


def _copied(value: str | None) -> str:
    return r"\N" if value is None else value.replace("\\", "\\\\")


def random_table(chance: random.Random, name: str, before: Sequence[TableSpec]) -> TableSpec:
    """A table with its cut and rows; `before` are those it may lie together with."""
    key = chance.choice([(), ("id",), ("k", "id"), ("id", "k")])
    columns = _columns(chance, key)
    table = TableSpec(name, columns, key)
    table.clauses = random_clauses(chance, table, before)
    table.rows = _rows(chance, table)
    return table


def _columns(chance: random.Random, key: tuple[str, ...]) -> list[ColumnSpec]:
    no_nulls = {name: 0.0 if name in key else 0.15 for name in ("id", "k")}
    columns = [
        ColumnSpec("id", chance.choice(["integer", "bigint"]), no_nulls["id"]),
        ColumnSpec("k", chance.choice(_KEY_TYPES), no_nulls["k"]),
    ]
    for number, type_name in enumerate(chance.sample(TYPES, chance.randint(3, 7))):
        edges = type_name not in _KEY_TYPES[3:] and chance.random() < 0.2
        nulls = chance.choice([0.0, 0.1, 0.5])
        prefix = CLASSES[type_name][0]
        columns.append(ColumnSpec(f"{prefix}{number}", type_name, nulls, edges))
    return columns


def _rows(chance: random.Random, table: TableSpec) -> list[tuple[str | None, ...]]:
    count = chance.choice([0, 1, 7, 20, 30, 40])
    rows = []
    for number in range(count):
        row = [column.text(chance) for column in table.columns]
        if table.key or chance.random() < 0.5:
            row[0] = str(number)
        rows.append(tuple(row))
        if not table.key and chance.random() < 0.2:
            rows.append(tuple(row))
    return rows


def random_clauses(chance: random.Random, table: TableSpec, before: Sequence[TableSpec]) -> str:
    """A fragmentation of the table."""
    text = chance.choice([_by_hash, _by_hash, _by_range, _by_list, _replicated, _default])(
        chance, table
    )
    together = [t for t in before if _may_lie_with(table, text, t)]
    if together and chance.random() < 0.7:
        text += f" colocate with {chance.choice(together).name}"
    if table.key and chance.random() < 0.35:
        text += _column_groups(chance, table)
    return text


def _cut_columns(table: TableSpec, types: Sequence[str]) -> list[ColumnSpec]:
    """Columns that may cut the table: a key must contain them."""
    return [c for c in table.columns if c.type in types and (not table.key or c.name in table.key)]


def _by_hash(chance: random.Random, table: TableSpec) -> str:
    found = _cut_columns(table, _HASHABLE)
    names = [chance.choice(found).name]
    if chance.random() < 0.2:
        names = sorted({*names, chance.choice(found).name})
    parts = chance.choice(["", " partitions 1", " partitions 2", " partitions 3", " partitions 5"])
    return f"partition by hash ({', '.join(names)}){parts}"


def _by_range(chance: random.Random, table: TableSpec) -> str:
    column = chance.choice(_cut_columns(table, tuple(_RANGES)))
    low, high = _RANGES[column.type]
    parts = [
        f"partition {table.name}_a values from (minvalue) to ({low})",
        f"partition {table.name}_b values from ({low}) to ({high})",
    ]
    if column.nulls or chance.random() < 0.5:
        parts.append(f"partition {table.name}_c default")
        chance.shuffle(parts)
    else:
        parts.append(f"partition {table.name}_c values from ({high}) to (maxvalue)")
    return f"partition by range ({column.name}) ({', '.join(parts)})"


def _by_list(chance: random.Random, table: TableSpec) -> str:
    found = _cut_columns(table, tuple(_LISTS))
    column = chance.choice(found)
    first, second = _LISTS[column.type]
    parts = [
        f"partition {table.name}_a values in ({first})",
        f"partition {table.name}_b values in ({second})",
        f"partition {table.name}_c default",
    ]
    return f"partition by list ({column.name}) ({', '.join(parts)})"


def _replicated(chance: random.Random, table: TableSpec) -> str:
    return "replicated"


def _default(chance: random.Random, table: TableSpec) -> str:
    return ""


def _may_lie_with(table: TableSpec, clauses: str, other: TableSpec) -> bool:
    """Whether both are cut by hash of one column of the same type into as many parts."""
    if not (clauses.startswith("partition by hash") and "hash" in other.clauses):
        return False
    mine, theirs = _hash_columns(clauses), _hash_columns(other.clauses)
    if len(mine) != len(theirs) or "colocate" in other.clauses:
        return False
    types = {c.name: c.type for c in table.columns}
    other_types = {c.name: c.type for c in other.columns}
    same_types = [types[c] for c in mine] == [other_types[c] for c in theirs]
    return same_types and _parts(clauses) == _parts(other.clauses)


def _hash_columns(clauses: str) -> list[str]:
    return clauses.partition("(")[2].partition(")")[0].split(", ")


def _parts(clauses: str) -> str:
    return clauses.partition("partitions ")[2][:1]


def _column_groups(chance: random.Random, table: TableSpec) -> str:
    free = [c.name for c in table.columns if c.name not in table.key]
    chance.shuffle(free)
    cut = chance.randint(1, len(free) - 1)
    return f" column groups (hot ({', '.join(free[:cut])}), cold ({', '.join(free[cut:])}))"
