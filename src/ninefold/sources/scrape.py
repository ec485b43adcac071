"""Prometheus targets, scraped: ``sources: {node: {type: scrape, targets: ["web-1:9100"], every_s: 15}}``.

Targets are named, or found: in ``files`` (Prometheus' file_sd, JSON or YAML, read again when they change) and by ``dns`` (A, AAAA, SRV).
They get the labels ``job`` (the source's name) and ``instance`` (their address), and those of their group; ``relabel`` keeps, drops and
changes targets, ``metric_relabel`` series, by Prometheus' rules. Asked for are protobuf, OpenMetrics and the text format, in this order.

Counters, gauges, histograms and summaries become series as Prometheus names them; OpenMetrics' created timestamps a series ``_created``;
exemplars `exemplar` rows when they are new; native histograms `histogram` rows. Each scrape adds ``up``, ``scrape_duration_seconds`` and
``scrape_samples_scraped``. A series that a page no longer holds, and all series of a target that cannot be read or is gone, end with a
staleness marker. Help texts are not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData, NinefoldError, TooLarge, Unavailable
from ninefold.ground.log import get
from ninefold.model.entity import entity_of, hash64, series_id
from ninefold.model.signal import Batch, batch_of, quarantine
from ninefold.plugin import Emit, Lent, Reached, Source, Strict
from ninefold.sources import exposition, native_histograms
from ninefold.sources.delivery import deliver
from ninefold.sources.discovery import Dns, Groups, Labels, Rule, ask_dns, relabel
from ninefold.sources.exposition import Page
from ninefold.sources.exposition_protobuf import protobuf
from ninefold.sources.http_client import Http, HttpConfig
from ninefold.sources.polling import count_bytes
from ninefold.sources.series import STALE, Known, points

_ACCEPT = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)
_PROTOBUF, _OPENMETRICS = "application/vnd.google.protobuf", "application/openmetrics-text"
_REPORT = ("up", "scrape_duration_seconds", "scrape_samples_scraped")
_COMPLAINTS, _REMEMBERED = 1000, 100_000
_DROPPED = 0
_END = 2**63
Ids = npt.NDArray[np.uint64]

_log = get("scrape")


class ScrapeConfig(Strict):
    """What to scrape and how."""

    targets: list[str] = Field(default_factory=list, description="Addresses, host:port.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of all series of these targets.")
    files: list[str] = Field(default_factory=list, description="Files of target groups, or patterns of such (file_sd).")
    dns: list[Dns] = Field(default_factory=list, description="Names under which DNS knows targets.")
    refresh_s: float = Field(5.0, gt=0, description="How often to look for new targets in files; DNS is asked at most every 30 s.")
    job: str = Field("", description="The label job; the source's name by default.")
    scheme: str = Field("http", pattern="^https?$", description="http or https.")
    path: str = Field("/metrics", description="Where the metrics are.")
    every_s: float = Field(15.0, gt=0, description="Seconds between two scrapes of a target.")
    timeout_s: float = Field(10.0, gt=0, description="Longest time for one scrape.")
    honor_labels: bool = Field(False, description="Where a label of a series is one of the target's too, the series' counts.")
    relabel: list[Rule] = Field(default_factory=list, description="Rules for targets.")
    metric_relabel: list[Rule] = Field(default_factory=list, description="Rules for series; __name__ is the name.")
    body_limit_bytes: int = Field(64 << 20, gt=0, description="Longest page, decompressed; a longer one fails the scrape.")
    sample_limit: int = Field(200_000, gt=0, description="Most samples of a page; more fail the scrape.")
    http: HttpConfig = Field(default_factory=HttpConfig, description="Who we are to the targets: user, token, certificates.")


def read_page(body: bytes, content_type: str) -> Page:
    """The samples of a page by its content type; what is not known is read as the text format.

    Raises:
        BadData: it cannot be read.
    """
    media = content_type.partition(";")[0].strip().lower()
    return protobuf(body) if media == _PROTOBUF else exposition.text(body, media == _OPENMETRICS)


class Target:
    """One target: what its series are, and which of them its last page held.

    Args:
        source: the source's name.
        labels: those of all its series.
        config: rules and limits.
        known: shared by all targets.
        group: a number of its own.
    """

    def __init__(self, source: str, labels: Labels, config: ScrapeConfig, known: Known, group: int) -> None:
        self._source, self._labels, self._config, self._known, self._group = source, labels, config, known, group
        self._last: Ids = np.empty(0, np.uint64)
        self._exemplars: dict[int, tuple[int, float]] = {}
        self._complaints: set[int] = set()
        self._report = {name: series_id(name, labels) for name in _REPORT}
        self._described = False

    def take(self, page: Page, time: int, took_s: float) -> list[Batch]:
        """The batches of a page that was read at `time`."""
        rows: dict[int, dict[str, Any]] = {}
        ids = self._identify(page, rows)
        kept = ids != _DROPPED
        when = np.where(page.time > 0, page.time, time)
        current = np.unique(ids[kept & (page.time == 0)])
        gone = np.setdiff1d(self._last, current, assume_unique=True)
        self._last = current
        points_ = (ids[kept], when[kept], page.value[kept])
        batches = self._points(rows, points_, gone, time, (1.0, took_s, float(len(ids))))
        batches += self._histograms(page, rows, time)
        exemplars = self._fresh(page, ids, time)
        if exemplars:
            batches.append(batch_of("exemplar", self._source, time, exemplars))
        if rows:
            batches.insert(0, batch_of("series", self._source, time, [{**row, "seen": time} for row in rows.values()]))
        bad = [entry for entry in page.bad if self._is_new(hash64((entry[0], entry[2].hex())))]
        if bad:
            batches.append(quarantine(self._source, time, "metric", "exposition", bad))
        return batches

    def fail(self, time: int, took_s: float) -> list[Batch]:
        """The batches of a scrape that failed: every series ends."""
        gone, self._last = self._last, np.empty(0, np.uint64)
        rows: dict[int, dict[str, Any]] = {}
        nothing = (np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0))
        batches = self._points(rows, nothing, gone, time, (0.0, took_s, 0.0))
        return [batch_of("series", self._source, time, [{**row, "seen": time} for row in rows.values()]), *batches] if rows else batches

    def end(self, time: int) -> list[Batch]:
        """The last batches of a target that is no longer there."""
        gone = np.concatenate((self._last, np.array(list(self._report.values()), np.uint64)))
        return [points(self._source, time, gone, np.full(len(gone), time), np.full(len(gone), STALE))]

    def _points(
        self,
        rows: dict[int, dict[str, Any]],
        found: tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.float64]],
        gone: Ids,
        time: int,
        report: Sequence[float],
    ) -> list[Batch]:
        if not self._described:
            self._described = True
            for name, number in self._report.items():
                unit = "seconds" if name.endswith("_seconds") else ""
                rows[number] = self._row(number, name, self._labels, "gauge", unit)
        extra = np.array(list(self._report.values()), np.uint64)
        series = np.concatenate((found[0], gone, extra))
        times = np.concatenate((found[1], np.full(len(gone) + len(extra), time)))
        values = np.concatenate((found[2], np.full(len(gone), STALE), report))
        return [points(self._source, time, series, times, values)]

    def _identify(self, page: Page, rows: dict[int, dict[str, Any]]) -> Ids:
        """The series of all samples, 0 for those that are dropped; new ones are described in `rows`."""
        groups = np.full(len(page.offsets), self._group)
        ids, good = self._known.find(page.buffer, page.offsets, page.lengths, groups)
        fresh: dict[bytes, int] = {}
        for row in np.flatnonzero(~good).tolist():
            key = page.key(row)
            if key not in fresh:
                fresh[key] = self._describe(page, key, rows)
            ids[row] = fresh[key]
        if fresh:
            self._known.add(list(fresh), list(fresh.values()), [self._group] * len(fresh), [0] * len(fresh))
        return ids

    def _describe(self, page: Page, key: bytes, rows: dict[int, dict[str, Any]]) -> int:
        try:
            name, own = exposition.parts_of(key)
        except BadData as error:
            page.bad.append((error.reason, "", key))
            return _DROPPED
        kind, unit = page.nature(name)
        labels = dict(self._labels)
        for label, value in own.items():
            clash = label in self._labels and not self._config.honor_labels
            labels[f"exported_{label}" if clash else label] = value
        changed = relabel({**labels, "__name__": name}, self._config.metric_relabel)
        if changed is None or not changed.get("__name__"):
            return _DROPPED
        name = changed.pop("__name__")
        number = series_id(name, changed)
        rows[number] = self._row(number, name, changed, kind, unit)
        return number

    def _row(self, number: int, name: str, labels: Labels, kind: str, unit: str) -> dict[str, Any]:
        return {"series": number, "name": name, "unit": unit, "kind": kind, "entity": entity_of(labels), "attributes": labels}

    def _histograms(self, page: Page, rows: dict[int, dict[str, Any]], time: int) -> list[Batch]:
        if not page.native:
            return []
        keys = [key for key, _, _ in page.native]
        lengths = np.fromiter(map(len, keys), np.int64, len(keys))
        places = Page(
            b"".join(keys), np.cumsum(lengths) - lengths, lengths, np.zeros(len(keys), np.int64), np.zeros(len(keys)), page.families
        )
        ids = self._identify(places, rows)
        found = native_histograms.read([message for _, _, message in page.native])
        when = np.array([given or time for _, given, _ in page.native], np.int64)
        found.time[:] = when // 1_000_000
        page.bad += places.bad
        page.bad += [(reason, "", page.native[row][2]) for reason, bad in found.faults.reasons for row in bad]
        good = np.flatnonzero(~found.faults.bad & (ids != _DROPPED))
        return [found.batch(self._source, time, ids, good)] if good.size else []

    def _fresh(self, page: Page, ids: Ids, time: int) -> list[dict[str, Any]]:
        """The exemplars that were not there at the last scrape."""
        found = []
        if len(self._exemplars) > _REMEMBERED:
            self._exemplars.clear()
        for exemplar in page.exemplars:
            number, labels = int(ids[exemplar.row]), dict(exemplar.labels)
            if number == _DROPPED or self._exemplars.get(number) == (exemplar.time, exemplar.value):
                continue
            self._exemplars[number] = exemplar.time, exemplar.value
            trace, span = (labels.pop(name, "").lower() for name in ("trace_id", "span_id"))
            found.append(
                {
                    "series": number, "time": exemplar.time if 0 < exemplar.time < _END else time,
                    "value": exemplar.value, "trace_id": trace, "span_id": span,
                    "attributes": labels,
                }
            )  # fmt: skip
        return found

    def _is_new(self, complaint: int) -> bool:
        """Whether this was not said before: what is wrong in a page is wrong in the next one too."""
        if complaint in self._complaints or len(self._complaints) >= _COMPLAINTS:
            return False
        self._complaints.add(complaint)
        return True


class Scrape(Source):
    """Scrapes targets, each in its own rhythm."""

    kind = "scrape"
    title = "Prometheus targets"
    extraction = "poll"
    signals = frozenset(("metric",))
    Config = ScrapeConfig

    def __init__(self, name: str, config: ScrapeConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._http = Http("the target", f"sources.{name}.http", config.http, config.timeout_s)
        self._known = Known()
        self._groups = Groups(config.files)
        self._numbers = count(1)
        self._answers: dict[int, tuple[float, list[Labels]]] = {}

    async def run(self, emit: Emit) -> None:
        """Scrape until cancelled. A target that is slow delays no other."""
        running: dict[str, tuple[Target, asyncio.Task[None]]] = {}
        try:
            while True:
                wanted = await self._wanted()
                for key in [key for key in running if key not in wanted]:
                    target, task = running.pop(key)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    await deliver(emit, target.end(_moment()))
                for key, (url, labels) in wanted.items():
                    if key not in running:
                        target = Target(self.name, labels, self.config, self._known, next(self._numbers))
                        running[key] = target, asyncio.create_task(self._follow(url, key, target, emit))
                for _, task in running.values():
                    if task.done():
                        task.result()
                await asyncio.sleep(self.config.refresh_s)
        finally:
            tasks = [task for _, task in running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._http.close()

    async def check(self) -> Reached:
        """Scrape the first target."""
        wanted = await self._wanted()
        if not wanted:
            return Reached("No target is found yet; more are looked for.")
        url, labels = next(iter(wanted.values()))
        try:
            body, content_type = await self._get(url)
            page = await asyncio.to_thread(read_page, body, content_type)
        finally:
            await self._http.close()
        target = Target(self.name, labels, self.config, Known(), 0)
        return Reached(f"{len(wanted)} targets; {url} gave {len(page.offsets)} samples.", target.take(page, _moment(), 0.0))

    async def _wanted(self) -> dict[str, tuple[str, Labels]]:
        """The targets there are now: a key, the address to ask, and the labels."""
        config = self.config
        found = [{"__address__": address} for address in config.targets]
        found += await asyncio.to_thread(lambda: list(self._groups.targets()))
        for place, question in enumerate(config.dns):
            found += await self._ask(place, question)
        wanted = {}
        for given in found:
            start = {"job": config.job or self.name, "__scheme__": config.scheme, "__metrics_path__": config.path}
            labels = relabel({**start, **config.labels, **given}, config.relabel)
            if labels is None or "__address__" not in labels:
                continue
            url = f"{labels['__scheme__']}://{labels['__address__']}{labels.get('__metrics_path__', '')}"
            own = {"instance": labels["__address__"], **{name: value for name, value in labels.items() if not name.startswith("__")}}
            wanted[f"{url} {sorted(own.items())}"] = url, own
        return wanted

    async def _ask(self, place: int, question: Dns) -> list[Labels]:
        """What DNS says, or said last when it says nothing now."""
        asked, last = self._answers.get(place, (-1e9, []))
        if perf_counter() - asked > max(30.0, self.config.refresh_s):
            try:
                last = await ask_dns(question)
            except Unavailable as error:
                _log.warning("%s: %s; the targets stay as they were", self.name, error)
            self._answers[place] = perf_counter(), last
        return last

    async def _follow(self, url: str, key: str, target: Target, emit: Emit) -> None:
        """Scrape one target for ever; where in the interval is decided by its name, so that many do not answer at the same moment."""
        every = self.config.every_s
        due = perf_counter() + hash64((key,)) / 2**64 * min(every, self.config.refresh_s)
        while True:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            await deliver(emit, await self._once(url, target))
            due = max(due + every, perf_counter())

    async def _once(self, url: str, target: Target) -> list[Batch]:
        time, started = _moment(), perf_counter()
        try:
            async with asyncio.timeout(self.config.timeout_s):
                body, content_type = await self._get(url)
            page = await asyncio.to_thread(read_page, body, content_type)
            if len(page.offsets) > self.config.sample_limit:
                raise TooLarge(f"the page has {len(page.offsets)} samples and sample_limit is {self.config.sample_limit}")
            batches = await asyncio.to_thread(target.take, page, time, perf_counter() - started)
            count_bytes(self, batches)
            return batches
        except (NinefoldError, TimeoutError) as error:
            _log.debug("%s: %s: %s", self.name, url, error)
            self.lent.meter.counter("ninefold_scrape_failures_total", "Scrapes that failed, by source.").add(source=self.name)
            return target.fail(time, perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - a page we do not foresee may cost its own target a scrape, never the other targets theirs
            _log.error("%s: %s could not be taken: %r; this is a fault of Ninefold's, please report it", self.name, url, error)
            self.lent.meter.counter("ninefold_scrape_failures_total", "Scrapes that failed, by source.").add(source=self.name)
            return target.fail(time, perf_counter() - started)

    async def _get(self, url: str) -> tuple[bytes, str]:
        """The page and its content type.

        Raises:
            Unavailable, Refused: it is not there, or not for us.
            TooLarge: it is longer than the limit.
        """
        headers = {"Accept": _ACCEPT, "X-Prometheus-Scrape-Timeout-Seconds": str(self.config.timeout_s)}
        self.lent.meter.counter("ninefold_source_requests_total", "Questions asked of polled sources.").add(source=self.name)
        async with self._http.stream("GET", url, headers=headers) as response:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > self.config.body_limit_bytes:
                    raise TooLarge(f"the page is longer than body_limit_bytes, {self.config.body_limit_bytes}")
                parts.append(part)
            return b"".join(parts), response.headers.get("content-type", "")


def _moment() -> int:
    """The time in ns, whole milliseconds: Prometheus' grain."""
    return now() // 1_000_000 * 1_000_000
