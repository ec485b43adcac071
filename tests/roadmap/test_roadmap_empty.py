"""Nothing is claimed about an empty installation, and words for numbers."""

from __future__ import annotations

from typing import Any

import pytest

from ninefold import roadmap
from ninefold.roadmap.answer import count, span


def test_nothing_is_claimed_about_an_empty_installation(empty: Any) -> None:
    steps = roadmap.measure(empty.store, empty.records)
    assert [step.number for step in steps] == list(range(1, 10))
    assert [step.stage for step in steps] == ["early"] * 3 + ["middle"] * 3 + ["late"] * 3
    for step in steps:
        assert step.score is None, step.title
        assert step.missing, step.title
        assert all(gap.text and gap.hint for gap in step.missing)
    assert len({step.key for step in steps}) == 9


@pytest.mark.parametrize(("seconds", "text"), [(0.35, "350 ms"), (42, "42 s"), (420, "7 min"), (12600, "3.5 h"), (3 * 86400, "3 days")])
def test_spans_read_well(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_nouns_follow_their_number() -> None:
    assert count(1, "incident") == "1 incident"
    assert count(1234, "incident") == "1,234 incidents"
