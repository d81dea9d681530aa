"""All system relations by schema and name, and their rows."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from catalog.model import Catalog
from catalog.system_tables import (
    columns,
    dqe_schema,
    information_schema,
    pg_catalog,
    replicas,
    transactions,
)
from catalog.system_tables.definition import (
    SystemContext,
    SystemRelation,
    columns_of,
    table_of,
)
from catalog.system_tables.pg_catalog import RowSource
from cluster.errors import UndefinedTable


def _all_relations() -> dict[tuple[str, str], SystemRelation]:
    texts: dict[tuple[str, str], str] = {
        ("pg_catalog", "dqe_object_text"): pg_catalog.OBJECT_TEXT_COLUMNS
    }
    for name, text in columns.PG_CATALOG.items():
        added = columns.ADDED_LATER.get(name)
        texts["pg_catalog", name] = f"{text}; {added}" if added else text
    texts |= {("information_schema", n): t for n, t in columns.INFORMATION_SCHEMA.items()}
    own = dqe_schema.COLUMNS | replicas.COLUMNS | transactions.COLUMNS
    texts |= {("dqe", name): text for name, text in own.items()}
    return {key: SystemRelation(*key, columns_of(text)) for key, text in texts.items()}


_RELATIONS = _all_relations()
_SOURCES: Mapping[str, Mapping[str, RowSource]] = {
    "pg_catalog": {**pg_catalog.SOURCES, "pg_locks": transactions.pg_locks},
    "information_schema": information_schema.SOURCES,
    "dqe": {
        **dqe_schema.SOURCES,
        "replicas": replicas.replicas,
        "replica_checks": replicas.replica_checks,
        "transactions": transactions.transactions,
        "transactions_in_doubt": transactions.transactions_in_doubt,
        "locks": transactions.locks,
    },
}


def find_system_table(schema: str | None, name: str) -> SystemRelation | None:
    """The system relation of that name; without a schema, in pg_catalog."""
    return _RELATIONS.get((schema or "pg_catalog", name))


def system_relations() -> tuple[SystemRelation, ...]:
    """All of them, by schema and name."""
    return tuple(_RELATIONS[key] for key in sorted(_RELATIONS))


def rows(
    catalog: Catalog, schema: str, name: str, context: SystemContext | None = None
) -> pa.Table:
    """The relation's rows now. `context` tells what the catalog does not; 42P01 for no such
    relation."""
    relation = _RELATIONS.get((schema, name))
    if relation is None:
        raise UndefinedTable(f'relation "{schema}.{name}" does not exist')
    source = _SOURCES[schema].get(name)
    if source is None:
        return table_of(relation, ())
    return table_of(relation, source(context or SystemContext(catalog)))
