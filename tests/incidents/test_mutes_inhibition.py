"""Inhibition: what hides what, for how long, and that order and cuts make no difference."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from room import Room, event
from sqlalchemy import select
from test_mutes import hidden, reasons, statuses, wish

from ninefold.config import Inhibition, parse
from ninefold.ground.errors import ConfigError, Refused
from ninefold.incidents.inhibition import Inhibitions
from ninefold.incidents.rules import INHIBITION, parsed
from ninefold.store.records.base import Audit

NODE = {"source_matchers": ["alertname=NodeDown"], "target_matchers": ["alertname=~Pod.*"], "equal": ["node"]}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path, alerts={"inhibitions": {"node": NODE}})
    yield made
    made.records.close()


def down(at_s: float, node: str = "n1", status: str = "firing") -> dict[str, Any]:
    return event(at_s, f"host:{node}", f"{node} is down", status=status, severity="critical", alertname="NodeDown", node=node)


def pod(at_s: float, name: str = "p1", node: str = "n1", status: str = "firing", alertname: str = "PodDead") -> dict[str, Any]:
    return event(at_s, f"pod:{name}", f"{name} is dead", status=status, severity="critical", alertname=alertname, node=node)


def test_a_source_hides_what_has_equal_labels_and_the_ledger_says_which(nodes: Room) -> None:
    nodes.feed(down(0))
    nodes.feed(pod(5), pod(6, "p2", "n2"), pod(7, "p3", alertname="Other"), received_s=7)
    assert statuses(nodes) == {"n1 is down": "firing", "p1 is dead": "suppressed", "p2 is dead": "firing", "p3 is dead": "firing"}
    (reason,) = reasons(nodes)
    assert reason == f"hidden by inhibition node: n1 is down ({down(0)['fingerprint']}) is firing"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_alerts_told_at_once_inhibit_each_other_in_any_order(nodes: Room, order: tuple[int, ...]) -> None:
    rows = [down(0), pod(1), pod(2, "p2")]
    nodes.feed(*(rows[i] for i in order))
    assert sorted(statuses(nodes).values()) == ["firing", "suppressed", "suppressed"]


def test_what_still_fires_is_seen_when_its_source_ends_also_after_a_restart(nodes: Room) -> None:
    nodes.feed(down(0))
    nodes.feed(pod(5), pod(6, "p2"), received_s=6)
    nodes.restart()
    nodes.feed(pod(10, "p3"), received_s=10)
    assert hidden(nodes) == 3
    nodes.feed(pod(20, "p2", status="resolved"), down(21, status="resolved"), received_s=21)
    nodes.tick(22)
    assert statuses(nodes) == {"n1 is down": "resolved", "p1 is dead": "firing", "p2 is dead": "resolved", "p3 is dead": "firing"}
    assert hidden(nodes) == 0


def test_a_source_whose_end_was_told_first_inhibits_nothing(nodes: Room) -> None:
    nodes.feed(down(50, status="resolved"), down(0), received_s=50)
    nodes.feed(down(1), received_s=51)
    nodes.feed(pod(60), received_s=60)
    assert statuses(nodes)["p1 is dead"] == "firing"


def test_a_source_nobody_tells_of_any_more_hides_nothing_any_more(nodes: Room) -> None:
    nodes.feed(down(0))
    nodes.feed(pod(5), received_s=17_000)
    nodes.tick(18_100)
    nodes.tick(18_800)
    assert statuses(nodes)["p1 is dead"] == "firing"


def test_nothing_inhibits_itself_nor_what_is_a_source_like_it(tmp_path: Path) -> None:
    """Both sides of the rule fit both alerts; a third fits the source side only and hides both."""
    rule = {"source_matchers": ["severity=critical"], "target_matchers": ["alertname=~Pod.*"]}
    room = Room(tmp_path, alerts={"inhibitions": {"loud": rule}})
    room.feed(pod(0), pod(1, "p2"))
    assert hidden(room) == 0
    room.feed(down(5), received_s=5)
    room.feed(pod(6, "p3"), received_s=6)
    assert statuses(room)["p3 is dead"] == "suppressed"
    room.records.close()


def test_a_hidden_source_inhibits_and_what_is_in_an_incident_stays(nodes: Room) -> None:
    nodes.feed(pod(0))
    nodes.incidents.mutes.create(wish(0, 3600, *wish().matchers), "anna")
    nodes.feed(down(5), received_s=5)
    nodes.feed(pod(10), pod(11, "p2"), received_s=11)
    assert statuses(nodes) == {"n1 is down": "firing", "p1 is dead": "firing", "p2 is dead": "suppressed"}


def test_a_saved_rule_counts_from_now_on_and_hides_nothing_when_it_is_gone(nodes: Room) -> None:
    rules = nodes.incidents.states.rules
    nodes.feed(down(0, "n7"), received_s=0)
    body = Inhibition(source_matchers=["entity=host:n7"], target_matchers=["alertname=Slow"])
    rules.save(INHIBITION, "seven", body, "anna", 0)
    nodes.feed(event(5, "service:a", "a is slow", severity="critical", alertname="Slow"), received_s=5)
    assert hidden(nodes) == 1, "what fired before the rule was saved is its source"
    rules.remove(INHIBITION, "seven", "ben")
    nodes.tick(10)
    assert statuses(nodes)["a is slow"] == "firing"
    with nodes.records.reading() as session:
        audit = [(row.actor, row.action) for row in session.scalars(select(Audit).order_by(Audit.id))]
    assert audit == [("anna", "inhibition made"), ("ben", "inhibition removed")]
    with pytest.raises(Refused, match="in the configuration"):
        rules.remove(INHIBITION, "node", "ben")


def test_a_rule_that_would_fit_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one matcher"):
        parse({"alerts": {"inhibitions": {"all": NODE | {"target_matchers": ["severity!=info"]}}}})


_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), max_size=3)
_SIDE = st.lists(st.sampled_from(["a=x", "a=y", "b=x", 'b=~"x|y"', "c!="]), min_size=1, max_size=2)
_RULES = st.lists(st.tuples(_SIDE, _SIDE, st.lists(st.sampled_from("abc"), max_size=2)), max_size=5)


@given(_RULES, st.lists(_LABELS, max_size=8), st.sets(st.integers(0, 7)))
def test_it_says_what_asking_each_rule_of_each_pair_says(
    rules: list[tuple[list[str], list[str], list[str]]], labels: list[dict[str, str]], ended: set[int]
) -> None:
    asked = {str(n): Inhibition(source_matchers=s, target_matchers=t, equal=e) for n, (s, t, e) in enumerate(rules)}
    room = Inhibitions()
    room.take(asked)
    sides = room.sides(labels)
    for n, one in enumerate(labels):
        room.fire(str(n), "", one, sides[n])
    room.ask(labels, sides)  # what is remembered must not stay when sources end
    for n in ended:
        room.end(str(n))

    def fits(matchers: list[str], one: dict[str, str]) -> bool:
        return all(m.holds(one.get(m.name, "")) for m in parsed(matchers))

    def wanted(target: dict[str, str]) -> set[tuple[str, str]]:
        found = set()
        for name, rule in asked.items():
            s, t = rule.source_matchers, rule.target_matchers
            sources = [
                str(n) for n, one in enumerate(labels) if n not in ended and fits(s, one)
                and all(one.get(key, "") == target.get(key, "") for key in rule.equal) and not (fits(s, target) and fits(t, one))
            ]  # fmt: skip
            if fits(t, target) and sources:
                found.add((name, min(sources)))
        return found

    assert [{(one.rule, one.by) for one in found} for found in room.ask(labels, sides)] == [wanted(one) for one in labels]
