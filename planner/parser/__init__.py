"""SQL text to statements.

`entry` splits a query string and sends each statement to its reader; `tokens` and `keywords`
are what readers walk; `grammar` (queries), `grammar_expressions` and `types` know what
PostgreSQL's grammar accepts; `builder` makes sqlglot trees of what it accepted, `expressions`
those of texts that the catalog keeps. The readers: `changes` (INSERT, UPDATE, DELETE, TRUNCATE),
`past` and `system_time` (AS OF SYSTEM TIME), `copying`, `tables` and `clauses` (CREATE TABLE),
`alterations` (ALTER TABLE), `objects` (schemas, views, DROP), `session` (settings, transactions,
cursors), `distribute`.
"""

from planner.parser.entry import parse

__all__ = ["parse"]
