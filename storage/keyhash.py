"""The stable hash that places keys on the ring of 2^32 positions.

Problem: a row's part must be found by the planner (one literal), by the loader (whole Arrow
columns) and by an exchange (inside a DuckDB statement), and all must agree, today and after
every upgrade, because the answer is baked into where rows lie on disk. So the hash is ours,
it is written three times here, and `docs/hash.md` pins it with test vectors.

Idea: it follows equality, not bytes. Every type is brought to one of two forms first:

    number, bool, date, time, timestamp   a 64-bit integer, mixed by two 32-bit multiplications
    text, bytes, uuid, fractions          the first four bytes of MD5, read little-endian

so int4 5 = int8 5 = numeric 5.00, `'a'::char(3)` = `'a'::text`, and NULL is position 0.
Several columns are folded from left to right with the same mixing step.

Invariants (tests/storage/test_keyhash.py): the three forms agree for every value; types of one
`HashFamily` give equal values equal hashes. Values of different families need not meet.

Left out: floats (equality of rounded values is no base for placement), intervals, arrays and
json; they are refused with 0A000.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import FeatureNotSupported
from storage.types import Kind, SqlType

Hashes = npt.NDArray[np.int64]

_MASK = 0xFFFFFFFF
_LOW_FACTOR = 668265263
_HIGH_FACTOR = 374761393
_FINAL_FACTOR = 1540483477
_SHIFT = 31

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# Below this many rows MD5 in Python is faster than a DuckDB statement (measured: 1.3 ms each).
_SMALL_ROWS = 1000


class HashFamily(StrEnum):
    """Types whose equal values hash alike. A join key pair must be of one family to meet."""

    NUMBER = "number"
    TEXT = "text"
    BYTES = "bytes"
    BOOL = "bool"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    UUID = "uuid"


_FAMILIES: dict[Kind, HashFamily] = {
    Kind.INT2: HashFamily.NUMBER,
    Kind.INT4: HashFamily.NUMBER,
    Kind.INT8: HashFamily.NUMBER,
    Kind.OID: HashFamily.NUMBER,
    Kind.NUMERIC: HashFamily.NUMBER,
    Kind.TEXT: HashFamily.TEXT,
    Kind.VARCHAR: HashFamily.TEXT,
    Kind.BPCHAR: HashFamily.TEXT,
    Kind.NAME: HashFamily.TEXT,
    Kind.CHAR: HashFamily.TEXT,
    Kind.BYTEA: HashFamily.BYTES,
    Kind.BOOL: HashFamily.BOOL,
    Kind.DATE: HashFamily.DATE,
    Kind.TIME: HashFamily.TIME,
    Kind.TIMESTAMP: HashFamily.TIMESTAMP,
    Kind.TIMESTAMPTZ: HashFamily.TIMESTAMPTZ,
    Kind.UUID: HashFamily.UUID,
}


def is_hashable(sql_type: SqlType) -> bool:
    """Whether keys of that type can be placed."""
    return sql_type.kind in _FAMILIES


def hash_family(sql_type: SqlType) -> HashFamily:
    """The family of the type; 0A000 where the type cannot be a hash key."""
    family = _FAMILIES.get(sql_type.kind)
    if family is None:
        raise FeatureNotSupported(
            f"type {sql_type} cannot be a hash partition key",
            hint="Partition by a column of an integer, numeric, text, date, time, uuid or"
            " boolean type, or use PARTITION BY RANGE.",
        )
    return family


# One value in Python.


def mix(low: int, high: int) -> int:
    """The mixing step over two 32-bit numbers; every product fits a signed 64-bit integer."""
    total = low * _LOW_FACTOR + high * _HIGH_FACTOR
    return ((total ^ (total >> _SHIFT)) & _MASK) * _FINAL_FACTOR & _MASK


def hash_integer(value: int) -> int:
    """The hash of a 64-bit integer, of its two's complement."""
    return mix(value & _MASK, (value >> 32) & _MASK)


def hash_bytes(value: bytes) -> int:
    """The first four bytes of MD5, little-endian; text is hashed as UTF-8."""
    digest = hashlib.md5(value, usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "little")


def hash_value(value: object, sql_type: SqlType) -> int:
    """The ring position of one value.

    Takes the Python value of the type: int or Decimal for numbers, str, bytes, bool, UUID, and
    for dates and times either `datetime` objects or the raw number an Arrow column holds (days
    since 1970, microseconds), which can tell infinity and years that Python cannot.
    """
    if value is None:
        return 0
    family = hash_family(sql_type)
    if family is HashFamily.NUMBER:
        return _hash_number(value)
    if family is HashFamily.TEXT:
        assert isinstance(value, str), value
        text = value.rstrip(" ") if sql_type.kind is Kind.BPCHAR else value
        return hash_bytes(text.encode())
    if family is HashFamily.BYTES:
        assert isinstance(value, bytes | bytearray | memoryview), value
        return hash_bytes(bytes(value))
    if family is HashFamily.UUID:
        return hash_bytes(str(_as_uuid(value)).encode())
    return hash_integer(_as_integer(value))


