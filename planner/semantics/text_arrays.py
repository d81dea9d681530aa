"""Reading PostgreSQL's array literals, `{1,NULL,"a b"}`, into nested lists of element texts."""

from __future__ import annotations

from typing import TypeAlias

from cluster.errors import InvalidTextRepresentation

Elements: TypeAlias = list["str | Elements | None"]


def read_array(text: str) -> Elements:
    """The elements' texts, None for NULL; 22P02 where the text is no array."""
    plain = text.strip()
    if plain.startswith("[") and "=" in plain:  # explicit bounds, which DuckDB cannot keep
        plain = plain[plain.index("=") + 1 :].strip()
    elements, end = _read_braces(plain, 0, text)
    if plain[end:].strip():
        raise _malformed(text)
    return elements


def _read_braces(plain: str, start: int, text: str) -> tuple[Elements, int]:
    if start >= len(plain) or plain[start] != "{":
        raise _malformed(text)
    elements: Elements = []
    at = _skip(plain, start + 1)
    if at < len(plain) and plain[at] == "}":
        return elements, at + 1
    while True:
        element, at = _read_element(plain, _skip(plain, at), text)
        elements.append(element)
        at = _skip(plain, at)
        if at >= len(plain) or plain[at] not in ",}":
            raise _malformed(text)
        if plain[at] == "}":
            return elements, at + 1
        at += 1


def _read_element(plain: str, at: int, text: str) -> tuple[str | Elements | None, int]:
    if at < len(plain) and plain[at] == "{":
        return _read_braces(plain, at, text)
    if at < len(plain) and plain[at] == '"':
        return _read_quoted(plain, at + 1, text)
    end = at
    characters = []
    while end < len(plain) and plain[end] not in ',{}"':
        if plain[end] == "\\":
            end += 1
        characters.append(plain[end : end + 1])
        end += 1
    word = "".join(characters).rstrip()
    if not word:
        raise _malformed(text)
    return (None if word.upper() == "NULL" else word), end


def _read_quoted(plain: str, at: int, text: str) -> tuple[str, int]:
    characters = []
    while at < len(plain) and plain[at] != '"':
        if plain[at] == "\\":
            at += 1
        characters.append(plain[at : at + 1])
        at += 1
    if at >= len(plain):
        raise _malformed(text)
    return "".join(characters), at + 1


def _skip(plain: str, at: int) -> int:
    while at < len(plain) and plain[at].isspace():
        at += 1
    return at


def _malformed(text: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f'malformed array literal: "{text}"')
