"""Whoever looks at a handle now and then, without waiting for it, learns what other processes did to its job."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, JobStatus
from support import durable, eventually

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def make_app(directory: Path) -> tuple[Jobify, Any]:
    app = Jobify(storage=durable(directory))

    @app.task(name="work")
    async def work(number: int) -> int:
        return number

    return app, work


async def test_a_cancel_by_another_process_shows_without_waiting(tmp_path: Path) -> None:
    (here, task), (there, _) = make_app(tmp_path), make_app(tmp_path)
    async with here, there:
        job = await task.schedule(1).at(TOMORROW)
        theirs = there.find_job(job.id)
        assert theirs is not None
        assert theirs is not job
        await theirs.cancel()
        await eventually(lambda: job.status is JobStatus.CANCELLED)
        assert job.is_done()


async def test_a_new_time_from_another_process_shows_without_waiting(tmp_path: Path) -> None:
    (here, task), (there, their_task) = make_app(tmp_path), make_app(tmp_path)
    async with here, there:
        job = await task.schedule(1).at(TOMORROW, job_id="it")
        await their_task.schedule(1).at(TOMORROW + timedelta(hours=1), job_id="it", replace=True)
        await eventually(lambda: job.exec_at == TOMORROW + timedelta(hours=1))
        assert job.status is JobStatus.SCHEDULED


@pytest.mark.parametrize("which", ["first", "last", "all"])
async def test_more_handles_than_one_look_takes_in(tmp_path: Path, which: str) -> None:
    (here, task), (there, _) = make_app(tmp_path), make_app(tmp_path)
    async with here, there:
        jobs = await asyncio.gather(*(task.schedule(number).at(TOMORROW) for number in range(1201)))
        chosen = {"first": jobs[:1], "last": jobs[-1:], "all": jobs}[which]
        theirs = [there.find_job(job.id) for job in chosen]
        await asyncio.gather(*(job.cancel() for job in theirs if job is not None))
        await eventually(lambda: all(job.status is JobStatus.CANCELLED for job in chosen))
        assert sum(job.is_done() for job in jobs) == len(chosen)
