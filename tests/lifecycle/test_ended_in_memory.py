"""What is left of jobs in memory that have ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.model.records import JobQuery
from jobify.storage.memory import MemoryStorage
from jobify.testing.rows import NOW, PROFILE, claimed, end
from support import durable, eventually, soon

pytestmark = pytest.mark.promise("f31")


class Big:
    """An argument whose end can be seen."""


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("is_pushed", [True, False])
@pytest.mark.parametrize("is_memory_only", [True, False])
async def test_arguments_go_when_a_job_ends(
    tmp_path: Path, is_async: bool, is_pushed: bool, is_memory_only: bool
) -> None:
    app = Jobify(storage=False if is_memory_only else durable(tmp_path))

    async def waits(big: Big, again: Any = None) -> int:
        return 1

    def works(big: Big, again: Any = None) -> int:
        return 1

    task = app.task(name="task", durable=False)(waits if is_async else works)

    async with app:
        seen = []
        jobs = []
        for _ in range(5):
            big = Big()
            seen.append(weakref.ref(big))
            jobs.append(await (task.push(big, again=big) if is_pushed else task.schedule(big, again=big).delay(0.01)))
            del big
        await soon(asyncio.gather(*(job.wait() for job in jobs)))
        assert [job.result() for job in jobs] == [1] * 5
        await eventually(lambda: gc.collect() >= 0 and not any(one() for one in seen))


async def test_a_job_that_failed_keeps_them_for_a_retry() -> None:
    app = Jobify(storage=False)
    seen: list[Any] = []

    @app.task(name="task")
    async def task(what: list[int]) -> int:
        seen.append(what)
        if len(seen) == 1:
            raise ValueError("no")
        return 5

    async with app:
        job = await task.push([1])
        await soon(job.wait())
        assert await app.get_job(job.id).aretry()
        assert await app.get_job(job.id).aresult(timeout=20) == 5
    assert seen == [[1], [1]]


def test_what_is_kept_is_bounded_by_bytes() -> None:
    storage = MemoryStorage(keep_bytes=1_000_000)
    owner = storage.register(PROFILE, now=NOW)
    for number in range(50):
        storage.settle([end(owner, claimed(storage, owner, f"{number:02}"), result=bytes(100_000))])
    kept = [record.id for record in storage.find(JobQuery())]
    assert 5 <= len(kept) <= 12
    assert kept[-1] == "49"


async def test_errors_do_not_hold_on_to_arguments_of_jobs_that_nobody_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("jobify.jobs"), "disabled", True)  # pytest keeps their errors
    app = Jobify(storage=False)

    @app.task(name="task")
    async def task(big: Big) -> None:
        raise ValueError("no")

    async with app:
        big = Big()
        seen = weakref.ref(big)
        job = await task.push(big)
        del big
        await soon(job.wait())
        app.delete_jobs([job.id])
        del job
        await eventually(lambda: gc.collect() >= 0 and seen() is None)
