"""What users try that is just beyond the usual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Job, Jobify
from jobify.exceptions import ApplicationStateError, ConfigurationError, DuplicateJobError
from jobify.storage import SQLiteStorage
from probes import backends_of
from support import durable, eventually, soon


async def test_a_private_sqlite_database_runs_pushed_and_delayed_jobs() -> None:
    app = Jobify(storage=SQLiteStorage(":memory:"))

    @app.task(name="echo")
    async def echo(value: Any) -> Any:
        return value

    async with app:
        assert await soon(await echo.push((1, 2))) == (1, 2)
        assert await soon(await echo.schedule({3}).delay(0.01)) == {3}


@pytest.mark.promise("x20")
async def test_a_job_of_another_apps_task_is_not_replaced(tmp_path: Path) -> None:
    ours, theirs = Jobify(storage=durable(tmp_path)), Jobify(storage=durable(tmp_path))

    @theirs.task(name="theirs")
    async def their_task() -> None: ...

    @ours.task(name="ours")
    async def our_task() -> None: ...

    async with ours, theirs:
        job: Job[None] = await their_task.schedule().delay(3600, job_id="it")
        with pytest.raises(DuplicateJobError, match="belongs to task 'theirs', which this app does not have"):
            await our_task.schedule().push(job_id="it", replace=True)
        assert theirs.find_job("it") is job


async def test_cancelling_from_another_event_loop_says_how(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="never")
    async def never() -> None: ...

    async with app:
        job = await never.schedule().delay(3600)

        async def elsewhere() -> None:
            with pytest.raises(ApplicationStateError, match="run_coroutine_threadsafe"):
                await job.cancel()

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert not job.is_done()


@pytest.mark.slow
async def test_arguments_in_a_cron_are_used_where_the_call_has_none(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="echo")
    async def echo(value: int = 0) -> int:
        return value

    async with app:
        every_second = Cron("* * * * * * *", args=(8,))
        assert await soon(await echo.schedule().cron(every_second, job_id="theirs")) == 8
        assert await soon(await echo.schedule(9).cron(every_second, job_id="own")) == 9


def test_a_generator_is_no_task() -> None:
    def one() -> Iterator[int]:
        yield 1

    async def two() -> AsyncIterator[int]:
        yield 2

    for function in (one, two):
        with pytest.raises(ConfigurationError, match="is a generator"):
            Jobify(storage=False).task(function, name="generator")


def test_a_zone_is_a_zone_info() -> None:
    with pytest.raises(ConfigurationError, match="it must be a ZoneInfo"):
        Jobify(tz="Europe/Berlin", storage=False)  # type: ignore[arg-type]


async def test_a_cancel_interrupts_once(tmp_path: Path) -> None:
    """However often the process looks for requests while the job cleans up."""
    app, other = Jobify(storage=durable(tmp_path)), Jobify(storage=durable(tmp_path))
    begun, go = asyncio.Event(), asyncio.Event()
    steps: list[str] = []

    @app.task(name="task")
    async def task() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            steps.append("cancelled")
            await go.wait()
            steps.append("cleaned up")
            raise

    async with app:
        queues = backends_of(app)[0].queues
        job = other.enqueue("task")
        await soon(begun.wait())
        cancelling = asyncio.create_task(job.acancel())
        await eventually(lambda: steps)
        for number in range(20):
            await other.apause_queue(f"queue {number}")
            await eventually(lambda: not queues.is_open(f"queue {number}"))
        go.set()
        assert await soon(cancelling)
        assert (job.status, steps) == ("cancelled", ["cancelled", "cleaned up"])
