"""What is measured, as scripts of pgbench.

Select-only and TPC-B are pgbench's own, over the tables that `pgbench -i` makes, unchanged. A
transfer moves money between an account of the lower and one of the upper half of a table that is
cut there: two tablets, whose leaders the cluster spreads over its nodes. PostgreSQL runs the same
statements over one table. An insert is one row by itself; keys are drawn at random from 2^62.
"""

from __future__ import annotations

from dataclasses import dataclass

TRANSFER_ACCOUNTS = 10_000
_HALF = TRANSFER_ACCOUNTS // 2

# What dqe is told and PostgreSQL cannot be.
_CUT = (
    f" PARTITION BY RANGE (id) (PARTITION lower VALUES FROM (MINVALUE) TO ({_HALF}),"
    f" PARTITION upper VALUES FROM ({_HALF}) TO (MAXVALUE))"
)

_TRANSFER = f"""
\\set source random(0, {_HALF - 1})
\\set target random({_HALF}, {TRANSFER_ACCOUNTS - 1})
\\set amount random(1, 100)
BEGIN;
UPDATE transfer_accounts SET balance = balance - :amount WHERE id = :source;
UPDATE transfer_accounts SET balance = balance + :amount WHERE id = :target;
COMMIT;
"""

_INSERT = """
\\set id random(0, 4611686018427387903)
INSERT INTO inserted_rows (id, amount, note) VALUES (:id, 7, 'a row of its own');
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """A built-in script of pgbench's by its name, or the text of one."""

    name: str
    builtin: str | None = None
    script: str = ""


WORKLOADS = (
    Workload("select", builtin="select-only"),
    Workload("tpcb", builtin="tpcb-like"),
    Workload("transfer", script=_TRANSFER),
    Workload("insert", script=_INSERT),
)


def tables(*, cut: bool) -> list[str]:
    """Makes and fills what the scripts need besides pgbench's tables; `cut` for dqe."""
    return [
        "CREATE TABLE transfer_accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)"
        + (_CUT if cut else ""),
        "INSERT INTO transfer_accounts SELECT i, 0"
        f" FROM generate_series(0, {TRANSFER_ACCOUNTS - 1}) i",
        "CREATE TABLE inserted_rows (id bigint PRIMARY KEY, amount int, note text)",
    ]


def sum_is_zero() -> str:
    """Whether no transfer was done by half."""
    return "SELECT sum(balance) = 0 FROM transfer_accounts"
