"""Gossip: who is in the cluster, who answers, and what each node says of itself.

All of it is hints (rule G4): leadership is a Raft term, "dead" an entry in the catalog's log.
In the order control flows through it:

    driver      the clock and the RPC notices of one node's gossip
    protocol    the core: ticks and packets in, packets and events out; pure
    members     what is known of each node, and what of it is news; pure
    rumours     news that is pushed until enough nodes have it; pure
    messages    packets and what they carry
    settings    times and bounds
"""
