"""Settings of the cluster that repair goes by, as text in the catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cluster.errors import InvalidParameterValue

DEAD_AFTER = "dead_after"
DEFAULT_DEAD_AFTER_S = 300.0
# Below this a node that merely starts again would be given up.
LEAST_DEAD_AFTER_S = 5.0

_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def parse_duration_s(text: str) -> float:
    """Seconds, from a number with a unit (ms, s, min, h, d), or without one; 22023 otherwise."""
    found = _DURATION.fullmatch(text.lower())
    unit = (found.group(2) or "s") if found else ""
    if found is None or unit not in _UNITS_S:
        raise InvalidParameterValue(
            f'invalid duration: "{text}"',
            hint='Valid units are "ms", "s", "min", "h" and "d".',
        )
    return float(found.group(1)) * _UNITS_S[unit]


def check_dead_after(text: str) -> str:
    """The text as it is kept; 22023 for one that is no duration, or too short."""
    seconds = parse_duration_s(text)
    if seconds < LEAST_DEAD_AFTER_S:
        raise InvalidParameterValue(
            f'{DEAD_AFTER} must be at least {LEAST_DEAD_AFTER_S:g} s, not "{text}"'
        )
    return text.strip()


def dead_after_s(settings: Mapping[str, str]) -> float:
    """How long a node may be silent before its replicas are rebuilt elsewhere."""
    text = settings.get(DEAD_AFTER)
    return DEFAULT_DEAD_AFTER_S if text is None else parse_duration_s(text)
