"""Tokens of a query string, and a cursor that walks them.

sqlglot's compiled tokenizer does the lexing; each token gets a **key** here that grammar code
compares: the upper-case text of an unquoted word, the text of an operator, or one of the
markers below for literals and quoted identifiers. The tokenizer joins a few word pairs
("GROUP BY", "PRIMARY KEY"): such a pair is one key.

Error positions count characters from 1, as PostgreSQL's do; the text shown is the token's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, NoReturn

from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from cluster.errors import SyntaxError_
from planner.dialect import POSTGRES, with_oid_arrays
from planner.parser.keywords import NOT_COLUMN_NAMES, NOT_FUNCTION_NAMES, RESERVED
from planner.parser.past import PastClauses

STRING = "'"
NUMBER = "0"
QUOTED = '"'
END = ""
UNKNOWN = "\x00"

MAX_NAME_BYTES = 63

_MARKERS = {
    TokenType.STRING: STRING,
    TokenType.BYTE_STRING: STRING,
    TokenType.HEREDOC_STRING: STRING,
    TokenType.UNICODE_STRING: STRING,
    TokenType.NATIONAL_STRING: STRING,
    TokenType.BIT_STRING: STRING,
    TokenType.HEX_STRING: STRING,
    TokenType.NUMBER: NUMBER,
    TokenType.IDENTIFIER: QUOTED,
}

# What other dialects write and PostgreSQL does not.
_FOREIGN_KEYWORDS = {
    "{%", "{%+", "{%-", "%}", "+%}", "-%}", "{{+", "{{-", "+}}", "-}}", "==", "<=>", "?::", "|>",
    "??", "CLUSTER BY", "CONNECT BY", "DISTRIBUTE BY", "SORT BY", "PARTITIONED BY", "SQL SECURITY",
}  # fmt: skip


# The tokenizer takes `$1,$` for the opening of a dollar-quoted string, so the dollar of a
# parameter is replaced by this character before it looks, and put back into literals after.
_DOLLAR = "\x01"
_PARAMETER_DOLLAR = re.compile(r"(?<![\w$])\$(?=\d)")


class _Tokenizer(Postgres.Tokenizer):
    """PostgreSQL's, without commands that swallow the rest of a statement as one string."""

    COMMANDS: ClassVar[set[TokenType]] = set()
    KEYWORDS: ClassVar[dict[str, TokenType]] = {
        key: token_type
        for key, token_type in Postgres.Tokenizer.KEYWORDS.items()
        if key not in _FOREIGN_KEYWORDS
    }
    SINGLE_TOKENS: ClassVar[dict[str, TokenType]] = {
        **Postgres.Tokenizer.SINGLE_TOKENS,
        _DOLLAR: TokenType.PARAMETER,
    }


_TOKENIZER = _Tokenizer(dialect=POSTGRES)


def tokenize(sql: str) -> list[Token]:
    """The tokens of a query string; a literal or comment without an end is a syntax error."""
    text = _PARAMETER_DOLLAR.sub(_DOLLAR, sql) if "$" in sql and _DOLLAR not in sql else sql
    try:
        tokens = list(_TOKENIZER.tokenize(text))
    except TokenError:
        raise _unterminated(sql) from None
    if text is not sql:
        for token in tokens:
            if _DOLLAR in token.text:
                token.text = token.text.replace(_DOLLAR, "$")
    return with_oid_arrays(tokens) if "[" in sql else tokens


def _unterminated(sql: str) -> SyntaxError_:
    """What the tokenizer cannot close, found by walking the text as PostgreSQL's lexer does."""
    position = 0
    while position < len(sql):
        end = _skip_lexeme(sql, position)
        if end < 0:
            kind = _UNTERMINATED_KINDS.get(sql[position], "dollar-quoted string")
            return SyntaxError_(
                f'unterminated {kind} at or near "{sql[position:]}"', position=position + 1
            )
        position = end
    return SyntaxError_("the query cannot be split into tokens", position=1)


