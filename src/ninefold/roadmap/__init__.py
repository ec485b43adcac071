"""The AIOps roadmap in nine steps, each measured from what flowed: one module a step, one function in it.

A figure is computed from the telemetry store and the records whenever it is asked for and never typed in; what cannot be
computed yet is a gap that says what to connect.
"""

from __future__ import annotations

from ninefold.plugin import Store
from ninefold.roadmap import automation, data_models, kpis, processes, records, skills, techniques, use_cases, value
from ninefold.roadmap.answer import StepResult
from ninefold.store.records.base import Records

STEPS = (use_cases, records, kpis, data_models, processes, automation, value, skills, techniques)
"""The steps in the order of the road; `sources` is the second half of the first."""


def measure(store: Store, kept: Records) -> list[StepResult]:
    """All nine steps as they stand.

    Raises:
        Unavailable: the store cannot answer now.
    """
    return [step.measure(store, kept) for step in STEPS]
