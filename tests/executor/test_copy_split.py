"""COPY's text and csv: fields as PostgreSQL splits them, beside a plain twin; errors by line."""

from __future__ import annotations

import random

import pytest

from executor.copy_split import BadStructure, Splitter
from planner.statements import CopyFormat, CopyOptions

CSV = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="")
TEXT = CopyOptions()

Rows = list[tuple[bytes, ...]]


def split(data: bytes, options: CopyOptions, columns: int, block_bytes: int | None = None) -> Rows:
    """All rows, fed in blocks of so many bytes."""
    splitter = Splitter("t", [f"c{i}" for i in range(columns)], options)
    rows: Rows = []
    left = b""
    step = block_bytes or max(len(data), 1)
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    for piece, last in [*((piece, False) for piece in pieces), (b"", True)]:
        block, left = splitter.split(left + piece, last)
        if block is not None:
            fields = [block.column(c).to_pylist() for c in range(columns)]
            rows += list(zip(*fields, strict=True))
    return rows


def plain_csv(data: bytes) -> Rows:
    """The same by walking bytes, as PostgreSQL's CopyReadAttributesCSV is described to."""
    rows: Rows = []
    row: list[bytes] = []
    field = bytearray()
    inside = False
    place = 0
    while place < len(data):
        byte = data[place : place + 1]
        if inside and byte == b'"' and data[place + 1 : place + 2] == b'"':
            field += b'"'
            place += 1
        elif byte == b'"':
            inside = not inside
        elif byte == b"," and not inside:
            row.append(bytes(field))
            field.clear()
        elif byte == b"\n" and not inside:
            rows.append((*row, bytes(field)))
            row, field = [], bytearray()
        else:
            field += byte
        place += 1
    return rows


def test_quotes_toggle_wherever_they_stand() -> None:
    data = b'1,"a""b",c\n2,"x,\ny",""\n3,a"b,c"d,""""\n'
    assert split(data, CSV, 3) == [
        (b"1", b'a"b', b"c"),
        (b"2", b"x,\ny", b""),
        (b"3", b"ab,cd", b'"'),
    ]


def test_random_csv_is_split_as_by_the_plain_twin_in_blocks_of_any_size() -> None:
    chance = random.Random(5)
    for _ in range(200):
        fields = []
        for _ in range(3 * chance.randrange(1, 8)):
            text = "".join(chance.choice('ab,"\n é') for _ in range(chance.randrange(6)))
            quoted = '"' + text.replace('"', '""') + '"'
            fields.append(quoted if chance.random() < 0.7 else text.strip('",\n') and "x")
        data = "".join(
            field + ("\n" if place % 3 == 2 else ",") for place, field in enumerate(fields)
        ).encode()
        expected = plain_csv(data)
        assert split(data, CSV, 3) == expected
        assert split(data, CSV, 3, block_bytes=chance.randrange(1, 20)) == expected


def test_an_escape_of_its_own() -> None:
    options = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="", escape="\\")
    assert split(b'"a\\"b\\\\,",c\\d\n', options, 2) == [(b'a"b\\,', b"c\\d")]


def test_a_backslash_escapes_delimiters_newlines_and_itself() -> None:
    data = b"1\ta\\\tb\n2\tx\\\ny\n\\N\t\\\\\n"
    assert split(data, TEXT, 2) == [
        (b"1", b"a\\\tb"),
        (b"2", b"x\\\ny"),
        (b"\\N", b"\\\\"),
    ]
    assert split(data, TEXT, 2, block_bytes=1) == split(data, TEXT, 2)


@pytest.mark.parametrize("block_bytes", [None, 1, 3])
def test_line_ends(block_bytes: int | None) -> None:
    assert split(b"1\t2\r\n3\t4\r\n", TEXT, 2, block_bytes) == [(b"1", b"2"), (b"3", b"4")]
    assert split(b"1\t2\n3\t4", TEXT, 2, block_bytes) == [(b"1", b"2"), (b"3", b"4")]
    assert split(b"\n\n", TEXT, 1, block_bytes) == [(b"",), (b"",)]
    assert split(b"", TEXT, 1, block_bytes) == []
    if block_bytes is None:
        assert split(b"1\t2\r3\t4\r", TEXT, 2) == [(b"1", b"2"), (b"3", b"4")]


def test_carriage_returns_in_quotes_end_no_line() -> None:
    assert split(b'"a\rb",1\nc,2\n', CSV, 2) == [(b"a\rb", b"1"), (b"c", b"2")]


def test_nothing_counts_behind_the_end_marker() -> None:
    assert split(b"1\n\\.\n2\n", TEXT, 1) == [(b"1",)]
    assert split(b"1\n\\.\n2\n", CSV, 1) == [(b"1",), (b"\\.",), (b"2",)]


ERRORS = [
    (b"1,2\n3\n", CSV, 'missing data for column "c1"', 'COPY t, line 2: "3"', 4),
    (b"1,2,3\n", CSV, "extra data after last expected column", 'COPY t, line 1: "1,2,3"', 0),
    (b'"x\ny",2\n1\n', CSV, 'missing data for column "c1"', 'COPY t, line 3: "1"', 8),
    (b'1,2\n3,"4\n', CSV, "unterminated CSV quoted field", 'COPY t, line 2: "3,"4"', 0),
    (b"1,2\n3,4\r5\n", CSV, "unquoted carriage return found in data", None, 4),
    (b"1\t2\r\n3\t4\n", TEXT, "literal newline found in data", None, 5),
    (b"1\t2\n3\t4\r5\n", TEXT, "literal carriage return found in data", None, 4),
]


@pytest.mark.parametrize(("data", "options", "message", "where", "offset"), ERRORS)
def test_errors_say_line_and_row(
    data: bytes, options: CopyOptions, message: str, where: str | None, offset: int
) -> None:
    with pytest.raises(BadStructure) as caught:
        split(data, options, 2)
    assert caught.value.error.sqlstate == "22P04"
    assert caught.value.error.message == message
    assert caught.value.offset == offset
    if where is not None:
        assert caught.value.error.where == where
