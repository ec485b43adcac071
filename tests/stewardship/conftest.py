"""A store, records and a steward of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ninefold.catalogue.watch import SourceWatch
from ninefold.config import WebhookConfig
from ninefold.ground.meter import Meter
from ninefold.ground.traffic import Traffic
from ninefold.normalise import Normaliser
from ninefold.stewardship import Stewardship
from ninefold.store.records.base import Base, Records
from ninefold.store.telemetry import Telemetry

CONFIGURED = {"tickets": WebhookConfig(kind="ticket", fields={"title": "subject"})}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    store = Telemetry(f"chdb://{tmp_path_factory.mktemp('stewardship') / 'store'}")
    store.open()
    yield store
    store.close()


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    yield records
    records.close()


@pytest.fixture
def normaliser() -> Normaliser:
    return Normaliser(CONFIGURED)


@pytest.fixture
def steward(store: Telemetry, records: Records, normaliser: Normaliser) -> Stewardship:
    return Stewardship(
        SourceWatch(), store, records, normaliser, connectors={}, sources=[], configured=CONFIGURED, workflows=[], meter=Meter(),
        traffic=Traffic(), cases={"Fold alerts": ("alerts", "topology"), "Automate": ("alerts", "tickets")},
    )  # fmt: skip
