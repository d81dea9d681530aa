"""Runs plans: sessions, the coordinator, stages on every node, and the rows between them.

In the order in which control flows through them:

- `session` (a client's face), `session_state`, `session_limits`, `session_surroundings`,
  `table_statements`, `settings` and `setting_kinds`, `transaction_block`,
  `session_transaction` and `definitions` (what is behind a block), `statements`
  (what each kind of statement does), `session_statements`, `set_config`, `session_tables`,
  `cursors`, `temporary` (the end of temporary tables), `execution` (what a statement runs with),
  `services` (what all of this stands on), `cluster_settings`, `retries`, `cluster_functions` (what
  operators call), `without_catalog`, `recovery` and `catalog_recovery` (majorities given up)
- `past` (at what time a statement reads, where that is not the present), `past_times`,
  `past_tables`, `readings` (what EXPLAIN ANALYZE tells of it)
- `quick_statements` (what goes a short way), `short_ways` (and when it leaves it),
  `lifted_literals`, `point_plans`, `quick_reads` and `point_queries` (one row by its key, or a
  few), `kept_answers`, `index_queries` and `index_answers` (rows by an index), `joined_queries`
  and `joined_answers` (joined by keys), `point_writes`, `write_runs` (single rows changed by key),
  `found_rows` (by an index), `point_references` (their foreign keys), `queries`,
  `plan_cache`, `explaining`, `analyze`, `changed_rows` and `load_watch` (statistics after loads),
  `rows` (answers made here)
- `coordinator` (a distributed query), `results` and `numeric_division` (the client's columns)
- `messages` (what nodes say to each other), `stage_runner` (the node's side of a query),
  `stage_threads`, `cancellation`
- `stage_task` (one stage on one node), `stage_sql`, `duckdb_calls`, `system_scan`
- `outbox` and `partition` (where rows go), `exchange` (who must wait), `inbox`, `spill`
- `writes` (`writes_*`, `given_rows`), `write_settings`, `bound_writes` (of tables with foreign
  keys), `foreign_keys` (`foreign_key_*`), `key_changes`, `row_spread` (rows without a key),
  `sequences`, `copy` (`copy_*`), `ddl` (`ddl_rows`, `ddl_keys`), `row_locking`, `locking` and
  `locking_subqueries` (locked rows in newest versions), `own_transaction`, `deferred_keys`,
  `transaction_driver` (a transaction at its coordinator), `transaction_places` (at one tablet),
  `known_rows` (what it has made of them), `transaction_end` and `transaction` (how it ends),
  `transaction_reads` (what it validates), `transaction_faces`, `transaction_tokens`,
  `formatting` (values as text)
"""
