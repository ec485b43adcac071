"""The correlator: sessions of a component, told apart by place, with a reason for each decision, in whatever order alerts come."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.alerts.correlate import LATE_NS, Correlator
from ninefold.analytics.alerts.groups import Alert, Outcome
from ninefold.ground.clock import SECOND
from ninefold.model.topology import Relation, Topology

CHAIN = [Relation(f"service:s{i}", f"service:s{i + 1}") for i in range(7)]
T0 = 1_000 * 86400 * SECOND


def alert(id_: str, at_s: float, entity: str = "service:s0", rule: str = "slow", **more: object) -> Alert:
    fingerprint = str(more.pop("fingerprint", f"{entity}|{rule}"))
    return Alert(id_, T0 + int(at_s * SECOND), fingerprint, entity, rule, rule, **more)  # type: ignore[arg-type]


def correlator(**options: float) -> Correlator:
    return Correlator(Topology([*CHAIN, Relation("service:a", "service:b")]), **options)  # type: ignore[arg-type]


def partition(found: Correlator) -> set[frozenset[str]]:
    """Which fingerprints are together, whatever the groups are called."""
    return {frozenset(group.members) for group in found.groups()}


def verdicts(outcome: Outcome) -> list[str]:
    return [decision.verdict for decision in outcome.decisions]


def test_alerts_of_one_component_within_a_minute_are_one_group_and_each_join_says_why() -> None:
    found = correlator()
    first = found.feed([alert("1", 0), alert("2", 22, "service:s1")])
    assert verdicts(first) == ["opened", "joined"]
    joined = first.decisions[1]
    assert joined.text == "22 s after its last alert +0.87, 1 hop from service:s0 +0.6, its text is like the first alert's +0.2"
    assert joined.considered[0].score == pytest.approx(sum(a.weight for a in joined.considered[0].addends))
    assert verdicts(found.feed([alert("3", 24, "service:a")])) == ["opened"], "another component"


def test_a_quiet_minute_ends_a_session() -> None:
    found = correlator()
    found.feed([alert("1", 0), alert("2", 59.9, rule="other"), alert("3", 120.1, rule="third")])
    assert len(partition(found)) == 2


def test_far_away_alerts_must_come_sooner() -> None:
    near, far = correlator(), correlator()
    near.feed([alert("1", 0), alert("2", 50, "service:s0", "other")])
    far.feed([alert("1", 0), alert("2", 50, "service:s6", "other")])
    assert len(partition(near)) == 1
    assert len(partition(far)) == 2
    together = correlator()
    together.feed([alert("1", 0, links=("trace_id abc",)), alert("2", 50, "service:s6", "other", links=("trace_id abc",))])
    assert len(partition(together)) == 1, "a shared trace brings what is far away together"


def test_slow_series_have_longer_sessions() -> None:
    found = correlator()
    found.feed([alert("1", 0, interval_s=60), alert("2", 110, rule="other", interval_s=60)])
    assert len(partition(found)) == 1


def test_an_alert_without_an_entity_is_grouped_with_nothing_but_itself() -> None:
    found = correlator()
    outcome = found.feed([alert("1", 0, "", "a"), alert("2", 1, "", "b"), alert("3", 2, "", "a")])
    assert {d.alert.id: d.verdict for d in outcome.decisions} == {"1": "opened", "2": "opened", "3": "duplicate"}


def test_a_group_has_no_largest_size() -> None:
    found = correlator()
    found.feed(alert(f"{i:06d}", i / 1000, f"service:s{i % 8}", f"rule {i}") for i in range(20_000))
    (group,) = found.groups()
    assert group.count == len(group.members) == 20_000


def test_the_same_alert_is_counted_not_listed_again_and_may_fire_again() -> None:
    found = correlator()
    found.feed([alert("1", 0, stateful=True)])
    again = found.feed([alert("2", 400, stateful=True)])
    assert verdicts(again) == ["duplicate"], "a firing alert that says when it ends is the same one however long it burns"
    assert again.decisions[0].text == "the same alert, seen 2 times"
    ended = found.feed([alert("3", 500, stateful=True, firing=False)])
    assert verdicts(ended) == ["resolved"]
    assert found.feed([alert("4", 510, stateful=True)]).decisions[0].text == "the same alert fires again"
    assert verdicts(found.feed([alert("5", 600, stateful=True, firing=False)])) == ["resolved"]
    assert verdicts(found.feed([alert("6", 2000, stateful=True)])) == ["opened"], "back after a long quiet, it is a new problem"


def test_repeats_of_an_old_alert_do_not_keep_a_session_open_for_others() -> None:
    found = correlator()
    found.feed([alert("1", 0, stateful=True)])
    found.feed([alert("2", 3600, stateful=True)])
    assert verdicts(found.feed([alert("3", 3610, rule="another")])) == ["opened"]
    (first, _) = found.groups()
    assert (first.last, first.heard, first.count) == (T0, T0 + 3600 * SECOND, 2)


def test_an_end_that_nobody_waits_for_is_unknown() -> None:
    assert verdicts(correlator().feed([alert("1", 0, firing=False, stateful=True)])) == ["unknown"]


def test_a_group_is_finished_when_its_alerts_ended_and_it_was_quiet() -> None:
    found = correlator(resolve_after_s=300)
    found.feed([alert("1", 0, stateful=True), alert("2", 5, rule="other", stateful=True)])
    found.feed([alert("3", 50, stateful=True, firing=False)])
    assert found.finished(T0 + 1000 * SECOND) == [], "one still fires"
    found.feed([alert("4", 1000, rule="other", stateful=True, firing=False)])
    assert found.finished(T0 + 1299 * SECOND) == []
    (group,) = found.finished(T0 + 1300 * SECOND)
    found.close(group.number)
    assert verdicts(found.feed([alert("5", 1301, stateful=True)])) == ["opened"], "a closed group takes nothing in"


def test_alerts_that_never_say_they_end_are_over_by_silence() -> None:
    found = correlator(resolve_after_s=300)
    found.feed([alert("1", 0)])
    assert found.finished(T0 + 299 * SECOND) == []
    assert len(found.finished(T0 + 300 * SECOND)) == 1
    lost = correlator(resolve_after_s=300)
    lost.feed([alert("1", 0, stateful=True)])
    assert lost.finished(T0 + 4 * 3600 * SECOND) == []
    assert len(lost.finished(T0 + 6 * 3600 * SECOND)) == 1, "its end must have been lost"


def test_a_late_alert_that_joins_two_groups_makes_them_one() -> None:
    found = correlator()
    found.feed([alert("1", 0)])
    found.feed([alert("3", 100, rule="third")])
    assert len(partition(found)) == 2
    outcome = found.feed([alert("2", 50, rule="second")])
    assert outcome.merged == {2: 1}
    moved = next(d for d in outcome.decisions if d.alert.id == "3")
    assert (moved.moved_from, moved.group and moved.group.number) == (2, 1)
    assert len(partition(found)) == 1


def test_a_group_keeps_its_name_when_an_earlier_alert_turns_up() -> None:
    found = correlator()
    found.feed([alert("2", 10)])
    outcome = found.feed([alert("1", 5, rule="first")])
    (group,) = found.groups()
    assert group.number == 1
    assert not outcome.merged
    assert group.first == T0 + 5 * SECOND


def test_components_that_grow_together_keep_their_open_groups() -> None:
    found = correlator()
    found.feed([alert("1", 0), alert("2", 0, "service:a", "other")])
    fresh = found.relate([Relation("service:s0", "service:a"), CHAIN[0]])
    assert [relation.to_entity for relation in fresh] == ["service:a"]
    assert len(partition(found)) == 2
    assert verdicts(found.feed([alert("3", 5, "service:b", "new")])) == ["joined"]


ALERTS = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 7), st.integers(0, 3), st.sampled_from(("fires", "ends", "once"))),
    min_size=1,
    max_size=40,
).map(
    lambda rows: [
        alert(f"{i:03d}", at / 2, f"service:s{e}" if e else "service:a", f"r{r}", stateful=how != "once", firing=how != "ends")
        for i, (at, e, r, how) in enumerate(rows)
    ]
)  # fmt: skip


def in_batches(alerts: Sequence[Alert], sizes: Iterable[int]) -> Correlator:
    found, rest = correlator(), list(alerts)
    for size in sizes:
        if rest:
            found.feed(rest[:size])
            rest = rest[size:]
    found.feed(rest)
    return found


@given(ALERTS, st.randoms(use_true_random=False), st.lists(st.integers(1, 8), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_order_and_any_batches_within_the_bound_give_the_same_groups(
    alerts: list[Alert], order: random.Random, sizes: list[int]
) -> None:
    expected = in_batches(sorted(alerts, key=lambda a: (a.time, a.id)), [])
    shuffled = list(alerts)
    order.shuffle(shuffled)
    found = in_batches(shuffled, sizes)
    assert partition(found) == partition(expected)
    assert {(g.first, g.last, g.count, g.severity, g.lead.id, tuple(g.entities)) for g in found.groups()} == {
        (g.first, g.last, g.count, g.severity, g.lead.id, tuple(g.entities)) for g in expected.groups()
    }


@given(ALERTS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_jitter_of_delivery_changes_nothing(alerts: list[Alert], order: random.Random) -> None:
    arrivals = sorted(alerts, key=lambda a: a.time + order.uniform(-5, 5) * SECOND)
    found = in_batches(arrivals, [1] * len(arrivals))
    assert partition(found) == partition(in_batches(sorted(alerts, key=lambda a: (a.time, a.id)), []))


@given(ALERTS, st.randoms(use_true_random=False), st.lists(st.integers(1, 5), max_size=40))
@settings(max_examples=100, deadline=None)
def test_what_is_told_about_moves_adds_up(alerts: list[Alert], order: random.Random, sizes: list[int]) -> None:
    """Following the decisions of every call gives the groups as they are: nobody needs to look inside."""
    shuffled = list(alerts)
    order.shuffle(shuffled)
    found, where, rest = correlator(), {}, shuffled
    for size in [*sizes, len(shuffled)]:
        outcome = found.feed(rest[:size])
        rest = rest[size:]
        for decision in outcome.decisions:
            if decision.verdict in ("resolved", "unknown"):
                continue
            assert decision.moved_from == where.get(decision.alert.id)
            where[decision.alert.id] = decision.group.number if decision.group else None
        assert not set(outcome.merged) & {group.number for group in found.groups()}
    assert {number: sum(1 for n in where.values() if n == number) for number in where.values()} == {
        group.number: group.count for group in found.groups()
    }


def test_what_comes_later_than_the_bound_still_finds_a_place() -> None:
    found = correlator()
    found.feed(alert(f"{i:03d}", i * 10, rule=f"r{i}") for i in range(100))
    before = partition(found)
    outcome = found.feed([alert("late", 1000 - LATE_NS / SECOND - 100, rule="late")])
    assert verdicts(outcome) == ["joined"]
    assert len(partition(found)) == len(before)
