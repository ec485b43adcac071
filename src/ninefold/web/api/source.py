"""One source in depth: its models, freedom, watch and drifts; its mapping, edited, tried and applied; the kinds of sources there are."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from ninefold.catalogue.freedom import Freedom
from ninefold.catalogue.streams import Stream
from ninefold.config import WebhookConfig
from ninefold.ground.clock import iso, now, parse
from ninefold.ground.errors import BadData, NotFound
from ninefold.stewardship import Stewardship, trying
from ninefold.stewardship.mapping import Applied, Suggestion, Tried, checked
from ninefold.stewardship.trying import Attempt
from ninefold.web.auth import AUDITED, Admin, Operator, Viewer, tell
from ninefold.web.state import TheApp

router = APIRouter(tags=["sources"])
Name = Annotated[str, Query(max_length=300, description="The mapping's name; by default the one that reads most records of the source.")]


class StreamInfo(BaseModel):
    """One signal of a source as the watch knows it; spans in seconds, None while unknown."""

    signal: str
    rows: int
    deliveries: int
    regular: bool = Field(description="Whether it comes at a rhythm.")
    every_s: float | None
    silent_after_s: float | None = Field(description="How long it may be quiet before that is silence.")
    rows_usual: float | None = Field(description="Rows in five minutes, as expected in this hour of the week.")
    delay_p50_s: float | None
    delay_p99_s: float | None
    step_s: float | None = Field(description="How far the points of its series are apart.")
    points_missing: int
    variety: int = Field(description="Different series, line templates, operations or fingerprints.")
    oldest: str | None
    newest: str | None


class SourceDetail(BaseModel):
    """Everything that is known of a source. In `models`, times are RFC 3339."""

    name: str
    mapping: str = Field(description="The name of the mapping that reads it, empty when it sends nothing that has to be mapped.")
    freedom: Freedom
    streams: list[StreamInfo]
    models: list[dict[str, Any]]
    drifting: list[dict[str, Any]] = Field(description="What has drifted and is not over.")
    drifts: list[dict[str, Any]] = Field(description="Drifts so far with their blast radius, newest first.")
    radius: dict[str, Any] = Field(description="What depends on the source.")


class MappingInfo(BaseModel):
    """The mapping of a name: the one in force, its versions, and what the stored records suggest."""

    name: str
    origin: Literal["saved", "configuration", "none"]
    version: int
    mapping: dict[str, Any] | None
    yaml: str
    versions: list[dict[str, Any]]
    suggestions: list[Suggestion]


class MappingGiven(BaseModel):
    """A mapping as a table or as YAML."""

    mapping: dict[str, Any] | None = None
    yaml: str = Field("", max_length=100_000)
    note: str = Field("", max_length=1000)

    def config(self) -> WebhookConfig:
        """The checked mapping.

        Raises:
            BadData: it is not YAML, not a table, or has unknown keys.
        """
        table: Any = self.mapping
        if table is None:
            try:
                table = yaml.safe_load(self.yaml)
            except yaml.YAMLError as error:
                raise BadData(f"the mapping is not YAML: {error}", "yaml") from None
        if not isinstance(table, dict):
            raise BadData("a mapping is a table with the keys records, kind, fields, fingerprint and timezone", "mapping")
        return checked(table)


class PreviewGiven(MappingGiven):
    """A mapping to be tried on the newest `count` stored records."""

    count: int = Field(50, ge=1, le=500)


class Preview(BaseModel):
    """The records as they were read and as the mapping reads them."""

    items: list[Tried]
    changed: int
    failed: int


class Again(BaseModel):
    """Which stored records to read again: by time of receipt (RFC 3339), of one source or of all that use the mapping."""

    since: str = Field("", alias="from")
    until: str = Field("", alias="to")
    source: str = ""


class Kinds(BaseModel):
    """The kinds of sources, by title."""

    items: list[dict[str, Any]]


class Trial(BaseModel):
    """Settings to try."""

    name: str = Field("trial", max_length=80)
    settings: dict[str, Any] = Field(default_factory=dict)


def _steward(app: TheApp) -> Stewardship:
    steward: Stewardship = app.stewardship
    return steward


@router.get("/sources/{name:path}/mapping")
def mapping(name: str, actor: Viewer, app: TheApp, mapping: Name = "") -> MappingInfo:
    """The mapping in force, its versions, and suggestions from the newest stored records."""
    return _mapping(_steward(app), _named(app, name, mapping))


@router.put("/sources/{name:path}/mapping", dependencies=[AUDITED])
def save(name: str, given: MappingGiven, actor: Operator, app: TheApp, mapping: Name = "") -> MappingInfo:
    """Save a new version, which reads records from now on and overrides the one in ninefold.yaml."""
    steward, wanted = _steward(app), _named(app, name, mapping)
    steward.mappings.save(wanted, given.config(), actor.name, given.note)
    return _mapping(steward, wanted)


@router.post("/sources/{name:path}/mapping/preview")
def preview(name: str, given: PreviewGiven, actor: Viewer, app: TheApp, mapping: Name = "") -> Preview:
    """Read the newest stored records by a mapping without keeping anything."""
    items = _steward(app).mappings.preview(_named(app, name, mapping), given.config(), given.count)
    return Preview(items=items, changed=sum(bool(item.changed) for item in items), failed=sum(bool(item.error) for item in items))


@router.post("/sources/{name:path}/mapping/replay")
def replay(name: str, wanted: Again, actor: Operator, app: TheApp, request: Request, mapping: Name = "") -> Applied:
    """Read stored records again by the mapping in force; corrected events replace the old readings."""
    tell(request, "mapping replayed", name, **{"from": wanted.since, "to": wanted.until, "source": wanted.source})
    since, until = _time(wanted.since, 0, "from"), _time(wanted.until, now(), "to")
    return _steward(app).mappings.apply(_named(app, name, mapping), since, until, wanted.source)


@router.get("/sources/{name:path}")  # the last of them: a name may hold slashes, and would take their endings
def source(name: str, actor: Viewer, app: TheApp) -> SourceDetail:
    """One source: what it delivers, how freely, how it usually behaves, what has drifted and what depends on it."""
    steward = _steward(app)
    known = steward.watch.of(name)
    if not known.streams and not app.traffic.kind(name):
        raise NotFound(f"there is no source {name!r}; GET /api/v1/sources lists them")
    return SourceDetail(
        name=name,
        mapping=steward.format(name),
        freedom=steward.freedom(name),
        streams=[_stream(stream) for stream in known.streams],
        models=[_model(model) for model in known.models],
        drifting=[{**drift, "since": iso(drift["since"])} for drift in known.drifts],
        drifts=steward.drifts.history(name),
        radius=steward.radius.of(name, now()),
    )


@router.get("/source-kinds")
def source_kinds(actor: Viewer) -> Kinds:
    """Every kind of source: title, extraction, signals, documentation, and the JSON schema of its settings."""
    return Kinds(items=trying.kinds())


@router.post("/source-kinds/{kind}/check")
async def check(kind: str, wanted: Trial, actor: Admin) -> Attempt:
    """Try settings: connect, take nothing away, show what would come. Settings may hold secrets and are not kept."""
    return await trying.attempt(kind, wanted.name, wanted.settings)


def _named(app: TheApp, source: str, mapping: str) -> str:
    return mapping or _steward(app).format(source) or source


def _mapping(steward: Stewardship, name: str) -> MappingInfo:
    config, version = steward.mappings.current(name), steward.mappings.version(name)
    table = None if config is None else config.model_dump(mode="json")
    return MappingInfo(
        name=name,
        origin="saved" if version else "none" if config is None else "configuration",
        version=version,
        mapping=table,
        yaml="" if table is None else trying.dump(table),
        versions=steward.mappings.versions(name),
        suggestions=steward.mappings.suggest(name),
    )


def _stream(stream: Stream) -> StreamInfo:
    usual = stream.volume.usual(stream.last // 3600_000_000_000 % 168)
    return StreamInfo(
        signal=stream.signal,
        rows=stream.total,
        deliveries=stream.deliveries,
        regular=stream.regular,
        every_s=stream.cadence.quantile(0.5),
        silent_after_s=stream.limit_s(),
        rows_usual=None if usual is None else round(math.exp(usual), 1),
        delay_p50_s=stream.delay.quantile(0.5),
        delay_p99_s=stream.delay.quantile(0.99),
        step_s=stream.steps.step.quantile(0.5),
        points_missing=stream.steps.missing,
        variety=len(stream.variety),
        oldest=iso(stream.oldest) if stream.newest else None,
        newest=iso(stream.newest) if stream.newest else None,
    )


def _model(model: dict[str, Any]) -> dict[str, Any]:
    fields = [{**found, "first_seen": iso(found["first_seen"]), "last_seen": iso(found["last_seen"])} for found in model["fields"]]
    versions = [{**version, "since": iso(version["since"])} for version in reversed(model["versions"])]
    seen = {"first_seen": iso(model["first_seen"]), "last_seen": iso(model["last_seen"])}
    return {**model, **seen, "fields": fields, "versions": versions}


def _time(text: str, default: int, where: str) -> int:
    if not text:
        return default
    try:
        return parse(text)
    except ValueError:
        raise BadData(f"{text!r} is not a time; write it like 2026-11-22T18:00:00Z", where) from None
