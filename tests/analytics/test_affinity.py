"""What past incidents and persons teach the correlator: kinds that go together, how long incidents go on, common changes, traits, words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.alerts import affinity as module
from ninefold.analytics.alerts.affinity import HALF_LIFE_NS, REACH_NS, Affinity, Kind, taught_key
from ninefold.analytics.alerts.correlate import Correlator
from ninefold.analytics.alerts.groups import Alert, Considered, Group
from ninefold.ground.clock import SECOND
from ninefold.model.topology import Relation, Topology

T0 = 1_000 * 86400 * SECOND
HOUR = 3600 * SECOND
A, B, C = ("service:s0", "slow"), ("service:s6", "errors"), ("service:s3", "full")
CHAIN = [Relation(f"service:s{i}", f"service:s{i + 1}") for i in range(7)]
HOME = "service:s0"


def alert(id_: str, at_s: float, kind: Kind = A, **more: object) -> Alert:
    entity, rule = kind
    fingerprint = str(more.pop("fingerprint", f"{entity}|{rule}"))
    return Alert(id_, T0 + int(at_s * SECOND), fingerprint, entity, rule, **more)  # type: ignore[arg-type]


def correlator() -> Correlator:
    return Correlator(Topology(CHAIN))


def taught(count: int = 10) -> Affinity:
    """A and B always together, C by itself."""
    found = Affinity()
    for i in range(count):
        found.learn(HOME, T0 + 2 * i * HOUR, T0 + 2 * i * HOUR + 60 * SECOND, (A, B))
        found.learn(HOME, T0 + (2 * i + 1) * HOUR, T0 + (2 * i + 1) * HOUR + 1, (C,))
    return found


def only(found: Correlator, last: Alert) -> Considered:
    (considered,) = found.feed([last]).decisions[-1].considered
    return considered


def words(considered: Considered) -> dict[str, float]:
    return {addend.text: addend.weight for addend in considered.addends}


def test_kinds_that_fire_together_oftener_than_by_chance_are_known() -> None:
    found = taught()
    assert found.lift(HOME, A, B) == 0, "not twice as often as by chance"
    for i in range(10):
        found.learn(HOME, T0 + (50 + i) * HOUR, T0 + (50 + i) * HOUR, (C,))
    (pair,) = found.pairs(HOME)
    assert {pair.a, pair.b} == {A, B}
    assert pair.lift == found.lift(HOME, A, B) == found.lift(HOME, B, A) > 0.69
    assert found.lift(HOME, A, C) == found.lift(HOME, A, ("service:new", "new")) == 0


def test_what_is_always_firing_says_nothing() -> None:
    found = Affinity()
    for i in range(50):
        found.learn(HOME, T0 + i * HOUR, T0 + i * HOUR, (A, B))
    assert found.lift(HOME, A, B) == 0, "they are together as often as chance brings them together"


def test_two_incidents_teach_nothing_and_what_is_old_fades() -> None:
    found = Affinity()
    for i in range(40):
        found.learn(HOME, T0 + i * HOUR, T0 + i * HOUR, (A, B) if i % 20 == 0 else (C,))
    assert found.lift(HOME, A, B) == 0
    found = Affinity()
    for i in range(40):
        found.learn(HOME, T0 + i * HOUR, T0 + i * HOUR, (A, B) if i % 4 == 0 else (C,))
    assert found.lift(HOME, A, B) > 0
    found.learn(HOME, T0 + 3 * HALF_LIFE_NS, T0 + 3 * HALF_LIFE_NS, (C,))
    assert found.lift(HOME, A, B) == 0, "after six weeks less than three of ten are left"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS", 200)
    monkeypatch.setattr(module, "COMPONENTS", 10)
    found = Affinity()
    for i in range(100):
        kinds = [A, B, *((f"service:x{i}", f"r{j}") for j in range(40))]
        found.learn(HOME if i % 2 else f"service:x{i}", T0 + i * HOUR, T0 + i * HOUR, kinds)
    assert len(found._two) <= 200
    assert len(found._one) <= 200
    assert len(found._past) <= 10
    assert found.reach(HOME) == REACH_NS


def test_how_long_incidents_go_on_is_learned_and_never_shorter_than_five_minutes() -> None:
    kinds = [("service:s0", f"r{j}") for j in range(5)]
    found = Affinity()
    for i in range(6):
        found.learn(HOME, T0 + 3 * i * HOUR, T0 + (3 * i + 1) * HOUR, kinds)
    assert found.reach(HOME) == REACH_NS, "the sixth may go on"
    found.learn(HOME, T0 + 30 * HOUR, T0 + 30 * HOUR + SECOND, kinds)
    assert found.reach(HOME) == HOUR
    assert found.reach("service:other") == REACH_NS
    for i in range(40):
        found.learn(HOME, T0 + (40 + i) * HOUR, T0 + (40 + i) * HOUR + 10 * SECOND, kinds)
    assert found.reach(HOME) == REACH_NS


def test_incidents_one_after_the_other_are_one_session() -> None:
    kinds = [("service:s0", f"r{j}") for j in range(5)]
    found = Affinity()
    for i in range(7):
        begin = T0 + 3 * i * HOUR
        found.learn(HOME, begin + 30 * 60 * SECOND, begin + HOUR, kinds)
        found.learn(HOME, begin, begin + 30 * 60 * SECOND - SECOND, kinds)
    assert found.reach(HOME) == HOUR, "cutting a long incident in two does not make incidents short"


def test_a_group_that_has_gone_on_for_long_takes_in_no_new_kind_from_afar() -> None:
    found = correlator()
    found.feed(alert(f"{i:03d}", 20 * i) for i in range(20))
    considered = only(found, alert("x", 401, ("service:s6", "errors")))
    assert words(considered)["7 min after it began, longer than usual"] == -1.25
    assert len(list(found.groups())) == 2
    assert found.feed([alert("y", 402, ("service:s0", "errors"))]).decisions[0].verdict == "joined", "the same service is near enough"
    found = correlator()
    found.affinity.reach = lambda component: HOUR  # type: ignore[method-assign]
    found.feed(alert(f"{i:03d}", 20 * i) for i in range(20))
    found.feed([alert("x", 381, ("service:s6", "errors"))])
    assert len(list(found.groups())) == 1


def test_a_repeat_never_opens_a_group_however_long_it_goes_on() -> None:
    found = correlator()
    decisions = [d for i in range(200) for d in found.feed([alert(f"{i:03d}", 30 * i)]).decisions]
    assert {d.verdict for d in decisions[1:]} == {"duplicate"}


def test_kinds_known_to_go_together_find_each_other_from_afar() -> None:
    plain, found = correlator(), correlator()
    for i in range(12):
        for kinds in ((A, B), (C,), (C,), (C,)):
            found.affinity.learn(HOME, T0 - (i + 2) * HOUR, T0 - (i + 2) * HOUR, kinds)
    late = alert("2", 22, B)
    assert only_verdict(plain, late) == "opened"
    assert only_verdict(found, late) == "joined"
    assert "has often fired together with slow of service:s0" in words(only(found, alert("3", 23, B, fingerprint="another")))


def only_verdict(found: Correlator, last: Alert) -> str:
    found.feed([alert("1", 0)])
    return found.feed([last]).decisions[-1].verdict


def test_what_persons_said_of_two_rules_counts_both_ways() -> None:
    assert taught_key(B, A) == taught_key(A, B)
    together, apart = correlator(), correlator()
    together.affinity.taught = {taught_key(A, B): 2.0}
    apart.affinity.taught = {taught_key(A, B): 0.7}
    assert only_verdict(together, alert("2", 50, B)) == "joined"
    assert only_verdict(apart, alert("2", 10, B)) == "opened"
    assert only_verdict(correlator(), alert("2", 10, B)) == "joined"
    found = correlator()
    found.affinity.taught = {taught_key(A, B): 2.0}
    found.feed([alert("1", 0)])
    assert words(only(found, alert("2", 5, B)))["people said it belongs with slow"] == pytest.approx(1.04, abs=0.01)


def test_alerts_after_the_same_change_belong_together() -> None:
    found = correlator()
    found.changed("service:s0", T0 - 60 * SECOND, "release 7")
    found.feed([alert("1", 0)])
    assert words(only(found, alert("2", 50, ("service:s1", "errors"))))["both after the change release 7"] == 1.0
    late = correlator()
    late.changed("service:s0", T0 - 601 * SECOND, "release 7")
    late.feed([alert("1", 0)])
    assert not any("change" in text for text in words(only(late, alert("2", 5, ("service:s1", "errors")))))


def test_traits_and_words_in_common_are_told() -> None:
    found = correlator()
    found.feed([alert("1", 0, title="Disk full on node 7", traits=("team db", "host.name n7"))])
    told = words(only(found, alert("2", 5, C, title="Disk full on node 8", traits=("host.name n7", "team web"))))
    assert told["same host.name n7"] == pytest.approx(0.1)
    assert told["its text is like the first alert's"] == pytest.approx(0.2)


LESSONS = st.lists(st.tuples(st.integers(0, 200), st.sampled_from([(A, B), (A, B, C), (C,), (B, C)])), min_size=1, max_size=30)


@given(LESSONS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_lessons_does_not_change_what_is_known_of_pairs(
    lessons: list[tuple[int, tuple[Kind, ...]]], order: random.Random
) -> None:
    one, other = Affinity(), Affinity()
    shuffled = list(lessons)
    order.shuffle(shuffled)
    for found, told in ((one, lessons), (other, shuffled)):
        for day, kinds in told:
            found.learn(HOME, T0 + day * 24 * HOUR, T0 + day * 24 * HOUR, kinds)
    for a, b in ((A, B), (A, C), (B, C)):
        assert one.lift(HOME, a, b) == pytest.approx(other.lift(HOME, a, b), abs=1e-6)


ROWS = st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 7), st.integers(0, 3)), min_size=1, max_size=60)


@given(ROWS, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_order_gives_the_same_groups_with_all_that_was_learned(
    rows: list[tuple[int, int, int]], order: random.Random, long: bool
) -> None:
    """Five minutes in any order, or twenty with delays of a minute."""
    step, delay = (1.0, 60) if long else (0.25, 300)
    alerts = [alert(f"{i:03d}", step * at, (f"service:s{e}", f"r{r}"), traits=(f"team {r}",)) for i, (at, e, r) in enumerate(rows)]
    arrivals = sorted(alerts, key=lambda a: a.time + order.uniform(0, delay) * SECOND)

    def groups(told: list[Alert]) -> set[tuple[tuple[str, ...], int, int, int]]:
        found = correlator()
        found.changed("service:s2", T0, "release")
        found.affinity.taught = {taught_key("r0", "r1"): 0.7, taught_key("r2", "r3"): 2.0}
        for i in range(12):
            for kinds in ((("service:s0", "r0"), ("service:s5", "r1")), (C,), (C,), (C,)):
                found.affinity.learn(HOME, T0 - (i + 2) * HOUR, T0 - (i + 2) * HOUR, kinds)
        for one in told:
            found.feed([one])
        return {group_of(group) for group in found.groups()}

    assert groups(arrivals) == groups(sorted(alerts, key=lambda a: (a.time, a.id)))


def group_of(group: Group) -> tuple[tuple[str, ...], int, int, int]:
    return tuple(sorted(group.members)), group.first, group.last, group.count
