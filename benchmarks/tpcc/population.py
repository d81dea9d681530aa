"""The first rows of a TPC-C database (5.11, clause 4.3.3), made as Arrow columns and sent by COPY.

The same seed gives the same rows. Strings are drawn from pools of some thousand instead of being
made one by one; every number that a consistency condition looks at is as specified.
"""

from __future__ import annotations

import io
import random
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv

from benchmarks.tpcc.sizes import Size, last_name

_POOL = 4_000
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_Columns = dict[str, Any]


def populate(connection: psycopg.Connection[Any], size: Size, seed: int = 1) -> int:
    """Fills all nine tables; the number of rows."""
    maker = _Maker(size, seed)
    rows = _send(connection, "item", pa.table(maker.items()))
    for warehouse in range(1, size.warehouses + 1):
        # One COPY a table: one a district costs more for its commit than for its rows.
        pieces: dict[str, list[pa.Table]] = {}
        for table, columns in maker.of_warehouse(warehouse):
            pieces.setdefault(table, []).append(pa.table(columns))
        rows += sum(_send(connection, t, pa.concat_tables(each)) for t, each in pieces.items())
    return rows


def _send(connection: psycopg.Connection[Any], table: str, batch: pa.Table) -> int:
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(batch, buffer, pyarrow.csv.WriteOptions(include_header=False))
    names = ", ".join(batch.column_names)
    copy = f"COPY {table} ({names}) FROM STDIN (FORMAT csv)".encode()
    with connection.cursor().copy(copy) as target:
        target.write(buffer.getvalue())
    return int(batch.num_rows)


