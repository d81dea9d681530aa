"""Settings of the whole cluster: ALTER SYSTEM SET and RESET, and what SHOW says of them.

They are kept as text in the catalog, hold for every node at once, and no session can set them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.commands import SetClusterSetting
from catalog.horizon import DEFAULT_RETENTION, HISTORY_RETENTION, check_retention
from catalog.repair_settings import DEAD_AFTER, check_dead_after
from cluster.errors import CantChangeRuntimeParam, FeatureNotSupported, UndefinedObject
from executor.execution import Result
from planner.statements import AlterSystem

if TYPE_CHECKING:
    from executor.session import Session


@dataclass(frozen=True, slots=True)
class ClusterSetting:
    """`key` is its name in the catalog; `check` gives the text that is kept, or raises 22023."""

    key: str
    default: str
    check: Callable[[str], str]


CLUSTER_SETTINGS: dict[str, ClusterSetting] = {
    "dqe.dead_after": ClusterSetting(DEAD_AFTER, "5min", check_dead_after),
    HISTORY_RETENTION: ClusterSetting(HISTORY_RETENTION, DEFAULT_RETENTION, check_retention),
}


def shown(name: str, kept: Mapping[str, str]) -> str | None:
    """The value in force, by the catalog's settings; None where it is no setting of the cluster."""
    setting = CLUSTER_SETTINGS.get(name.lower())
    return None if setting is None else kept.get(setting.key, setting.default)


def refuse_in_session(name: str) -> None:
    """Raises 55P02 for a setting of the cluster."""
    if name.lower() in CLUSTER_SETTINGS:
        raise CantChangeRuntimeParam(
            f'parameter "{name}" cannot be changed in a session',
            hint=f"ALTER SYSTEM SET {name} = ... changes it for the whole cluster.",
        )


async def alter_system(session: Session, statement: AlterSystem) -> Result:
    """Changes settings for all nodes; this node goes by them when it returns."""
    session.check_no_block("ALTER SYSTEM")
    names = [statement.name] if statement.name is not None else list(CLUSTER_SETTINGS)
    for name in names:
        setting = _setting(session, name)
        value = None if statement.value is None else setting.check(statement.value)
        await session.services.catalog.execute(SetClusterSetting(setting.key, value))
    return Result("ALTER SYSTEM")


def _setting(session: Session, name: str) -> ClusterSetting:
    setting = CLUSTER_SETTINGS.get(name.lower())
    if setting is not None:
        return setting
    try:
        session.setting(name)
    except UndefinedObject as error:
        raise error from None
    raise FeatureNotSupported(
        f'parameter "{name}" cannot be set for the whole cluster',
        hint=f"The cluster's settings are {', '.join(sorted(CLUSTER_SETTINGS))}.",
    )
