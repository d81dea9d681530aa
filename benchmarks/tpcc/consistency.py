"""TPC-C's twelve consistency conditions (5.11, 3.3.2), each a query for what breaks it."""

from __future__ import annotations

from typing import Any

import psycopg

from benchmarks.tpcc.sizes import Size

_DISTRICT_LINES = """
    SELECT o_w_id w, o_d_id d, o_c_id c, sum(ol_amount) delivered
    FROM orders JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
    WHERE ol_delivery_d IS NOT NULL GROUP BY o_w_id, o_d_id, o_c_id"""

# Number and meaning -> a query whose rows are breaches.
CONDITIONS: dict[str, str] = {
    "1: a warehouse's sum is its districts'": """
        SELECT w_id FROM warehouse
        JOIN (SELECT d_w_id, sum(d_ytd) paid FROM district GROUP BY d_w_id) d ON d_w_id = w_id
        WHERE w_ytd <> paid""",
    "2: the next order follows the last": """
        SELECT d_w_id, d_id FROM district
        JOIN (SELECT o_w_id, o_d_id, max(o_id) last FROM orders GROUP BY o_w_id, o_d_id) o
          ON o_w_id = d_w_id AND o_d_id = d_id
        LEFT JOIN (SELECT no_w_id, no_d_id, max(no_o_id) newest FROM new_order
                   GROUP BY no_w_id, no_d_id) n ON no_w_id = d_w_id AND no_d_id = d_id
        WHERE d_next_o_id - 1 <> last OR newest <> last""",
    "3: new orders have no gap": """
        SELECT no_w_id, no_d_id FROM new_order GROUP BY no_w_id, no_d_id
        HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*)""",
    "4: a district has the lines that its orders count": """
        SELECT o_w_id, o_d_id
        FROM (SELECT o_w_id, o_d_id, sum(o_ol_cnt) counted FROM orders GROUP BY o_w_id, o_d_id) o
        LEFT JOIN (SELECT ol_w_id, ol_d_id, count(*) lines FROM order_line
                   GROUP BY ol_w_id, ol_d_id) l ON ol_w_id = o_w_id AND ol_d_id = o_d_id
        WHERE counted <> coalesce(lines, 0)""",
    "5: an order without carrier is new": """
        SELECT o_w_id, o_d_id, o_id FROM orders
        LEFT JOIN new_order ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id
        WHERE (o_carrier_id IS NULL) <> (no_o_id IS NOT NULL)""",
    "5: a new order is an order": """
        SELECT no_w_id, no_d_id, no_o_id FROM new_order
        LEFT JOIN orders ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id
        WHERE o_id IS NULL""",
    "6: an order has the lines that it counts": """
        SELECT o_w_id, o_d_id, o_id FROM orders
        LEFT JOIN (SELECT ol_w_id, ol_d_id, ol_o_id, count(*) lines FROM order_line
                   GROUP BY ol_w_id, ol_d_id, ol_o_id) l
          ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
        WHERE o_ol_cnt <> coalesce(lines, 0)""",
    "7: a line is delivered with its order": """
        SELECT ol_w_id, ol_d_id, ol_o_id, ol_number FROM order_line
        LEFT JOIN orders ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id
        WHERE o_id IS NULL OR (ol_delivery_d IS NULL) <> (o_carrier_id IS NULL)""",
    "8: a warehouse's sum is its history's": """
        SELECT w_id FROM warehouse
        LEFT JOIN (SELECT h_w_id, sum(h_amount) paid FROM history GROUP BY h_w_id) h
          ON h_w_id = w_id
        WHERE w_ytd <> coalesce(paid, 0)""",
    "9: a district's sum is its history's": """
        SELECT d_w_id, d_id FROM district
        LEFT JOIN (SELECT h_w_id, h_d_id, sum(h_amount) paid FROM history
                   GROUP BY h_w_id, h_d_id) h ON h_w_id = d_w_id AND h_d_id = d_id
        WHERE d_ytd <> coalesce(paid, 0)""",
    "10: a balance is what was delivered less what was paid": f"""
        SELECT c_w_id, c_d_id, c_id FROM customer
        LEFT JOIN ({_DISTRICT_LINES}) l ON w = c_w_id AND d = c_d_id AND c = c_id
        LEFT JOIN (SELECT h_c_w_id, h_c_d_id, h_c_id, sum(h_amount) paid FROM history
                   GROUP BY h_c_w_id, h_c_d_id, h_c_id) h
          ON h_c_w_id = c_w_id AND h_c_d_id = c_d_id AND h_c_id = c_id
        WHERE c_balance <> coalesce(delivered, 0) - coalesce(paid, 0)""",
    "11: what is no longer new was delivered": """
        SELECT o_w_id, o_d_id
        FROM (SELECT o_w_id, o_d_id, count(*) orders FROM orders GROUP BY o_w_id, o_d_id) o
        LEFT JOIN (SELECT no_w_id, no_d_id, count(*) open FROM new_order
                   GROUP BY no_w_id, no_d_id) n ON no_w_id = o_w_id AND no_d_id = o_d_id
        JOIN (SELECT c_w_id, c_d_id, sum(c_delivery_cnt) deliveries FROM customer
              GROUP BY c_w_id, c_d_id) c ON c_w_id = o_w_id AND c_d_id = o_d_id
        WHERE orders - coalesce(open, 0) <> deliveries + {delivered_at_first}""",
    "12: balance and payments are what was delivered": f"""
        SELECT c_w_id, c_d_id, c_id FROM customer
        LEFT JOIN ({_DISTRICT_LINES}) l ON w = c_w_id AND d = c_d_id AND c = c_id
        WHERE c_balance + c_ytd_payment <> coalesce(delivered, 0)""",
}


def breaches(connection: psycopg.Connection[Any], size: Size) -> dict[str, int]:
    """Condition -> how many rows break it; empty where all hold."""
    found = {}
    for meaning, query in CONDITIONS.items():
        sql = query.replace("{delivered_at_first}", str(size.customers - size.undelivered))
        row = connection.execute(f"SELECT count(*) FROM ({sql}) AS breach".encode()).fetchone()
        assert row is not None
        if row[0]:
            found[meaning] = int(row[0])
    return found
