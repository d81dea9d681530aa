"""SET, SHOW, transactions, prepared statements, cursors, ANALYZE, VACUUM, DISCARD."""

from __future__ import annotations

import dataclasses

from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.parser import grammar
from planner.parser.builder import (
    build_query,
    expression,
    names_in_parentheses,
    object_name,
    source,
)
from planner.parser.keywords import words
from planner.parser.system_time import system_time, time_taken
from planner.parser.tokens import END, NUMBER, QUOTED, STRING, Cursor
from planner.statements import (
    AlterSystem,
    Analyze,
    Begin,
    CloseCursor,
    Commit,
    Deallocate,
    Declare,
    Discard,
    EndPrepared,
    Execute,
    Fetch,
    FetchDirection,
    LockTable,
    ObjectName,
    PrepareTransaction,
    Query,
    ReleaseSavepoint,
    Reset,
    Rollback,
    RollbackToSavepoint,
    Savepoint,
    SetConstraints,
    SetTransaction,
    SetVariable,
    Show,
    Statement,
    TransactionModes,
    Unlisten,
    Vacuum,
)

# ---------------------------------------------------------------------------------------
# Settings


def set_statement(cursor: Cursor, start: int) -> Statement:
    """SET [SESSION | LOCAL] name {TO | =} value; SET TIME ZONE; SET TRANSACTION..."""
    cursor.expect("SET")
    if cursor.accept("CONSTRAINTS"):
        return _set_constraints(cursor, start)
    if cursor.accept("SESSION", "CHARACTERISTICS"):
        cursor.expect("AS", "TRANSACTION")
        return _set_transaction(cursor, start, session=True)
    if cursor.key == "TRANSACTION":
        cursor.advance()
        return _set_transaction(cursor, start, session=False)
    local = cursor.key == "LOCAL" and cursor.peek() not in ("TO", "=")
    if local or (cursor.key == "SESSION" and cursor.peek() not in ("TO", "=")):
        cursor.advance()
    if cursor.accept("TRANSACTION"):
        return _set_transaction(cursor, start, session=False)
    name, value = _setting(cursor)
    return SetVariable(**source(cursor, start), name=name, value=value, local=local)


def _set_constraints(cursor: Cursor, start: int) -> Statement:
    """SET CONSTRAINTS {ALL | name, ...} {DEFERRED | IMMEDIATE}."""
    names: list[ObjectName] = []
    if not cursor.accept("ALL"):
        names.append(object_name(cursor))
        while cursor.accept(","):
            names.append(object_name(cursor))
    deferred = cursor.expect_any("DEFERRED", "IMMEDIATE") == "DEFERRED"
    return SetConstraints(names=tuple(names) or None, deferred=deferred, **source(cursor, start))


def _setting(cursor: Cursor) -> tuple[str, str | None]:
    """The name and value of SET, special forms included."""
    if cursor.accept("TIME", "ZONE"):
        return "timezone", _zone(cursor)
    if cursor.accept("NAMES"):
        if cursor.key == STRING:
            return "client_encoding", cursor.string()
        cursor.accept("DEFAULT")
        return "client_encoding", None
    if cursor.key in ("ROLE", "AUTHORIZATION", "XML"):
        raise FeatureNotSupported(f"SET {cursor.key} is not supported", position=cursor.position)
    if cursor.accept("SCHEMA"):
        return "search_path", cursor.string()
    name = setting_name(cursor)
    cursor.expect_any("TO", "=")
    if cursor.accept("DEFAULT"):
        return name, None
    values = [_setting_value(cursor)]
    while cursor.accept(","):
        values.append(_setting_value(cursor))
    return name, ", ".join(values)


def setting_name(cursor: Cursor) -> str:
    """A setting's name, dotted perhaps; settings are not case-sensitive."""
    name = cursor.name()
    while cursor.accept("."):
        name += "." + cursor.label()
    return name.lower()


def _setting_value(cursor: Cursor) -> str:
    if cursor.key == STRING:
        return cursor.string()
    if cursor.key == NUMBER or cursor.key in ("+", "-"):
        return _number_text(cursor)
    if cursor.key in ("TRUE", "FALSE", "ON"):
        return cursor.label()
    return cursor.non_reserved()


def _number_text(cursor: Cursor) -> str:
    sign = "-" if cursor.key == "-" else ""
    cursor.accept_any(("+", "-"))
    if cursor.key != NUMBER:
        cursor.fail()
    text = cursor.token.text
    cursor.advance()
    return sign + text


def _zone(cursor: Cursor) -> str | None:
    if cursor.accept_any(("LOCAL", "DEFAULT")):
        return None
    if cursor.accept("INTERVAL"):
        text = cursor.string()
        if cursor.accept("HOUR"):
            cursor.expect("TO", "MINUTE")
        return text
    return _setting_value(cursor)


