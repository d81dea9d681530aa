"""What one node keeps: its log, its tablets and their stores.

In the order control flows through them, from the node to the bytes:

    node            the data directory and all in it; snapshots over several tablets
    identity        whose directory it is, and that it is in use
    kept_file       a small state kept whole
    tablet          a tablet: definitions, reads at a timestamp
    tablet_rows     statements over single rows, at its leader
    tablet_row_locks    which of them stay locked
    tablet_validation   whether what was read still stands, at its leader
    read_sets       what that is
    tablet_scans    rows by an index, at its leader
    index_reads     what they are at a timestamp, with a transaction's own changes
    row_programs    what they do with a row, as data
    row_closures    row code as Python functions
    own_rows        where a transaction's own changes left rows
    tablet_commits  how transactions end at its leader
    tablet_changes  what open ones do there: locks and drafts
    tablet_unique   unique constraints of these: when they are checked, under which locks
    tablet_leader   whether this replica leads, and what it logs then
    surroundings    the faces of what a tablet needs: its Raft group, other tablets
    open_checks     what deferred ones leave to be checked
    drafts          changes before the log has them
    doubts          asks for outcomes when a coordinator is gone
    unique_checker  unique constraints at the commit
    row_reads       rows by key, at a timestamp or now
    replica         every replica's part: becomes what another one is
    replica_log     follows the log
    replica_keeping     checkpoints, and what else keeps it small
    replica_state   how far it is, who waits for that; reads
    replica_image   what a checkpoint keeps beside the rows
    participant     who is under way and who ended how; pure
    lock_driver     takes locks, waits for them, says which rows changed meanwhile
    locks           the locks of a tablet and its rows; pure
    deadlocks       circles of waits over all tablets; pure
    transaction_ids     what an id says of its transaction
    closed              up to where a replica may be read without asking anybody
    transaction_facts   what a replica tells of transactions without outcome
    versions        the rows that changed last
    moved_rows      rows that went to another key or part, and so are not gone
    conflicts       rows changed after a snapshot, asked of the store
    row_keys        keys as values in memory
    entries         what the log of a tablet says, and its bytes
    staging         entries of transactions without outcome, in memory or on disk
    stored_changes  changes of single rows, as the row store keeps them
    key_overlay     unique keys in what the store does not hold yet
    uniqueness      checks of unique constraints
    opening         opens a tablet's stores, or builds one from the other
    moves           fragments that change their stores
    applier         brings a store up to the log
    row_applier     the row store's small changes, on the loop
    apply_queue     what waits for a store, and what all that may hold
    operations      what a log entry means for a store
    columnar        a tablet's DuckDB file
    columnar_apply  many transactions' changes in a few statements
    row_side        the row store beside it, where a fragment needs one
    row_store       a tablet's SQLite file
    row_key_reads   reads of it by key or along an index
    row_fragments   the fragments in it
    row_meta        how far it is
    row_files       its files and connections
    row_apply       changes, in SQLite
    row_pruning     history of it that may go
    row_scan        whole fragments of it as Arrow
    row_checks      unique constraints and changed rows, by lookups
    row_tables      one fragment's tables and statements in SQLite
    row_values      values of SQL types in SQLite, in their order
    transfer        a store as bytes and back
    damage          what DuckDB says of a damaged file, and files to be looked at
    checksum        the rows of a replica summed up
    own_changes     what a transaction's statements see of its uncommitted changes
    snapshot        reading stores at one timestamp
    duckdb_node     the node's one DuckDB instance
    tasks           work that runs to its end; deadlines
    wal ...         the node's one write-ahead log (docs/wal.md)
    keyhash         where a key lies on the ring
    decimals        numerics as Python computes with them
    fragments       the nouns: fragments and changes to them
    types           SQL types, and what Arrow and DuckDB call them
"""
