"""What a replica does beside the log: checkpoints, history that may go, sizes, its end.

At a checkpoint each store's file takes the participant's image and everything applied, the row
store's first; the log may be cut behind it up to `durable_index`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from cluster.probes import Probe, reached
from storage.applier import StoreApplier
from storage.damage import scan
from storage.fragments import FragmentSize, Timestamp
from storage.moves import sum_sizes
from storage.replica_image import durable_index
from storage.replica_state import ReplicaState


class KeptReplica(ReplicaState):
    """See the module."""

    @property
    def horizon(self) -> Timestamp:
        """Nobody may read below it here any more (rule L7)."""
        return self._horizon

    def may_have_history(self, horizon: Timestamp) -> bool:
        """Whether rows that are kept may have ended by that horizon."""
        return self._history_since is not None and self._history_since <= horizon

    async def prune(self, most_rows: int) -> bool:
        """Deletes some of the history that ended by the horizon, looking at about so many rows a
        store; whether there is more."""
        appliers: list[StoreApplier[Any]] = [self._applier]
        if self._rows.store is not None:
            appliers.append(self._rows.applier)
        for applier in appliers:
            if applier.store.prunable:
                await applier.alone(partial(applier.store.prune, most_rows))
        return any(applier.store.prunable for applier in appliers)

    @property
    def unsaved_bytes(self) -> int:
        """Log bytes whose effects the next checkpoint would make durable."""
        return max(self._applier.unsaved_bytes, self._rows.unsaved_bytes)

    @property
    def has_unsaved(self) -> bool:
        """Whether a checkpoint would raise the durable index or save an effect."""
        return self._applied_index > self._applier.store.image_index

    async def checkpoint(self) -> None:
        """Makes everything applied durable; the log may be cut up to `durable_index` after."""
        if self._installing:
            return
        async with self._checkpointing:
            if not self._installing:
                await self._checkpoint()

    async def _checkpoint(self) -> None:
        durable: list[int] = []

        def freeze() -> tuple[bytes, int]:
            image = self._image()
            if image.first_unresolved is not None:
                reached(Probe.CHECKPOINT_IN_TRANSACTION)
            durable.append(durable_index(image, self._applied_index))
            return msgspec.msgpack.encode(image), self._applied_index

        await self._rows.checkpoint(freeze)
        await self._applier.checkpoint(freeze)
        self._durable_index = max(self._durable_index, min(durable))

    async def checkpoint_whole(self) -> None:
        """A checkpoint behind which nothing of the log is needed: staged changes and all."""

        def freeze() -> tuple[bytes, int]:
            return msgspec.msgpack.encode(self._image(carry_all=True)), self._applied_index

        index = self._applied_index
        await self._rows.checkpoint(freeze)
        await self._applier.checkpoint(freeze)
        assert self._applied_index == index, "the log went on"
        self._carried_index = self._durable_index = index

    @property
    def newest_commit_ts(self) -> Timestamp:
        """The highest commit timestamp that the stores have taken in."""
        rows = self._rows.store.position.max_commit_ts if self._rows.store is not None else 0
        return max(self._applier.store.position.max_commit_ts, rows)

    def on_damage(self, callback: Callable[[], None]) -> None:
        """Be told, on the loop, when the store's file is found damaged at an apply."""
        self._applier.on_damage = callback
        self._rows.on_damage = callback

    async def scan(self) -> None:
        """Reads the whole stores; raises DataCorrupted where a file is damaged."""
        await self._applier.run(self._scan)
        if self._rows.store is not None:
            await self._rows.applier.run(self._rows.store.verify)

    def _scan(self) -> None:
        store = self._applier.store
        with store.cursor() as cursor:
            for fragment_id in list(store.fragments):
                tables = store.tables(fragment_id)
                scan(cursor, (tables.current, tables.history))

    async def sizes(self) -> list[FragmentSize]:
        """What each fragment of the tablet occupies here."""
        sizes = await self._applier.run(self._applier.store.size)
        if self._rows.store is None:
            return sizes
        return sum_sizes(sizes, await self._rows.applier.run(self._rows.store.size))

    async def close(self) -> None:
        """Stops following the log; what is not durable is replayed at the next start."""
        await self._applier.close()
        await self._rows.close()
        self._staging.close()
        self._applier.store.close()

    async def drop(self) -> None:
        """Removes the replica's files."""
        await self._applier.close()
        await self._rows.drop()
        self._staging.close()
        self._applier.store.drop()