def alter_system(cursor: Cursor, start: int) -> Statement:
    """ALTER SYSTEM {SET name {TO | =} {value | DEFAULT} | RESET {name | ALL}}."""
    cursor.expect("SYSTEM")
    name: str | None
    if cursor.accept("SET"):
        name, value = _setting(cursor)
    else:
        cursor.expect("RESET")
        name, value = None if cursor.accept("ALL") else setting_name(cursor), None
    return AlterSystem(**source(cursor, start), name=name, value=value)


def show(cursor: Cursor, start: int) -> Statement:
    """SHOW name | ALL | TIME ZONE | TRANSACTION ISOLATION LEVEL | SESSION AUTHORIZATION."""
    cursor.expect("SHOW")
    return Show(name=_shown(cursor), **source(cursor, start))


def _shown(cursor: Cursor) -> str:
    if cursor.accept("ALL"):
        return "all"
    if cursor.accept("TIME", "ZONE"):
        return "timezone"
    if cursor.accept("TRANSACTION", "ISOLATION", "LEVEL"):
        return "transaction_isolation"
    if cursor.accept("SESSION", "AUTHORIZATION"):
        return "session_authorization"
    return setting_name(cursor)


def reset(cursor: Cursor, start: int) -> Statement:
    """RESET name | ALL."""
    cursor.expect("RESET")
    return Reset(name=_shown(cursor), **source(cursor, start))


def discard(cursor: Cursor, start: int) -> Statement:
    cursor.expect("DISCARD")
    what = cursor.expect_any("ALL", "PLANS", "SEQUENCES", "TEMP", "TEMPORARY")
    return Discard(what="TEMP" if what == "TEMPORARY" else what, **source(cursor, start))


def unlisten(cursor: Cursor, start: int) -> Statement:
    """UNLISTEN channel | *."""
    cursor.expect("UNLISTEN")
    if not cursor.accept("*"):
        cursor.name()
    return Unlisten(**source(cursor, start))


# ---------------------------------------------------------------------------------------
# Transactions


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


def _set_transaction(cursor: Cursor, start: int, *, session: bool) -> Statement:
    if cursor.key == "SNAPSHOT":
        raise FeatureNotSupported(
            "SET TRANSACTION SNAPSHOT is not supported", position=cursor.position
        )
    before = cursor.index
    modes = _modes(cursor)
    if cursor.index == before:
        cursor.fail()
    return SetTransaction(**source(cursor, start), modes=modes, session=session)


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


# ---------------------------------------------------------------------------------------
# Prepared statements and cursors (PREPARE itself holds a statement: see `entry`)


def execute(cursor: Cursor, start: int) -> Statement:
    """EXECUTE name [(arguments)]."""
    cursor.expect("EXECUTE")
    name = cursor.name()
    arguments = []
    if cursor.accept("("):
        arguments.append(expression(cursor))
        while cursor.accept(","):
            arguments.append(expression(cursor))
        cursor.expect(")")
    return Execute(**source(cursor, start), name=name, arguments=tuple(arguments))


def deallocate(cursor: Cursor, start: int) -> Statement:
    """DEALLOCATE [PREPARE] name | ALL."""
    cursor.expect("DEALLOCATE")
    if cursor.key == "PREPARE" and cursor.peek() not in (END, ";"):
        cursor.advance()
    name = None if cursor.accept("ALL") else cursor.name()
    return Deallocate(**source(cursor, start), name=name)


def declare(cursor: Cursor, start: int) -> Statement:
    """DECLARE name [BINARY] [[NO] SCROLL] CURSOR [WITH HOLD] FOR query."""
    cursor.expect("DECLARE")
    name = cursor.name()
    binary, scroll = False, None
    while cursor.key != "CURSOR":
        if cursor.accept("SCROLL"):
            scroll = True
        elif cursor.accept("BINARY"):
            binary = True
        elif not (cursor.accept("INSENSITIVE") or cursor.accept("ASENSITIVE")):
            cursor.expect("NO", "SCROLL")
            scroll = False
    cursor.expect("CURSOR")
    hold = cursor.accept("WITH", "HOLD")
    if not hold:
        cursor.accept("WITHOUT", "HOLD")
    cursor.expect("FOR")
    query_start = cursor.index
    grammar.query(cursor)
    tree = build_query(cursor, cursor.slice(query_start))
    as_of = time_taken(cursor)
    query = Query(**source(cursor, query_start), tree=tree, as_of=as_of)
    return Declare(
        **source(cursor, start), name=name, query=query, hold=hold, binary=binary, scroll=scroll
    )


