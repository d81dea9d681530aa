"""TPC-H: its tables under several fragmentations, its rows as Parquet, its 22 queries.

The rows come from `tpchgen-cli`, the queries from `tpch_queries/` with the parameters of the
specification's validation runs (TPC-H 3.0.1, chapter 2.4).
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

QUERY_NUMBERS = tuple(range(1, 23))
TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")

COLUMNS = {
    "region": """
        r_regionkey integer not null, r_name char(25) not null, r_comment varchar(152),
        primary key (r_regionkey)""",
    "nation": """
        n_nationkey integer not null, n_name char(25) not null, n_regionkey integer not null,
        n_comment varchar(152), primary key (n_nationkey)""",
    "supplier": """
        s_suppkey bigint not null, s_name char(25) not null, s_address varchar(40) not null,
        s_nationkey integer not null, s_phone char(15) not null,
        s_acctbal numeric(15,2) not null, s_comment varchar(101) not null,
        primary key (s_suppkey)""",
    "customer": """
        c_custkey bigint not null, c_name varchar(25) not null, c_address varchar(40) not null,
        c_nationkey integer not null, c_phone char(15) not null,
        c_acctbal numeric(15,2) not null, c_mktsegment char(10) not null,
        c_comment varchar(117) not null{customer_key}""",
    "part": """
        p_partkey bigint not null, p_name varchar(55) not null, p_mfgr char(25) not null,
        p_brand char(10) not null, p_type varchar(25) not null, p_size integer not null,
        p_container char(10) not null, p_retailprice numeric(15,2) not null,
        p_comment varchar(23) not null, primary key (p_partkey)""",
    "partsupp": """
        ps_partkey bigint not null, ps_suppkey bigint not null, ps_availqty integer not null,
        ps_supplycost numeric(15,2) not null, ps_comment varchar(199) not null,
        primary key (ps_partkey, ps_suppkey)""",
    "orders": """
        o_orderkey bigint not null, o_custkey bigint not null, o_orderstatus char(1) not null,
        o_totalprice numeric(15,2) not null, o_orderdate date not null,
        o_orderpriority char(15) not null, o_clerk char(15) not null,
        o_shippriority integer not null, o_comment varchar(79) not null{orders_key}""",
    "lineitem": """
        l_orderkey bigint not null, l_partkey bigint not null, l_suppkey bigint not null,
        l_linenumber integer not null, l_quantity numeric(15,2) not null,
        l_extendedprice numeric(15,2) not null, l_discount numeric(15,2) not null,
        l_tax numeric(15,2) not null, l_returnflag char(1) not null,
        l_linestatus char(1) not null, l_shipdate date not null, l_commitdate date not null,
        l_receiptdate date not null, l_shipinstruct char(25) not null,
        l_shipmode char(10) not null, l_comment varchar(44) not null{lineitem_key}""",
}

PLAIN_KEYS = {
    "customer_key": ", primary key (c_custkey)",
    "orders_key": ", primary key (o_orderkey)",
    "lineitem_key": ", primary key (l_orderkey, l_linenumber)",
}

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


def create_table(table: str, fragmentation: str | None) -> str:
    """CREATE TABLE for dqe under a fragmentation, or for any PostgreSQL (None)."""
    clauses, keys = FRAGMENTATIONS[fragmentation] if fragmentation else ({}, PLAIN_KEYS)
    columns = COLUMNS[table].format(**keys)
    return f"create table {table} ({columns}) {clauses.get(table, '')}"


def query(number: int) -> str:
    """The text of query `number`, 1 to 22."""
    path = Path(__file__).parent / "tpch_queries" / f"q{number:02d}.sql"
    return path.read_text()


def generate(scale: float, directory: Path, table_format: str = "parquet") -> dict[str, Path]:
    """One file a table in `directory`, made once; returns their paths."""
    suffix = "csv" if table_format == "csv" else table_format
    paths = {table: directory / f"{table}.{suffix}" for table in TABLES}
    if not all(path.exists() for path in paths.values()):
        directory.mkdir(parents=True, exist_ok=True)
        command = [tpchgen_command(), table_format, "-s", str(scale), "-o", str(directory)]
        subprocess.run(command, check=True, capture_output=True)
    return paths


def tpchgen_command() -> str:
    """The generator beside this interpreter, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    found = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if found is None:
        raise FileNotFoundError("tpchgen-cli is not installed (see pyproject.toml)")
    return found
