"""Raft: the consensus that carries the catalog and the tablets.

In the order in which control flows, from the floors above down to the disk and the wire:

- `host`: all replicas of a node on one log, one frame a peer, one timer.
- `group`: one replica driven: propose, read, change members, transfer.
- `leaving`: the groups of a node that stops.
- `proposals`: what became of each proposal; `waiters`, `remote_reads`: who waits to read.
- `applying`: the state machine, driven; `gathering`: when a follower applies; `retention`: when
  the log is cut.
- `writer`, `outbox`: group commit, and messages that travel together.
- `core`: the sans-IO core, its inputs and outputs and the contract for its driver; its parts
  are functions over `state`:
  - `election`: votes, pre-vote, the promises behind leases;
  - `replication`: entries, heartbeats, commitment; `progress`: what is known of a member;
  - `snapshots`: what replaces entries that are gone;
  - `reads`: read rounds; `membership`: one voter at a time; `transfer`: handing over;
  - `log_view`: the group's log as the core sees it.
- `messages`, `log`, `state_machine`, `settings`, `errors`: the nouns. `log` and
  `state_machine` are the faces that storage and catalog implement.
"""
