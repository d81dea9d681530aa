"""What a comparison of replicas says of each, as it travels and is shown."""

from __future__ import annotations

import msgspec


class ReplicaResult(msgspec.Struct, frozen=True):
    """The judgement on one replica; `rebuilt` says whether that was begun."""

    tablet_id: int
    node_id: int
    verdict: str
    rows: int | None = None
    digest: str = ""
    trouble: str = ""
    rebuilt: bool = False
