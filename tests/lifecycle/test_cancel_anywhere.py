"""A caller that is cancelled on the way leaves no job, or one that runs exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify, OuterContext
from jobify.middleware import BaseOuterMiddleware, CallNextOuter
from jobify.testing.clock import FakeClock
from support import a_while, durable, eventually, nudge, soon

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
Submit = Callable[[Any, str], Coroutine[Any, Any, Any]]

WAYS: dict[str, Submit] = {
    "push": lambda task, job_id: task.schedule(job_id).push(job_id=job_id),
    "delay": lambda task, job_id: task.schedule(job_id).delay(1, job_id=job_id),
    "at": lambda task, job_id: task.schedule(job_id).at(NOON + timedelta(seconds=1), job_id=job_id),
    "cron": lambda task, job_id: task.schedule(job_id).cron(Cron("1 12 * * *", max_runs=1), job_id=job_id),
    "new push": lambda task, job_id: task.schedule(job_id).push(job_id=job_id, replace=True),
    "new at": lambda task, job_id: task.schedule(job_id).delay(1, job_id=job_id, replace=True),
}


class Pause(BaseOuterMiddleware):
    """Lets go of the loop before and after."""

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        await asyncio.sleep(0)
        handle = await call_next(context)
        await asyncio.sleep(0)
        return handle


async def submit_and_cancel(submit: Coroutine[Any, Any, Any], ticks: int) -> None:
    async def carry() -> None:
        await submit

    caller = asyncio.create_task(carry())
    for tick in range(ticks):
        await asyncio.sleep(0 if tick < 8 else 0.0002)
    caller.cancel()
    await asyncio.wait([caller])
    submit.close()


@pytest.mark.parametrize("storage", ["sqlite", "memory"])
@pytest.mark.parametrize("outer", [[], [Pause()]], ids=["plain", "outer middleware"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_new_job(tmp_path: Path, way: str, outer: list[BaseOuterMiddleware], storage: str) -> None:
    clock = FakeClock(NOON)
    app = Jobify(storage=durable(tmp_path) if storage == "sqlite" else False, clock=clock, outer_middleware=outer)
    runs: Counter[str] = Counter()

    @app.task
    async def task(name: str) -> None:
        runs[name] += 1

    async with app:
        for ticks in range(24):
            await submit_and_cancel(WAYS[way](task, f"{ticks:02}"), ticks)
        await WAYS[way](task, "24")  # this one is not cancelled: how far the others came depends on the machine
        clock.advance(60)
        nudge(app)
        await soon(app.wait_all())
        stored = {record.id for record in app.configs.storage.get([f"{ticks:02}" for ticks in range(25)])}
    assert all(count == 1 for count in runs.values())
    if storage == "sqlite":
        assert stored == set(runs), "what is on disk has run, and the other way round"
    async with app:
        await soon(app.wait_all())
    assert all(count == 1 for count in runs.values())
    assert runs["24"] == 1


@pytest.mark.parametrize("way", ["new push", "new at"])
async def test_a_replacement(tmp_path: Path, way: str) -> None:
    clock = FakeClock(NOON)
    app = Jobify(storage=durable(tmp_path), clock=clock)
    runs: Counter[str] = Counter()

    @app.task
    async def task(name: str, is_old: bool = False) -> None:
        runs[name] += 1

    async with app:
        old = [await task.schedule(f"{ticks:02}").delay(300, job_id=f"{ticks:02}") for ticks in range(24)]
        for ticks, job in enumerate(old):
            await submit_and_cancel(WAYS[way](task, job.id), ticks)
        await task.push("written last")  # so that no replacement is on its way any more when the old jobs become due
        await eventually(lambda: nudge(app) or clock.advance(20) or all(job.is_done() for job in old))
        await soon(app.wait_all())
    assert len(runs) == 25
    assert set(runs.values()) == {1}


@pytest.mark.parametrize("ticks", range(16))
async def test_a_cancel_that_is_cancelled(tmp_path: Path, ticks: int) -> None:
    app = Jobify(storage=durable(tmp_path))
    begun = []

    @app.task
    async def task() -> None:
        begun.append(True)
        await asyncio.Event().wait()

    async with app:
        waiting, running = await task.schedule().delay(300), await task.push()
        await eventually(lambda: begun)
        for job in (waiting, running):
            await submit_and_cancel(job.cancel(), ticks)
        await a_while()
        for job in (waiting, running):
            await eventually(lambda job=job: job.is_done() or app.find_job(job.id) is job)  # type: ignore[misc]
            await soon(job.cancel())
            assert job.is_done()
        await soon(app.wait_all())


async def test_waiting_can_be_cancelled_and_leaves_nothing_behind() -> None:
    app = Jobify(storage=False)

    @app.task
    async def task() -> str:
        return "done"

    async with app:
        job = await task.schedule().delay(0.2)
        for _ in range(100):
            waiting = asyncio.create_task(job.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert not job.has_waiters
        first, second = asyncio.create_task(job.wait()), asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        first.cancel()
        await soon(second)
        assert job.result() == "done"


@pytest.mark.parametrize("ticks", range(16))
async def test_wait_all_can_be_cancelled(tmp_path: Path, ticks: int) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task
    async def task() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async with app:
        job = await task.push()
        await submit_and_cancel(app.wait_all(), ticks)
        await soon(app.wait_all())
        assert job.result() == "done"
