"""COPY's fields to values: PostgreSQL's input functions over whole columns.

A column goes through the cheapest step that can do it, and through the exact one where that
fails: Arrow's casts take the spellings that dumps and exports write (ISO dates, plain numbers);
whatever they refuse goes to DuckDB with the cast that SQL would use, `'...'::type`. If that
fails, too, the first row that does is looked for by halving, and its error is the answer, with
`COPY t, line n, column c: "x"`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Column
from cluster.errors import CharacterNotInRepertoire, DqeError, StringDataRightTruncation
from executor.writes_rows import RowEvaluator, conformed
from planner.write_plan import RowExpression
from storage.types import Kind, SqlType, arrow_type

_TEXT_KINDS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR, Kind.NAME, Kind.CHAR})
_TRUE_WORDS = ["t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"]
_FALSE_WORDS = ["f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"]
_BOOL_WORDS = pa.array(_TRUE_WORDS + _FALSE_WORDS)
_BOOL_VALUES = pa.array([True] * len(_TRUE_WORDS) + [False] * len(_FALSE_WORDS))


class BadValue(Exception):
    """A value that its column does not take: where, and PostgreSQL's error."""

    def __init__(self, row: int, error: DqeError) -> None:
        super().__init__(row, error)
        self.row = row
        self.error = error


class ColumnReader:
    """Reads one column's texts. `cast` is SQL's cast over a text column of the same name."""

    def __init__(
        self, column: Column, cast: RowExpression, evaluator: RowEvaluator, time_zone: str
    ) -> None:
        self._column = column
        self._cast = cast
        self._evaluator = evaluator
        self._fast = _fast_reader(column.type, time_zone)

    def read(self, texts: pa.StringArray) -> pa.Array:
        """The values, in the Arrow type of the column. Raises BadValue. Blocks."""
        if self._column.type.kind in _TEXT_KINDS:
            return self._within_length(texts)
        if self._fast is not None:
            try:
                return self._fast(texts)
            except pa.ArrowInvalid:
                pass  # another spelling, or an error: the exact cast decides
        return self._read_exactly(texts)

    def _read_exactly(self, texts: pa.StringArray) -> pa.Array:
        try:
            return self._evaluate(texts)
        except DqeError as error:
            row = self._first_bad(texts)
            raise BadValue(row, self._error_of(texts, row, error)) from None

    def _evaluate(self, texts: pa.StringArray) -> pa.Array:
        batch = pa.RecordBatch.from_arrays([texts], names=[self._column.name])
        return conformed(self._evaluator.evaluate(batch, [self._cast])[0], self._column)

    def _first_bad(self, texts: pa.StringArray) -> int:
        """The first row whose cast fails: the longest prefix that works ends before it."""
        low, high = 0, len(texts) - 1
        while low < high:
            middle = (low + high) // 2
            if self._works(texts.slice(low, middle - low + 1)):
                low = middle + 1
            else:
                high = middle
        return low

    def _works(self, texts: pa.StringArray) -> bool:
        try:
            self._evaluate(texts)
        except DqeError:
            return False
        return True

    def _error_of(self, texts: pa.StringArray, row: int, error: DqeError) -> DqeError:
        """The row's own error; the batch's may be of another row."""
        try:
            self._evaluate(texts.slice(row, 1))
        except DqeError as own:
            return own
        return error

    def _within_length(self, texts: pa.StringArray) -> pa.StringArray:
        """Texts of varchar(n) and char(n): spaces beyond n go, anything else is 22001."""
        length = self._column.type.length
        if length is None:
            return texts
        longer = pc.greater(pc.utf8_length(texts), length)
        if pc.any(longer).as_py():
            cut = pc.utf8_slice_codeunits(texts, 0, length)
            rest = pc.utf8_rtrim(pc.utf8_slice_codeunits(texts, length), " ")
            bad = pc.fill_null(pc.greater(pc.utf8_length(rest), 0), False)
            row = pc.index(bad, True).as_py()
            if row >= 0:
                message = f"value too long for type {self._column.type}"
                raise BadValue(row, StringDataRightTruncation(message))
            texts = cut
        return texts


FastReader = Callable[[pa.StringArray], pa.Array]


def _fast_reader(sql_type: SqlType, time_zone: str) -> FastReader | None:
    """Arrow's own way to read the type; it raises ArrowInvalid where it is not sure."""
    kind = sql_type.kind
    if kind is Kind.BOOL:
        return _read_bool
    if kind in (Kind.FLOAT4, Kind.FLOAT8):
        return lambda texts: _read_float(texts, arrow_type(sql_type))
    if kind is Kind.TIMESTAMPTZ:
        return _read_utc if time_zone.upper() in ("UTC", "GMT", "ETC/UTC") else None
    if kind is Kind.UUID:
        return _read_uuid
    if kind in _PLAIN_CASTS:
        return lambda texts: pc.cast(texts, arrow_type(sql_type))
    return None


