"""From ``connector.action`` in a workflow to the connector and the action meant, and what is wrong before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ninefold.ground.errors import Refused
from ninefold.plugin import Action, Connector, Risk
from ninefold.workflows.language import Step, Workflow

RISKS: tuple[Risk, ...] = ("read", "write", "dangerous")
"""Least to most."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An action of a configured connector. `repeatable`: a second time does no harm."""

    name: str
    connector: Connector
    action: Action

    @property
    def repeatable(self) -> bool:
        """Whether a lost answer may simply be asked for again."""
        return self.action.idempotent or self.action.risk == "read"


def bind(uses: str, connectors: Mapping[str, Connector]) -> Bound:
    """The connector and action of ``connector.action``.

    Raises:
        Refused: there is no such connector, or it cannot do that.
    """
    name, _, verb = uses.partition(".")
    connector = connectors.get(name)
    if connector is None:
        known = ", ".join(sorted(connectors)) or "none"
        raise Refused(f"no connector is named {name!r}; configure it under `connectors` (there are: {known})")
    action = connector.actions().get(verb)
    if action is None:
        raise Refused(f"the connector {name!r} has no action {verb!r}; it has {', '.join(sorted(connector.actions()))}")
    return Bound(name, connector, action)


def risk_of(step: Step, bound: Bound) -> Risk:
    """The risk of a step: its action's, or the higher one the step names."""
    return max(step.risk or "read", bound.action.risk, key=RISKS.index)


def faults(workflow: Workflow, connectors: Mapping[str, Connector]) -> Iterator[str]:
    """What keeps a workflow from working with these connectors, one sentence each."""
    for step in workflow.steps:
        where = f"step {step.id}"
        try:
            bound = bind(step.uses, connectors)
            yield from _keys(where, step.ask, bound)
            if step.risk and RISKS.index(step.risk) < RISKS.index(bound.action.risk):
                yield f"{where}: risk {step.risk} is below the action's own, {bound.action.risk}; a step can only raise it"
            if step.verify and step.verify.uses:
                look = bind(step.verify.uses, connectors)
                yield from _keys(f"{where}, verify", step.verify.ask, look)
                if look.action.risk != "read":
                    yield f"{where}: verify uses {step.verify.uses}, which is {look.action.risk}; a proof only reads"
            if step.rollback:
                back = bind(step.rollback.uses, connectors)
                yield from _keys(f"{where}, rollback", step.rollback.ask, back)
                if RISKS.index(back.action.risk) > RISKS.index(risk_of(step, bound)):
                    yield f"{where}: its rollback is {back.action.risk}, more than the step itself; raise the step's `risk` to that"
        except Refused as error:
            yield f"{where}: {error}"


def _keys(where: str, ask: Mapping[str, object], bound: Bound) -> Iterator[str]:
    fields = bound.action.ask.model_fields
    names = {field.alias or name: field.is_required() for name, field in fields.items()}
    unknown, missing = set(ask) - set(names), {name for name, required in names.items() if required} - set(ask)
    if unknown:
        yield f"{where}: {bound.name}.{bound.action.name} takes no {', '.join(sorted(unknown))}; it takes {', '.join(names)}"
    if missing:
        yield f"{where}: {bound.name}.{bound.action.name} needs {', '.join(sorted(missing))}"
