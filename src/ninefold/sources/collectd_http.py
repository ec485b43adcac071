"""collectd's `write_http` plug-in at ``/collectd``: values as JSON, as PUTVAL commands or as KairosDB points, and notifications.

::

    <Plugin write_http>
      <Node "ninefold">
        URL "https://ninefold/collectd"
        User "collectd"
        Password "<token>"
        Format "JSON"
        Notifications true
      </Node>
    </Plugin>

| collectd | here |
|---|---|
| plugin, type, data source | the name ``collectd_<plugin>_<type>_<source>``; a type called as its plugin and the source ``value`` are left out, as in collectd's own Prometheus exporter |
| host | ``host.name``, the entity |
| plugin instance, type instance | ``plugin_instance``, ``type_instance`` |
| DERIVE and COUNTER, ABSOLUTE, GAUGE | counter, delta, gauge; with ``StoreRates true`` set `store_rates`, as rates are gauges |
| KairosDB tags of your own | attributes |
| notification | an alert of the host; OKAY resolves what FAILURE and WARNING raised |

PUTVAL and KairosDB do not say what kind a value is, and PUTVAL not how the sources of a type are called: those of the usual types are known,
others are numbered from 0. Values that are not there (``null``, ``nan``) are left out. Not kept: intervals and meta data.
A record that cannot be read goes to quarantine, the others are kept.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import Field

from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, Decoded, quarantine
from ninefold.plugin import Asked, Door, Lent, Source, Strict
from ninefold.sources.collectd_names import data_sources, series_of
from ninefold.sources.keyed import Cells, Keyed, Row, series_row
from ninefold.sources.log_rows import as_text
from ninefold.sources.reading import dump_json, keep, load_json, time_of

_FORMAT = "collectd"
_WHO = ("host", "plugin", "plugin_instance", "type", "type_instance")
_LONGEST, _SOURCES_MOST = 1024, 1000
_PUTVAL = re.compile(r'PUTVAL\s+(?:"((?:[^"\\]|\\.)*)"|(\S+))((?:\s+[\w:]+=\S+)*)\s+(\S+)\s*', re.IGNORECASE)


class CollectdConfig(Strict):
    """The settings of collectd's door."""

    store_rates: bool = Field(False, description="Whether write_http is set to `StoreRates true`: counters then arrive as rates.")


class Value(NamedTuple):
    """One value of one data source; `key` is what tells its series, in whichever form it came."""

    key: bytes
    time: int
    value: float


class Collectd:
    """The decoder; one instance a source, because it remembers which series were described. Thread-safe."""

    def __init__(self, store_rates: bool = False) -> None:
        self._store_rates = store_rates
        self._series = Keyed()

    def decode(self, body: bytes, source: str, received: int) -> Decoded:
        """The points and notifications of a body.

        Raises:
            BadData: it is neither a JSON list nor PUTVAL commands.
            TooLarge: its values repeat so long names that they would fill the memory.
        """
        values, bad, notices, cells = list[Value](), list[tuple[str, str, bytes]](), list[Mapping[str, Any]](), Cells()
        if body.lstrip()[:1] in (b"[", b"{"):
            document = load_json(body)
            for place, item in enumerate(document if isinstance(document, list) else [document]):
                try:
                    if isinstance(item, dict) and isinstance(item.get("labels"), dict):
                        notices.append(item)
                    else:
                        values += self._points(item) if isinstance(item, dict) and "datapoints" in item else self._list(item)
                except BadData as error:
                    bad.append((error.reason, f"record {place}", dump_json(item)))
        else:
            values, bad = _commands(body, received)
        for value in values:
            cells.add(*value)
        batches = self._series.batches(cells, _described, source, received)
        if notices:
            batches += keep("webhook:collectd", source, received, ((notice, "", "") for notice in notices)).batches
        if bad:
            batches.append(quarantine(source, received, "metric", _FORMAT, bad))
        return Decoded(batches, len(bad), bad[0][0] if bad else "")

    def forget(self, batches: Sequence[Batch]) -> None:
        """Describe the series of these batches again: they were not kept."""
        self._series.forget(batches)

    def _list(self, item: Any) -> list[Value]:
        """A value list of ``Format "JSON"``."""
        about = item if isinstance(item, dict) else {}
        values, names, kinds = (about.get(key) for key in ("values", "dsnames", "dstypes"))
        time = time_of(about.get("time"))
        if not isinstance(values, list) or not isinstance(names, list) or len(values) != len(names):
            raise BadData("a value list has values and as many dsnames")
        if len(values) > _SOURCES_MOST:
            raise BadData(f"a value list has more than {_SOURCES_MOST} values")
        if time is None or not about.get("plugin") or not about.get("type"):
            raise BadData("a value list needs a time, a plugin and a type")
        kinds = kinds if isinstance(kinds, list) and len(kinds) == len(values) else [""] * len(values)
        who = {key: as_text(about.get(key)) for key in _WHO}
        found = []
        for value, name, kind in zip(values, names, kinds, strict=True):
            told = "gauge" if self._store_rates else as_text(kind).lower()
            found += _value(_key(who, as_text(name), told), time, value)
        return found

    def _points(self, item: Mapping[str, Any]) -> list[Value]:
        """A metric of ``Format "KAIROSDB"``: its name is a prefix and the plugin, the rest are tags."""
        tags, name, points = item.get("tags"), as_text(item.get("name")), item["datapoints"]
        if not isinstance(tags, dict) or not name or not isinstance(points, list):
            raise BadData("a metric has a name, tags and datapoints")
        about = {key: as_text(value) for key, value in tags.items()}
        who = {key: about.pop(key, "") for key in _WHO if key != "plugin"} | {"plugin": name.partition(".")[2] or name}
        key = _key(who, about.pop("ds", "value"), "", about)
        found = []
        for point in points:
            time = time_of(point[0]) if isinstance(point, list) and len(point) >= 2 else None
            if time is None:
                raise BadData("a datapoint is a time in milliseconds and a value")
            found += _value(key, time, point[1])
        return found


