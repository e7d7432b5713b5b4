"""Periodic services."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobify.engine import service
from jobify.engine.service import until_next

INTERVALS = (0.1, 0.5, 1.0, 30.0)


@given(now=st.floats(0, 1e7), interval=st.sampled_from(INTERVALS))
def test_the_next_round_is_in_one_interval_at_most(now: float, interval: float) -> None:
    assert 0 < until_next(interval, now) <= interval


@given(now=st.floats(0, 1e7), share=st.sampled_from((2, 5, 10)))
def test_those_of_one_process_share_their_wake_ups(now: float, share: int) -> None:
    """A shorter interval includes the wake-ups of its multiples."""
    together = now + until_next(1.0, now)
    apart = until_next(1.0 / share, together - 0.05 / share)
    assert math.isclose(apart, 0.05 / share, abs_tol=1e-6)


def test_those_of_several_processes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = set()
    for pid in range(1000, 1008):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        waits.add(round(until_next(1.0, 5.0), 2))
    assert service.os is os
    assert len(waits) == 8
