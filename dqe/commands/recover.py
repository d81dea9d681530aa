"""`dqe recover`: go on where the majority of a tablet, or of the catalog, is lost for good.

Without a name it lists what has lost its majority. With a tablet's number, `catalog`, or `all`, it
says what may be lost and asks for the operator's word, which `--accept-data-loss` gives
beforehand. `all` is the whole way back: first the catalog, if it is lost, then every tablet that
is; the word is asked for once, when all that is at stake has been said.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import psycopg

from catalog.catalog_group import WORD
from dqe.commands.terminal import ask_cluster, told

Connection = psycopg.Connection[Any]

CATALOG = "catalog"
ALL = "all"
_LOST = (
    "SELECT tablet_id, tables, detail FROM dqe.repairs WHERE trouble = 'no majority'"
    " ORDER BY tablet_id"
)
# What is lost shows within this, once the catalog goes on.
_SETTLE_S = 60.0
_LOOK_S = 0.5


def run(what: str | None, url: str | None, *, accept_data_loss: bool = False) -> int:
    """The exit status."""
    if what is not None and url is None and "://" in what:
        what, url = None, what  # `dqe recover URL` lists, as `dqe status URL` shows
    if what is not None and what not in (CATALOG, ALL) and not what.isdecimal():
        print(f'dqe: "{what}" is no tablet\'s number, "catalog" or "all"', file=sys.stderr)
        return 2

    def ask(connection: Connection) -> int:
        if what is None:
            return _list(connection)
        lost = _lost(connection)
        wanted = [t for t, _, _ in lost] if what == ALL else [_number(what)]
        return _recover(connection, wanted, accept_data_loss=accept_data_loss)

    return ask_cluster(url, ask)


def _number(what: str) -> int:
    return 0 if what == CATALOG else int(what)


def _lost(connection: Connection) -> list[tuple[int, str, str]]:
    return connection.execute(_LOST).fetchall()


def _list(connection: Connection) -> int:
    lost = _lost(connection)
    for tablet_id, tables, detail in lost:
        name = "the catalog" if tablet_id == 0 else f"tablet {tablet_id} of {tables}"
        print(f"{name}: {detail}")
    print(
        "dqe recover all has them go on, with loss of data; dqe recover NUMBER, or catalog, one."
        if lost
        else "The catalog and every tablet have a majority of their replicas."
    )
    return 0


def _recover(connection: Connection, wanted: list[int], *, accept_data_loss: bool) -> int:
    if not wanted:
        print("The catalog and every tablet have a majority of their replicas.")
        return 0
    possible = wanted
    if not accept_data_loss:
        possible = [t for t in wanted if _says_stake(connection, t)]
        if not possible or _typed() != WORD:
            print("dqe: nothing was done", file=sys.stderr)
            return 1
    status = 0 if possible == wanted else 1
    for tablet_id in possible:
        try:
            print(_ask(connection, tablet_id, WORD), flush=True)
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            # None of its replicas answers, or it has its majority after all: the others still can.
            print(f"dqe: {told(error)}", file=sys.stderr)
            status = 1
        else:
            if tablet_id == 0:
                _wait_for_catalog(connection)
    return status


def _ask(connection: Connection, tablet_id: int, word: str) -> str:
    """What was done, in words."""
    call = f"recover_tablet({tablet_id}, '{word}')" if tablet_id else f"recover_catalog('{word}')"
    row = connection.execute(f"SELECT dqe.{call}".encode()).fetchone()
    assert row is not None
    return str(row[0])


def _says_stake(connection: Connection, tablet_id: int) -> bool:
    """Prints what may be lost, or why it cannot go on at all; whether it can."""
    try:
        _ask(connection, tablet_id, "")
    except psycopg.errors.InvalidParameterValue as error:
        print(told(error), file=sys.stderr)
        return True
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        print(f"dqe: {told(error)}", file=sys.stderr)
    return False


def _wait_for_catalog(connection: Connection) -> None:
    """Until statements have snapshots again: tablets are recovered through the catalog."""
    ends_s = time.monotonic() + _SETTLE_S
    while True:
        try:
            connection.execute("SELECT 1")
            return
        except psycopg.OperationalError:
            if connection.closed or time.monotonic() > ends_s:
                raise
        time.sleep(_LOOK_S)


def _typed() -> str:
    try:
        return input(f'Type "{WORD}" to go on: ').strip()
    except EOFError:
        return ""
