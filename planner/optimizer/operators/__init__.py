"""The ways to compute each operator, which differ in where the rows then lie.

Whatever could answer differently on two copies of the same rows (a LIMIT without total order, a
volatile function, a window with ties) is computed on one copy only.

From the leaves up:

    leaves          tables, relations of the coordinator, constants
    rows            filters and projections, where their input is
    joins           joins, ordered together or one at a time
    grouping        aggregates, DISTINCT ON, windows: rows that must meet
    ordering        sorts, merged or gathered; LIMIT, cut on each node first
    set_operations  UNION, INTERSECT, EXCEPT
    sharing         subplans used more than once, and queries run as written on one node
"""
