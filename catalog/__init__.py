"""The global catalog: what tables there are, how they are cut, and where each piece lies.

Nouns and language:
    model         tables, parts, fragments, tablets, nodes; immutable
    definition    what a statement says of a new table
    commands      what changes the catalog, as entries of its log
    codec         both as bytes

Values and parts (pure; the planner and the executor use them, too):
    datums        values of key types as text, as comparable values, as Arrow
    bounds        which part takes a row or each row of a batch
    pruning       which parts can satisfy a predicate

The state machine (pure):
    cutting       PARTITION clauses to bounds; overlaps and gaps refused
    placement     which nodes get a tablet
    changes/      what each command does
    state         commands applied in log order; snapshots
"""
