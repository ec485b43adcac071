"""Incidents: alerts folded, explained, handled. `life_cycle` is the room's one door; `view` is what people see of it."""

from ninefold.incidents.life_cycle import Incidents

__all__ = ["Incidents"]
