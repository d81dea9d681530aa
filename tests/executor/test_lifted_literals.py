"""Texts of simple queries with their literals put aside."""

import pytest

from executor.lifted_literals import LONGEST_LIFTED_CHARACTERS, lifted


@pytest.mark.parametrize(
    ("sql", "shape", "kinds", "values"),
    [
        ("select v from t where k = 5", "select v from t where k = \0n", (False,), ["5"]),
        ("select v from t where k='a b';", "select v from t where k=\0s;", (True,), ["a b"]),
        ("where a = 1 and b = '2 3'", "where a = \0n and b = \0s", (False, True), ["1", "2 3"]),
        (
            "select t1.c2 from t1 where k = -5",
            "select t1.c2 from t1 where k = -\0n",
            (False,),
            ["5"],
        ),
        ("k = 7 and d = 1.5", "k = \0n and d = 1.5", (False,), ["7"]),
        ("k = 'ü' and l = ''", "k = \0s and l = \0s", (True, True), ["ü", ""]),
    ],
)
def test_literals_are_put_aside(
    sql: str, shape: str, kinds: tuple[bool, ...], values: list[str]
) -> None:
    assert lifted(sql) == (shape, kinds, values)


@pytest.mark.parametrize(
    "sql",
    [
        "select v from t",
        "select v1 from t2",
        "k = 1.5",
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
        "k = 'it''s 5' and l = 6",
        "k = 'open and l = 5",
        "k = 'a\\' and l = 5",
        "k = 5" + " " * LONGEST_LIFTED_CHARACTERS,
    ],
)
def test_what_might_hide_a_literal_is_left_alone(sql: str) -> None:
    assert lifted(sql) is None
