"""What counts as drift: each detector looks at a stream when a window is over and says what is usual, what is now, and whether that is bad.

None means that it cannot tell yet. Limits are wide on purpose: a source is doubted only when its own past makes it implausible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

from ninefold.catalogue.streams import Stream, distance
from ninefold.model.severity import SEVERITIES

_TIMES, _SCATTERS, _ROWS = 4.0, 6.0, 100
_LITTLE, _ODD_SCATTERS, _LASTING, _DAY = 1.6, 4.0, 12, 288
_RATIO, _ALIKE, _NEWEST, _AGREED, _FEW = 1.7, 2.0, 5, 13, 24
_LAG_S, _AHEAD_S = 10.0, 2.0
_KEYS, _AGAIN = 50, 0.2
_MIX, _MIXED = 0.35, 300
_NEW = {"metric": 1000, "log": 500, "span": 500, "event": 500}
WHATS = {"metric": "series", "log": "line templates", "span": "operations", "event": "fingerprints"}
ROWS = {"metric": "points", "log": "lines", "span": "spans", "event": "events"}
CLASSES = {
    "log": ("without severity", "debug", "info", "warning", "error"), "span": ("unset", "ok", "error"),
    "event": SEVERITIES,
}  # fmt: skip
"""The classes of the severity mix."""


class Verdict(NamedTuple):
    """What one detector says of one window; `usual`, `now` and `text` are for people."""

    bad: bool
    usual: str
    now: str
    text: str


class Rule(NamedTuple):
    """A detector, after how many bad windows in a row it fires, after how many good ones it recovers, and after how many more bad ones
    what is bad may be taken as usual."""

    judge: Callable[[Stream, int], Verdict | None]
    fires: int
    recovers: int
    relearns: int = 24


def volume(stream: Stream, hour: int) -> Verdict | None:
    """Rows a window, against the hour of the week or the recent level: four times more or less, and beyond the usual scatter; in an hour
    that is known for two weeks also 1.6 times more or less through a whole hour, which finds a halving.

    What the source did at this time of the day before is usual, too, until the hour of the week is known. The first window of rows after
    an empty one, and the last before one, are rarely whole and not judged.
    """
    if not stream.rows and stream.span() == 1:
        return None
    stream.gathered += stream.rows
    stream.waiting += 1
    if stream.waiting < stream.span():
        return None
    rows, stream.gathered, waited, stream.waiting = stream.gathered / stream.waiting, 0, stream.waiting, 0
    if not stream.windows or not rows or not stream.regular or (stream.idle and waited == 1):
        return None
    level = stream.volume
    value, usual = math.log(rows), level.usual(hour)
    far, scatter = abs(level.away(value, hour)), level.scatter(hour)
    enough = 0.0 if usual is None else abs(rows - math.exp(usual)) * waited
    bad = usual is not None and far >= math.log(_TIMES) and far > _SCATTERS * scatter and enough >= _ROWS
    beside = level.beside(value, hour) if level.known(hour) else 0.0
    odd = abs(beside) >= math.log(_LITTLE) and abs(beside) > _ODD_SCATTERS * scatter
    step = (1 if beside > 0 else -1) if odd else 0
    level.odd = level.odd + step if level.odd * step > 0 else step
    bad = bad or (abs(level.odd) >= _LASTING and enough * _LASTING >= _ROWS)
    explained = stream.strange > 0 or (stream.shift != 0 and abs(level.away(value - stream.shift, hour)) < math.log(_LITTLE))
    if bad or odd:
        level.doubt(value, hour)
    else:
        level.learn(value, hour, max(math.log(_LITTLE), _ODD_SCATTERS * scatter))
    if usual is None or (bad and explained):  # by another rhythm, of which silence or cadence tells
        return None
    ratio, what = rows / math.exp(usual), ROWS[stream.signal]
    change = f"{ratio:.1f}x its usual" if ratio >= 1 else f"only {100 * ratio:.0f} % of its usual"
    return Verdict(bad, f"{math.exp(usual):,.0f} in 5 min", f"{rows:,.0f} in 5 min", f"{stream.source} sends {change} {what}")


def cadence(stream: Stream, hour: int) -> Verdict | None:
    """The newest five gaps against the usual one, of a source whose gaps are alike: it delivers more often, or more rarely."""
    newest, known = stream.rhythm()
    if len(newest) < _NEWEST or not stream.rows or known.weight < _FEW or not (usual := known.quantile(0.5)):
        return None
    newest, now, was = newest[-_NEWEST:], median(newest[-_NEWEST:]), span(float(f"{usual:.2g}"))
    bad = not usual / _RATIO < now < usual * _RATIO and max(newest) <= _ALIKE * min(newest) and stream.regular
    bad = bad and (known.quantile(0.75) or 0.0) <= _ALIKE * (known.quantile(0.25) or 0.0)
    latest = median(newest[-2:])
    stream.shift = 0.0 if usual / _RATIO < latest < usual * _RATIO else math.log(usual / max(latest, 1e-3))
    text = f"{stream.source} sends {ROWS[stream.signal]} every {span(now)}, usually every {was}"
    return Verdict(bad, f"every {was}", f"every {span(now)}", text)


def lag(stream: Stream, hour: int) -> Verdict | None:
    """The median delay from a record's time to its receipt, against what it was; what comes seldom may be later."""
    if not stream.sample:
        return None
    value, usual = max(0.0, median(stream.sample)), stream.lag.usual(hour)
    rhythm = 2 * (stream.cadence.quantile(0.5) or 0.0)
    most = max([usual or 0.0, *stream.lag.rhythm(hour)])
    bad = usual is not None and value > 4 * most + rhythm + _LAG_S and value > most + _SCATTERS * stream.lag.scatter(hour)
    (stream.lag.doubt if bad else stream.lag.learn)(value, hour)
    if usual is None:
        return None
    text = f"{ROWS[stream.signal]} of {stream.source} arrive {span(value)} after they happened, usually {span(usual)}"
    return Verdict(bad, span(usual), span(value), text)


