"""The global catalog: what tables there are, how they are cut, and where each piece lies.

Nouns and language:
    model               tables, parts, fragments, tablets, nodes; immutable
    definition          what a statement says of a new table
    commands            what changes the catalog, as entries of its log
    codec               commands and their outcomes as bytes

Values and parts (pure; the planner and the executor use them, too):
    datums              values of key types as text, as comparable values, as Arrow
    bounds              which part takes a row or each row of a batch
    pruning             which parts can satisfy a predicate
    fragment_schemas    what a tablet is to store

The state machine (pure):
    cutting             PARTITION clauses to bounds; overlaps and gaps refused
    placement           which nodes get a tablet
    changes/            what each command does
    state               commands applied in log order; snapshots
    drafting, patches   commands tried on a catalog of one's own, and what they changed
    repair_plan         which replicas are to be where: repair, drained nodes, new ones;
                        repair_view is what it looks at, repair_balance evens out
    repair_members      one group's next step towards that
    repair_report       what stands in its way; repair_settings what it goes by
    recovery            how far each replica's log is, where a majority is lost

On a node:
    addresses           where the others are, over restarts
    liveness            who answers and how each node fares, by gossip
    log_witness         remembers how far the logs of the others are
    catalog_incarnations   the catalog goes on without its lost majority; tablet_incarnations
                        a tablet does
    joining             how an empty node becomes a member
    membership          who votes on the catalog
    catalog_group       the catalog's Raft group: opened, and again for a later incarnation
    sequence_service    numbers of sequences, on the catalog's leader
    definition_service  the home of transactions that define something
    service             the local copy, changing it, waiting for it
    oracle              timestamps, sans-IO; oracle_service drives it on the leader
    horizon             how far history may go, sans-IO; history has tablets log it
    timestamp_client    how a node asks for them
    repair              the loop that has replicas rebuilt, moved, evened out
    tablets             local tablets kept as the catalog says; tablet_members their groups
    tablet_watch        what they are told of the rest of the cluster
    transaction_watch   who is in doubt in the whole cluster, who holds and awaits what
    replica_checks      replicas compared, wrong ones rebuilt; replica_verdicts says which
                        (pure), replica_results is what is shown of it
    tablet_requests     what goes to a tablet's leader; tablet_server the leader's side
    tablet_calls        a request finds its leader (leader_search); tablet_ends, tablet_peers and
                        tablet_rpc what is asked, point_reads the short way

What users see of it:
    system_tables/      pg_catalog, information_schema, dqe
"""