def hash_key(values: Sequence[object], sql_types: Sequence[SqlType]) -> int:
    """The ring position of a key of one or several columns."""
    assert len(values) == len(sql_types) > 0
    result = hash_value(values[0], sql_types[0])
    for value, sql_type in zip(values[1:], sql_types[1:], strict=True):
        result = mix(hash_value(value, sql_type), result)
    return result


def _hash_number(value: object) -> int:
    if isinstance(value, int):
        number = Decimal(value) if not _INT64_MIN <= value <= _INT64_MAX else None
        if number is None:
            return hash_integer(value)
    else:
        assert isinstance(value, Decimal), value
        number = value
    if number.is_finite() and number == number.to_integral_value():
        integer = int(number)
        if _INT64_MIN <= integer <= _INT64_MAX:
            return hash_integer(integer)
        return hash_bytes(str(integer).encode())
    text = format(number, "f")
    return hash_bytes(text.rstrip("0").encode() if "." in text else text.encode())


_EPOCH_DAY = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


def _as_integer(value: object) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, date):
        return (value - _EPOCH_DAY).days
    assert isinstance(value, time), value
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return seconds * 1_000_000 + value.microsecond


def _as_uuid(value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    return UUID(bytes=value) if isinstance(value, bytes) else UUID(str(value))


# Whole Arrow columns.


def hash_arrays(
    arrays: Sequence[pa.Array | pa.ChunkedArray], sql_types: Sequence[SqlType]
) -> Hashes:
    """The ring position of every row of a key of one or several columns."""
    assert len(arrays) == len(sql_types) > 0
    result = hash_array(arrays[0], sql_types[0])
    for array, sql_type in zip(arrays[1:], sql_types[1:], strict=True):
        result = _mix_arrays(hash_array(array, sql_type), result)
    return result


def hash_array(array: pa.Array | pa.ChunkedArray, sql_type: SqlType) -> Hashes:
    """The ring position of every value of a column, NULLs at 0."""
    family = hash_family(sql_type)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # combine_chunks of no chunks, or over 2 GB
            return np.concatenate([_NO_HASHES, *(hash_array(c, sql_type) for c in array.chunks)])
    if pa.types.is_dictionary(array.type):
        return _hash_dictionary(array, sql_type)
    if _is_integer_backed(array.type):
        return _hash_integers(array)
    if family is HashFamily.NUMBER and not pa.types.is_decimal(array.type):
        raise FeatureNotSupported(f"cannot hash {array.type} as {sql_type}")
    if len(array) < _SMALL_ROWS:
        values = array.to_pylist()
        return np.fromiter((hash_value(v, sql_type) for v in values), np.int64, len(values))
    return _hash_in_duckdb(array, sql_type)


_NO_HASHES: Hashes = np.empty(0, np.int64)


def _is_integer_backed(arrow: pa.DataType) -> bool:
    return any(
        is_kind(arrow)
        for is_kind in (
            pa.types.is_integer,
            pa.types.is_boolean,
            pa.types.is_date32,
            pa.types.is_time64,
            pa.types.is_timestamp,
        )
    )


def _hash_dictionary(array: pa.DictionaryArray, sql_type: SqlType) -> Hashes:
    hashes: Hashes = np.append(hash_array(array.dictionary, sql_type), 0)
    null_slot = len(hashes) - 1
    indices = pc.fill_null(array.indices.cast(pa.int64()), null_slot)
    taken: Hashes = hashes[indices.to_numpy(zero_copy_only=False)]
    return taken


def _hash_integers(array: pa.Array) -> Hashes:
    arrow = array.type
    if pa.types.is_timestamp(arrow) or pa.types.is_time64(arrow):
        assert arrow.unit == "us", arrow
    if pa.types.is_date32(arrow):
        array = array.view(pa.int32())
    elif not pa.types.is_integer(arrow) and not pa.types.is_boolean(arrow):
        array = array.view(pa.int64())
    valid = None if array.null_count == 0 else array.is_valid().to_numpy(zero_copy_only=False)
    if valid is not None:
        array = pc.fill_null(array, False if pa.types.is_boolean(arrow) else 0)
    values = array.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    hashes = _mix_arrays(values & _MASK, (values >> 32) & _MASK)
    return hashes if valid is None else np.where(valid, hashes, 0)


def _mix_arrays(low: Hashes, high: Hashes) -> Hashes:
    total = low * _LOW_FACTOR
    total += high * _HIGH_FACTOR
    total ^= total >> _SHIFT
    total &= _MASK
    total *= _FINAL_FACTOR
    total &= _MASK
    return total


_hasher_lock = threading.Lock()
_hasher: duckdb.DuckDBPyConnection | None = None


def _hasher_cursor() -> duckdb.DuckDBPyConnection:
    """A cursor of a small DuckDB instance that only computes; it holds no data.

    It is apart from the node's instance so that this module can be used without a node.
    """
    global _hasher
    with _hasher_lock:
        if _hasher is None:
            _hasher = duckdb.connect(":memory:", config={"threads": 1})
        return _hasher.cursor()


def _hash_in_duckdb(array: pa.Array, sql_type: SqlType) -> Hashes:
    cursor = _hasher_cursor()
    try:
        cursor.register("keys", pa.table({"k": array}))
        result = cursor.sql(f"SELECT {hash_sql(['k'], [sql_type])} AS h FROM keys")
        hashes: Hashes = result.fetchnumpy()["h"]
        return hashes
    finally:
        cursor.close()


# Inside a DuckDB statement.


def hash_sql(expressions: Sequence[str], sql_types: Sequence[SqlType]) -> str:
    """The ring position as DuckDB SQL, a BIGINT, over expressions of these types.

    Each expression's text is repeated several times; DuckDB evaluates it once.
    """
    assert len(expressions) == len(sql_types) > 0
    result = _value_sql(expressions[0], sql_types[0])
    for expression, sql_type in zip(expressions[1:], sql_types[1:], strict=True):
        result = _mix_sql(_value_sql(expression, sql_type), result)
    return result


def _mix_sql(low: str, high: str) -> str:
    total = f"({low} * {_LOW_FACTOR} + {high} * {_HIGH_FACTOR})"
    return f"(((xor({total}, {total} >> {_SHIFT}) & {_MASK}) * {_FINAL_FACTOR}) & {_MASK})"


def _integer_sql(expression: str) -> str:
    return _mix_sql(f"({expression} & {_MASK})", f"(({expression} >> 32) & {_MASK})")


def _md5_sql(expression: str) -> str:
    return f"CAST(md5_number({expression}) & {_MASK} AS BIGINT)"


def _value_sql(expression: str, sql_type: SqlType) -> str:
    return f"coalesce({_not_null_sql(expression, sql_type)}, 0)"


def _not_null_sql(expression: str, sql_type: SqlType) -> str:
    family = hash_family(sql_type)
    if sql_type.kind is Kind.NUMERIC:
        return _numeric_sql(expression)
    if family is HashFamily.TEXT:
        text = f"CAST({expression} AS VARCHAR)"
        return _md5_sql(f"rtrim({text}, ' ')" if sql_type.kind is Kind.BPCHAR else text)
    if family is HashFamily.BYTES:
        return _md5_sql(f"CAST({expression} AS BLOB)")
    if family is HashFamily.UUID:
        return _md5_sql(f"CAST(CAST({expression} AS UUID) AS VARCHAR)")
    if family is HashFamily.DATE:
        return _integer_sql(f"(CAST({expression} AS DATE) - DATE '1970-01-01')")
    if family is HashFamily.TIME:
        return _integer_sql(f"epoch_us(CAST({expression} AS TIME))")
    if family in (HashFamily.TIMESTAMP, HashFamily.TIMESTAMPTZ):
        return _integer_sql(_microseconds_sql(f"CAST({expression} AS {family.upper()})"))
    return _integer_sql(f"CAST({expression} AS BIGINT)")


def _microseconds_sql(moment: str) -> str:
    # epoch_us of an infinite timestamp is NULL; Arrow holds it as the largest or least int64.
    return (
        f"CASE WHEN isfinite({moment}) THEN epoch_us({moment})"
        f" WHEN {moment} > '1970-01-01' THEN {_INT64_MAX} WHEN {moment} < '1970-01-01'"
        f" THEN {-_INT64_MAX} END"
    )


def _numeric_sql(expression: str) -> str:
    # By text, so that DECIMAL of any scale, HUGEINT and integers all come out alike.
    text = f"CAST({expression} AS VARCHAR)"
    short = f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"
    integer = f"CASE WHEN NOT contains({short}, '.') THEN TRY_CAST({short} AS BIGINT) END"
    return f"coalesce({_integer_sql(integer)}, {_md5_sql(short)})"
