"""The quick splitter gives what the exact one gives, or nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from executor.copy_quick import QuickSplitter
from executor.copy_split import BadStructure, Splitter
from planner.statements import CopyFormat, CopyOptions

CSV = CopyOptions(format=CopyFormat.CSV, delimiter=",", null="")
TEXT = CopyOptions()
NAMES = ("a", "b")

pieces = st.sampled_from(
    ["a", "", '"', '""', ",", "\n", "\t", '"x,y"', '"p\nq"', "\\", "\\N", "é", "1"]
)
data_of_pieces = st.lists(pieces, max_size=24).map(lambda p: "".join(p).encode())
fields = st.sampled_from(["a", "", '"quoted"', '"with,comma"', '"two\nlines"', '""', "x y", "é"])
plain_rows = st.lists(st.tuples(fields, fields), min_size=1, max_size=8).map(
    lambda rows: "".join(f"{a},{b}\n" for a, b in rows).encode()
)


def exact_rows(data: bytes, options: CopyOptions) -> list[list[str | None]] | None:
    """The rows by the exact splitter, None where it refuses the data."""
    splitter = Splitter("t", NAMES, options)
    try:
        block, _ = splitter.split(data, False)
    except BadStructure:
        return None
    if block is None:
        return []
    columns = []
    for place in range(2):
        texts = [value.decode() for value in block.column(place).to_pylist()]
        marks = block.marks(block.quoted, place)
        quoted = marks.tolist() if marks is not None else [False] * block.rows
        columns.append([None if not t and not q else t for t, q in zip(texts, quoted, strict=True)])
    if options is TEXT:
        columns = [[v or "" for v in column] for column in columns]
    return [list(row) for row in zip(*columns, strict=True)]


def check(data: bytes, options: CopyOptions) -> bool:
    """Whether the quick splitter took the data; if so it must agree."""
    split = QuickSplitter("t", NAMES, options).split(data, 1)
    if split is None:
        return False
    block, columns = split
    rows = [list(row) for row in zip(*(c.to_pylist() for c in columns), strict=True)]
    assert rows == exact_rows(block.data, options)
    assert data[len(block.data) :].count(b"\n") == 0 or options is CSV
    return True


@settings(deadline=None)
@given(data_of_pieces)
def test_odd_csv_is_read_alike_or_left_alone(data: bytes) -> None:
    check(data, CSV)


@settings(deadline=None)
@given(data_of_pieces)
def test_odd_text_is_read_alike_or_left_alone(data: bytes) -> None:
    check(data, TEXT)


@settings(deadline=None)
@given(plain_rows)
def test_plain_rows_are_taken(data: bytes) -> None:
    assert check(data, CSV)


def test_a_quote_inside_a_field_is_left_to_the_exact_splitter() -> None:
    assert not check(b'a"b,",\nx,y\n', CSV)
    assert not check(b'"a""b",c\n', CSV)


def test_the_lines_of_rows_are_found_when_asked() -> None:
    split = QuickSplitter("t", NAMES, CSV).split(b'a,b\n"x\ny",c\nd,e\n', 5)
    assert split is not None
    block, _ = split
    assert [block.line_of(row) for row in range(3)] == [5, 7, 8]
    assert block.line_text(2) == "d,e"
