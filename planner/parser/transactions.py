"""BEGIN to COMMIT: transaction modes, savepoints, LOCK, SET CONSTRAINTS, two-phase commit."""

from __future__ import annotations

import dataclasses

from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.parser.builder import (
    object_name,
    source,
)
from planner.parser.system_time import system_time
from planner.parser.tokens import END, Cursor
from planner.statements import (
    Begin,
    Commit,
    EndPrepared,
    LockTable,
    ObjectName,
    PrepareTransaction,
    ReleaseSavepoint,
    Rollback,
    RollbackToSavepoint,
    Savepoint,
    SetConstraints,
    SetTransaction,
    Statement,
    TransactionModes,
)

_LOCK_MODES = (
    ("ACCESS", "SHARE"),
    ("ACCESS", "EXCLUSIVE"),
    ("ROW", "SHARE"),
    ("ROW", "EXCLUSIVE"),
    ("SHARE", "UPDATE", "EXCLUSIVE"),
    ("SHARE", "ROW", "EXCLUSIVE"),
    ("SHARE",),
    ("EXCLUSIVE",),
)


def lock(cursor: Cursor, start: int) -> Statement:
    """LOCK [TABLE] [ONLY] t [*], ... [IN mode MODE] [NOWAIT]."""
    cursor.expect("LOCK")
    cursor.accept("TABLE")
    tables = [_locked_table(cursor)]
    while cursor.accept(","):
        tables.append(_locked_table(cursor))
    mode = "access exclusive"
    if cursor.accept("IN"):
        found = next((words for words in _LOCK_MODES if cursor.accept(*words)), None)
        cursor.expect("MODE")
        assert found is not None
        mode = " ".join(found).lower()
    nowait = cursor.accept("NOWAIT")
    return LockTable(tables=tuple(tables), mode=mode, nowait=nowait, **source(cursor, start))


def _locked_table(cursor: Cursor) -> ObjectName:
    cursor.accept("ONLY")
    name = object_name(cursor)
    cursor.accept("*")
    return name


def begin(cursor: Cursor, start: int) -> Statement:
    """BEGIN [WORK | TRANSACTION] [modes]; START TRANSACTION [modes]."""
    tag = "BEGIN"
    if cursor.accept("START"):
        cursor.expect("TRANSACTION")
        tag = "START TRANSACTION"
    else:
        cursor.expect("BEGIN")
        cursor.accept_any(("WORK", "TRANSACTION"))
    modes = _modes(cursor)
    return Begin(**source(cursor, start), modes=modes, tag=tag)


def set_transaction(cursor: Cursor, start: int, *, session: bool) -> Statement:
    """The modes behind SET TRANSACTION, or behind SET SESSION CHARACTERISTICS AS TRANSACTION."""
    if cursor.key == "SNAPSHOT":
        raise FeatureNotSupported(
            "SET TRANSACTION SNAPSHOT is not supported", position=cursor.position
        )
    before = cursor.index
    modes = _modes(cursor)
    if cursor.index == before:
        cursor.fail()
    return SetTransaction(**source(cursor, start), modes=modes, session=session)


def set_constraints(cursor: Cursor, start: int) -> Statement:
    """SET CONSTRAINTS {ALL | name, ...} {DEFERRED | IMMEDIATE}."""
    names: list[ObjectName] = []
    if not cursor.accept("ALL"):
        names.append(object_name(cursor))
        while cursor.accept(","):
            names.append(object_name(cursor))
    deferred = cursor.expect_any("DEFERRED", "IMMEDIATE") == "DEFERRED"
    return SetConstraints(names=tuple(names) or None, deferred=deferred, **source(cursor, start))


def _modes(cursor: Cursor) -> TransactionModes:
    modes = TransactionModes()
    while True:
        if cursor.accept("ISOLATION", "LEVEL"):
            modes = dataclasses.replace(modes, isolation=_isolation(cursor))
        elif cursor.accept("READ", "ONLY"):
            modes = dataclasses.replace(modes, read_only=True)
        elif cursor.accept("READ", "WRITE"):
            modes = dataclasses.replace(modes, read_only=False)
        elif cursor.accept("NOT", "DEFERRABLE"):
            modes = dataclasses.replace(modes, deferrable=False)
        elif cursor.accept("DEFERRABLE"):
            modes = dataclasses.replace(modes, deferrable=True)
        elif (as_of := system_time(cursor)) is not None:
            modes = dataclasses.replace(modes, as_of=as_of)
        else:
            return _checked(modes)
        if cursor.accept(",") and cursor.key in (END, ";"):
            cursor.fail()


def _checked(modes: TransactionModes) -> TransactionModes:
    if modes.as_of is not None and modes.read_only is False:
        raise SyntaxError_(
            "AS OF SYSTEM TIME specified with READ WRITE mode", position=modes.as_of.position
        )
    return modes


def _isolation(cursor: Cursor) -> str:
    if cursor.accept("SERIALIZABLE"):
        return "serializable"
    if cursor.accept("REPEATABLE", "READ"):
        return "repeatable read"
    cursor.expect("READ")
    return "read " + cursor.expect_any("COMMITTED", "UNCOMMITTED").lower()


def _chain(cursor: Cursor) -> bool:
    cursor.accept_any(("WORK", "TRANSACTION"))
    if not cursor.accept("AND"):
        return False
    negated = cursor.accept("NO")
    cursor.expect("CHAIN")
    return not negated


def commit(cursor: Cursor, start: int) -> Statement:
    """COMMIT or END."""
    if cursor.expect_any("COMMIT", "END") == "COMMIT" and cursor.key == "PREPARED":
        return _end_prepared(cursor, start, "COMMIT PREPARED")
    chain = _chain(cursor)
    return Commit(**source(cursor, start), chain=chain)


def rollback(cursor: Cursor, start: int) -> Statement:
    """ROLLBACK or ABORT, also TO a savepoint."""
    if cursor.expect_any("ROLLBACK", "ABORT") == "ROLLBACK" and cursor.key == "PREPARED":
        return _end_prepared(cursor, start, "ROLLBACK PREPARED")
    chain = _chain(cursor)
    if not chain and cursor.accept("TO"):
        cursor.accept("SAVEPOINT")
        name = cursor.name()
        return RollbackToSavepoint(**source(cursor, start), name=name)
    return Rollback(**source(cursor, start), chain=chain)


def prepare_transaction(cursor: Cursor, start: int) -> Statement:
    """TRANSACTION and an identifier, behind PREPARE."""
    cursor.expect("TRANSACTION")
    cursor.string()
    return PrepareTransaction(**source(cursor, start))


def _end_prepared(cursor: Cursor, start: int, command: str) -> Statement:
    cursor.expect("PREPARED")
    identifier = cursor.string()
    return EndPrepared(**source(cursor, start), command=command, identifier=identifier)


def savepoint(cursor: Cursor, start: int) -> Statement:
    cursor.expect("SAVEPOINT")
    name = cursor.name()
    return Savepoint(**source(cursor, start), name=name)


def release(cursor: Cursor, start: int) -> Statement:
    cursor.expect("RELEASE")
    cursor.accept("SAVEPOINT")
    name = cursor.name()
    return ReleaseSavepoint(**source(cursor, start), name=name)
