"""A handle learns how its job has ended, whatever else this process does (story F41)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.client import completion_listener
from jobify.client.completion_listener import PollInterval, Waiter
from jobify.engine.services.remote_watcher import RemoteJobWatcher
from probes import backends_of
from support import durable, eventually, soon

pytestmark = pytest.mark.promise("f41")


@pytest.fixture
def app(tmp_path: Path) -> Jobify:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="task")
    async def task(number: int) -> int:
        return number

    return app


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Jobify]:
    """An app as another process has it."""
    other = Jobify(storage=durable(tmp_path))
    yield other
    other.close()


async def test_an_end_is_heard_of_while_the_thread_of_the_storage_is_busy(app: Jobify, other: Jobify) -> None:
    go_on = threading.Event()
    async with app:
        jobs = [await _task(app).schedule(number).delay(3600) for number in range(3)]
        gate = backends_of(app)[0].gate
        busy = asyncio.ensure_future(gate.call(go_on.wait))
        try:
            waits_already = asyncio.ensure_future(jobs[0].wait())
            await asyncio.sleep(0)
            for job in jobs:
                assert await asyncio.to_thread(other.get_job(job.id).cancel)
            await soon(jobs[1].wait())
            await soon(waits_already)
            await eventually(jobs[2].is_done)
            assert not busy.done()
        finally:
            go_on.set()
        await soon(busy)


def _task(app: Jobify) -> Any:
    (route,) = [route for route in app.routes if route.name == "task"]
    return route


async def test_a_read_that_waits_for_its_turn_makes_no_pause_longer(
    app: Jobify, other: Jobify, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    pause = RemoteJobWatcher._pause

    async def note(self: RemoteJobWatcher, seconds: float) -> None:
        pauses.append(seconds)
        await pause(self, seconds)

    monkeypatch.setattr(RemoteJobWatcher, "_pause", note)

    async with app:
        storage = backends_of(app)[0].storage
        get = storage.get

        def slow_get(ids: Any) -> Any:
            time.sleep(0.2)
            return get(ids)

        job = await _task(app).schedule(1).delay(3600)
        waiting = asyncio.ensure_future(job.wait())
        await asyncio.sleep(0)
        monkeypatch.setattr(storage, "get", slow_get)
        assert await asyncio.to_thread(other.get_job(job.id).cancel)
        await soon(waiting)
        await eventually(lambda: len(pauses) > 1)
    assert max(pauses) < 1


async def test_a_burst_of_ends_that_others_have_caused(app: Jobify) -> None:
    async with app:
        task = _task(app)
        jobs = await asyncio.gather(*[task.schedule(number).delay(3600) for number in range(300)])
        waits = [asyncio.ensure_future(job.wait()) for job in jobs[::2]]
        work = [asyncio.ensure_future(_through(task, number)) for number in range(300)]
        assert all(await asyncio.gather(*[app.get_job(job.id).acancel() for job in jobs]))
        for waiting in (*waits, *[asyncio.ensure_future(job.wait()) for job in jobs[1::2]], *work):
            await soon(waiting)
        assert {job.status.value for job in jobs} == {"cancelled"}


async def _through(task: Any, number: int) -> None:
    assert await (await task.push(number)) == number


def test_a_round_of_the_listener_is_followed_by_a_bounded_pause() -> None:
    rounds = completion_listener._PollSchedule()
    waiters = [Waiter("job", PollInterval(0.05, 0.5), print, is_follower=False)]
    rounds.polled(waiters, 0.3)
    rounds.advance()
    assert rounds.remaining <= 0.5
    rounds.polled(waiters, 3.0)
    rounds.advance()
    assert 0.5 < rounds.remaining <= 3.0
