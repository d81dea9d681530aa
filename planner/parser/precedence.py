"""Operators and how tight they bind (PostgreSQL manual, 4.1.6), loosest first.

Symbols that the manual's table does not name all bind alike (`OTHER`).
"""

from __future__ import annotations

from planner.parser.keywords import words

OR, AND, NOT, IS, COMPARISON, RANGE, OTHER = 1, 2, 3, 4, 5, 6, 7
SUM, PRODUCT, POWER, AT, COLLATE, SIGN = 8, 9, 10, 11, 12, 13

# These do not associate: none of the same power may follow without parentheses.
NOT_ASSOCIATIVE = frozenset({COMPARISON, RANGE})

SYMBOLS: dict[str, int] = (
    dict.fromkeys(words("< > = <= >= <> !="), COMPARISON)
    | {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "%": PRODUCT, "^": POWER}
    | dict.fromkeys(
        words("""|| ~ ~* ! ~~ ~~* ~~~ @@ @? @> <@ ? ?& ?| #- -> ->> #> #>> && & | # << >> <->
            <<->> &< &> -|- ^@ @ |/ ||/"""),
        OTHER,
    )
)
PREFIX_SYMBOLS = frozenset({"~", "@", "|/", "||/", "!", "#"})

# Operators that are words; NOT may stand before those of ranges and patterns.
RANGE_WORDS = frozenset({"BETWEEN", "IN", "LIKE", "ILIKE", "SIMILAR TO"})
WORDS: dict[str, int] = {
    "OR": OR,
    "AND": AND,
    "IS": IS,
    "ISNULL": IS,
    "NOTNULL": IS,
    **dict.fromkeys(RANGE_WORDS, RANGE),
    "OVERLAPS": OTHER,
    "COLLATE": COLLATE,
}
