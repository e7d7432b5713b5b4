"""A Job and the JobResult of the same job say the same in the same words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Job, Jobify, SmartRetry
from support import durable, eventually

NAMES = ("id", "public_status", "job_status", "eta", "exec_at", "error", "cron_expression")


@pytest.mark.slow
@pytest.mark.parametrize("is_durable", [True, False])
async def test_both_handles_say_the_same(tmp_path: Path, is_durable: bool) -> None:
    app = Jobify(storage=durable(tmp_path) if is_durable else False)

    @app.task(name="work")
    async def work() -> int:
        return 1

    @app.task(name="fail")
    async def fail() -> None:
        raise ValueError("no box")

    @app.task(name="give_up", retry=SmartRetry(1, initial_delay=0))
    async def give_up() -> None:
        raise ValueError("no box")

    @app.task(name="slow", timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.task(name="hold")
    async def hold() -> None:
        await asyncio.Event().wait()

    def compare(job: Job[Any], expected: str, *, is_done: bool) -> None:
        result = app.get_job(job.id)
        for name in NAMES:
            assert getattr(job, name) == getattr(result, name), name
        assert (job.public_status, result.status) == (expected, expected)
        assert job.is_done() is result.is_done() is is_done
        assert job.is_cron() is result.is_cron()

    async with app:
        for task, expected in ((work, "complete"), (fail, "failed"), (give_up, "dead"), (slow, "failed")):
            job = await task.push()
            await job.wait()
            compare(job, expected, is_done=True)
        compare(await work.schedule().delay(3600), "pending", is_done=False)
        compare(await work.schedule().cron("0 0 1 1 *", job_id="cron"), "pending", is_done=False)
        running = await hold.push()
        await eventually(lambda: running.public_status == "running")
        compare(running, "running", is_done=False)
        waiting = await work.schedule().delay(3600)
        await waiting.cancel()
        compare(waiting, "cancelled", is_done=True)
        stopped = await fail.schedule().cron(Cron("* * * * * * *", max_failures=1), job_id="stopped")
        await eventually(lambda: stopped.is_done() and app.get_job("stopped").is_done())
        assert stopped.public_status == app.get_job("stopped").public_status == "dead"
        await running.cancel()


async def test_a_handle_learns_from_another_process_that_a_job_is_dead(tmp_path: Path) -> None:
    def declare(app: Jobify) -> Any:
        @app.task(name="give_up", retry=SmartRetry(1, initial_delay=0), queue="other")
        async def give_up() -> None:
            raise ValueError("no box")

        return give_up

    here, there = Jobify(storage=durable(tmp_path)), Jobify(storage=durable(tmp_path))
    task = declare(here)
    declare(there)

    from jobify.worker.worker import prepare

    prepare(here, queues=("none",))
    async with here, there:
        job = await task.push()
        await job.wait()
        assert (job.public_status, job.error) == ("dead", "ValueError: no box")
