"""Data freedom, measured: how freely a source's data flows, in points of a hundred whose arithmetic is shown, and advice.

Nothing is asked of people: extraction is what the source's class says, everything else comes from what the source watch has seen. A
term that cannot be measured yet gives no points and takes none: the score is the share of the points that could be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ninefold.catalogue.advice import advice
from ninefold.catalogue.detectors import span
from ninefold.catalogue.streams import Stream
from ninefold.ground.clock import SECOND

_DAY = 86400 * SECOND
_MONTH = 30 * _DAY
_FEW = 12


@dataclass(frozen=True, slots=True)
class Load:
    """What reading a source asks of it, a minute: requests, and bytes of the records they give, decoded."""

    requests: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the sum: `points` of `most`, None when it cannot be measured yet; `measured` and `how` in words."""

    name: str
    points: float | None
    most: int
    measured: str
    how: str


@dataclass(frozen=True, slots=True)
class Freedom:
    """The measurements of one source, the score and what would raise it."""

    source: str
    kind: str
    extraction: str
    programmatic: bool
    types: list[str]
    frequency_s: float | None
    jitter: float | None
    delay_p50_s: float | None
    delay_p99_s: float | None
    completeness: float | None
    history_days: float
    schema_changes: int | None
    load: Load | None
    terms: list[Term] = field(default_factory=list)
    score: float | None = None
    arithmetic: str = ""
    advice: list[dict[str, str]] = field(default_factory=list)


def freedom(
    source: str, kind: str, extraction: str, streams: Sequence[Stream], models: Sequence[Mapping[str, Any]], refused: int, at: int,
    load: Load | None = None, product: str = "",
) -> Freedom:  # fmt: skip
    """Measure one source.

    Args:
        source: its name.
        kind: the word of its class (``otlp``, ``webhook`` …), how it comes when no class is known.
        extraction: push, stream, poll, file; "" when it is not known.
        streams: what the watch knows of its signals.
        models: its data models.
        refused: its records in quarantine.
        at: now on the watch's clock, in ns.
        load: what reading it costs it, for polled sources.
        product: whose advice fits, `kind` by default.
    """
    frequency, jitter = _rhythm(streams)
    p50, p99 = (_worst([stream.delay.quantile(share) for stream in streams]) for share in (0.5, 0.99))
    complete, gaps = _completeness(streams, refused)
    settled = [model for model in models if model["version"]]
    changes = sum(version["since"] > at - _MONTH for model in settled for version in model["versions"] if version["version"] > 1)
    history = max((stream.newest - stream.oldest for stream in streams if stream.newest), default=0) / _DAY
    manual = kind == "upload" and not any(stream.regular for stream in streams)
    eventful = extraction in ("push", "stream") and bool(streams) and all(stream.signal in ("event", "log") for stream in streams)
    terms = [
        _extraction(extraction), _programmatic(manual), _frequency(frequency, eventful), _steadiness(jitter, eventful),
        _median_delay(p50), _tail_delay(p99), _complete(complete, gaps),
        Term(
            "history", round(5 * min(1.0, history / 30), 1), 5, f"{history:.1f} days", "Newest minus oldest record time; 30 days give all."
        ),
        _stability(changes if settled else None), _load(extraction, load),
    ]  # fmt: skip
    had, most = sum(term.points or 0.0 for term in terms), sum(term.most for term in terms if term.points is not None)
    score = round(100 * had / most, 1) if streams and most else None
    sum_ = " + ".join(f"{term.name} {term.points:.1f}/{term.most}" for term in terms if term.points is not None)
    return Freedom(
        source, kind, extraction, not manual, sorted({stream.signal for stream in streams}), frequency, jitter, p50, p99, complete,
        round(history, 2), changes if settled else None, load, terms, score, f"({sum_}) = {had:.1f} of {most} = {score}",
        [
            {"term": term.name, "lost": f"{term.most - term.points:.1f}", "text": advice(product or kind, extraction, term.name)}
            for term in sorted(terms, key=lambda term: (term.points or 0.0) - term.most)
            if term.points is not None and term.points < 0.7 * term.most
        ],
    )  # fmt: skip


