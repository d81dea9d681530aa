"""TPC-H for the benchmarks and tests: fragmentations and the 22 queries.

The queries are in `tpch_queries/`, with the parameters of the specification's validation runs
(TPC-H 3.0.1, chapter 2.4).
"""

from __future__ import annotations

from pathlib import Path

from dqe.tpch import PLAIN_KEYS
from dqe.tpch import create_table as create_table_with

QUERY_NUMBERS = tuple(range(1, 23))

_SMALL_REPLICATED = {"region": "REPLICATED", "nation": "REPLICATED"}

_CUSTOMER_BY_NATION = """PARTITION BY LIST (c_nationkey) (
    PARTITION africa VALUES IN (0, 5, 14, 15, 16),
    PARTITION america VALUES IN (1, 2, 3, 17, 24),
    PARTITION asia VALUES IN (8, 9, 12, 18, 21),
    PARTITION europe VALUES IN (6, 7, 19, 22, 23),
    PARTITION elsewhere DEFAULT)"""

# Name -> (clauses a table, keys). A partition key must be part of the primary key.
FRAGMENTATIONS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "hash": (
        {
            **_SMALL_REPLICATED,
            "orders": "PARTITION BY HASH (o_orderkey) PARTITIONS 6",
            "lineitem": "PARTITION BY HASH (l_orderkey) PARTITIONS 6 COLOCATE WITH orders",
        },
        PLAIN_KEYS,
    ),
    "range": (
        {
            **_SMALL_REPLICATED,
            "orders": """PARTITION BY RANGE (o_orderdate) (
                PARTITION early VALUES FROM (MINVALUE) TO ('1994-01-01'),
                PARTITION middle VALUES FROM ('1994-01-01') TO ('1996-06-01'),
                PARTITION late VALUES FROM ('1996-06-01') TO (MAXVALUE))""",
            "lineitem": """PARTITION BY RANGE (l_shipdate) (
                PARTITION early VALUES FROM (MINVALUE) TO ('1994-01-01'),
                PARTITION middle VALUES FROM ('1994-01-01') TO ('1996-06-01'),
                PARTITION late VALUES FROM ('1996-06-01') TO (MAXVALUE))""",
        },
        {
            "customer_key": ", primary key (c_custkey)",
            "orders_key": ", primary key (o_orderdate, o_orderkey)",
            "lineitem_key": ", primary key (l_shipdate, l_orderkey, l_linenumber)",
        },
    ),
    "list_and_groups": (
        {
            **_SMALL_REPLICATED,
            "customer": _CUSTOMER_BY_NATION,
            "part": "COLUMN GROUPS (core (p_name, p_brand, p_type, p_size, p_container), "
            "cold (p_mfgr, p_retailprice, p_comment))",
            "orders": "PARTITION BY HASH (o_orderkey) PARTITIONS 3 COLUMN GROUPS "
            "(core (o_custkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority), "
            "cold (o_clerk, o_shippriority, o_comment))",
            "lineitem": "PARTITION BY HASH (l_orderkey) PARTITIONS 3 COLUMN GROUPS "
            "(core (l_partkey, l_suppkey, l_quantity, l_extendedprice, l_discount, l_shipdate), "
            "rest (l_tax, l_returnflag, l_linestatus, l_commitdate, l_receiptdate), "
            "cold (l_shipinstruct, l_shipmode, l_comment)) COLOCATE WITH orders",
        },
        PLAIN_KEYS | {"customer_key": ", primary key (c_nationkey, c_custkey)"},
    ),
    "by_customer": (
        {
            "customer": "PARTITION BY HASH (c_custkey) PARTITIONS 3",
            "orders": "PARTITION BY HASH (o_custkey) PARTITIONS 3 COLOCATE WITH customer",
            "part": "PARTITION BY HASH (p_partkey) PARTITIONS 3",
            "partsupp": "PARTITION BY HASH (ps_partkey) PARTITIONS 3 COLOCATE WITH part",
        },
        PLAIN_KEYS | {"orders_key": ", primary key (o_custkey, o_orderkey)"},
    ),
}


def create_table(table: str, fragmentation: str | None, replicas: int | None = None) -> str:
    """CREATE TABLE for dqe under a fragmentation, or for any PostgreSQL (None).

    `replicas` None leaves their number to the database.
    """
    clauses, keys = FRAGMENTATIONS[fragmentation] if fragmentation else ({}, PLAIN_KEYS)
    return create_table_with(table, with_replicas(clauses.get(table, ""), replicas), keys)


def with_replicas(clauses: str, replicas: int | None) -> str:
    """The clauses with a number of replicas, where they do not say by themselves what it is."""
    if replicas is None or "REPLICATED" in clauses or "COLOCATE" in clauses:
        return clauses
    return f"{clauses} WITH (replicas = {replicas})"


def query(number: int) -> str:
    """The text of query `number`, 1 to 22."""
    path = Path(__file__).parent / "tpch_queries" / f"q{number:02d}.sql"
    return path.read_text()
