"""The five transactions of TPC-C (5.11, clauses 2.4 to 2.8).

Each takes a connection on which nothing runs, makes one transaction and commits it. Errors of the
server go to the caller, who rolls back and tries again where that helps. Rows are locked in one
order (items by warehouse and number), so that two new orders never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from benchmarks.tpcc.sizes import Choices

_Row = tuple[Any, ...]
_UNUSED_ITEM = -1


class RolledBackByRule(Exception):
    """The one new order in a hundred that names an item which is not there (2.4.1.4)."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """One client: its connection, its warehouse, its chances."""

    connection: psycopg.Connection[Any]
    warehouse: int
    choices: Choices

    def one(self, sql: str, *values: Any) -> _Row:
        """The single row of a statement that must have one."""
        row: _Row | None = self.connection.execute(sql.encode(), values).fetchone()
        if row is None:
            raise AssertionError(f"no row: {sql} {values}")
        return row

    def rows(self, sql: str, *values: Any) -> list[_Row]:
        return self.connection.execute(sql.encode(), values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """The number of rows changed."""
        return self.connection.execute(sql.encode(), values).rowcount


@dataclass(frozen=True, slots=True)
class _Line:
    supply_warehouse: int
    item: int
    quantity: int


def new_order(terminal: Terminal) -> None:
    """2.4: reads and writes some forty rows; one in a hundred is rolled back by rule."""
    choices, home = terminal.choices, terminal.warehouse
    district, customer = choices.district(), choices.customer()
    lines = _lines(terminal)
    (tax,) = terminal.one("SELECT w_tax FROM warehouse WHERE w_id = %s", home)
    discount, _last, _credit = terminal.one(
        "SELECT c_discount, c_last, c_credit FROM customer "
        "WHERE c_w_id = %s AND c_d_id = %s AND c_id = %s",
        *(home, district, customer),
    )
    next_order, district_tax = terminal.one(
        "UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = %s AND d_id = %s "
        "RETURNING d_next_o_id, d_tax",
        *(home, district),
    )
    order = (home, district, next_order - 1)
    local = all(line.supply_warehouse == home for line in lines)
    terminal.run(
        "INSERT INTO orders (o_w_id, o_d_id, o_id, o_c_id, o_entry_d, o_ol_cnt, o_all_local) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        *(*order, customer, datetime.now(UTC), len(lines), int(local)),
    )
    terminal.run("INSERT INTO new_order VALUES (%s, %s, %s)", *order)
    total = sum(
        (_order_line(terminal, order, number, line) for number, line in enumerate(lines, 1)),
        Decimal(0),
    )
    assert total * (1 - discount) * (1 + tax + district_tax) >= 0
    terminal.connection.commit()


def _lines(terminal: Terminal) -> list[_Line]:
    choices, home = terminal.choices, terminal.warehouse
    lines = []
    for _ in range(choices.random.randint(5, 15)):
        supply = choices.other_warehouse(home) if choices.percent(1) else home
        lines.append(_Line(supply, choices.item(), choices.random.randint(1, 10)))
    lines.sort(key=lambda line: (line.supply_warehouse, line.item))
    if choices.percent(1):
        lines[-1] = _Line(home, _UNUSED_ITEM, 1)
    return lines


def _order_line(
    terminal: Terminal, order: tuple[int, int, int], number: int, line: _Line
) -> Decimal:
    """Takes one item from the stock; the line's amount."""
    found = terminal.rows("SELECT i_price, i_name, i_data FROM item WHERE i_id = %s", line.item)
    if not found:
        terminal.connection.rollback()
        raise RolledBackByRule
    place = f"s_dist_{order[1]:02}"
    quantity, _data, info = terminal.one(
        f"SELECT s_quantity, s_data, {place} FROM stock WHERE s_w_id = %s AND s_i_id = %s "
        "FOR UPDATE",
        *(line.supply_warehouse, line.item),
    )
    left = quantity - line.quantity
    terminal.run(
        "UPDATE stock SET s_quantity = %s, s_ytd = s_ytd + %s, s_order_cnt = s_order_cnt + 1, "
        "s_remote_cnt = s_remote_cnt + %s WHERE s_w_id = %s AND s_i_id = %s",
        *(left if left >= 10 else left + 91, line.quantity),
        *(int(line.supply_warehouse != order[0]), line.supply_warehouse, line.item),
    )
    price: Decimal = found[0][0]
    amount = line.quantity * price
    terminal.run(
        "INSERT INTO order_line (ol_w_id, ol_d_id, ol_o_id, ol_number, ol_i_id, ol_supply_w_id, "
        "ol_quantity, ol_amount, ol_dist_info) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        *(*order, number, line.item, line.supply_warehouse, line.quantity, amount, info),
    )
    return amount