class _Maker:
    """Draws the columns of one table after the other."""

    def __init__(self, size: Size, seed: int) -> None:
        self._size = size
        self._numbers = np.random.default_rng(seed)
        self._strings = random.Random(seed)
        self._pools: dict[tuple[int, int, str], pa.Array] = {}

    def items(self) -> _Columns:
        count = self._size.items
        return {
            "i_id": np.arange(1, count + 1),
            "i_im_id": self._integers(1, 10_000, count),
            "i_name": self._text(14, 24, count),
            "i_price": self._decimals(100, 10_000, 2, count),
            "i_data": self._data(count),
        }

    def of_warehouse(self, warehouse: int) -> Iterator[tuple[str, _Columns]]:
        """Tables and columns of one warehouse."""
        yield "warehouse", self._warehouse(warehouse)
        yield "stock", self._stock(warehouse)
        yield "district", self._districts(warehouse)
        for district in range(1, self._size.districts + 1):
            place = (warehouse, district)
            yield "customer", self._customers(*place)
            yield "history", self._history(*place)
            yield from self._orders(*place)

    def _warehouse(self, warehouse: int) -> _Columns:
        paid = self._size.districts * self._size.customers * 10
        return {
            "w_id": np.array([warehouse]),
            "w_name": self._text(6, 10, 1),
            **self._address("w", 1),
            "w_tax": self._decimals(0, 2_000, 4, 1),
            "w_ytd": pa.array([f"{paid}.00"]),
        }

    def _districts(self, warehouse: int) -> _Columns:
        count = self._size.districts
        return {
            "d_w_id": np.full(count, warehouse),
            "d_id": np.arange(1, count + 1),
            "d_name": self._text(6, 10, count),
            **self._address("d", count),
            "d_tax": self._decimals(0, 2_000, 4, count),
            "d_ytd": np.full(count, self._size.customers * 10),
            "d_next_o_id": np.full(count, self._size.customers + 1),
        }

    def _stock(self, warehouse: int) -> _Columns:
        count = self._size.items
        zeros = np.zeros(count, dtype=np.int64)
        places = {f"s_dist_{n:02}": self._text(24, 24, count) for n in range(1, 11)}
        return {
            "s_w_id": np.full(count, warehouse),
            "s_i_id": np.arange(1, count + 1),
            "s_quantity": self._integers(10, 100, count),
            **places,
            "s_ytd": zeros,
            "s_order_cnt": zeros,
            "s_remote_cnt": zeros,
            "s_data": self._data(count),
        }

    def _customers(self, warehouse: int, district: int) -> _Columns:
        count = self._size.customers
        drawn = self._integers(0, 999, count)
        names = [last_name(n if n < 1_000 else int(drawn[n])) for n in range(count)]
        bad = self._numbers.random(count) < 0.1
        return {
            "c_w_id": np.full(count, warehouse),
            "c_d_id": np.full(count, district),
            "c_id": np.arange(1, count + 1),
            "c_first": self._text(8, 16, count),
            "c_middle": pa.array(["OE"] * count),
            "c_last": pa.array(names),
            **self._address("c", count),
            "c_phone": self._text(16, 16, count, string.digits),
            "c_since": self._began(count),
            "c_credit": pa.array(np.where(bad, "BC", "GC")),
            "c_credit_lim": np.full(count, 50_000),
            "c_discount": self._decimals(0, 5_000, 4, count),
            "c_balance": np.full(count, -10),
            "c_ytd_payment": np.full(count, 10),
            "c_payment_cnt": np.ones(count, dtype=np.int64),
            "c_delivery_cnt": np.zeros(count, dtype=np.int64),
            "c_data": self._text(300, 500, count),
        }

    def _history(self, warehouse: int, district: int) -> _Columns:
        count = self._size.customers
        return {
            "h_c_id": np.arange(1, count + 1),
            "h_c_d_id": np.full(count, district),
            "h_c_w_id": np.full(count, warehouse),
            "h_d_id": np.full(count, district),
            "h_w_id": np.full(count, warehouse),
            "h_date": self._began(count),
            "h_amount": np.full(count, 10),
            "h_data": self._text(12, 24, count),
        }

    def _orders(self, warehouse: int, district: int) -> Iterator[tuple[str, _Columns]]:
        count = self._size.customers
        delivered = count - self._size.undelivered
        lines = self._integers(5, 15, count)
        carriers = self._integers(1, 10, count)
        open_ = np.arange(count) >= delivered
        yield (
            "orders",
            {
                "o_w_id": np.full(count, warehouse),
                "o_d_id": np.full(count, district),
                "o_id": np.arange(1, count + 1),
                "o_c_id": self._numbers.permutation(count) + 1,
                "o_entry_d": self._began(count),
                "o_carrier_id": pa.array(carriers, mask=open_),
                "o_ol_cnt": lines,
                "o_all_local": np.ones(count, dtype=np.int64),
            },
        )
        undelivered = np.arange(delivered + 1, count + 1)
        yield (
            "new_order",
            {
                "no_w_id": np.full(len(undelivered), warehouse),
                "no_d_id": np.full(len(undelivered), district),
                "no_o_id": undelivered,
            },
        )
        yield "order_line", self._order_lines(warehouse, district, lines, delivered)

    def _order_lines(
        self, warehouse: int, district: int, lines: np.ndarray[Any, Any], delivered: int
    ) -> _Columns:
        orders = np.repeat(np.arange(1, len(lines) + 1), lines)
        count = len(orders)
        open_ = orders > delivered
        cents = np.where(open_, self._integers(1, 999_999, count), 0)
        numbers = np.arange(count) - np.repeat(np.cumsum(lines) - lines, lines) + 1
        return {
            "ol_w_id": np.full(count, warehouse),
            "ol_d_id": np.full(count, district),
            "ol_o_id": orders,
            "ol_number": numbers,
            "ol_i_id": self._integers(1, self._size.items, count),
            "ol_supply_w_id": np.full(count, warehouse),
            "ol_delivery_d": pa.array([_BEGAN.isoformat()] * count, mask=open_),
            "ol_quantity": np.full(count, 5),
            "ol_amount": _scaled(cents, 2),
            "ol_dist_info": self._text(24, 24, count),
        }

    def _address(self, prefix: str, count: int) -> _Columns:
        return {
            f"{prefix}_street_1": self._text(10, 20, count),
            f"{prefix}_street_2": self._text(10, 20, count),
            f"{prefix}_city": self._text(10, 20, count),
            f"{prefix}_state": self._text(2, 2, count, string.ascii_uppercase),
            f"{prefix}_zip": pa.array([f"{n:04}11111" for n in self._integers(0, 9_999, count)]),
        }

    def _data(self, count: int) -> pa.Array:
        """i_data and s_data: a tenth of them holds the word ORIGINAL (4.3.3.1)."""
        texts = self._text(26, 42, count).to_pylist()
        for place in np.flatnonzero(self._numbers.random(count) < 0.1):
            texts[place] = "ORIGINAL" + texts[place][8:]
        return pa.array(texts)

    def _integers(self, low: int, high: int, count: int) -> np.ndarray[Any, Any]:
        return self._numbers.integers(low, high, count, endpoint=True)

    def _decimals(self, low: int, high: int, scale: int, count: int) -> pa.Array:
        return _scaled(self._integers(low, high, count), scale)

    def _began(self, count: int) -> pa.Array:
        return pa.array([_BEGAN.isoformat()] * count)

    def _text(
        self, shortest: int, longest: int, count: int, letters: str = string.ascii_letters
    ) -> pa.Array:
        key = (shortest, longest, letters)
        if key not in self._pools:
            drawn = [self._strings.randint(shortest, longest) for _ in range(_POOL)]
            texts = ["".join(self._strings.choices(letters, k=length)) for length in drawn]
            self._pools[key] = pa.array(texts)
        return self._pools[key].take(pa.array(self._numbers.integers(0, _POOL, count)))


def _scaled(units: np.ndarray[Any, Any], scale: int) -> pa.Array:
    """Whole units of 10^-scale as decimal text."""
    one = 10**scale
    return pa.array([f"{unit // one}.{unit % one:0{scale}}" for unit in units.tolist()])
