"""A task that cancels all tasks of the event loop does not silence its app (story F26)."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, JobStatus
from jobify.exceptions import AppStoppedError
from jobify.middleware import QueueMiddleware
from jobify.worker.worker import Worker, prepare
from probes import attempts_of, slots_of
from support import a_while, durable, eventually, soon

pytestmark = pytest.mark.promise("f26")


@pytest.fixture(params=["sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return durable(tmp_path) if request.param == "sqlite" else False


def cancel_all(spared: set[asyncio.Task[Any]]) -> None:
    """What a careless task does; the test itself goes on."""
    for task in asyncio.all_tasks() - spared:
        task.cancel()


def main_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("cancels_itself", [True, False])
async def test_services_come_back(
    storage: Any, cancels_itself: bool, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jobify.engine")
    app = Jobify(storage=storage)
    spared: set[asyncio.Task[Any]] = set()
    ticks: list[int] = []

    @app.task
    async def careless() -> None:
        cancel_all(spared if cancels_itself else {*spared, main_task()})
        await asyncio.sleep(0)

    @app.task(cron="* * * * * * *")
    async def tick() -> None:
        ticks.append(1)

    @app.task(name="careful")
    async def careful(number: int) -> int:
        return number

    spared.add(main_task())
    async with app:
        for number in range(times):
            job = await careless.push()
            await soon(job.wait())
            assert job.status is (JobStatus.FAILED if cancels_itself else JobStatus.SUCCESS)
            assert await soon(await careful.schedule(number).delay(0.01)) == number
            assert await soon(app.enqueue("careful", args=(number,)).aresult()) == number
        seen = len(ticks)
        await eventually(lambda: len(ticks) > seen)
    app.close()
    lines = [record for record in caplog.records if "background services" in record.getMessage()]
    assert 1 <= len(lines) <= times


async def test_jobs_that_have_not_begun_begin_all_the_same(storage: Any) -> None:
    app = Jobify(storage=storage)
    spared: set[asyncio.Task[Any]] = set()

    @app.task
    async def careless() -> None:
        cancel_all({*spared, main_task()})

    @app.task
    async def careful(number: int) -> int:
        return number

    spared.add(main_task())
    async with app:
        await careful.push(0)
        pushed = await asyncio.gather(careless.push(), *[careful.push(number) for number in range(20)])
        for job in pushed:
            await soon(job.wait())
        assert {job.status for job in pushed} == {JobStatus.SUCCESS}


async def test_a_thread_that_outlives_its_attempt_still_frees_its_slot(storage: Any) -> None:
    app = Jobify(storage=storage)
    spared: set[asyncio.Task[Any]] = set()
    go_on = threading.Event()

    @app.task
    async def careless() -> None:
        cancel_all(spared)

    @app.task(timeout=0.05, retry=1)
    def late() -> None:
        go_on.wait(20)

    spared.add(main_task())
    async with app:
        attempts, pools = attempts_of(app), slots_of(app)
        job = await late.push()
        await eventually(lambda: attempts.lingering)
        await soon((await careless.push()).wait())
        await eventually(lambda: attempts.lingering)
        go_on.set()
        await soon(job.wait())
        await eventually(lambda: all(pools[mode].is_idle for mode in pools._pools))


async def test_so_do_the_workers_of_a_queue(storage: Any) -> None:
    app = Jobify(storage=storage, middleware=[QueueMiddleware(workers=1)])
    spared: set[asyncio.Task[Any]] = set()

    @app.task
    async def careless() -> None:
        cancel_all(spared)

    @app.task
    async def careful(number: int) -> int:
        return number

    spared.add(main_task())
    async with app:
        await soon((await careless.push()).wait())
        assert await soon(await careful.push(1)) == 1


async def test_a_worker_stays_at_work(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    spared: set[asyncio.Task[Any]] = set()

    @app.task(name="careless")
    async def careless() -> None:
        cancel_all(spared)

    @app.task(name="careful")
    async def careful(number: int) -> int:
        return number

    spared.add(main_task())
    prepare(app)
    worker = Worker(app, grace=5)
    working = asyncio.create_task(worker.run())
    client = Jobify(storage=durable(tmp_path))
    client.task(careful.func, name="careful")
    client.task(careless.func, name="careless")
    await soon(client.enqueue("careless").await_end())
    assert await soon(client.enqueue("careful", args=(1,)).aresult()) == 1
    assert not working.done()
    worker._stop_requested.set()
    assert await soon(working) == 0
    client.close()


async def test_the_end_of_the_loop_is_told_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever leaves ``asyncio.run`` without a shutdown gets no services back, and the job runs again."""
    caplog.set_level(logging.WARNING, "jobify")
    app = Jobify(storage=durable(tmp_path))
    jobs: list[Any] = []

    @app.task
    async def hang() -> None:
        await asyncio.sleep(3600)

    await app.startup()
    jobs.append(await hang.push())
    await a_while()
    assert [record for record in caplog.records if "background services" in record.getMessage()] == []
    client = Jobify(storage=durable(tmp_path))
    assert client.get_job(jobs[0].id).status in ("pending", "running")  # never failed
    assert client.get_job(jobs[0].id).errors == []
    assert jobs[0].exception is None or isinstance(jobs[0].exception, AppStoppedError)
    client.close()
