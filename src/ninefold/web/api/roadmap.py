"""The roadmap: nine steps, each with the figures that can be measured now."""

from __future__ import annotations

import threading
import time

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request

from ninefold import roadmap
from ninefold.roadmap.answer import StepResult
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["roadmap"])
KEEP_S = 10.0
"""Figures are this old at most; many open consoles cost one measurement."""


class Roadmap(BaseModel):
    """The steps in their order."""

    steps: list[StepResult]


class Measured:
    """The last answer and when it was measured."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s = 0.0
        self._answer = Roadmap(steps=[])

    def get(self, app: TheApp) -> Roadmap:
        """The answer, measured again when it is too old; one caller measures and the others wait for it."""
        with self._lock:
            if time.monotonic() >= self._until_s:
                self._answer = Roadmap(steps=roadmap.measure(app.store, app.records))
                self._until_s = time.monotonic() + KEEP_S
            return self._answer


@router.get("/roadmap")
def show(actor: Viewer, app: TheApp, request: Request) -> Roadmap:
    """The nine steps with their scores, figures and gaps, at most ten seconds old."""
    state = request.app.state
    if not hasattr(state, "roadmap"):
        state.roadmap = Measured()
    measured: Measured = state.roadmap
    return measured.get(app)
