"""What all statements share: names, types and expressions as written, and their root."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A possibly qualified name of a table, view, index, type..."""

    name: str
    schema: str | None = None
    position: int | None = None

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type as written: a folded name, its modifiers, and whether it is an array.

    Names of several words are joined by one space, `timestamp with time zone`.
    """

    name: str
    modifiers: tuple[int, ...] = ()
    array_dimensions: int = 0
    position: int | None = None


@dataclass(frozen=True, slots=True)
class SourceExpression:
    """An expression with the text it was read from, as the catalog keeps it."""

    tree: exp.Expr
    text: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`text` is the statement alone, `offset` where it starts in the query string.

    `notices` are what the parser has to tell, such as names cut to 63 bytes.
    """

    text: str
    offset: int
    notices: tuple[str, ...] = ()
