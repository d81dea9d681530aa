"""The global catalog: what tables there are, how they are cut, and where each piece lies.

Nouns and language:
    model         tables, parts, fragments, tablets, nodes; immutable
    definition    what a statement says of a new table
    commands      what changes the catalog, as entries of its log
    codec         both as bytes
"""