def _value(key: bytes, time: int, value: Any) -> list[Value]:
    """A value in a list, which is empty when it is not there."""
    if value is None or (isinstance(value, str) and value.lower() in ("nan", "-nan", "u")):
        return []
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadData("a value is a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise BadData(f"{str(value)[:40]!r} is not a number") from None
    return [Value(key, time, number)] if not math.isnan(number) else []


def _commands(body: bytes, received: int) -> tuple[list[Value], list[tuple[str, str, bytes]]]:
    """The values of ``Format "Command"``: a PUTVAL command a line."""
    values, bad = list[Value](), list[tuple[str, str, bytes]]()
    for number, line in enumerate(body.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values += _command(line.decode(), received)
        except UnicodeDecodeError:
            bad.append(("the command is not UTF-8", f"line {number}", line))
        except BadData as error:
            bad.append((error.reason, f"line {number}", line))
    if not values and not bad:
        raise BadData("the body is empty; send a list of values or PUTVAL commands", "body")
    return values, bad


def _command(line: str, received: int) -> list[Value]:
    match = _PUTVAL.fullmatch(line)
    if match is None:
        raise BadData("a command is PUTVAL, an identifier, options and values")
    identifier = (match[1] or match[2] or "").replace('\\"', '"')
    host, _, rest = identifier.partition("/")
    plugin, _, type_ = rest.partition("/")
    if not host or not plugin or not type_:
        raise BadData("an identifier is host/plugin-instance/type-instance")
    plugin, _, plugin_instance = plugin.partition("-")
    type_, _, type_instance = type_.partition("-")
    when, *values = match[4].split(":")
    time = received if when.upper() == "N" else time_of(when)
    if time is None or not 0 < len(values) <= _SOURCES_MOST:
        raise BadData("the values are a time in seconds and numbers, with colons between them")
    names = data_sources(type_, len(values))
    who = {"host": host, "plugin": plugin, "plugin_instance": plugin_instance, "type": type_, "type_instance": type_instance}
    return [
        found for name, value in zip(names, values, strict=True) for found in _value(_key(who, name, ""), time, value)
    ]  # fmt: skip


def _key(who: Mapping[str, str], source: str, kind: str, more: Mapping[str, str] | None = None) -> bytes:
    """What tells a series, as bytes.

    Raises:
        BadData: a name is longer than any of collectd's.
    """
    if max(map(len, (*who.values(), source))) > _LONGEST:
        raise BadData(f"a name has more than {_LONGEST} characters")
    return orjson.dumps((*(who[key] for key in _WHO), source, kind, more or {}), option=orjson.OPT_SORT_KEYS)


def _described(key: bytes) -> Row:
    host, plugin, plugin_instance, type_, type_instance, source, kind, more = orjson.loads(key)
    row = series_of(host, plugin, plugin_instance, type_ or plugin, type_instance, source, kind)
    return series_row(row["name"], more | row["attributes"], row["kind"])


class CollectdHttp(Source):
    """collectd's `write_http` at ``/collectd``."""

    kind = "collectd_http"
    title = "collectd (write_http)"
    extraction = "push"
    signals = frozenset(("metric", "event"))
    always = True
    Config = CollectdConfig

    def __init__(self, name: str, config: CollectdConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._decoder = Collectd(config.store_rates)

    def doors(self) -> list[Door]:
        """One door for all formats."""
        return [Door("/collectd", self._accept, forget=self._decoder.forget, source="collectd")]

    def _accept(self, asked: Asked) -> Decoded:
        return self._decoder.decode(asked.body, asked.source, asked.received)
