"""Bytes of strangers: captured ones, mutilated, and any at all. Decoders refuse them in words or take what is good of them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from decoders import decoders, seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninefold.ground.errors import NinefoldError

DECODERS = decoders()
SLOW_S = 2.0


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_only_refusals_come_out(name: str, data: Path) -> None:
    known = seeds(data, name)

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(known),
        st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(max_size=8), st.integers(0, 8)), max_size=6),
        st.one_of(st.none(), st.binary(max_size=200)),
    )
    def mutilated(seed: bytes, cuts: list[tuple[int, bytes, int]], instead: bytes | None) -> None:
        body = bytearray(seed if instead is None else instead)
        for place, piece, size in cuts:
            start = place % (len(body) + 1)
            body[start : start + size] = piece
        started = time.thread_time()
        with suppress(NinefoldError):
            DECODERS[name](bytes(body))
        assert time.thread_time() - started < SLOW_S

    mutilated()
