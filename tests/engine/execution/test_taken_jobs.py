"""A job that is taken from this process while it runs here, and comes back to it."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobStatus
from jobify.model.task_options import RunMode
from probes import engine_of
from support import durable, eventually, execute, opened

pytestmark = [pytest.mark.promise("f4"), pytest.mark.slow]


class Runs:
    """What is known of the runs of a task."""

    def __init__(self) -> None:
        self.begun = 0
        self.now = 0
        self.most = 0
        self.is_open = threading.Event()

    def __enter__(self) -> int:
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        return self.begun

    def __exit__(self, *error: object) -> None:
        self.now -= 1


def _take(app: Jobify, job: Job[Any]) -> None:
    """What recovery does for another process that takes this one for dead."""
    statement = "UPDATE jobs SET status = 'scheduled', ready = TRUE, owner = NULL WHERE id = ? AND status = 'running'"
    execute(app.configs.storage, statement, job.id)


def _is_at_rest(app: Jobify) -> bool:
    engine = engine_of(app)
    attempts = engine._attempts
    is_empty = not (attempts.running or attempts.superseded or attempts.lingering)
    return is_empty and engine._pools.taken == 0


def _app(directory: Path, mode: RunMode) -> tuple[Jobify, Any, Runs]:
    app, runs = Jobify(storage=durable(directory), concurrency=3), Runs()

    if mode is RunMode.MAIN:

        @app.task
        async def work() -> int:
            with runs as number:
                while not runs.is_open.is_set():  # noqa: ASYNC110  it is one for threads, too
                    await asyncio.sleep(0.01)
                return number
    else:

        @app.task  # type: ignore[no-redef]
        def work() -> int:
            with runs as number:
                runs.is_open.wait(30)
                return number

    return app, work, runs


MODES = pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.THREAD])


@MODES
@pytest.mark.parametrize("times", [1, 3])
async def test_every_end_is_settled_or_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: RunMode, times: int
) -> None:
    app, work, runs = _app(tmp_path, mode)

    with caplog.at_level(logging.WARNING):
        async with app:
            job = await work.push()
            await eventually(lambda: runs.begun == 1)
            for number in range(times):
                before = app.configs.storage.get((job.id,))[0].fence
                _take(app, job)
                await eventually(lambda fence=before: app.configs.storage.get((job.id,))[0].fence > fence)  # type: ignore[misc]
                assert number < times
            runs.is_open.set()
            await job.wait()
            assert job.status is JobStatus.SUCCESS
            await eventually(lambda: _is_at_rest(app))
            (record,) = app.configs.storage.get((job.id,))
            assert (record.status, record.attempt) == ("success", times + 1)
            assert job.result() == runs.begun
            again = await work.push()
            assert await again.wait() is None
            assert again.result() == runs.begun
    assert runs.most == 1, "two attempts of one job do not overlap"
    assert [found for found in caplog.records if found.levelno >= logging.ERROR] == []


@MODES
async def test_a_cancel_reaches_the_attempt_that_holds_the_job(tmp_path: Path, mode: RunMode) -> None:
    app, work, runs = _app(tmp_path, mode)

    async with app:
        job = await work.push()
        await eventually(lambda: runs.begun == 1)
        _take(app, job)
        await eventually(lambda: app.configs.storage.get((job.id,))[0].fence > 1)
        cancelling = asyncio.ensure_future(job.cancel())
        await asyncio.sleep(0)
        runs.is_open.set()
        await cancelling
        await eventually(lambda: _is_at_rest(app))
        assert app.configs.storage.get((job.id,))[0].status == "cancelled"
        assert job.status is JobStatus.CANCELLED
    assert runs.most == 1


@MODES
async def test_a_shutdown_waits_for_both(tmp_path: Path, mode: RunMode) -> None:
    app, work, runs = _app(tmp_path, mode)

    async with app:
        job = await work.push()
        await eventually(lambda: runs.begun == 1)
        _take(app, job)
        await eventually(lambda: app.configs.storage.get((job.id,))[0].fence > 1)
        asyncio.get_running_loop().call_later(0.2, runs.is_open.set)
    with opened(durable(tmp_path)) as storage:
        (record,) = storage.get((job.id,))
    assert (record.status, record.owner, record.crashes) in {("scheduled", None, 0), ("success", None, 0)}
    assert (runs.now, runs.most) == (0, 1)
