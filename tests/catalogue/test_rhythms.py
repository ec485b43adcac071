"""Weeks of sources with a rhythm: after the learning time nothing is a surprise but what is one, and that is found in the stated time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from operating import START, Operation, lines
from test_source_watch import points, told

from ninefold.catalogue.streams import WEEK, WINDOW, Hours, Level, Steps, Stream
from ninefold.catalogue.watch import SourceWatch
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.model.signal import Batch

MONDAY = START // (2016 * WINDOW) * 2016 * WINDOW + 4 * 288 * WINDOW
"""The epoch was a Thursday."""
Rate = Callable[[int], float]
CHANGE = 22 * 288 + 126
"""A Tuesday, 10:30, in the fourth week."""


def weeks(rate: Rate, end: int, gap_s: float | None = 60, seed: int = 1) -> list[tuple[int, str, str]]:
    """(window, what, status) of a source with so many rows expected in each window (from a Monday on), as one delivery every `gap_s`
    seconds, or every row by itself at a random moment."""
    rng, watch = np.random.default_rng(seed), SourceWatch()
    stream, found = None, []
    for window in range(end):
        at, expected = MONDAY + window * WINDOW, rate(window)
        alone = np.sort(rng.uniform(0, 300, rng.poisson(expected))) if gap_s is None else np.arange(10.0, 300.0, gap_s)
        for moment in alone.tolist() if expected else ():
            rows = 1 if gap_s is None else int(rng.poisson(expected * gap_s / 300))
            received = at + round(moment * SECOND)
            stream = stream or watch._streams.setdefault(("app", "log"), Stream("app", "log", received, received))
            if rows:
                stream.arrived(received, rows)
                if watch._episodes.pop(("app", "log", "silence"), None):
                    found.append((window, "silence", "resolved"))
        events = watch._close(at + WINDOW) + watch._silent(at + WINDOW)
        found += [(window, event["attributes"]["what"], event["status"]) for event in events]
    return found


def office(window: int) -> bool:
    return window // 288 % 7 < 5 and 9 * 12 <= window % 288 < 17 * 12


def batch(window: int, every: int, hours: float) -> float:
    return 1000 if window // 288 % every == every - 1 and 24 <= window % 288 < 24 + 12 * hours else 0


SHAPES: dict[str, tuple[Rate, float | None, int, float, str, int]] = {
    "flat": (lambda window: 1000, 60, 0, 0.5, "volume", 65),
    "daily season": (lambda window: 1000 * (1 + 0.8 * np.sin((window / 288 - 0.375) * 2 * np.pi)), 60, 0, 0.5, "volume", 65),
    "quiet weekends": (lambda window: 5000 if office(window + 6) else 300, 60, 2, 0.2, "volume", 10),
    "Monday to Friday, 9 to 17": (lambda window: 2000 if office(window) else 0, 60, 1, 0, "silence", 10),
    "weekly batch": (lambda window: batch(window, 7, 0.4), 20, 0, 1, "", 0),
    "weekly batch of three hours": (lambda window: batch(window, 7, 3), 60, 1, 1, "", 0),
    "monthly batch": (lambda window: batch(window, 14, 0.4), 20, 0, 1, "", 0),
    "now and then": (lambda window: 0.3, None, 0, 1, "", 0),
}
"""Rows in five minutes, seconds between deliveries, alarms while it is learned, a change by a factor, as what and when (min) it is told."""


@pytest.mark.parametrize("name", SHAPES)
def test_a_rhythm_is_no_surprise_once_it_is_known_and_a_change_is_found_in_time(name: str) -> None:
    rate, gap_s, surprises, factor, what, minutes = SHAPES[name]
    over = CHANGE + 24
    found = weeks(lambda window: rate(window) * (factor if CHANGE <= window < over else 1), over + 6, gap_s)
    learning = [(window // 288, told) for window, told, status in found if window < CHANGE and status == "firing"]
    assert len(learning) == surprises, "the first morning and evening, or the first end of a batch, is one"
    assert [(day, told) for day, told in learning if day >= 7] == []
    later = [one for one in found if one[0] >= CHANGE]
    assert [one[1:] for one in later] == ([(what, "firing"), (what, "resolved")] if what else [])
    assert all((window - CHANGE + 1) * 5 <= minutes or over <= window <= over + 2 for window, *_ in later)


@pytest.mark.parametrize("signal", ["metric", "log"])
@pytest.mark.parametrize(("before", "after", "silences"), [(60, 15, 0), (60, 300, 1), (15, 15, 0)])
def test_another_cadence_is_told_once_and_learned_in_fifteen_gaps(
    operation: Operation, signal: str, before: int, after: int, silences: int
) -> None:
    """A gap four times as long as usual is a silence before anybody can know that it is a rhythm."""

    def every(gap: int) -> Callable[[int], list[Batch]]:
        return lambda at: [points(at, 8) if signal == "metric" else lines("prometheus", at, 60)] if at // SECOND % gap == 0 else []

    assert operation.play(3, every(before)) == []
    found = told(operation.play((17 * after + 600) / 3600, every(after)))
    assert found.count(("silence", "firing")) == found.count(("silence", "resolved")) == silences
    expected = [] if before == after else [("cadence", "firing"), ("cadence", "resolved")]
    assert [one for one in found if one[0] != "silence"] == expected
    if expected:
        assert operation.events[-1]["title"].endswith("this is taken as usual now")
        limit = operation.watch.streams("prometheus")[0].limit_s()
        assert limit == pytest.approx(max(120, 4 * after), rel=0.2), "silence is judged by the new rhythm"
    assert operation.play(1, every(after)) == []


def test_a_cadence_that_comes_back_at_once_is_told_to_be_over(operation: Operation) -> None:
    often = range(START + 10_680 * SECOND, START + 10_800 * SECOND)
    found = told(operation.play(4, lambda at: [points(at, 8)] if at // SECOND % (15 if at in often else 60) == 0 else []))
    assert found == [("cadence", "firing"), ("cadence", "resolved")]
    assert "as usual again" in operation.events[-1]["title"]


def test_an_appointment_that_is_not_kept_is_noticed_an_hour_later() -> None:
    hours = Hours()
    for hour in range(4 * WEEK):
        end = (hour + 1) * 60 * MINUTE
        hours.over(hour % WEEK, end - MINUTE if hour % 24 == 2 else end - 90 * MINUTE, end)
    hours.waited, last = 0.0, 27 * 24 * 60 * MINUTE + 150 * MINUTE
    for hour in range(4 * WEEK - 21, 4 * WEEK + 4):
        hours.over(hour % WEEK, last, (hour + 1) * 60 * MINUTE)
        assert hours.silent_s(last, (hour + 1) * 60 * MINUTE) == (3600 if hour == 4 * WEEK + 3 else 0)
    assert Hours().silent_s(0, 90 * MINUTE) == 30 * 60, "where nothing is known, all hours count"


def test_series_that_vanish_make_room_for_others_to_be_followed() -> None:
    steps = Steps()
    for minute in range(120):
        first = 1 if minute < 30 else 101
        series = np.arange(first, first + 20, dtype=np.uint64)
        steps.learn(series, np.full(20, (minute + 1) * MINUTE))
        if minute % 5 == 4:
            steps.turn()
    assert len(steps.last) == 8
    assert all(number > 100 for number in steps.last)
    assert steps.missing == 0


def test_a_level_that_lasts_keeps_what_is_known_of_the_week() -> None:
    level = Level()
    for _ in range(3):
        for hour in range(WEEK):
            for _ in range(12):
                level.learn(1.0 + (hour == 100) * 60, hour)
    level.doubt(20.0, 50)
    level.renew(50)
    assert [level.usual(hour) for hour in (50, 51, 100)] == [20, 20, 80]
    for _ in range(24):
        level.learn(1.0, 51)
    assert [level.usual(hour) for hour in (50, 100)] == [1, 61], "it is over: the week is as it was"


@pytest.mark.parametrize(("every_h", "days"), [(2, 14), (6, 14), (24, 28)])
def test_a_source_with_rare_appointments_is_missed_when_it_does_not_come(every_h: int, days: int) -> None:
    def rate(window: int) -> float:
        return 100 if window < days * 288 and window % (12 * every_h) == 0 else 0

    found = weeks(rate, days * 288 + 5 * 288, gap_s=300)
    assert [(what, status) for _, what, status in found if what == "silence"] == [("silence", "firing")]
    window = next(window for window, what, _ in found if what == "silence")
    assert days * 288 <= window < days * 288 + 5 * 12 * every_h, "within five of its usual gaps"


def test_doubt_of_a_window_without_rows_is_doubt_of_its_volume_only(operation: Operation) -> None:
    """A job that sends in every second window, from now on with records an hour ahead, is found out nevertheless."""

    def job(ahead_s: int) -> Callable[[int], list[Batch]]:
        return lambda at: [lines("job", at + ahead_s * SECOND, 20)] if at // WINDOW % 2 == 0 else []

    def skewed(at: int) -> list[Batch]:
        return [Batch(b.signal, b.source, at, b.rows) for b in job(3600)(at)]

    operation.play(24, job(0))
    assert "skew" in {event["attributes"]["what"] for event in operation.play(6, skewed) if event["status"] == "firing"}