def payment(terminal: Terminal) -> None:
    """2.5: a customer pays at a district, one in seven at another warehouse's."""
    choices, home = terminal.choices, terminal.warehouse
    district = choices.district()
    amount = Decimal(choices.random.randint(100, 500_000)) / 100
    customer_place = (home, district)
    if choices.percent(15):
        customer_place = (choices.other_warehouse(home), choices.district())
    (warehouse_name,) = terminal.one(
        "UPDATE warehouse SET w_ytd = w_ytd + %s WHERE w_id = %s RETURNING w_name", amount, home
    )
    (district_name,) = terminal.one(
        "UPDATE district SET d_ytd = d_ytd + %s WHERE d_w_id = %s AND d_id = %s RETURNING d_name",
        *(amount, home, district),
    )
    customer = _customer(terminal, *customer_place)
    credit, data = terminal.one(
        "UPDATE customer SET c_balance = c_balance - %s, c_ytd_payment = c_ytd_payment + %s, "
        "c_payment_cnt = c_payment_cnt + 1 WHERE c_w_id = %s AND c_d_id = %s AND c_id = %s "
        "RETURNING c_credit, c_data",
        *(amount, amount, *customer_place, customer),
    )
    if credit == "BC":
        noted = f"{customer} {customer_place} {home} {district} {amount}|{data}"
        terminal.run(
            "UPDATE customer SET c_data = %s WHERE c_w_id = %s AND c_d_id = %s AND c_id = %s",
            *(noted[:500], *customer_place, customer),
        )
    terminal.run(
        "INSERT INTO history (h_c_id, h_c_d_id, h_c_w_id, h_d_id, h_w_id, h_date, h_amount, "
        "h_data) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        *(customer, customer_place[1], customer_place[0], district, home, datetime.now(UTC)),
        *(amount, f"{warehouse_name}    {district_name}"),
    )
    terminal.connection.commit()


def _customer(terminal: Terminal, warehouse: int, district: int) -> int:
    """Sixty in a hundred are found by name: the middle one by first name (2.5.2.2)."""
    if not terminal.choices.percent(60):
        return terminal.choices.customer()
    found = terminal.rows(
        "SELECT c_id FROM customer WHERE c_w_id = %s AND c_d_id = %s AND c_last = %s "
        "ORDER BY c_first",
        *(warehouse, district, terminal.choices.last_name()),
    )
    return int(found[(len(found) - 1) // 2][0])


def order_status(terminal: Terminal) -> None:
    """2.6: reads a customer's last order."""
    home, district = terminal.warehouse, terminal.choices.district()
    customer = _customer(terminal, home, district)
    terminal.one(
        "SELECT c_first, c_middle, c_last, c_balance FROM customer "
        "WHERE c_w_id = %s AND c_d_id = %s AND c_id = %s",
        *(home, district, customer),
    )
    last = terminal.rows(
        "SELECT o_id, o_entry_d, o_carrier_id FROM orders "
        "WHERE o_w_id = %s AND o_d_id = %s AND o_c_id = %s ORDER BY o_id DESC LIMIT 1",
        *(home, district, customer),
    )
    for order, _entered, _carrier in last:
        lines = terminal.rows(
            "SELECT ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_delivery_d "
            "FROM order_line WHERE ol_w_id = %s AND ol_d_id = %s AND ol_o_id = %s",
            *(home, district, order),
        )
        assert lines, f"order {order} of district {district} has no lines"
    terminal.connection.commit()


def delivery(terminal: Terminal) -> None:
    """2.7: delivers the oldest new order of each district."""
    carrier = terminal.choices.random.randint(1, 10)
    for district in range(1, 11):
        _deliver(terminal, district, carrier)
    terminal.connection.commit()


def _deliver(terminal: Terminal, district: int, carrier: int) -> None:
    home = terminal.warehouse
    oldest = terminal.rows(
        "SELECT no_o_id FROM new_order WHERE no_w_id = %s AND no_d_id = %s "
        "ORDER BY no_o_id LIMIT 1",
        *(home, district),
    )
    if not oldest:
        return
    order = (home, district, oldest[0][0])
    if not terminal.run(
        "DELETE FROM new_order WHERE no_w_id = %s AND no_d_id = %s AND no_o_id = %s", *order
    ):
        return  # another delivery of this warehouse took it
    (customer,) = terminal.one(
        "UPDATE orders SET o_carrier_id = %s WHERE o_w_id = %s AND o_d_id = %s AND o_id = %s "
        "RETURNING o_c_id",
        *(carrier, *order),
    )
    terminal.run(
        "UPDATE order_line SET ol_delivery_d = %s "
        "WHERE ol_w_id = %s AND ol_d_id = %s AND ol_o_id = %s",
        *(datetime.now(UTC), *order),
    )
    (amount,) = terminal.one(
        "SELECT sum(ol_amount) FROM order_line "
        "WHERE ol_w_id = %s AND ol_d_id = %s AND ol_o_id = %s",
        *order,
    )
    terminal.run(
        "UPDATE customer SET c_balance = c_balance + %s, c_delivery_cnt = c_delivery_cnt + 1 "
        "WHERE c_w_id = %s AND c_d_id = %s AND c_id = %s",
        *(amount, home, district, customer),
    )


def stock_level(terminal: Terminal) -> None:
    """2.8: counts items of the last twenty orders of which little is left."""
    home, district = terminal.warehouse, terminal.choices.district()
    (next_order,) = terminal.one(
        "SELECT d_next_o_id FROM district WHERE d_w_id = %s AND d_id = %s", home, district
    )
    terminal.one(
        "SELECT count(DISTINCT s_i_id) FROM order_line, stock WHERE ol_w_id = %s AND ol_d_id = %s "
        "AND ol_o_id >= %s AND ol_o_id < %s AND s_w_id = %s AND s_i_id = ol_i_id "
        "AND s_quantity < %s",
        *(home, district, next_order - 20, next_order, home),
        terminal.choices.random.randint(10, 20),
    )
    terminal.connection.commit()


# Name, share of a hundred, transaction (5.2.3: at least 43 % payments and 4 % of the last three).
MIX: tuple[tuple[str, int, Callable[[Terminal], None]], ...] = (
    ("new order", 45, new_order),
    ("payment", 43, payment),
    ("order status", 4, order_status),
    ("delivery", 4, delivery),
    ("stock level", 4, stock_level),
)
