"""Log templates: what the lines of the estate have in common, which of them are new, surging, vanished or rare, and why they surge."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ninefold.ground.clock import SECOND, iso
from ninefold.ground.errors import NotFound
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["logs"])
_TECHNIQUE = "logs"
Kind = Literal["new", "surging", "vanished", "rare"]


class TemplateInfo(BaseModel):
    """A template. Its id follows from its text alone, so it is the same after a restart and on another node."""

    id: str
    text: str = Field(
        description="The line with typed holes, such as `user <word> took <duration>`; `<*>` where no value was looked at yet."
    )
    count: int = Field(description="Lines so far.")
    rate_now: float = Field(description="Lines in the last minute, of the entity asked for or of all.")
    rate_usual: float = Field(description="Lines a minute expected.")
    severity: int = Field(description="OpenTelemetry severity number of its first line; 17 and above are errors, 0 is unknown.")
    first_seen: str
    last_seen: str
    entities: list[str] = Field(description="At most 20 that log it.")
    kinds: list[Kind] = Field(
        description="new: came within a day, after the first ten minutes. surging: far more than usual right now. vanished: logged "
        "regularly, and not any more while its entity goes on logging. rare: three lines at most."
    )
    example: str = Field(description="Its first line, masked like what is stored.")


class TemplateList(BaseModel):
    """Templates that match; `total` counts those beyond the limit too."""

    items: list[TemplateInfo]
    total: int


class HoleInfo(BaseModel):
    """A place in the template where values differ, in the order of the text."""

    type: str = Field(
        description="int, float, percent, uuid, ip, mac, time, duration, bytes, url, path, hex, host, word or text; * before any was seen."
    )
    distinct: int = Field(description="Estimate of how many different values there are among those looked at; exact up to 7.")
    looked: int = Field(description="Values looked at: a sample of the lines.")
    examples: list[str] = Field(description="A fair sample of the different values, the most frequent first.")


class FieldInfo(BaseModel):
    """A value that stands in a larger share of a surge's lines than before. `#1` is the value in the first hole."""

    field: str
    value: str
    now: float = Field(description="Share of the surge's lines, 0 to 1.")
    before: float = Field(description="Share of the lines before, 0 to 1.")
    lines: int = Field(description="Sampled lines of the surge that have the value.")
    explained: float = Field(description="The part of what is more than usual that these lines make up, 0 to 1.")
    text: str


class SurgeInfo(BaseModel):
    """The last surge of the template at an entity, and what its lines have in common; no fields: nothing stands out."""

    entity: str
    fields: list[FieldInfo]


class RateInfo(BaseModel):
    """Lines of one minute. Minutes without lines are left out."""

    time: float = Field(description="Beginning of the minute, epoch seconds.")
    lines: int


class TemplateDetail(TemplateInfo):
    """All that is known of one template."""

    aliases: list[str] = Field(description="Ids it had before it merged with others; they lead here.")
    holes: list[HoleInfo]
    surges: list[SurgeInfo]
    rate: list[RateInfo]


@router.get("/log-templates")
def templates(
    actor: Viewer,
    app: TheApp,
    entity: Annotated[str, Query(max_length=300)] = "",
    q: Annotated[str, Query(max_length=200, description="Words that must all be in the template's text.")] = "",
    kind: Annotated[Kind | None, Query(description="Only templates of this kind.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TemplateList:
    """The log templates known now, the most frequent first; of one kind, the latest (new, rare) or strongest (surging, vanished)."""
    rows, total = app.runner.ask(_TECHNIQUE, lambda logs: logs.templates(entity=entity, q=q, kind=kind or "", limit=limit))
    return TemplateList(items=[TemplateInfo(**_timed(row)) for row in rows], total=total)


@router.get("/log-templates/{identity}")
def template(
    identity: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")],
    actor: Viewer,
    app: TheApp,
    entity: Annotated[str, Query(max_length=300, description="Rates of this entity only.")] = "",
    hours: Annotated[float, Query(gt=0, le=168, description="How far back the rates go from the last line.")] = 6,
) -> TemplateDetail:
    """One template: values in its holes, lines by minute from the store, what explains its surges."""
    row = app.runner.ask(_TECHNIQUE, lambda logs: logs.template(identity))
    if row is None:
        raise NotFound(f"there is no log template {identity}; it may have been forgotten, since nobody logs it any more")
    found = app.store.query(
        """SELECT toUnixTimestamp(toStartOfMinute(time)) AS time, count() AS lines FROM log
        WHERE pattern IN {patterns:Array(UInt64)} AND (entity = {entity:String} OR {entity:String} = '')
            AND time > fromUnixTimestamp64Nano({begin:Int64}) GROUP BY time ORDER BY time""",
        {"patterns": row.pop("patterns"), "entity": entity, "begin": row["last_seen"] - int(hours * 3600 * SECOND)},
    )
    return TemplateDetail(**_timed(row), rate=[RateInfo(**one) for one in found.to_pylist()])


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"first_seen": iso(row["first_seen"]), "last_seen": iso(row["last_seen"])}