def skew(stream: Stream, hour: int) -> Verdict | None:
    """Records that are ahead of their receipt: a wrong clock at the sender."""
    if not stream.sample:
        return None
    ahead = -median(stream.sample)
    text = f"the clock of {stream.source} is {span(max(0.0, ahead))} ahead"
    return Verdict(ahead > _AHEAD_S, f"below {span(_AHEAD_S)}", f"{span(max(0.0, ahead))} ahead", text)


def repeats(stream: Stream, hour: int) -> Verdict | None:
    """The share of records that came before, in a sample chosen by their content."""
    if stream.keys < _KEYS:
        return None
    share, usual = stream.again / stream.keys, stream.repeats.usual(hour)
    bad = usual is not None and share > max([usual, *stream.repeats.rhythm(hour)]) + _AGAIN
    (stream.repeats.doubt if bad else stream.repeats.learn)(share, hour)
    if usual is None:
        return None
    return Verdict(
        bad,
        f"{100 * usual:.0f} %",
        f"{100 * share:.0f} %",
        f"{100 * share:.0f} % of the {ROWS[stream.signal]} of {stream.source} are duplicates",
    )


def mix(stream: Stream, hour: int) -> Verdict | None:
    """The severities of the last half hour against those of the hours before."""
    if stream.signal not in CLASSES or stream.windows < 12 or not stream.usual_mix:
        return None
    recent = [sum(column) for column in zip(*stream.recent_mix, strict=True)]
    if sum(recent) < _MIXED or sum(stream.usual_mix) < _MIXED:
        return None
    off = distance(recent, stream.usual_mix)
    stream.odd_mix = off > _MIX
    usual, now = _shares(stream.usual_mix, stream.signal), _shares(recent, stream.signal)
    return Verdict(stream.odd_mix, usual, now, f"severities of {stream.source} are {now}, usually {usual}")


def variety(stream: Stream, hour: int) -> Verdict | None:
    """How many different series, templates, operations or fingerprints were new in the last hour."""
    if len(stream.grown) < 13:
        return None
    before = stream.grown[0]
    new = len(stream.variety) - before
    what = WHATS[stream.signal]
    return Verdict(
        new > max(_NEW[stream.signal], before),
        f"{before:,} known",
        f"{new:,} new in an hour",
        f"{stream.source} made {new:,} new {what} in an hour",
    )


RULES: Mapping[str, Rule] = {
    "cadence": Rule(cadence, 1, 1, 1), "volume": Rule(volume, 2, 2), "lag": Rule(lag, 2, 2), "skew": Rule(skew, 2, 2),
    "duplicates": Rule(repeats, 2, 2), "severity": Rule(mix, 1, 2), "cardinality": Rule(variety, 1, 1),
}  # fmt: skip


def relearn(stream: Stream, what: str, hour: int, lasted: int) -> bool:
    """The new level has lasted for so many windows: take it as usual from now on. False when nothing is learned: a wrong clock stays
    wrong, a volume that contradicts a known hour is doubted for a day, a rhythm is new after 13 of 15 gaps."""
    if what == "cadence":
        newest, known = stream.rhythm()
        usual = known.quantile(0.5) or 0.0
        if sum(not usual / _RATIO < gap < usual * _RATIO for gap in newest) < _AGREED:
            return False
        stream.renew()
        if stream.volume.doubted:
            stream.volume.renew(hour)
    elif what == "volume":
        if stream.volume.known(hour) and lasted < _DAY:
            return False
        stream.volume.renew(hour)
    elif what == "lag":
        stream.lag.renew(hour)
    elif what == "duplicates":
        stream.repeats.renew(hour)
    elif what == "severity":
        stream.usual_mix = [sum(column) for column in zip(*stream.recent_mix, strict=True)]
    else:
        return False
    return True


def _shares(counts: list[float], signal: str) -> str:
    total = sum(counts)
    named = sorted(((count, name) for count, name in zip(counts, CLASSES[signal], strict=True) if count >= 0.01 * total), reverse=True)
    return ", ".join(f"{100 * count / total:.0f} % {name}" for count, name in named[:3])


def span(seconds: float) -> str:
    """A span of time for people: ``350 ms``, ``42 s``, ``7 min``, ``3.5 h``, ``2 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit, below in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172800)):
        if seconds < below:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
