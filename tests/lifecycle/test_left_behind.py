"""A handle whose app was shut down: its status is CANCELLED (X3), its job may wait for the next start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobStatus
from jobify.exceptions import ApplicationStateError, AppStoppedError, JobCancelledError
from support import durable, soon


def make_app(storage: Any) -> tuple[Jobify, Any]:
    app = Jobify(storage=storage)

    @app.task(name="work")
    async def work(seconds: float = 0) -> str:
        await asyncio.sleep(seconds)
        return "done"

    return app, work


async def leave(storage: Any, kind: str) -> Job[str]:
    """The handle of a job that its app left behind."""
    app, work = make_app(storage)
    async with app:
        job: Job[str]
        match kind:
            case "running":
                job = await work.push(3600)
            case "waiting":
                job = await work.schedule().delay(3600)
            case _:
                job = await work.schedule().cron("0 0 * * *", job_id="nightly")
    return job


KINDS = pytest.mark.parametrize("kind", ["running", "waiting", "cron"])


@pytest.mark.promise("x3")
@KINDS
async def test_a_job_that_waits_for_the_next_start_is_not_silently_left_uncancelled(tmp_path: Path, kind: str) -> None:
    job = await leave(durable(tmp_path), kind)
    assert job.status is JobStatus.CANCELLED
    for _ in range(2):
        with pytest.raises(ApplicationStateError, match=rf"runs at the next start.*find_job\('{job.id}'\)"):
            await job.cancel()
    app, _ = make_app(durable(tmp_path))
    async with app:
        with pytest.raises(ApplicationStateError, match="was shut down"):
            await job.cancel()  # the new life has a handle of its own
        found = app.find_job(job.id)
        assert found is not None
        await found.cancel()
        assert app.get_active_jobs() == []


@KINDS
async def test_what_became_of_it_is_said(tmp_path: Path, kind: str) -> None:
    job = await leave(durable(tmp_path), kind)
    assert isinstance(job.exception, AppStoppedError)
    assert job.exception.is_stored
    with pytest.raises(JobCancelledError, match="is stored, and runs at the next start"):
        job.result()


@KINDS
async def test_a_job_in_memory_is_gone_and_cancelling_it_changes_nothing(kind: str) -> None:
    job = await leave(False, kind)
    assert isinstance(job.exception, AppStoppedError)
    assert not job.exception.is_stored
    await job.cancel()
    with pytest.raises(JobCancelledError, match="kept in memory only, and is gone"):
        job.result()


async def test_what_has_ended_before_the_shutdown_is_still_a_no_op(tmp_path: Path) -> None:
    app, work = make_app(durable(tmp_path))
    async with app:
        succeeded, cancelled = await work.push(), await work.schedule().delay(3600)
        assert await soon(succeeded) == "done"
        await cancelled.cancel()
    await succeeded.cancel()
    await cancelled.cancel()
    assert succeeded.status is JobStatus.SUCCESS
    assert cancelled.exception is None


async def test_a_task_that_is_not_durable_leaves_nothing_behind(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work", durable=False)
    async def work() -> None: ...

    async with app:
        job = await work.schedule().delay(3600)
    await job.cancel()
    assert isinstance(job.exception, AppStoppedError)
    assert not job.exception.is_stored
