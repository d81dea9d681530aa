"""What clients do to a simulated cluster, and what must then be true.

- `workload`: the face all share: set up, run, check.
- `shapes`: how their tables are cut and stored.
- `registers`: reads, writes and compare-and-set of single rows; linearisable.
- `sets`: unique elements inserted; none that was acknowledged is lost.
- `counters`: rows counted up; between what was acknowledged and what was asked.
- `bank`: transfers between rows on several tablets; the sum never changes.
- `transfers`: the same in transactions of several statements, at every isolation level.
- `definitions`: tables and columns come and go beside writes; all nodes know at once.
- `numbers`: a sequence numbers rows; none comes twice, and they come in order.
- `lists`: transactions that read and append to lists; no circles of dependencies.
"""
