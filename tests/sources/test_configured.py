"""Which sources run, by the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from ninefold.app import build_sources
from ninefold.config import parse
from ninefold.ground.errors import ConfigError
from ninefold.plugin import Lent


def _running(sources: dict[str, Any]) -> set[tuple[str, str]]:
    return {(source.name, source.kind) for source in build_sources(parse({"sources": sources}), lambda name: Lent())}


def test_a_source_that_runs_by_itself_is_turned_off_by_its_name() -> None:
    assert ("syslog", "syslog") in _running({})
    assert not any(kind == "syslog" for _, kind in _running({"syslog": {"enabled": False}}))
    assert not any(kind == "syslog" for _, kind in _running({"rack": {"type": "syslog", "enabled": False}}))


def test_the_type_is_the_name_unless_it_is_given() -> None:
    assert ("syslog", "syslog") in _running({"syslog": {"port": 5515}})
    assert {("rack", "syslog")} == {each for each in _running({"rack": {"type": "syslog"}}) if each[1] == "syslog"}


def test_a_name_that_is_no_type_is_told_even_when_it_is_turned_off() -> None:
    with pytest.raises(ConfigError, match=r"sources\.sylog\.type: 'sylog' is not one of the sources"):
        _running({"sylog": {"enabled": False}})
