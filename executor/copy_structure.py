"""Which bytes of COPY data have a meaning: delimiters, newlines, quotes, escapes.

All is found by passes over the block's bytes that cost about a nanosecond a byte: comparisons,
and one running sum where it matters what came before (inside quotes or not).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int32]

NEWLINE, RETURN, BACKSLASH = 10, 13, 92


@dataclass(frozen=True, slots=True)
class Structure:
    """`breaks` are the delimiters and newlines that separate fields, `newlines` those of rows.

    `marks` counts, before each position, quotes that open or close (csv) or backslashes that
    escape (text); `dropped` are bytes that are in no value, `drops` counts them. None where
    there are none.
    """

    breaks: Positions
    newlines: Positions
    marks: Counts | None = None
    dropped: Mask | None = None
    drops: Counts | None = None
    open_quote: bool = False


def text_structure(data: bytes, delimiter: int) -> Structure:
    """Of text format: a backslash escapes the byte behind it."""
    array = np.frombuffer(data, dtype=np.uint8)
    breaks = _candidates(array, delimiter)
    if BACKSLASH not in data:
        return Structure(breaks, _newlines(array, breaks))
    escapes = np.zeros(len(array), dtype=bool)
    escapes[_active_escapes(np.flatnonzero(array == BACKSLASH))] = True
    marks = counts_before(escapes)
    breaks = breaks[~escaped(marks, breaks)]
    return Structure(breaks, _newlines(array, breaks), marks)


def csv_structure(data: bytes, delimiter: int, quote: int, escape: int) -> Structure:
    """Of csv: a quote opens or closes wherever it stands; `escape` makes it a value's own."""
    array = np.frombuffer(data, dtype=np.uint8)
    breaks = _candidates(array, delimiter)
    if quote not in data:
        return Structure(breaks, _newlines(array, breaks))
    if quote == escape:
        quotes = array == quote
        dropped = _without_doubled(quotes)
    else:
        quotes, dropped = _walk_quotes(array, quote, escape)
    marks = counts_before(quotes)
    drops = marks if dropped is quotes else counts_before(dropped)
    breaks = breaks[~quoted(marks, breaks)]
    newlines = _newlines(array, breaks)
    return Structure(breaks, newlines, marks, dropped, drops, open_quote=bool(marks[-1] & 1))


def quoted(marks: Counts, positions: Positions) -> Mask:
    """Which bytes lie inside quotes."""
    inside: Mask = (marks[positions] & 1).astype(bool)
    return inside


def escaped(marks: Counts, positions: Positions) -> Mask:
    """Which bytes have a backslash before them that counts."""
    before = np.maximum(positions - 1, 0)
    found: Mask = (marks[before + 1] > marks[before]) & (positions > 0)
    return found


def _candidates(array: Bytes, delimiter: int) -> Positions:
    found: Positions = np.flatnonzero((array == delimiter) | (array == NEWLINE))
    return found


def _newlines(array: Bytes, breaks: Positions) -> Positions:
    found: Positions = breaks[array[breaks] == NEWLINE]
    return found


def _without_doubled(quotes: Mask) -> Mask:
    """The quotes that are in no value; one that reopens right behind the one that closed is.

    The mask itself, if no quote is doubled.
    """
    places = np.flatnonzero(quotes)
    reopening, closing = places[2::2], places[1:-1:2]
    doubled = reopening[reopening == closing + 1]
    if not len(doubled):
        return quotes
    dropped = quotes.copy()
    dropped[doubled] = False
    return dropped


def _active_escapes(backslashes: Positions) -> Positions:
    """The backslashes that escape the next byte: every other one of each run."""
    starts_run = np.diff(backslashes, prepend=-2) != 1
    run_starts = np.flatnonzero(starts_run)
    place_in_run = np.arange(len(backslashes)) - run_starts[np.cumsum(starts_run) - 1]
    active: Positions = backslashes[place_in_run % 2 == 0]
    return active


def _walk_quotes(array: Bytes, quote: int, escape: int) -> tuple[Mask, Mask]:
    """Quotes that toggle and bytes to drop, where the escape is a character of its own."""
    toggles = np.zeros(len(array), dtype=bool)
    dropped = np.zeros(len(array), dtype=bool)
    inside = False
    skip = -1
    for mark in np.flatnonzero((array == quote) | (array == escape)).tolist():
        if mark == skip:
            continue
        following = int(array[mark + 1]) if mark + 1 < len(array) else -1
        if inside and array[mark] == escape and following in (quote, escape):
            dropped[mark] = True
            skip = mark + 1
        elif array[mark] == quote:
            toggles[mark] = dropped[mark] = True
            inside = not inside
    return toggles, dropped


def counts_before(mask: Mask) -> Counts:
    """How many marks lie before each position, and before the end."""
    counts = np.zeros(len(mask) + 1, dtype=np.int32)
    np.cumsum(mask, out=counts[1:])
    return counts
