"""Texts of simple queries with their literals put aside."""

import pytest

from executor.lifted_literals import LONGEST_LIFTED_CHARACTERS, lifted, statement_of
from planner.statements import Update
from storage.types import INT4, INT8, Kind, SqlType


def numeric(precision: int, scale: int) -> SqlType:
    return SqlType(Kind.NUMERIC, precision=precision, scale=scale)


@pytest.mark.parametrize(
    ("sql", "shape", "kinds", "values"),
    [
        ("select v from t where k = 5", "select v from t where k = \0n", (INT4,), ["5"]),
        ("select v from t where k='a b';", "select v from t where k=\0s;", (None,), ["a b"]),
        ("where a = 1 and b = '2 3'", "where a = \0n and b = \0s", (INT4, None), ["1", "2 3"]),
        (
            "select t1.c2 from t1 where k = -5",
            "select t1.c2 from t1 where k = -\0n",
            (INT4,),
            ["5"],
        ),
        (
            "k = 2147483647 and l = 2147483648",
            "k = \0n and l = \0l",
            (INT4, INT8),
            ["2147483647", "2147483648"],
        ),
        ("k = 0002147483647", "k = \0n", (INT4,), ["0002147483647"]),
        (
            "d = 1.5 and e = 0.050",
            "d = \0d2.1; and e = \0d4.3;",
            (numeric(2, 1), numeric(4, 3)),
            ["1.5", "0.050"],
        ),
        ("k = 'ü' and l = ''", "k = \0s and l = \0s", (None, None), ["ü", ""]),
        ("k = 'it''s' and l = ''''", "k = \0s and l = \0s", (None, None), ["it's", "'"]),
    ],
)
def test_literals_are_put_aside(
    sql: str, shape: str, kinds: tuple[SqlType | None, ...], values: list[str]
) -> None:
    assert lifted(sql) == (shape, kinds, values)


@pytest.mark.parametrize(
    "sql",
    [
        "select v from t",
        "select v1 from t2",
        "k = 1.",
        "k = .5",
        "k = 1.2.3",
        "k = 15e3",
        "k = 0x1F",
        "k = 1_000",
        "k = 5and true",
        'select "a 5" from t where k = 5',
        "select v from t where k = $1 and l = 5",
        "k = 5 -- and 6",
        "k = 5 /* 6 */",
        "k = E'a 5'",
        "k = B'1' and l = 5",
        "k = U&'1' and l = 5",
        "k = 'it' 's 5' and l = '6",
        "k = 9223372036854775808",
        "k = 0.123456789012345678901234567890123456789",
        "k = 'open and l = 5",
        "k = 'a\\' and l = 5",
        "k = 5" + " " * LONGEST_LIFTED_CHARACTERS,
    ],
)
def test_what_might_hide_a_literal_is_left_alone(sql: str) -> None:
    assert lifted(sql) is None


def test_a_shape_is_a_statement_with_parameters() -> None:
    found = lifted("update t set v = v + -1.50, w = 'a' where k = 3000000000;")
    assert found is not None
    statement = statement_of(found[0])
    assert isinstance(statement, Update)
    assert statement.text.startswith("update t set v = v + -$1, w = $2 where k = $3")


@pytest.mark.parametrize(
    "sql", ["k = 5", "select 1; select 2", "select date '2020-01-01'", "select 'a' 'b'"]
)
def test_a_shape_may_be_none(sql: str) -> None:
    found = lifted(sql)
    assert found is not None
    assert statement_of(found[0]) is None
