"""COPY and its options, new form `(FORMAT csv, HEADER)` and old `CSV HEADER`.

Option values are checked as PostgreSQL checks them (`ProcessCopyOptions` in its manual's words,
reference page COPY). ON_ERROR, LOG_VERBOSITY and REJECT_LIMIT are refused: a COPY is all or
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    SyntaxError_,
    UndefinedObject,
)
from planner.parser.builder import (
    names_in_parentheses,
    object_name,
    source,
    source_expression,
)
from planner.parser.system_time import query_at
from planner.parser.tokens import NUMBER, STRING, Cursor, fold
from planner.statements import CopyFormat, CopyFrom, CopyOptions, CopyTo, Statement


def copy(cursor: Cursor, start: int) -> Statement:
    """COPY {table [(columns)] | (query)} {FROM | TO} {'file' | STDIN | STDOUT} [WITH] options."""
    cursor.expect("COPY")
    old_binary = cursor.accept("BINARY")
    table, columns, tree, as_of = None, None, None, None
    if cursor.key == "(":
        cursor.advance()
        tree, as_of = query_at(cursor)
        cursor.expect(")")
        direction = cursor.expect_any("TO")
    else:
        table = object_name(cursor)
        columns = names_in_parentheses(cursor) if cursor.key == "(" else None
        direction = cursor.expect_any("FROM", "TO")
    path = _path(cursor)
    options = _options(cursor, direction, old_binary)
    if direction == "TO":
        return CopyTo(
            **source(cursor, start),
            table=table,
            columns=columns,
            query=tree,
            path=path,
            options=options,
            as_of=as_of,
        )
    where = source_expression(cursor) if cursor.accept("WHERE") else None
    assert table is not None
    return CopyFrom(
        **source(cursor, start),
        table=table,
        columns=columns,
        path=path,
        options=options,
        where=where,
    )


def _path(cursor: Cursor) -> str | None:
    """The file; None for the client, which either word names in either direction."""
    if cursor.key == "PROGRAM":
        raise FeatureNotSupported(
            "COPY with PROGRAM is not supported",
            hint="Pipe through the client: psql's \\copy can run a program.",
            position=cursor.position,
        )
    if cursor.key == STRING:
        return cursor.string()
    if cursor.accept_any(("STDIN", "STDOUT")) is None:
        cursor.fail()
    return None


@dataclass(slots=True)
class _Given:
    """Options as written; None is one that is not."""

    direction: str
    values: dict[str, object] = field(default_factory=dict)

    def set(self, name: str, value: object, position: int) -> None:
        if name in self.values:
            raise SyntaxError_("conflicting or redundant options", position=position)
        self.values[name] = value

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        assert value is None or isinstance(value, str)
        return value

    def columns(self, name: str) -> tuple[str, ...] | None:
        value = self.values.get(name)
        assert value is None or isinstance(value, tuple)
        return value


def _options(cursor: Cursor, direction: str, old_binary: bool) -> CopyOptions:
    given = _Given(direction)
    if old_binary:
        given.set("format", "binary", cursor.position)
    with_word = cursor.accept("WITH")
    if cursor.key == "(":
        cursor.advance()
        _new_option(cursor, given)
        while cursor.accept(","):
            _new_option(cursor, given)
        cursor.expect(")")
    else:
        found = False
        while _old_option(cursor, given):
            found = True
        if with_word and not found and cursor.key not in (";", "", "WHERE"):
            cursor.fail()
    return _checked(given)


def _old_option(cursor: Cursor, given: _Given) -> bool:
    """Take one option of the form before PostgreSQL 9.0."""
    position = cursor.position
    key = cursor.key
    if key in ("BINARY", "CSV"):
        cursor.advance()
        given.set("format", key.lower(), position)
    elif key in ("DELIMITER", "DELIMITERS", "NULL", "QUOTE", "ESCAPE", "ENCODING"):
        cursor.advance()
        cursor.accept("AS")
        given.set("delimiter" if key == "DELIMITERS" else key.lower(), cursor.string(), position)
    elif key in ("HEADER", "FREEZE"):
        cursor.advance()
        given.set(key.lower(), "true", position)
    elif key == "FORCE":
        cursor.advance()
        name = "force_" + _forced(cursor)
        columns = ("*",) if cursor.accept("*") else _plain_names(cursor)
        given.set(name, columns, position)
    else:
        return False
    return True


def _forced(cursor: Cursor) -> str:
    if cursor.accept("NOT"):
        cursor.expect("NULL")
        return "not_null"
    return cursor.expect_any("QUOTE", "NULL").lower()


def _plain_names(cursor: Cursor) -> tuple[str, ...]:
    names = [cursor.name()]
    while cursor.accept(","):
        names.append(cursor.name())
    return tuple(names)


def _new_option(cursor: Cursor, given: _Given) -> None:
    position = cursor.position
    name = cursor.label()
    reader = _READERS.get(name)
    if reader is None:
        if name in _REFUSED:
            raise FeatureNotSupported(
                f"COPY option {name.upper()} is not supported",
                hint="A COPY loads all of its rows or none.",
                position=position,
            )
        raise SyntaxError_(f'option "{name}" not recognized', position=position)
    given.set(name, reader(cursor), position)


def _word_or_string(cursor: Cursor) -> str:
    if cursor.key == STRING:
        return cursor.string()
    if cursor.key == NUMBER:
        return str(cursor.integer())
    if cursor.key in ("TRUE", "FALSE", "ON", "OFF"):
        return cursor.label()
    return cursor.label()


def _optional_boolean(cursor: Cursor) -> str:
    """A boolean option's word; nothing means true."""
    if cursor.key in (",", ")"):
        return "true"
    return fold(_word_or_string(cursor))


