"""uvloop as the event loop: every way of running, stopping and starting again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import integration_tasks as tasks
import pytest
import uvloop

from jobify import Cron, Jobify, JobStatus, RunMode
from jobify.exceptions import JobTimedOutError
from support import PATIENCE, durable, eventually, soon

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        async with asyncio.timeout(2.5 * PATIENCE):
            return await main

    return uvloop.run(limited())


def storage_of(kind: str, directory: Path) -> Any:
    return durable(directory) if kind == "sqlite" else False


STORAGES = pytest.mark.parametrize("kind", ["sqlite", "memory"])


@STORAGES
def test_pushes_delays_and_results(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=storage_of(kind, tmp_path))

    @app.task(name="double")
    async def double(number: int) -> int:
        return 2 * number

    async def main() -> None:
        async with app:
            pushed = await asyncio.gather(*(double.push(number) for number in range(100)))
            later = await double.schedule(7).delay(0.01)
            assert await soon(asyncio.gather(*pushed)) == [2 * number for number in range(100)]
            assert await soon(later) == 14
            await soon(app.wait_all(PATIENCE))

    run(main())


@STORAGES
def test_a_cron_every_second(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=storage_of(kind, tmp_path))
    runs: list[int] = []

    @app.task(name="beat", cron=Cron("* * * * * * *", max_runs=2))
    async def beat() -> None:
        runs.append(1)

    async def main() -> None:
        async with app:
            await eventually(lambda: len(runs) == 2)

    run(main())


@STORAGES
def test_threads(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=storage_of(kind, tmp_path))
    name = app.task(tasks.thread_name, name="thread")

    async def main() -> None:
        async with app:
            assert await soon(await name.push()) != "MainThread"

    run(main())


@STORAGES
def test_processes_run_time_out_and_are_cancelled(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=storage_of(kind, tmp_path))
    square = app.task(tasks.square, name="square", run_mode=RunMode.PROCESS)
    slow = app.task(tasks.sleep, name="slow", run_mode=RunMode.PROCESS, timeout=0.05)
    endless = app.task(tasks.announce_and_sleep, name="endless", run_mode=RunMode.PROCESS)

    async def main() -> None:
        async with app:
            assert await soon(await square.push(12)) == 144
            with pytest.raises(JobTimedOutError):
                await soon(await slow.push(3600))
            job = await endless.push(str(tmp_path / "here"))
            await eventually((tmp_path / "here").exists)
            await soon(job.cancel())
            assert job.status is JobStatus.CANCELLED
            assert await soon(await square.push(3)) == 9

    run(main())


@STORAGES
def test_cancels(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=storage_of(kind, tmp_path))
    ended: list[str] = []

    @app.task(name="wait")
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    async def main() -> None:
        async with app:
            running, waiting = await wait.push(), await wait.schedule().delay(3600)
            await eventually(lambda: running.status is JobStatus.RUNNING)
            await asyncio.gather(running.cancel(), waiting.cancel())
            assert (running.status, waiting.status) == (JobStatus.CANCELLED, JobStatus.CANCELLED)
            assert ended == ["cleaned up"]
            assert app.get_active_jobs() == []

    run(main())


def test_one_app_in_either_loop_by_turns(tmp_path: Path) -> None:
    """Each life but the last is stopped while the jobs run; they go on in the next, in whichever loop it is."""
    app = Jobify(storage=durable(tmp_path))
    begun: list[int] = []
    is_last_life = False

    @app.task(name="work")
    async def work(number: int) -> int:
        begun.append(number)
        if not is_last_life:
            await asyncio.Event().wait()
        return number

    async def life(*numbers: int) -> None:
        begun.clear()
        async with app:
            for number in numbers:
                await work.push(number)
            await eventually(lambda: sorted(begun) == [0, 1, 2])
            if is_last_life:
                await soon(app.wait_all())

    run(life(0, 1, 2))
    asyncio.run(life())
    is_last_life = True
    run(life())
    begun.clear()
    run(app_is_empty(app))
    assert begun == []


async def app_is_empty(app: Jobify) -> None:
    async with app:
        assert app.get_active_jobs() == []
