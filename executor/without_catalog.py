"""What is answered though the catalog has no leader: what an operator looks at, and does, then.

Every statement has a snapshot, which only the catalog's leader can give. A query that reads
nothing but tables of the schema `dqe`, or asks what giving up a lost majority would lose, or does
so for the catalog, needs none: it is answered from this node's own copy, with a warning that says
so. While there is a leader that answers, such queries go the way of all others, and are as fresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from planner.statements import Query, Statement

if TYPE_CHECKING:
    from executor.services import ExecutorServices

WARNING = "the catalog has no leader that answers: what is shown is what this node knew last"
RECOVERY = "recover_catalog"
TABLET_RECOVERY = "recover_tablet"
_SCHEMA = "dqe"


def may_do_without(statement: Statement, services: ExecutorServices) -> bool:
    """Whether to answer the statement without a snapshot; only where none can be had."""
    catalog = services.catalog
    leader_id = catalog.group.leader_id
    if leader_id and catalog.liveness.is_live(leader_id):
        return False
    return (
        isinstance(statement, Query)
        and statement.as_of is None
        and _is_about_the_cluster(statement.tree)
    )


def _is_about_the_cluster(tree: exp.Expr) -> bool:
    common = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    tables = [t for t in tree.find_all(exp.Table) if t.db or t.name.lower() not in common]
    if not tables:
        names = {call.name.lower() for call in tree.find_all(exp.Anonymous)}
        return not names.isdisjoint((RECOVERY, TABLET_RECOVERY))
    return all(table.db.lower() == _SCHEMA for table in tables)
