"""PostgreSQL's wire protocol, version 3 (manual, part VII, chapter 54).

In the order in which a connection meets them: `server` (listening, the first packets, cancel
keys), `transport` (bytes to messages, back-pressure), `connection` (one client's loop, the simple
protocol), `short_statements` (answered by a short way) with `pipelines` (a statement's messages at
once), `extended_protocol` with `portals` (what Parse and Bind leave behind) and `parameters` (bound
values to text), `copy_messages`, `backend` (what is asked of a session), `replies` (what the client
is told), `quick_answers` (plain values to bytes), `rows`, `few_rows` and `binary_values` (Arrow
batches to DataRows), `messages` (every message in bytes, no I/O).
"""
