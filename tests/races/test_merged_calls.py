"""Calls that meet a job which is just being claimed: merged into it, or into the next one, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobify import Concurrency, Debounce, Jobify, SmartRetry, Unique
from support import durable, eventually

Make = Callable[[], Jobify]
KEYS = 3


@dataclass
class Numbered:
    key: int
    number: int


@pytest.fixture(params=["sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes apps over the storage of the test, each with workers of its own."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    return lambda: Jobify(storage=url or durable(tmp_path), concurrency=4)


async def in_threads(call: Callable[[int], Any], count: int) -> None:
    """Make calls from a thread for each key."""
    await asyncio.gather(*(asyncio.to_thread(lambda key=key: [call(key) for _ in range(count)]) for key in range(KEYS)))


@pytest.mark.slow
@pytest.mark.parametrize("on_conflict", ["keep", "replace"])
async def test_no_change_is_missed_while_jobs_start(make: Make, on_conflict: Any) -> None:
    """Each run takes the state of its key as it is then. At last each state was taken."""
    apps = [make() for _ in range(3)]
    state, seen = [0] * KEYS, [0] * KEYS

    for app in apps:

        @app.task(name="read", unique=Unique("key", until="start", on_conflict=on_conflict))
        async def read(key: int) -> None:
            seen[key] = max(seen[key], state[key])

    def change(key: int) -> None:
        state[key] += 1
        apps[2].enqueue("read", (key,))

    async with apps[0], apps[1]:
        await in_threads(change, 150)
        await eventually(lambda: seen == state == [150] * KEYS)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["trailing", "both"])
async def test_the_last_call_of_each_key_runs(make: Make, mode: Any) -> None:
    apps = [make() for _ in range(3)]
    last, ran, overlaps = [0] * KEYS, [0] * KEYS, [0] * KEYS

    for app in apps:

        @app.task(
            name="save",
            debounce=Debounce(0.004, key="key", max_wait=0.01, mode=mode),
            limits=[Concurrency(1, key="key")],
            retry=SmartRetry(2, initial_delay=0.005, jitter=False),
        )
        async def save(key: int, number: int) -> None:
            overlaps[key] += 1
            assert overlaps[key] == 1
            await asyncio.sleep(0)
            overlaps[key] -= 1
            ran[key] = max(ran[key], number)

    def call(key: int) -> None:
        last[key] += 1
        apps[2].enqueue("save", (key, last[key]))

    async with apps[0], apps[1]:
        await in_threads(call, 150)
        await eventually(lambda: ran == last == [150] * KEYS)


@pytest.mark.slow
async def test_no_call_that_is_collected_is_lost_or_seen_twice(make: Make) -> None:
    apps = [make() for _ in range(3)]
    got: list[tuple[int, int]] = []

    for app in apps:

        @app.task(name="take", debounce=Debounce(0.003, key="key", max_wait=0.01, collect=True))
        async def take(calls: list[Numbered]) -> None:
            got.extend((call.key, call.number) for call in calls)

    numbers = [iter(range(1000)) for _ in range(KEYS)]
    async with apps[0], apps[1]:
        await in_threads(lambda key: apps[2].enqueue("take", (key, next(numbers[key]))), 100)
        await eventually(lambda: len(got) >= 100 * KEYS)
    assert sorted(got) == [(key, number) for key in range(KEYS) for number in range(100)]


@pytest.mark.slow
async def test_what_is_cancelled_for_another_never_runs_beside_it(make: Make) -> None:
    apps = [make() for _ in range(3)]
    running, most, done = [0] * KEYS, 0, [0] * KEYS

    for app in apps:

        @app.task(name="search", unique=Unique("key", on_conflict="cancel_running"))
        async def search(key: int, number: int) -> None:
            nonlocal most
            running[key] += 1
            most = max(most, running[key])
            try:
                try:
                    await asyncio.sleep(0.01)
                finally:
                    await asyncio.sleep(0.001)
            finally:
                running[key] -= 1
            done[key] = max(done[key], number)

    numbers = [iter(range(1, 1000)) for _ in range(KEYS)]
    async with apps[0], apps[1]:
        await in_threads(lambda key: apps[2].enqueue("search", (key, next(numbers[key]))), 60)
        await eventually(lambda: done == [60] * KEYS)
    assert most == 1
