"""The configuration: one `ninefold.yaml`, every key optional, ``${ENV}`` and ``${file:/path}`` filled in, unknown keys refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ninefold.ground.errors import BadData, ConfigError
from ninefold.model.matcher import Matcher, checked
from ninefold.plugin import Strict

_REFERENCE = re.compile(r"\$\{(?:(file):)?([^}]+)\}")


class ServerConfig(Strict):
    """Where Ninefold listens."""

    host: str = Field("127.0.0.1", description="Address to bind; use 0.0.0.0 to serve other machines.")
    port: int = Field(9900, ge=0, le=65535, description="Console, API and all HTTP receivers.")
    otlp_port: int = Field(4318, ge=0, le=65535, description="A second port for OTLP/HTTP, where SDKs expect it; 0 turns it off.")
    body_limit_bytes: int = Field(20 << 20, ge=1024, description="Largest request body after decompression.")


class JournalConfig(Strict):
    """The durable log in front of the store."""

    size_limit_bytes: int = Field(4 << 30, description="Backlog at which senders get 503 until the store has caught up.")


Kept = Literal["metric", "log", "span", "event", "metric_1m", "metric_1h"]
"""What has a retention: the signals, and the roll-ups of metrics to minutes and hours."""


class ExportConfig(Strict):
    """Daily Parquet files of what is old, written every night."""

    to: Path = Field(description="Folder of the files; it is made.")
    older_than_days: int = Field(1, ge=1, description="Days are exported once they are as old as this.")


class StoreConfig(Strict):
    """The telemetry store."""

    url: str = Field("", description="chdb:///path (embedded, the default below the data folder) or http://user:password@host:8123.")
    database: str = Field("ninefold", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    retention_days: dict[Kept, int] = Field(
        default={"metric": 30, "log": 14, "span": 7, "event": 400, "metric_1m": 90, "metric_1h": 730},
        description="Days to keep each signal and roll-up; what is not named keeps its default.",
    )
    source_retention_days: dict[str, dict[Kept, int]] = Field(
        default_factory=dict, description="source -> signal -> days, where a source's rows are kept for another time than its signal's."
    )
    export: ExportConfig | None = Field(None, description="Where to keep Parquet files of what is old; none are written when left out.")
    backup_to: str = Field(
        "",
        description="For a ClickHouse server: where it writes its part of a backup, in its own words with {name} for the backup's name, "
        "e.g. Disk('backups', '{name}'). By default a folder of the backup, which the server must see and allow.",
    )
    memory_limit_bytes: int = Field(2 << 30, description="Memory the embedded engine may use.")


class RecordsConfig(Strict):
    """Incidents, runs, approvals, tokens."""

    url: str = Field("", description="SQLAlchemy URL; SQLite below the data folder by default.")


class WebhookConfig(Strict):
    """A mapping for a JSON webhook at ``/webhook/<name>``: each value is a JMESPath over one record."""

    records: str = Field("@", description="Path to the list of records (or the one record) in the body.")
    kind: str = Field("alert", description="The event kind of every record.")
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="title, body, time, severity, status, source_id, entity or attributes.<name> -> JMESPath.",
    )
    fingerprint: list[str] = Field(default_factory=list, description="Fields and attributes that make two records the same alert.")
    timezone: str = Field("UTC", description="Zone of times that name none, such as Europe/Berlin; empty: this machine's.")


class LimitsConfig(Strict):
    """How many active series are taken; what is left out is announced as an event of the source."""

    series_per_source: int = Field(1_000_000, ge=1, description="Most active series of one source.")
    sample_under_pressure: bool = Field(
        False, description="Thin out plain logs and spans when the journal fills up, rather than ask senders to wait; it is announced."
    )
    series: int = Field(1_200_000, ge=1, description="Most active series of all sources; below it each source has its fair share.")


class StewardshipConfig(Strict):
    """Who hears when a source changes its ways."""

    notify: list[str] = Field(default_factory=list, description="Names of notify connectors to tell; all of them when empty.")
    cool_down_s: float = Field(3600.0, ge=0, description="Shortest time between two notices about the same source.")


class ThresholdConfig(Strict):
    """What some series must not come to."""

    metric: str = Field(description="Name of the metric; * and ? stand for anything.")
    entity: str = Field("*", description="Entity; * and ? stand for anything.")
    above: float | None = Field(None, description="Met from below.")
    below: float | None = Field(None, description="Met from above.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("give either above or below")
        return self


class ForecastConfig(Strict):
    """Looking ahead at what could run full, run out or expire."""

    enabled: bool = Field(True, description="Whether it runs by itself; forecasts that are asked for are made all the same.")
    every_s: float = Field(3600.0, ge=60, description="Time between two rounds.")
    first_after_s: float = Field(120.0, ge=0, description="Time from the start to the first round.")
    horizon_days: float = Field(14.0, gt=0, le=365, description="How far ahead.")
    history_days: float = Field(60.0, gt=0, le=366, description="How far back to learn from.")
    confidence: float = Field(0.8, gt=0.5, lt=1, description="Probability of meeting a threshold from which on it is told.")
    series: int = Field(2000, ge=0, description="Most series of a round.")
    thresholds: list[ThresholdConfig] = Field(
        default_factory=list, description="Thresholds beside those that names and units tell; the first that fits a series counts."
    )


class LogsConfig(Strict):
    """What must not be kept of log lines."""

    mask: Literal["off", "secrets", "personal"] = Field(
        "secrets", description="What is replaced before lines are stored: secrets, personal data too, or nothing."
    )
    mask_addresses: bool = Field(False, description="IP addresses count as personal data.")
    mask_patterns: list[str] = Field(
        default_factory=list, description="Own regular expressions; the group named secret is replaced, or all that matches."
    )

    @field_validator("mask", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare off as a truth value

    @field_validator("mask_patterns")
    @classmethod
    def _readable(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns


class CorrelationConfig(Strict):
    """How alerts are folded into incidents."""

    idle_s: float = Field(60.0, gt=0, description="A quiet time after which the next alert of a component opens a new incident.")
    resolve_after_s: float = Field(300.0, gt=0, description="An incident whose alerts have all resolved stays open this long.")
    min_alerts: int = Field(2, ge=1, description="Distinct (entity, rule) pairs before an incident below critical is shown.")


class Matched(Strict):
    """Something that is said of alerts by their labels."""

    matchers: list[str] = Field(min_length=1, max_length=50, description='All must hold, e.g. service=cart or alertname=~"Disk.*".')

    @field_validator("matchers")
    @classmethod
    def _usable(cls, matchers: list[str]) -> list[str]:
        return _together(matchers)


def _together(matchers: list[str]) -> list[str]:
    try:
        checked([Matcher.parse(text) for text in matchers])
    except BadData as error:
        raise ValueError(str(error)) from error
    return matchers


_WEEK_S = 7 * 86400


class AlertRule(Matched):
    """What is asked of alerts before they count, and before their end does; what is left out, a later rule or the default decides."""

    for_s: float | None = Field(None, ge=0, le=_WEEK_S, description="An alert is pending, and in no incident, until it has held so long.")
    keep_firing_for_s: float | None = Field(None, ge=0, le=_WEEK_S, description="An end counts once it has lasted so long.")
    samples: int | None = Field(None, ge=1, le=1000, description="An alert is pending until it was told so often.")
    samples_within_s: float | None = Field(None, gt=0, le=_WEEK_S, description="Within this time; any time when left out.")
    flapping: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Changes between firing and resolved above which an alert is flapping; 0, the default: it never is.",
    )
    flapping_within_s: float | None = Field(
        None, gt=0, le=_WEEK_S, description="Within this time, and until it was calm for as long. Default 600."
    )
    expire_after_s: float | None = Field(
        None, gt=0, le=18000, description="An alert nobody has told of for so long is expired, though nobody said that it ended."
    )


class HeartbeatConfig(Matched):
    """Events that are expected again and again, such as Alertmanager's Watchdog; an alert is raised when they stay away."""

    every_s: float = Field(gt=0, le=_WEEK_S, description="The longest time from one to the next.")
    grace_s: float = Field(0.0, ge=0, le=_WEEK_S, description="How much later one may be.")
    severity: Literal["critical", "high", "warning", "info"] = Field("critical", description="Of the alert that it is late.")
    entity: str = Field("", max_length=500, description="What the alert is about; service:ninefold when left out.")


