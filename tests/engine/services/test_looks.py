"""Looks at a storage where each is a query: fewer of them, and at once more often when that is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from jobify.engine.services import looks
from jobify.engine.services.looks import Looks


class Polled:
    poll_interval = 1.0


def rounds(looks: Looks, seconds: int, clock: list[float]) -> list[bool]:
    looked = []
    for _ in range(seconds):
        clock[0] += 1.0
        looked.append(not looks.is_too_soon())
    return looked


def test_each_round_looks_unless_the_storage_wants_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(looks, "monotonic", lambda: clock[0])
    storage: Any = Polled()
    watched = Looks(storage)
    assert watched.cost_queries
    assert rounds(watched, 4, clock) == [True] * 4
    storage.poll_interval = 2.0
    assert rounds(watched, 5, clock) == [True, False, True, False, True]
    storage.poll_interval = 1.0
    assert rounds(watched, 2, clock) == [True, True]


def test_a_storage_where_a_look_costs_nothing_is_looked_at_each_time() -> None:
    storage: Any = Polled()
    storage.poll_interval = 0.0
    watched = Looks(storage)
    assert not watched.cost_queries
    assert [watched.is_too_soon() for _ in range(2)] == [False, False]
