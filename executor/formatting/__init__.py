"""Arrow columns as PostgreSQL's text.

Modules: `text` (one column of any type), `numbers`, `times`, `nested` (arrays and rows),
`hexadecimal` (bytea and uuid).
"""