_UNTERMINATED_KINDS = {"'": "quoted string", '"': "quoted identifier", "/": "/* comment"}


def _skip_lexeme(sql: str, start: int) -> int:
    """Where the lexeme at `start` ends; -1 when it has no end."""
    first = sql[start]
    if first in "'\"":
        escapes = first == "'" and start > 0 and sql[start - 1] in "eE"
        return _skip_quoted(sql, start, first, escapes)
    if sql.startswith("--", start):
        newline = sql.find("\n", start)
        return len(sql) if newline < 0 else newline
    if sql.startswith("/*", start):
        return _skip_comment(sql, start)
    if first == "$":
        tag_end = sql.find("$", start + 1)
        tag = sql[start : tag_end + 1]
        if tag_end > 0 and (tag == "$$" or tag[1:-1].isidentifier()):
            close = sql.find(tag, tag_end + 1)
            return -1 if close < 0 else close + len(tag)
    return start + 1


def _skip_quoted(sql: str, start: int, quote: str, escapes: bool) -> int:
    position = start + 1
    while position < len(sql):
        if escapes and sql[position] == "\\":
            position += 2
        elif sql[position] != quote:
            position += 1
        elif sql.startswith(quote, position + 1):
            position += 2
        else:
            return position + 1
    return -1


def _skip_comment(sql: str, start: int) -> int:
    depth, position = 1, start + 2
    while depth and position < len(sql):
        if sql.startswith("/*", position):
            depth, position = depth + 1, position + 2
        elif sql.startswith("*/", position):
            depth, position = depth - 1, position + 2
        else:
            position += 1
    return -1 if depth else position


def _key(token: Token) -> str:
    marker = _MARKERS.get(token.token_type)
    if marker is not None:
        return marker
    # sqlglot has one kind for characters that it does not know and for the word UNKNOWN.
    strange = token.token_type is TokenType.UNKNOWN and not token.text.isidentifier()
    return UNKNOWN if strange else token.text.upper()


