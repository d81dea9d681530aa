"""The nine tables of TPC-C (5.11, clause 1.3).

On dqe all tables but `item` are cut by warehouse and lie together, so that most transactions stay
on one tablet; `item` is on every node. PostgreSQL gets the same tables without these clauses.
"""

from __future__ import annotations

from typing import Any

import psycopg

_TABLES = {
    "warehouse": """
        w_id int, w_name varchar(10), w_street_1 varchar(20), w_street_2 varchar(20),
        w_city varchar(20), w_state char(2), w_zip char(9), w_tax numeric(4,4),
        w_ytd numeric(12,2), primary key (w_id)""",
    "district": """
        d_w_id int, d_id int, d_name varchar(10), d_street_1 varchar(20), d_street_2 varchar(20),
        d_city varchar(20), d_state char(2), d_zip char(9), d_tax numeric(4,4),
        d_ytd numeric(12,2), d_next_o_id int, primary key (d_w_id, d_id)""",
    "customer": """
        c_w_id int, c_d_id int, c_id int, c_first varchar(16), c_middle char(2),
        c_last varchar(16), c_street_1 varchar(20), c_street_2 varchar(20), c_city varchar(20),
        c_state char(2), c_zip char(9), c_phone char(16), c_since timestamptz, c_credit char(2),
        c_credit_lim numeric(12,2), c_discount numeric(4,4), c_balance numeric(12,2),
        c_ytd_payment numeric(12,2), c_payment_cnt int, c_delivery_cnt int, c_data varchar(500),
        primary key (c_w_id, c_d_id, c_id)""",
    "history": """
        h_c_id int, h_c_d_id int, h_c_w_id int, h_d_id int, h_w_id int, h_date timestamptz,
        h_amount numeric(6,2), h_data varchar(24)""",
    "orders": """
        o_w_id int, o_d_id int, o_id int, o_c_id int, o_entry_d timestamptz, o_carrier_id int,
        o_ol_cnt int, o_all_local int, primary key (o_w_id, o_d_id, o_id)""",
    "new_order": """
        no_w_id int, no_d_id int, no_o_id int, primary key (no_w_id, no_d_id, no_o_id)""",
    "order_line": """
        ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int, ol_supply_w_id int,
        ol_delivery_d timestamptz, ol_quantity int, ol_amount numeric(6,2), ol_dist_info char(24),
        primary key (ol_w_id, ol_d_id, ol_o_id, ol_number)""",
    "stock": """
        s_w_id int, s_i_id int, s_quantity int, s_dist_01 char(24), s_dist_02 char(24),
        s_dist_03 char(24), s_dist_04 char(24), s_dist_05 char(24), s_dist_06 char(24),
        s_dist_07 char(24), s_dist_08 char(24), s_dist_09 char(24), s_dist_10 char(24),
        s_ytd int, s_order_cnt int, s_remote_cnt int, s_data varchar(50),
        primary key (s_w_id, s_i_id)""",
    "item": """
        i_id int, i_im_id int, i_name varchar(24), i_price numeric(5,2), i_data varchar(50),
        primary key (i_id)""",
}
_WAREHOUSE_COLUMNS = {
    "district": "d_w_id",
    "customer": "c_w_id",
    "history": "h_w_id",
    "orders": "o_w_id",
    "new_order": "no_w_id",
    "order_line": "ol_w_id",
    "stock": "s_w_id",
}
INDEXES = (
    "CREATE INDEX customer_by_name ON customer (c_w_id, c_d_id, c_last, c_first)",
    "CREATE INDEX orders_by_customer ON orders (o_w_id, o_d_id, o_c_id, o_id)",
)
TABLES = tuple(_TABLES)


def create_tables(
    connection: psycopg.Connection[Any], parts: int | None, method: str = "hybrid"
) -> None:
    """Makes the empty tables; `parts` tablets of warehouses on dqe, None for PostgreSQL."""
    for table, columns in _TABLES.items():
        clauses = "" if parts is None else f"{_clauses(table, parts)} USING {method}"
        connection.execute(f"CREATE TABLE {table} ({columns}) {clauses}".encode())


def create_indexes(connection: psycopg.Connection[Any]) -> None:
    """Those that find customers by name and orders by customer; made once the rows are there."""
    for statement in INDEXES:
        connection.execute(statement.encode())


def _clauses(table: str, parts: int) -> str:
    if table == "item":
        return "REPLICATED"
    if table == "warehouse":
        return f"PARTITION BY HASH (w_id) PARTITIONS {parts}"
    column = _WAREHOUSE_COLUMNS[table]
    return f"PARTITION BY HASH ({column}) PARTITIONS {parts} COLOCATE WITH warehouse"
