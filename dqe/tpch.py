"""TPC-H's tables and rows (specification 3.0.1), for the demo, the benchmarks and the tests.

The rows come from `tpchgen-cli`. A partition column must be part of the primary key, so where
a table is cut by another column its key is given by the caller.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")

_COLUMNS = {
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


def create_table(table: str, clauses: str = "", keys: Mapping[str, str] = PLAIN_KEYS) -> str:
    """CREATE TABLE with our `clauses` behind the columns; without any, as PostgreSQL has it."""
    return f"create table {table} ({_COLUMNS[table].format(**keys)}) {clauses}"


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
