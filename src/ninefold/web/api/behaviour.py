"""How an entity behaves right now: its metrics beside each other, and itself beside its siblings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["entities"])


class MetricBehaviour(BaseModel):
    """A metric of the entity, beside the entity's others."""

    metric: str
    unit: str
    value: float | None = Field(description="Of its last minute; none yet: null.")
    usual: float | None = Field(description="What the entity's other metrics let expect; null while learning.")
    deviation: float = Field(description="How far off the value is, in spreads of what the others do not explain; negative is below.")
    contribution: float = Field(description="Its part in what the others do not explain, 0 to 1.")


class Together(BaseModel):
    """The metrics judged together."""

    judged: bool = Field(description="Whether enough minutes have been learned.")
    learned_minutes: int
    score: float = Field(description="-log10 of the chance of the last minute; 5 and more, twice, is an alarm.")
    rank: float = Field(description="How unusual the last minutes are, to compare entities and minutes by; it has no threshold.")
    since: str | None = Field(description="Since when they do not go together; null: they do.")
    metrics: list[MetricBehaviour] = Field(description="The most surprising first.")


class PeerMetric(BaseModel):
    """A metric of the entity, beside the same metric of its siblings."""

    metric: str
    unit: str
    value: float
    usual: float = Field(description="What the siblings' median and the entity's usual distance from it let expect.")
    median: float = Field(description="The siblings' median, itself among them.")
    siblings: int = Field(description="How many others were compared in that minute.")
    deviation: float = Field(description="Smoothed distance from the usual place, in spreads; beyond about 9 is an alarm.")


class Peers(BaseModel):
    """The entity among its siblings."""

    group: str
    since: str | None = Field(description="Since when it is unlike them; null: it is like them.")
    metrics: list[PeerMetric] = Field(description="The furthest off first.")


class Behaviour(BaseModel):
    """Both views; null where there is nothing to compare: fewer than three metrics, fewer than three siblings."""

    entity: str
    together: Together | None
    peers: Peers | None


@router.get("/entities/{entity:path}/behaviour")
def behaviour(entity: Annotated[str, Path(max_length=300)], actor: Viewer, app: TheApp) -> Behaviour:
    """The entity's metrics with value, what was expected and contribution, and its standing among its siblings."""
    together = app.runner.ask("together", lambda technique: technique.behaviour(entity))
    peers = app.runner.ask("peers", lambda technique: technique.standing(entity))
    if together is None and peers is None:
        raise NotFound(f"nothing is known of the metrics of {entity}; it may have sent none for two days")
    return Behaviour(
        entity=entity,
        together=Together(**_timed(together)) if together else None,
        peers=Peers(**_timed(peers)) if peers else None,
    )


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"since": iso(row["since"]) if row["since"] else None}