def _rhythm(streams: Sequence[Stream]) -> tuple[float | None, float | None]:
    """How often it speaks (s), of a metric how far its points are apart; and how irregular that is: p99 / p50."""
    found: list[tuple[float, float]] = []
    for stream in streams:
        steps = stream.steps.step if stream.steps.step.weight >= _FEW else stream.cadence
        middle, rare = steps.quantile(0.5), steps.quantile(0.99)
        if steps.weight >= _FEW and middle and rare:
            found.append((middle, rare / middle))
    if not found:
        return None, None
    frequency, jitter = min(found)
    return float(f"{frequency:.2g}"), round(jitter, 2)


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{max(known):.2g}") if known else None


def _completeness(streams: Sequence[Stream], refused: int) -> tuple[float | None, str]:
    """The share of what should have come that came and could be read."""
    points, missing = sum(s.steps.points for s in streams), sum(s.steps.missing for s in streams)
    total = sum(stream.total for stream in streams)
    if not total + refused:
        return None, ""
    share = total / (total + refused) * (points / (points + missing) if points else 1.0)
    said = f"{missing} of {points + missing} points missing in the series followed, " if points else ""
    return round(share, 5), f"{said}{refused} of {total + refused:,} records refused"


def _extraction(extraction: str) -> Term:
    points = {"push": 15.0, "stream": 15.0, "poll": 9.0, "file": 5.0}.get(extraction)
    return Term("extraction", points, 15, extraction or "unknown", "Pushed or streamed 15, polled 9, read from files 5.")


def _programmatic(manual: bool) -> Term:
    said = "files are handed over by people" if manual else "by program"
    return Term("programmatic", 0.0 if manual else 10.0, 10, said, "By program 10, by hand 0.")


def _steps(value: float | None, steps: Sequence[tuple[float, float]]) -> float | None:
    return None if value is None else next((points for limit, points in steps if value <= limit), 0.0)


def _frequency(frequency: float | None, eventful: bool) -> Term:
    how = "At most 10 s apart 15, 30 s 13, a minute 11, 5 min 6, an hour 3; what is pushed when it happens 15."
    if eventful:
        return Term("frequency", 15.0, 15, "when it happens", how)
    points = _steps(frequency, ((11.9, 15.0), (35.7, 13.0), (71.4, 11.0), (357, 6.0), (4284, 3.0)))
    return Term("frequency", points, 15, "unknown" if frequency is None else f"every {span(frequency)}", how)


def _steadiness(jitter: float | None, eventful: bool) -> Term:
    how = "Rare gaps (p99) over usual ones: at most 2 gives 5, 5 gives 3, more 0."
    if eventful or jitter is None:
        return Term("jitter", None, 5, "has no rhythm" if eventful else "unknown", how)
    return Term("jitter", _steps(jitter, ((2.0, 5.0), (5.0, 3.0))), 5, f"{jitter:.2g}x", how)


def _median_delay(p50: float | None) -> Term:
    points = _steps(p50, ((2.0, 12.0), (11.9, 10.0), (71.4, 6.0), (714, 3.0)))
    how = "Half of the records arrive within 2 s 12, 10 s 10, a minute 6, 10 min 3."
    return Term("delay", points, 12, "unknown" if p50 is None else span(p50), how)


def _tail_delay(p99: float | None) -> Term:
    points = _steps(p99, ((11.9, 8.0), (71.4, 6.0), (714, 3.0)))
    how = "99 % of the records arrive within 10 s 8, a minute 6, 10 min 3."
    return Term("late records", points, 8, "unknown" if p99 is None else span(p99), how)


def _complete(share: float | None, gaps: str) -> Term:
    how = "15 x (1 - 10 x the missing share)."
    return Term("completeness", None if share is None else round(15 * max(0.0, 1 - 10 * (1 - share)), 1), 15, gaps or "unknown", how)


def _stability(changes: int | None) -> Term:
    how = "10 less 2 for every change of a data model in 30 days."
    said = "models are still learning" if changes is None else f"{changes} changes"
    return Term("schema", None if changes is None else max(0.0, 10.0 - 2 * changes), 10, said, how)


def _load(extraction: str, load: Load | None) -> Term:
    how = "A source that pushes is asked nothing: 5. Polled at most 6 times a minute 5, 60 times 3, more 0."
    if extraction in ("push", "stream"):
        return Term("load", 5.0, 5, "nothing is asked of it", how)
    if load is None:
        return Term("load", None, 5, "not measured", how)
    said = f"{load.requests:.3g} requests and {load.bytes / 1000:.3g} kB a minute"
    return Term("load", _steps(load.requests, ((6.0, 5.0), (60.0, 3.0))), 5, said, how)
