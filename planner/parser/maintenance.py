"""ANALYZE and VACUUM."""

from __future__ import annotations

from cluster.errors import SyntaxError_
from planner.parser.builder import (
    names_in_parentheses,
    object_name,
    source,
)
from planner.parser.keywords import words
from planner.parser.settings import option_word
from planner.parser.tokens import QUOTED, Cursor
from planner.statements import (
    Analyze,
    ObjectName,
    Statement,
    Vacuum,
)

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


def _targets(cursor: Cursor) -> _Targets:
    targets: list[tuple[ObjectName, tuple[str, ...] | None]] = []
    if cursor.at_column_name or cursor.key == QUOTED:
        while True:
            table = object_name(cursor)
            targets.append((table, names_in_parentheses(cursor) if cursor.key == "(" else None))
            if not cursor.accept(","):
                break
    return tuple(targets)
