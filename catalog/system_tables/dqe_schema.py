"""Row sources of the schema dqe: the cluster, and where each piece of a table lies."""

from __future__ import annotations

from collections.abc import Iterator

from catalog.bounds import describe_bounds
from catalog.model import CATALOG_TABLET, NodeId, Tablet
from catalog.repair_report import lost_catalog, tables_of, troubles
from catalog.system_tables.definition import Row, SystemContext
from catalog.system_tables.objects import partition_key_definition, relation_oid
from catalog.system_tables.pg_catalog import RowSource

COLUMNS: dict[str, str] = {
    "nodes": "int8 node_id; text address pg_address region zone state; bool live this_node; "
    "int8 tablets leaders bytes; float8 silent_s; int8 log_bytes",
    "tablets": "int8 tablet_id colocation_id; int8[] replicas; int4 voters; int8 leader epoch; "
    "text durability region zone; int4 fragments; int8 bytes",
    "fragments": "int8 fragment_id; text schema_name table_name; int4 part; text part_name "
    "bounds column_group columns; int8 tablet_id; int8[] nodes; int8 estimated_rows",
    "tables": "oid table_oid; text schema_name table_name method partition_key; int4 partitions "
    "column_groups; text access_method; int4 replicas; text durability; int8 colocation_id "
    "schema_version estimated_rows",
    "repairs": "int8 tablet_id; text tables trouble; int4 wanted good; int8[] replicas joining "
    "leaving; text detail",
    "cluster": "text cluster_id; int8 catalog_version; int4 nodes tables tablets",
    "cluster_settings": "text name value",
}


def nodes(context: SystemContext) -> Iterator[Row]:
    tablets = context.catalog.tablets.values()
    for node in context.catalog.nodes.values():
        sizes = context.tablet_bytes.get(node.id)
        yield {
            "node_id": node.id,
            "address": node.rpc_address,
            "pg_address": node.pg_address,
            "region": node.region,
            "zone": node.zone,
            "state": node.state.value,
            "live": node.id in context.live_nodes or node.id == context.node_id,
            "this_node": node.id == context.node_id,
            "tablets": sum(node.id in tablet.holders for tablet in tablets),
            "leaders": sum(_leader(context, tablet) == node.id for tablet in tablets),
            "bytes": sum(sizes.values()) if sizes is not None else None,
            "silent_s": context.silent_s.get(node.id, 0.0),
            "log_bytes": context.log_bytes.get(node.id),
        }


def _leader(context: SystemContext, tablet: Tablet) -> NodeId:
    """Who leads: what this node saw, else who should."""
    return context.leaders.get(tablet.id, tablet.replicas[0])


def tablets(context: SystemContext) -> Iterator[Row]:
    held: dict[int, int] = {}
    for table in context.catalog.tables.values():
        for part in table.parts:
            for fragment in part.fragments:
                held[fragment.tablet_id] = held.get(fragment.tablet_id, 0) + 1
    for tablet in context.catalog.tablets.values():
        placement = tablet.placement
        yield {
            "tablet_id": tablet.id,
            "colocation_id": tablet.colocation_id,
            "replicas": list(tablet.replicas),
            "voters": tablet.voters,
            "leader": _leader(context, tablet),
            "epoch": tablet.epoch,
            "durability": tablet.durability.value,
            "region": placement.region if placement else None,
            "zone": placement.zone if placement else None,
            "fragments": held.get(tablet.id, 0),
            "bytes": context.tablet_bytes.get(_leader(context, tablet), {}).get(tablet.id),
        }


def fragments(context: SystemContext) -> Iterator[Row]:
    catalog = context.catalog
    for table in catalog.tables.values():
        statistics = catalog.statistics.get(table.id)
        part_rows = statistics.part_rows if statistics else ()
        hidden = {table.key[0]} if table.hidden_row_id else set()
        for part in table.parts:
            for fragment in part.fragments:
                group = table.groups[fragment.group_id]
                shown = (c.name for c in table.group_columns(group.id) if c.id not in hidden)
                known = part.ordinal < len(part_rows)
                yield {
                    "fragment_id": fragment.id,
                    "schema_name": table.schema,
                    "table_name": table.name,
                    "part": part.ordinal,
                    "part_name": part.name,
                    "bounds": describe_bounds(table, part) or None,
                    "column_group": group.name,
                    "columns": ", ".join(shown),
                    "tablet_id": fragment.tablet_id,
                    "nodes": list(catalog.tablets[fragment.tablet_id].replicas),
                    "estimated_rows": part_rows[part.ordinal] if known else None,
                }


def tables(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        statistics = context.catalog.statistics.get(table.id)
        yield {
            "table_oid": relation_oid(table.id),
            "schema_name": table.schema,
            "table_name": table.name,
            "method": table.method.value,
            "partition_key": partition_key_definition(table),
            "partitions": len(table.parts),
            "column_groups": len(table.groups),
            "access_method": table.access_method.value,
            "replicas": table.replicas or len(context.catalog.nodes),
            "durability": table.durability.value,
            "colocation_id": table.colocation_id,
            "schema_version": table.schema_version,
            "estimated_rows": statistics.rows if statistics else None,
        }


def repairs(context: SystemContext) -> Iterator[Row]:
    catalog = context.catalog
    names = tables_of(catalog)
    live = frozenset((*context.live_nodes, context.node_id))
    lost = lost_catalog(context.catalog_voters, live)
    if lost is not None:
        yield {
            "tablet_id": CATALOG_TABLET,
            "tables": "the catalog",
            "trouble": lost.kind,
            "wanted": lost.wanted,
            "good": lost.good,
            "replicas": list(context.catalog_voters),
            "joining": [],
            "leaving": [],
            "detail": lost.detail,
        }
    for trouble in troubles(catalog, live):
        tablet = catalog.tablets[trouble.tablet_id]
        yield {
            "tablet_id": tablet.id,
            "tables": ", ".join(names.get(tablet.id, [])),
            "trouble": trouble.kind,
            "wanted": trouble.wanted,
            "good": trouble.good,
            "replicas": list(tablet.replicas),
            "joining": list(tablet.joining),
            "leaving": list(tablet.leaving),
            "detail": trouble.detail,
        }


def cluster(context: SystemContext) -> Iterator[Row]:
    catalog = context.catalog
    yield {
        "cluster_id": catalog.cluster_id,
        "catalog_version": catalog.version,
        "nodes": len(catalog.nodes),
        "tables": len(catalog.tables),
        "tablets": len(catalog.tablets),
    }


def cluster_settings(context: SystemContext) -> Iterator[Row]:
    for name, value in sorted(context.catalog.settings.items()):
        yield {"name": name, "value": value}


SOURCES: dict[str, RowSource] = {
    "cluster": cluster,
    "cluster_settings": cluster_settings,
    "fragments": fragments,
    "nodes": nodes,
    "repairs": repairs,
    "tables": tables,
    "tablets": tablets,
}
