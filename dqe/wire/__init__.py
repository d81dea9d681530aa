"""PostgreSQL's wire protocol, version 3 (manual, part VII, chapter 54).

In the order in which a connection meets them: `server` (listening, the first packets, cancel
keys), `transport` (bytes to messages, back-pressure), `connection` (one client's loop, both
sub-protocols and COPY), `extended_query` (statements and portals), `pipelines` (a statement's
messages at once), `parameters` (bound values
to text), `backend` (what is asked of a session), `quick_answers` (one row's plain values to
bytes), `rows` and `binary_values` (Arrow batches to DataRows), `messages` (every message in
bytes, no I/O).
"""