def _column_list(cursor: Cursor) -> tuple[str, ...]:
    if cursor.accept("*"):
        return ("*",)
    return names_in_parentheses(cursor)


_READERS: dict[str, Callable[[Cursor], object]] = {
    "format": _word_or_string,
    "freeze": _optional_boolean,
    "delimiter": Cursor.string,
    "null": Cursor.string,
    "default": Cursor.string,
    "header": _optional_boolean,
    "quote": Cursor.string,
    "escape": Cursor.string,
    "force_quote": _column_list,
    "force_not_null": _column_list,
    "force_null": _column_list,
    "encoding": _word_or_string,
}
_REFUSED = frozenset({"on_error", "log_verbosity", "reject_limit"})
_TRUE = frozenset({"true", "on", "1", "yes", "t", "y"})
_FALSE = frozenset({"false", "off", "0", "no", "f", "n"})
_UTF8_NAMES = frozenset({"utf8", "unicode"})


def _checked(given: _Given) -> CopyOptions:
    """The options with the format's defaults, each checked."""
    copy_format = _format(given.text("format"))
    is_csv = copy_format is CopyFormat.CSV
    _refuse_misplaced(given, copy_format)
    delimiter = given.text("delimiter") or ("," if is_csv else "\t")
    null = given.text("null")
    quote = given.text("quote") if "quote" in given.values else '"'
    escape = given.text("escape") if "escape" in given.values else quote
    assert quote is not None
    assert escape is not None
    options = CopyOptions(
        format=copy_format,
        delimiter=delimiter,
        null=null if null is not None else ("" if is_csv else "\\N"),
        default=given.text("default"),
        header=_header(given),
        quote=quote,
        escape=escape,
        force_quote=given.columns("force_quote"),
        force_not_null=given.columns("force_not_null"),
        force_null=given.columns("force_null"),
        encoding=_encoding(given.text("encoding")),
        freeze=_boolean(given.text("freeze") or "false", "freeze"),
    )
    if copy_format in (CopyFormat.TEXT, CopyFormat.CSV):
        _check_characters(options, is_csv)
    return options


def _format(name: str | None) -> CopyFormat:
    if name is None:
        return CopyFormat.TEXT
    try:
        return CopyFormat(name.lower())
    except ValueError:
        raise InvalidParameterValue(f'COPY format "{name}" not recognized') from None


def _refuse_misplaced(given: _Given, copy_format: CopyFormat) -> None:
    """Options that the format or the direction does not have."""
    if copy_format in (CopyFormat.BINARY, CopyFormat.PARQUET):
        for name in ("delimiter", "null", "default", "header"):
            if name in given.values:
                raise SyntaxError_(f"cannot specify {name.upper()} in {copy_format.upper()} mode")
    if copy_format is not CopyFormat.CSV:
        for name in ("quote", "escape", "force_quote", "force_not_null", "force_null"):
            if name in given.values:
                raise FeatureNotSupported(f"COPY {name.upper()} requires CSV mode")
    if "force_quote" in given.values and given.direction == "FROM":
        raise FeatureNotSupported("COPY FORCE_QUOTE cannot be used with COPY FROM")
    if given.direction == "TO":
        for name in ("force_not_null", "force_null", "freeze", "default"):
            if name in given.values:
                raise FeatureNotSupported(f"COPY {name.upper()} cannot be used with COPY TO")


def _header(given: _Given) -> str:
    value = given.text("header")
    if value is None:
        return "no"
    if value == "match":
        if given.direction == "TO":
            raise FeatureNotSupported('cannot use "match" with HEADER in COPY TO')
        return "match"
    return "yes" if _boolean(value, "header", ' or "match"') else "no"


def _boolean(value: str, name: str, more: str = "") -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise SyntaxError_(f"{name} requires a Boolean value{more}")


def _encoding(name: str | None) -> str:
    if name is None:
        return "utf8"
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in _UTF8_NAMES:
        return "utf8"
    if plain in ("latin1", "iso88591"):
        return "latin1"
    if plain in ("sqlascii",):
        return "utf8"
    raise UndefinedObject(f'encoding "{name}" is not supported', hint="Use UTF8 or LATIN1.")


def _check_characters(options: CopyOptions, is_csv: bool) -> None:
    """PostgreSQL's rules for delimiter, quote, escape and null (manual, COPY)."""
    delimiter = options.delimiter
    if len(delimiter.encode()) != 1:
        raise FeatureNotSupported("COPY delimiter must be a single one-byte character")
    if delimiter in "\r\n":
        raise InvalidParameterValue("COPY delimiter cannot be newline or carriage return")
    if "\r" in options.null or "\n" in options.null:
        raise InvalidParameterValue(
            "COPY null representation cannot use newline or carriage return"
        )
    if delimiter in options.null:
        raise InvalidParameterValue(
            "COPY delimiter character must not appear in the NULL specification"
        )
    if not is_csv:
        if delimiter in "\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise InvalidParameterValue(f'COPY delimiter cannot be "{delimiter}"')
        return
    if len(options.quote.encode()) != 1:
        raise FeatureNotSupported("COPY quote must be a single one-byte character")
    if len(options.escape.encode()) != 1:
        raise FeatureNotSupported("COPY escape must be a single one-byte character")
    if delimiter == options.quote:
        raise InvalidParameterValue("COPY delimiter and quote must be different")
    if options.quote in options.null:
        raise InvalidParameterValue("CSV quote character must not appear in the NULL specification")
