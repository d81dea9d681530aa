"""How large a database is, and how TPC-C draws its numbers (5.11, clauses 2.1.6 and 4.3)."""

from __future__ import annotations

import random
from dataclasses import dataclass

_SYLLABLES = ("BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING")
# The run-time constants C of NURand; any will do, the same for population and run.
_C_LAST = 123
_C_CUSTOMER = 259
_C_ITEM = 7911


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of each kind. The defaults below `warehouses` are the specification's."""

    warehouses: int
    districts: int = 10
    customers: int = 3_000  # a district; as many orders
    items: int = 100_000

    @property
    def undelivered(self) -> int:
        """First orders of a district that are not delivered yet: its last 30 %."""
        return self.customers * 3 // 10


def scaled(warehouses: int, share: float) -> Size:
    """A share of the specification's rows: its warehouses and districts, fewer customers, orders
    and items. Below a fiftieth there are as many customers as transactions ask for."""
    return Size(warehouses, 10, max(60, int(3_000 * share)), max(1_000, int(100_000 * share)))


def last_name(number: int) -> str:
    """The name of number 0 to 999 (4.3.2.3)."""
    return "".join(_SYLLABLES[digit] for digit in (number // 100, number // 10 % 10, number % 10))


class Choices:
    """The draws of one terminal."""

    def __init__(self, seed: int, size: Size) -> None:
        self.random = random.Random(seed)
        self._size = size

    def customer(self) -> int:
        return self._nurand(1023, _C_CUSTOMER, 1, self._size.customers)

    def item(self) -> int:
        return self._nurand(8191, _C_ITEM, 1, self._size.items)

    def last_name(self) -> str:
        """One that some customer of every district has."""
        return last_name(self._nurand(255, _C_LAST, 0, min(1_000, self._size.customers) - 1))

    def district(self) -> int:
        return self.random.randint(1, self._size.districts)

    def percent(self, share: int) -> bool:
        return self.random.randint(1, 100) <= share

    def other_warehouse(self, home: int) -> int:
        """Any but `home`, where there is another."""
        others = [w for w in range(1, self._size.warehouses + 1) if w != home]
        return self.random.choice(others) if others else home

    def _nurand(self, a: int, c: int, low: int, high: int) -> int:
        drawn = self.random.randint(0, a) | self.random.randint(low, high)
        return (drawn + c) % (high - low + 1) + low