_PLAIN_CASTS = frozenset(
    {Kind.INT2, Kind.INT4, Kind.INT8, Kind.NUMERIC, Kind.DATE, Kind.TIME, Kind.TIMESTAMP}
)


def _read_bool(texts: pa.StringArray) -> pa.Array:
    index = pc.index_in(pc.utf8_lower(texts), value_set=_BOOL_WORDS)
    if index.null_count > texts.null_count:
        raise pa.ArrowInvalid("not a boolean in plain spelling")
    return _BOOL_VALUES.take(index)


def _read_float(texts: pa.StringArray, wanted: pa.DataType) -> pa.Array:
    values = pc.cast(texts, wanted)
    # Arrow turns what is out of range into infinity or zero; PostgreSQL refuses it.
    odd = pc.or_(pc.is_inf(values), pc.equal(values, 0))
    if pc.any(odd).as_py():
        plain = pc.match_substring_regex(pc.filter(texts, odd), r"^[-+]?(0*\.?0*|inf(inity)?)$")
        if not pc.all(plain).as_py():
            raise pa.ArrowInvalid("perhaps out of range")
    return values


def _read_utc(texts: pa.StringArray) -> pa.Array:
    """Timestamps with or without an offset, in a session whose zone is UTC."""
    wanted = pa.timestamp("us", tz="UTC")
    try:
        return pc.cast(texts, wanted)
    except pa.ArrowInvalid:
        return pc.assume_timezone(pc.cast(texts, pa.timestamp("us")), "UTC").cast(wanted)


def _read_uuid(texts: pa.StringArray) -> pa.Array:
    plain = pc.match_substring_regex(texts, "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    if not pc.all(plain).as_py():
        raise pa.ArrowInvalid("not a uuid in plain spelling")
    digits = pc.replace_substring(pc.fill_null(texts, "-" * 4 + "0" * 32), "-", "")
    joined = bytes.fromhex("".join(digits.to_pylist()))
    validity = None
    if texts.null_count:
        validity = pc.is_valid(texts).buffers()[1]
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(texts), [validity, pa.py_buffer(joined)]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


# ---------------------------------------------------------------------------------------
# From bytes to texts


def as_texts(values: pa.BinaryArray) -> pa.StringArray:
    """The bytes as UTF-8 text; the caller has checked the whole block (`checked_utf8`)."""
    if not len(values):
        return pa.array([], pa.string())
    assert values.offset == 0
    validity, offsets, data = values.buffers()
    return pa.StringArray.from_buffers(len(values), offsets, data, validity)


def checked_utf8(data: bytes, encoding: str) -> bytes:
    """The data as UTF-8 bytes; 22021 for bytes that are no text."""
    if encoding != "utf8":
        data = data.decode(encoding).encode()
    bad: bytes | None = None
    if b"\0" in data:
        bad = b"\0"
    else:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            bad = data[error.start : error.start + 1]
    if bad is not None:
        raise CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": 0x{bad[0]:02x}')
    return data


_ESCAPES = {
    "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip


def unescaped(texts: pa.StringArray, marked: np.ndarray) -> pa.StringArray:
    """Text format's backslash sequences, resolved in the marked values."""
    places = np.flatnonzero(marked)
    if not len(places):
        return texts
    chosen = texts.take(pa.array(places)).to_pylist()
    resolved = pa.array([None if t is None else _unescape(t) for t in chosen], pa.string())
    return pc.replace_with_mask(texts, pa.array(marked), resolved)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    place = 0
    while place < len(text):
        if text[place] != "\\" or place + 1 == len(text):
            out.append(text[place])
            place += 1
            continue
        piece, place = _sequence(text, place + 1)
        out.append(piece)
    return "".join(out)


def _sequence(text: str, place: int) -> tuple[str, int]:
    """What stands behind a backslash, and where it ends."""
    first = text[place]
    if first in _ESCAPES:
        return _ESCAPES[first], place + 1
    if first == "x":
        digits = _digits(text, place + 1, 2, "0123456789abcdefABCDEF")
        if digits:
            return _byte(int(digits, 16)), place + 1 + len(digits)
    digits = _digits(text, place, 3, "01234567")
    if digits:
        return _byte(int(digits, 8) & 0xFF), place + len(digits)
    return first, place + 1


def _digits(text: str, start: int, most: int, allowed: str) -> str:
    end = start
    while end < len(text) and end - start < most and text[end] in allowed:
        end += 1
    return text[start:end]


def _byte(value: int) -> str:
    """A byte given by number; bytes of several-byte characters are refused."""
    if value == 0 or value > 0x7F:
        raise CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": 0x{value:02x}')
    return chr(value)


def with_nulls(texts: pa.StringArray, is_null: pa.Array) -> pa.StringArray:
    """NULL where the mask says so."""
    if not pc.any(is_null).as_py():
        return texts
    return pc.if_else(is_null, pa.scalar(None, pa.string()), texts)
