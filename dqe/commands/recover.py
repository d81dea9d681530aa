"""`dqe recover`: have a tablet go on whose majority of replicas is lost for good.

Without a tablet it lists those that need it. With one it says what may be lost and asks for the
operator's word, which `--accept-data-loss` gives beforehand.
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg

from dqe.commands.terminal import connect_or_say, told
from executor.recovery import WORD


def run(tablet_id: int | None, url: str | None, *, accept_data_loss: bool = False) -> int:
    """The exit status."""
    connection = connect_or_say(url)
    if connection is None:
        return 2
    with connection:
        if tablet_id is None:
            return _list(connection)
        return _recover(connection, tablet_id, accept_data_loss=accept_data_loss)


def _list(connection: psycopg.Connection[Any]) -> int:
    rows = connection.execute(
        "SELECT tablet_id, tables, detail FROM dqe.repairs WHERE trouble = 'no majority'"
        " ORDER BY tablet_id"
    ).fetchall()
    for tablet_id, tables, detail in rows:
        print(f"tablet {tablet_id} of {tables}: {detail}")
    print(
        "dqe recover TABLET has one go on, with loss of data."
        if rows
        else "Every tablet has a majority of its replicas."
    )
    return 0


def _recover(connection: psycopg.Connection[Any], tablet_id: int, *, accept_data_loss: bool) -> int:
    word = WORD if accept_data_loss else ""
    while True:
        try:
            row = connection.execute(
                "SELECT dqe.recover_tablet(%s, %s)", [tablet_id, word]
            ).fetchone()
        except psycopg.errors.InvalidParameterValue as error:
            print(told(error), file=sys.stderr)
            word = _typed()
            if word != WORD:
                print("dqe: nothing was done", file=sys.stderr)
                return 1
        except psycopg.Error as error:
            print(f"dqe: {told(error)}", file=sys.stderr)
            return 1
        else:
            assert row is not None
            print(row[0])
            return 0


def _typed() -> str:
    try:
        return input(f'Type "{WORD}" to go on: ').strip()
    except EOFError:
        return ""
