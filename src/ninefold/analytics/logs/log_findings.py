"""The words of the findings about logs: new errors, surges, vanished templates, odd sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ninefold.analytics.findings import anomaly, number
from ninefold.analytics.logs.lift import Lift
from ninefold.analytics.logs.sequences import Odd, Part
from ninefold.analytics.logs.surges import Surge
from ninefold.ground.clock import MINUTE

NAME = "logs"
ERROR, FATAL = 17, 21
_TITLE = 120


def short(entity: str) -> str:
    """An entity for a sentence."""
    return entity.partition(":")[2] or entity or "an unknown sender"


def new_error(entity: str, template: str, text: str, *, line: str, level: int, time: int) -> dict[str, Any]:
    """A template of errors that was never seen before; `template` is its id, `time` ns."""
    return anomaly(
        NAME, {"entity": entity, "template": template, "reason": "new-template"}, entity=entity, time=time, since=time, firing=True,
        title=f"new error in {short(entity)}: {text[:_TITLE]}", body=line, severity="high" if level >= FATAL else "warning",
        attributes={"text": text, "horizon": "first"},
    )  # fmt: skip


def surge(
    entity: str, template: str, text: str, found: Surge, *, minute: int, level: int, example: str, lifts: Sequence[Lift] = ()
) -> dict[str, Any]:
    """A template that is logged far more often than it was, and what its lines have in common."""
    usual = number(found.expected)
    why = "; ".join(map(in_words, lifts))
    return anomaly(
        NAME, {"entity": entity, "template": template, "reason": "surge"}, entity=entity, time=minute * MINUTE,
        since=found.since * MINUTE, firing=True,
        title=f"{short(entity)} logs {number(found.found)} a minute, usually {usual}: {text[:_TITLE]}{_others(found)}",
        body=f"{example}\n{why}".strip(), severity="high" if level >= ERROR and found.score >= 10 else "warning",
        attributes={"text": text, "value": f"{found.found:.6g}", "expected": f"{found.expected:.6g}", "score": f"{found.score:.3g}",
                    "lower": f"{max(found.expected - 3 * found.spread, 0.0):.6g}", "upper": f"{found.expected + 3 * found.spread:.6g}",
                    "unit": "{line}/min", "horizon": "minute", "why": why},
    )  # fmt: skip


def vanished(entity: str, template: str, text: str, found: Surge, *, minute: int, example: str) -> dict[str, Any]:
    """A template that was logged regularly and is not any more, though its entity goes on logging."""
    return anomaly(
        NAME, {"entity": entity, "template": template, "reason": "vanished"}, entity=entity, time=minute * MINUTE,
        since=found.since * MINUTE, firing=True, title=f"{short(entity)} no longer logs: {text[:_TITLE]}{_others(found)}", body=example,
        attributes={"text": text, "value": "0", "expected": f"{found.expected:.6g}", "score": f"{found.score:.3g}", "unit": "{line}/min",
                    "horizon": "absence"},
    )  # fmt: skip


def _others(found: Surge) -> str:
    return f", and {found.others} other templates with it" if found.others else ""


_OVER = {
    "new-template": "{} no longer logs the new error: {}",
    "surge": "{} is back to its usual rate: {}",
    "vanished": "{} logs again, or is not expected to: {}",
}


def over(entity: str, template: str, text: str, reason: str, *, since: int, time: int) -> dict[str, Any]:
    """The end of one of the above; `since` and `time` in ns."""
    return anomaly(
        NAME, {"entity": entity, "template": template, "reason": reason}, entity=entity, time=time, since=since, firing=False,
        title=_OVER[reason].format(short(entity), text[:_TITLE]), attributes={"text": text},
    )  # fmt: skip


def odd(entity: str, found: Odd, text: Callable[[int], str], *, minute: int) -> dict[str, Any]:
    """Sessions, or minutes, that are not like the others of their entity, and what is missing or unexpected in the worst."""
    reason = "window" if found.window else "sequence"
    what = "an unusual mix of lines" if found.window else f"{found.odd} of {found.finished} sessions are unlike the others"
    reasons = [_reason(part, text, found.window) for part in found.parts]
    title = f"{short(entity)}: {what}" + (f": {reasons[0][:_TITLE]}" if reasons else "")
    if not found.firing:
        title = f"{short(entity)}: {'the mix of lines is' if found.window else 'sessions are'} as usual again"
    return anomaly(
        NAME, {"entity": entity, "reason": reason}, entity=entity, time=minute * MINUTE, since=found.since * MINUTE, firing=found.firing,
        title=title, body="\n".join(reasons),
        attributes={"value": str(found.odd), "of": str(found.finished), "score": f"{found.score:.3g}",
                    "horizon": "minute" if found.window else "session"} if found.firing else {},
    )  # fmt: skip


def in_words(lift: Lift) -> str:
    """A lift as a phrase."""
    return f"{lift.field} = {lift.value} in {lift.now:.0%} of the lines, before in {lift.before:.0%}"


def as_row(lift: Lift) -> Mapping[str, Any]:
    """A lift as plain data."""
    return {**lift._asdict(), "text": in_words(lift)}


def _reason(part: Part, text: Callable[[int], str], window: bool) -> str:
    if part.after is not None:
        before, after = (text(template) if template >= 0 else "" for template in (part.after, part.template))
        if not after:
            return f"ends unexpectedly after: {before}"
        return f"unexpected after {before!r}: {after}" if before else f"begins unexpectedly with: {after}"
    if part.found == 0:
        return f"missing: {text(part.template)}"
    if part.usual == 0 or window:
        return f"unexpected: {text(part.template)}"
    return f"{part.found} times, usually {part.usual}: {text(part.template)}"
