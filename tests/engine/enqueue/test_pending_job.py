"""What a push hands out can be used like a coroutine, and like a future."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobify import Job, Jobify
from jobify.exceptions import ApplicationStateError
from support import PATIENCE, durable

Push = Callable[[int], Awaitable[Job[int]]]


def in_an_app(tmp_path: Any, check: Callable[[Jobify, Any], Awaitable[None]]) -> None:
    """Run ``check(app, double)`` with storage in a file and in memory."""

    async def main(app: Jobify) -> None:
        @app.task(name="double")
        async def double(number: int) -> int:
            return number * 2

        async with app:
            await check(app, double)
            await app.wait_all(10)

    asyncio.run(main(Jobify(storage=durable(tmp_path))))
    asyncio.run(main(Jobify(storage=False)))


def test_it_is_awaited_gathered_wrapped_in_a_task_and_put_into_a_task_group(tmp_path: Any) -> None:
    async def check(app: Jobify, double: Any) -> None:
        jobs = [await double.push(1)]
        jobs += await asyncio.gather(double.push(2), double.push(3))
        jobs.append(await asyncio.create_task(double.push(4)))
        jobs.append(await asyncio.wait_for(double.push(5), PATIENCE))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(double.push(6))
        jobs.append(task.result())
        assert await asyncio.gather(*jobs) == [2, 4, 6, 8, 10, 12]

    in_an_app(tmp_path, check)


def test_an_error_is_raised_where_it_is_awaited(tmp_path: Any) -> None:
    async def check(app: Jobify, double: Any) -> None:
        answers = await asyncio.gather(double.push(), double.push(1, 2), double.push(7), return_exceptions=True)
        assert [type(answer) for answer in answers] == [TypeError, TypeError, Job]
        task = asyncio.create_task(double.push())
        with pytest.raises(TypeError, match="number"):
            await task

    in_an_app(tmp_path, check)


def test_a_caller_that_is_cancelled_leaves_a_job_that_runs_once(tmp_path: Any) -> None:
    async def check(app: Jobify, double: Any) -> None:
        for steps in range(4):
            task = asyncio.create_task(double.schedule(steps).push(job_id=f"job-{steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await app.wait_all(10)
        assert app.get_active_jobs() == []

    in_an_app(tmp_path, check)


def test_another_thread_submits_through_run_coroutine_threadsafe(tmp_path: Any) -> None:
    async def check(app: Jobify, double: Any) -> None:
        loop = asyncio.get_running_loop()

        def from_a_thread() -> Job[int]:
            return asyncio.run_coroutine_threadsafe(double.push(21), loop).result(PATIENCE)

        job = await asyncio.to_thread(from_a_thread)
        assert await job == 42

        async def elsewhere() -> None:
            with pytest.raises(ApplicationStateError, match="another event loop"):
                await double.push(1)

        await asyncio.to_thread(asyncio.run, elsewhere())

    in_an_app(tmp_path, check)