def fetch(cursor: Cursor, start: int) -> Statement:
    """FETCH and MOVE: [direction] [FROM | IN] cursor."""
    move = cursor.expect_any("FETCH", "MOVE") == "MOVE"
    direction, count = _fetch_direction(cursor)
    cursor.accept_any(("FROM", "IN"))
    name = cursor.name()
    return Fetch(**source(cursor, start), cursor=name, direction=direction, count=count, move=move)


_NEAR = {"NEXT": 1, "PRIOR": -1}
_ENDS = {"FIRST": 1, "LAST": -1}


def _fetch_direction(cursor: Cursor) -> tuple[FetchDirection, int | None]:
    forward = FetchDirection.FORWARD
    if cursor.accept("ALL"):
        return forward, None
    if cursor.key in (NUMBER, "-", "+"):
        return forward, _signed(cursor)
    if cursor.peek() in (END, ";"):  # a cursor that is named like a direction
        return forward, 1
    if cursor.key in _NEAR:
        return forward, _NEAR[str(cursor.accept_any(tuple(_NEAR)))]
    if cursor.key in _ENDS:
        return FetchDirection.ABSOLUTE, _ENDS[str(cursor.accept_any(tuple(_ENDS)))]
    word = cursor.accept_any(("FORWARD", "BACKWARD", "ABSOLUTE", "RELATIVE"))
    if word is None:
        return forward, 1
    direction = FetchDirection(word.lower())
    if direction in (FetchDirection.ABSOLUTE, FetchDirection.RELATIVE):
        return direction, _signed(cursor)
    if cursor.accept("ALL"):
        return direction, None
    return direction, _signed(cursor) if cursor.key in (NUMBER, "-", "+") else 1


def _signed(cursor: Cursor) -> int:
    sign = -1 if cursor.accept_any(("-", "+")) == "-" else 1
    return sign * cursor.integer()


def close(cursor: Cursor, start: int) -> Statement:
    """CLOSE name | ALL."""
    cursor.expect("CLOSE")
    name = None if cursor.accept("ALL") else cursor.name()
    return CloseCursor(**source(cursor, start), name=name)


# ---------------------------------------------------------------------------------------
# ANALYZE and VACUUM

_Targets = tuple[tuple[ObjectName, tuple[str, ...] | None], ...]


def analyze(cursor: Cursor, start: int) -> Statement:
    """ANALYZE [VERBOSE | (options)] [table [(columns)], ...]."""
    cursor.expect_any("ANALYZE", "ANALYSE")
    options = _maintenance_options(cursor)
    verbose = cursor.accept("VERBOSE") or options.get("verbose", False)
    targets = _targets(cursor)
    return Analyze(**source(cursor, start), tables=targets, verbose=verbose)


def vacuum(cursor: Cursor, start: int) -> Statement:
    """VACUUM with its options: there is nothing to reclaim by hand, ANALYZE is heeded."""
    cursor.expect("VACUUM")
    options = _maintenance_options(cursor)
    while cursor.accept_any(("FULL", "FREEZE", "VERBOSE")):
        pass
    analyze_too = bool(cursor.accept_any(("ANALYZE", "ANALYSE"))) or options.get("analyze", False)
    targets = _targets(cursor)
    return Vacuum(**source(cursor, start), tables=targets, analyze=analyze_too)


_MAINTENANCE_OPTIONS = words(
    """analyze analyse verbose full freeze disable_page_skipping skip_locked index_cleanup
    process_main process_toast truncate parallel skip_database_stats only_database_stats
    buffer_usage_limit"""
)


def _maintenance_options(cursor: Cursor) -> dict[str, bool]:
    """Options of ANALYZE and VACUUM; all but `analyze` and `verbose` change nothing here."""
    options: dict[str, bool] = {}
    if not cursor.accept("("):
        return options
    while True:
        position = cursor.position
        name = cursor.label()
        if name not in _MAINTENANCE_OPTIONS:
            raise SyntaxError_(f'unrecognized option "{name}"', position=position)
        value = "true" if cursor.key in (",", ")") else option_word(cursor).lower()
        options[name] = value not in ("false", "off", "0", "no")
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options


def option_word(cursor: Cursor) -> str:
    if cursor.key == NUMBER:
        return _number_text(cursor)
    if cursor.key == STRING:
        return cursor.string()
    return cursor.label()


def _targets(cursor: Cursor) -> _Targets:
    targets: list[tuple[ObjectName, tuple[str, ...] | None]] = []
    if cursor.at_column_name or cursor.key == QUOTED:
        while True:
            table = object_name(cursor)
            targets.append((table, names_in_parentheses(cursor) if cursor.key == "(" else None))
            if not cursor.accept(","):
                break
    return tuple(targets)
