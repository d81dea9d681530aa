"""The fabric: clock and chance, transport and RPC, gossip, the Raft core, the base error class.

In the order in which control flows:

- `errors`: every error a user or a peer can be told of.
- `runtime`: clock, chance, tasks and threads; the production one.
- `disk`: files as the write-ahead log uses them.
- `transport`: byte connections; TCP.
- `rpc`: calls, notices and streams between nodes, over `rpc_client` and `rpc_server` (the two
  ends of a connection), `rpc_local` (calls to oneself), `rpc_stream` (credit),
  `rpc_handshake` (who may talk) and `rpc_frames` (bytes).
- `gossip`: who is in the cluster, who answers, what each node says of itself; hints.
- `raft`: the consensus core and its driver.
- `probes`: marks at rare paths, for sweeps of simulations.
- `simulation`: all of it again on a simulated clock, network and disk, from one seed.
"""
