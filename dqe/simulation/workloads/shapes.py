"""How the tables of workloads are cut and stored; each simulation draws one."""

from __future__ import annotations

import random

STORES = ("", "USING row", "USING hybrid", "USING columnar")


def by_hash(chance: random.Random, column: str, parts: int) -> str:
    """The clauses of a table in hash parts of three replicas each."""
    store = chance.choice(STORES)
    return f"PARTITION BY HASH ({column}) PARTITIONS {parts} {store} WITH (replicas = 3)"


def by_range(chance: random.Random, column: str, bound: int) -> str:
    """The clauses of a table in two ranges of three replicas each."""
    store = chance.choice(STORES)
    return (
        f"PARTITION BY RANGE ({column}) (PARTITION low VALUES FROM (MINVALUE) TO ({bound}),"
        f" PARTITION high VALUES FROM ({bound}) TO (MAXVALUE)) {store} WITH (replicas = 3)"
    )
