"""SQL text to statements.

`entry` splits a query string and sends each statement to its reader; `tokens` and `keywords`
are what readers walk; `grammar` and `types` hold PostgreSQL's grammar of expressions, queries
and types; `builder` makes sqlglot trees of what the grammar accepted. The readers: `changes`
(INSERT, UPDATE, DELETE, TRUNCATE), `copying`, `tables` and `clauses` (CREATE and ALTER TABLE),
`objects` (schemas, views, DROP), `session` (settings, transactions, cursors), `distribute`.
"""

from planner.parser.entry import parse

__all__ = ["parse"]
