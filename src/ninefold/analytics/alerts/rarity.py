"""How telling alerts are: an alert that comes with every incident says little about where one began."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

Alert = tuple[str, str]
"""Entity and rule."""


def rarity(alerts: Iterable[Alert], past: Sequence[Iterable[Alert]]) -> dict[str, float]:
    """By entity, how surprising its alerts are: the sum of log(incidents / incidents with it), half by alert and half by rule.

    Surprisal instead of counts, because the entities that always complain are seldom the cause.

    Args:
        alerts: the distinct alerts of the incident.
        past: those of earlier incidents.
    """
    same, rules = Counter[Alert](), Counter[str]()
    for incident in past:
        known = set(incident)
        same.update(known)
        rules.update({rule for _, rule in known})
    n = len(past) + 2
    told: dict[str, float] = defaultdict(float)
    for alert in sorted(set(alerts)):
        told[alert[0]] += 0.5 * (math.log(n / (same[alert] + 1)) + math.log(n / (rules[alert[1]] + 1)))
    return dict(told)


def at_home(told: Mapping[str, float], homes: Mapping[str, str]) -> dict[str, float]:
    """The same with parts (pods) counted for their home (their service), which gets their mean: an odd pod is not outvoted by many
    usual ones elsewhere, nor is a service blamed for having many."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for entity, much in told.items():
        grouped[homes.get(entity, entity)].append(much)
    return {entity: sum(much) / len(much) for entity, much in grouped.items()}
