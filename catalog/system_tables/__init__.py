"""Virtual tables computed from the catalog: pg_catalog, information_schema, dqe.

    registry            find a relation, compute its rows
    definition          columns and rows made whole
    columns             PostgreSQL's column lists
    objects             OIDs, and the texts of PostgreSQL's system functions
    keys                indexes and foreign keys
    sequences           sequences, and columns that take their values from one
    pg_catalog, information_schema, dqe_schema, replicas, transactions    a row source a relation

Left out: the system relations do not list themselves (`\\dS` is short), and nothing here is
about privileges, triggers, rules or functions, which are not there yet.
"""

from catalog.system_tables.definition import SystemContext, SystemRelation
from catalog.system_tables.registry import find_system_table, rows, system_relations

__all__ = ["SystemContext", "SystemRelation", "find_system_table", "rows", "system_relations"]
