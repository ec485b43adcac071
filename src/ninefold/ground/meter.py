"""Self-metrics: counters, gauges and histograms that every component emits and `/metrics` prints.

Names follow one pattern: ``ninefold_<stage>_{received,sent,dropped,errors}_total``, ``_seconds``, ``_queue_depth``,
``_lag_seconds``. Updates are plain float additions under one lock per metric, cheap enough for a batch, not for a row.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator

Labels = tuple[tuple[str, str], ...]
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class _Metric:
    def __init__(self, name: str, help_text: str, kind: str) -> None:
        self.name, self.help, self.kind = name, help_text, kind
        self.values: dict[Labels, float] = {}
        self.lock = threading.Lock()


class Counter(_Metric):
    """A number that only grows."""

    def add(self, amount: float = 1.0, **labels: str) -> None:
        """Add `amount` to the series with these labels."""
        key = tuple(sorted(labels.items()))
        with self.lock:
            self.values[key] = self.values.get(key, 0.0) + amount


class Gauge(_Metric):
    """A number that goes up and down."""

    def set(self, value: float, **labels: str) -> None:
        """Set the series with these labels to `value`."""
        with self.lock:
            self.values[tuple(sorted(labels.items()))] = value


class Histogram(_Metric):
    """Durations in seconds, in fixed buckets."""

    def __init__(self, name: str, help_text: str) -> None:
        super().__init__(name, help_text, "histogram")
        self.counts: dict[Labels, list[int]] = {}

    def observe(self, seconds: float, **labels: str) -> None:
        """Count one duration of `seconds`."""
        key = tuple(sorted(labels.items()))
        with self.lock:
            counts = self.counts.setdefault(key, [0] * (len(BUCKETS_S) + 1))
            counts[bisect_left(BUCKETS_S, seconds)] += 1
            self.values[key] = self.values.get(key, 0.0) + seconds


class Meter:
    """The metrics of one running program; components get it from the app and create what they need by name."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}
        self._lock = threading.Lock()

    def counter(self, name: str, help_text: str = "") -> Counter:
        """The counter of this name, made at first use."""
        with self._lock:
            metric = self._metrics.setdefault(name, Counter(name, help_text, "counter"))
        assert isinstance(metric, Counter)
        return metric

    def gauge(self, name: str, help_text: str = "") -> Gauge:
        """The gauge of this name, made at first use."""
        with self._lock:
            metric = self._metrics.setdefault(name, Gauge(name, help_text, "gauge"))
        assert isinstance(metric, Gauge)
        return metric

    def histogram(self, name: str, help_text: str = "") -> Histogram:
        """The histogram of this name, made at first use."""
        with self._lock:
            metric = self._metrics.setdefault(name, Histogram(name, help_text))
        assert isinstance(metric, Histogram)
        return metric

    def samples(self) -> Iterator[tuple[str, str, Labels, float]]:
        """Every number as ``(name, kind, labels, value)``; a histogram yields its buckets, sum and count."""
        for metric in list(self._metrics.values()):
            with metric.lock:
                values = dict(metric.values)
                counts = {k: list(v) for k, v in metric.counts.items()} if isinstance(metric, Histogram) else {}
            if not isinstance(metric, Histogram):
                for labels, value in values.items():
                    yield metric.name, metric.kind, labels, value
                continue
            for labels, buckets in counts.items():
                total = 0
                for edge, count in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
                    total += count
                    yield f"{metric.name}_bucket", "counter", (*labels, ("le", edge)), float(total)
                yield f"{metric.name}_sum", "counter", labels, values[labels]
                yield f"{metric.name}_count", "counter", labels, float(total)

    def text(self) -> str:
        """All metrics in the Prometheus text format 0.0.4."""
        lines: list[str] = []
        seen: set[str] = set()
        for name, _, labels, value in self.samples():
            family = name
            for suffix in ("_bucket", "_sum", "_count"):
                if name.endswith(suffix) and name.removesuffix(suffix) in self._metrics:
                    family = name.removesuffix(suffix)
            if family not in seen:
                seen.add(family)
                metric = self._metrics[family]
                lines += [f"# HELP {family} {metric.help or family}", f"# TYPE {family} {metric.kind}"]
            text = ",".join(f'{k}="{_escape(v)}"' for k, v in labels)
            lines.append(f"{name}{{{text}}} {value!r}" if text else f"{name} {value!r}")
        return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
