"""A storage in memory: many jobs that are pushed at once, and rows that are made when they are needed."""

from __future__ import annotations

import asyncio

import pytest

from jobify import Jobify
from jobify.status import JobStatus

MANY = 1000


async def test_jobs_that_are_pushed_at_once_leave_turns_of_the_loop_to_others() -> None:
    app = Jobify(storage=False)
    done: list[int] = []
    seen: list[int] = []

    @app.task
    async def note(number: int) -> None:
        done.append(number)

    async def watch() -> None:
        while len(done) < MANY:
            seen.append(len(done))
            await asyncio.sleep(0)

    async with app:
        watching = asyncio.ensure_future(watch())
        jobs = await asyncio.gather(*[note.push(number) for number in range(MANY)])
        await asyncio.gather(*jobs)
        await watching
    assert done == list(range(MANY))
    assert len(set(seen)) > 5, seen


async def test_a_push_that_is_not_answered_yet_is_stored_and_can_be_cancelled() -> None:
    app = Jobify(storage=False)
    done: list[int] = []

    @app.task
    async def note(number: int) -> None:
        done.append(number)

    async with app:
        pushes = [note.push(number) for number in range(MANY)]
        assert not asyncio.ensure_future(pushes[-1]).done()
        assert sum(app.stats().values()) == MANY
        asyncio.ensure_future(pushes[-1]).cancel()
        await asyncio.gather(*pushes[:-1])
        await app.wait_all()
    assert done == list(range(MANY))


async def test_a_shutdown_waits_for_the_pushes_that_are_not_answered_yet() -> None:
    app = Jobify(storage=False)

    @app.task
    async def note(number: int) -> None:
        """Does nothing."""

    async with app:
        pushes = [note.push(number) for number in range(MANY)]
    jobs = await asyncio.gather(*pushes)
    assert {job.status for job in jobs} <= {JobStatus.SUCCESS, JobStatus.CANCELLED}


@pytest.mark.parametrize("is_failure", [False, True])
async def test_the_row_of_a_job_that_has_ended_is_made_when_it_is_read(is_failure: bool) -> None:
    app = Jobify(storage=False)

    @app.task
    async def divide(number: int) -> float:
        return 1 / number

    async with app:
        job = await divide.push(0 if is_failure else 4)
        await job.wait()
        found = await app.aget_job(job.id)
        assert found.status == ("failed" if is_failure else "complete")
        assert found.error == ("ZeroDivisionError: division by zero" if is_failure else None)
        if not is_failure:
            assert await found.aresult() == 0.25