class Cursor:
    """A place in the tokens. `key` is the current token's, `END` behind the last.

    Methods named `accept_*` take what is there or leave it; `expect_*` raise a syntax error.
    """

    __slots__ = ("default_allowed", "index", "key", "keys", "notices", "past", "sql", "tokens")

    def __init__(self, sql: str, tokens: Sequence[Token]) -> None:
        self.sql = sql
        self.tokens = tokens
        self.keys = [_key(token) for token in tokens]
        self.keys.extend((END, END, END, END))
        self.index = 0
        self.key = self.keys[0]
        self.notices: list[str] = []
        self.default_allowed = False  # in VALUES: of an INSERT only
        self.past = PastClauses()  # AS OF SYSTEM TIME, which is not for those who build trees

    # -- moving

    def advance(self) -> None:
        self.index += 1
        self.key = self.keys[self.index]

    def move_to(self, index: int) -> None:
        self.index = index
        self.key = self.keys[index]

    def peek(self, distance: int = 1) -> str:
        """The key of a token ahead (at most three)."""
        return self.keys[self.index + distance]

    @property
    def at_end(self) -> bool:
        return self.index >= len(self.tokens)

    @property
    def position(self) -> int:
        """Of the current token, counted from 1; behind the text at its end."""
        if self.at_end:
            return len(self.sql) + 1
        return self.tokens[self.index].start + 1

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def slice(self, start: int) -> list[Token]:
        """The tokens from index `start` up to here, without those that say at what time."""
        if not self.past.any:
            return list(self.tokens[start : self.index])
        return [self.tokens[index] for index in self.past.outside(start, self.index)]

    def text_from(self, start: int) -> str:
        """The source text from token `start` to the token before this one."""
        assert start < self.index
        return self.sql[self.tokens[start].start : self.tokens[self.index - 1].end + 1]

    # -- keys

    def at(self, *keys: str) -> bool:
        """Whether these keys stand here in a row."""
        index = self.index
        return all(self.keys[index + offset] == key for offset, key in enumerate(keys))

    def accept(self, *keys: str) -> bool:
        """Take these keys in a row, or nothing."""
        index = self.index
        for offset, key in enumerate(keys):
            if self.keys[index + offset] != key:
                return False
        self.move_to(index + len(keys))
        return True

    def accept_any(self, keys: frozenset[str] | tuple[str, ...]) -> str | None:
        if self.key not in keys or self.key == END:
            return None
        found = self.key
        self.advance()
        return found

    def expect(self, *keys: str) -> None:
        for key in keys:
            if self.key != key:
                self.fail()
            self.advance()

    def expect_any(self, *keys: str) -> str:
        found = self.key
        if found not in keys:
            self.fail()
        self.advance()
        return found

    # -- names

    @property
    def at_word(self) -> bool:
        key = self.key
        return bool(key) and (key[0].isalpha() or key[0] == "_" or key[0] > "\x7f")

    def _at_name(self, excluded: frozenset[str]) -> bool:
        return self.key == QUOTED or (self.at_word and self.key not in excluded)

    @property
    def at_column_name(self) -> bool:
        """PostgreSQL's ColId: an identifier or a keyword free to be a column's name."""
        return self._at_name(NOT_COLUMN_NAMES)

    @property
    def at_function_name(self) -> bool:
        return self._at_name(NOT_FUNCTION_NAMES)

    def name(self) -> str:
        """A ColId, folded."""
        if not self.at_column_name:
            self.fail()
        return self.take_name()

    def label(self) -> str:
        """A ColLabel: any word, reserved or not."""
        if not (self.key == QUOTED or self.at_word):
            self.fail()
        return self.take_name()

    def non_reserved(self) -> str:
        """A word that is not fully reserved (PostgreSQL's NonReservedWord)."""
        if not self._at_name(RESERVED):
            self.fail()
        return self.take_name()

    def take_name(self) -> str:
        """The current word as a name: folded, and cut to what a name may have."""
        token = self.tokens[self.index]
        name = token.text if self.key == QUOTED else fold(token.text)
        if not name:
            raise SyntaxError_(
                'zero-length delimited identifier at or near """"', position=token.start + 1
            )
        self.advance()
        return self._truncated(name)

    def _truncated(self, name: str) -> str:
        encoded = name.encode()
        if len(encoded) <= MAX_NAME_BYTES:
            return name
        short = encoded[:MAX_NAME_BYTES].decode(errors="ignore")
        self.notices.append(f'identifier "{name}" will be truncated to "{short}"')
        return short

    # -- literals

    def string(self) -> str:
        """A string literal's value (SCONST), the pieces on further lines joined."""
        if self.key != STRING:
            self.fail()
        value = self.tokens[self.index].text
        self.advance()
        while self.key == STRING and self._on_new_line():
            value += self.tokens[self.index].text
            self.advance()
        return value

    def _on_new_line(self) -> bool:
        before, here = self.tokens[self.index - 1], self.tokens[self.index]
        return "\n" in self.sql[before.end + 1 : here.start]

    def integer(self) -> int:
        """An integer literal without sign (Iconst)."""
        text = self.tokens[self.index].text if self.key == NUMBER else ""
        if not text.isdigit():
            self.fail()
        self.advance()
        return int(text)

    # -- errors

    def fail(self) -> NoReturn:
        """PostgreSQL's syntax error for the current token."""
        raise self.error()

    def error(self, index: int | None = None) -> SyntaxError_:
        index = self.index if index is None else index
        if index >= len(self.tokens):
            return SyntaxError_("syntax error at end of input", position=len(self.sql) + 1)
        token = self.tokens[index]
        text = self.sql[token.start : token.end + 1]
        return SyntaxError_(f'syntax error at or near "{text}"', position=token.start + 1)


def fold(name: str) -> str:
    """An unquoted name as PostgreSQL folds it: ASCII letters only."""
    if name.isascii():
        return name.lower()
    return "".join(c.lower() if c.isascii() else c for c in name)