class Inhibition(Strict):
    """While one alert fires, others are hidden, as Alertmanager means it."""

    source_matchers: list[str] = Field(min_length=1, max_length=50, description="Alerts that hide others while they fire; all must hold.")
    target_matchers: list[str] = Field(min_length=1, max_length=50, description="Alerts that are hidden; all must hold.")
    equal: list[str] = Field(
        default_factory=list, max_length=20, description="Labels both must have with the same value; missing in both is the same."
    )

    @field_validator("source_matchers", "target_matchers")
    @classmethod
    def _usable(cls, matchers: list[str]) -> list[str]:
        return _together(matchers)


class ChangeWindows(Strict):
    """Tickets that mute what they are about while their change lasts; none do unless sources are named."""

    sources: list[str] = Field(default_factory=list, description="Sources whose word is taken for it; * and ? stand for anything.")
    kinds: list[Literal["change", "deployment", "maintenance", "ticket"]] = Field(
        default=["change", "maintenance"], description="Kinds of events that may."
    )
    approved: list[str] = Field(
        default=["approved", "scheduled", "implement", "implementing", "in progress", "started"],
        description="Statuses, in small letters, in which a change mutes; any other ends its mute.",
    )
    longest_s: float = Field(86400.0, gt=0, description="What is planned for longer is muted for so long only.")


class AlertsConfig(Strict):
    """When alerts count, what hides them, and what must be heard of again and again. What is saved in the console comes first."""

    rules: dict[str, AlertRule] = Field(default_factory=dict, description="name -> rule; each setting is that of the first that fits.")
    heartbeats: dict[str, HeartbeatConfig] = Field(default_factory=dict, description="name -> heartbeat.")
    inhibitions: dict[str, Inhibition] = Field(default_factory=dict, description="name -> inhibition.")
    change_windows: ChangeWindows = ChangeWindows()


class WorkflowsConfig(Strict):
    """Automation and its brakes."""

    path: Path | None = Field(None, description="Folder of workflow YAML files.")
    enabled: bool = Field(True, description="The global stop: false lets nothing start.")
    max_runs: int = Field(20, ge=1, description="Runs at the same time.")


class OnCallConfig(Strict):
    """Paging people about incidents."""

    console_url: str = Field("", description="Address of the console as people reach it, for the links in pages.")
    fallback: list[str] = Field(
        default_factory=list, description="Names of notify connectors that are told when nobody can be paged; all of them when empty."
    )
    calendar_hosts: list[str] = Field(
        default_factory=list, description="Hosts whose calendars may be fetched by plain http or from private addresses."
    )


class Config(Strict):
    """Everything Ninefold can be told. It works with no file at all."""

    data: Path = Field(Path("ninefold-data"), description="Folder of everything that is kept.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    server: ServerConfig = ServerConfig()
    journal: JournalConfig = JournalConfig()
    store: StoreConfig = StoreConfig()
    records: RecordsConfig = RecordsConfig()
    webhooks: dict[str, WebhookConfig] = Field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="name -> {type, …}; checked by the source. The type is the name unless given; `enabled: false` turns one off.",
    )
    connectors: dict[str, dict[str, Any]] = Field(default_factory=dict, description="name -> {type, …}; checked by the connector.")
    limits: LimitsConfig = LimitsConfig()
    stewardship: StewardshipConfig = StewardshipConfig()
    logs: LogsConfig = LogsConfig()
    correlation: CorrelationConfig = CorrelationConfig()
    alerts: AlertsConfig = AlertsConfig()
    forecast: ForecastConfig = ForecastConfig()
    workflows: WorkflowsConfig = WorkflowsConfig()
    oncall: OnCallConfig = OnCallConfig()

    @property
    def store_url(self) -> str:
        """The store's URL with the default filled in."""
        return self.store.url or f"chdb://{(self.data / 'store').absolute()}"

    @property
    def records_url(self) -> str:
        """The records' URL with the default filled in."""
        return self.records.url or f"sqlite:///{(self.data / 'records.db').absolute()}"


def _fill(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, f"{where}.{key}" if where else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        kind, name = match.groups()
        try:
            return Path(name).read_text().strip() if kind else os.environ[name]
        except KeyError:
            raise ConfigError(f"{where}: the environment variable {name} is not set; set it or remove the reference") from None
        except OSError as error:
            raise ConfigError(f"{where}: the file {name} cannot be read: {error.strerror}") from error

    return _REFERENCE.sub(one, value)


def parse(data: Any) -> Config:
    """A checked configuration from plain data.

    Raises:
        ConfigError: a key is unknown or a value wrong; every problem is named by its path.
    """
    try:
        return Config.model_validate(_fill(data or {}, ""))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'top level'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"the configuration is wrong: {problems}") from error


def load(path: Path | None) -> Config:
    """Read a configuration file; None gives the defaults.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or is wrong.
    """
    if path is None:
        return Config()
    try:
        return parse(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
