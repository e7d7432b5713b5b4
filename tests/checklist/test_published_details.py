"""Details of the published interface that programs are known to use, beyond the lines of the checklist."""

from __future__ import annotations

import asyncio
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobStatus, RunMode
from jobify.exceptions import JobCancelledError, JobFailedError, JobNotCompletedError, JobTimedOutError
from jobify.middleware import BaseOuterMiddleware
from support import durable, soon


def refuse(text: str) -> None:
    raise ValueError(text)


@pytest.mark.slow
@pytest.mark.parametrize("run_mode", [RunMode.THREAD, RunMode.PROCESS])
async def test_the_reason_of_a_failure_is_what_its_exception_says(run_mode: RunMode) -> None:
    app = Jobify(storage=False)
    task = app.task(refuse, name="refuse", run_mode=run_mode)

    async with app:
        job = await task.push("not today")
        with pytest.raises(JobFailedError, match="failed: ValueError: not today") as caught:
            await soon(job)
        assert (caught.value.job_id, caught.value.reason, caught.value.kind) == (job.id, "not today", "ValueError")
        assert isinstance(caught.value.__cause__, ValueError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.reason) == (str(caught.value), "not today")


async def test_the_reason_of_a_failure_in_another_process(tmp_path: Path) -> None:
    here, there = Jobify(storage=durable(tmp_path)), Jobify(storage=durable(tmp_path))
    task = here.task(refuse, name="refuse")
    there.task(refuse, name="refuse")

    async with here:
        job = await task.schedule("not today").delay(3600, job_id="it")
        async with there:
            theirs = there.find_job("it")
            assert theirs is not None
            replacing = await next(iter(there.routes)).schedule("nor tomorrow").push(job_id="it", replace=True)
            await soon(replacing.wait())
            await soon(job.wait())
        with pytest.raises(JobFailedError, match="ValueError: nor tomorrow") as caught:
            job.result()
        assert (caught.value.reason, caught.value.kind) == ("nor tomorrow", "ValueError")


async def test_an_exception_without_a_text_is_named_by_its_type() -> None:
    app = Jobify(storage=False)
    task = app.task(refuse, name="refuse")

    async with app:
        job = await task.push("")
        with pytest.raises(JobFailedError, match=r"failed: ValueError$"):
            await soon(job)


def test_a_failure_of_which_nothing_is_known() -> None:
    job: Job[None] = Job(job_id="it", exec_at=datetime.now(UTC))
    job.set_exception(None, status=JobStatus.FAILED)
    with pytest.raises(JobFailedError, match="'it' failed: no reason was recorded"):
        job.result()


async def test_what_ends_a_job_is_said_in_the_message() -> None:
    app = Jobify(storage=False)

    @app.task(name="wait", timeout=0.01)
    async def wait() -> None:
        await asyncio.Event().wait()

    async with app:
        late, cancelled = await wait.push(), await wait.schedule().delay(60)
        await cancelled.cancel()
        assert cancelled.status is JobStatus.CANCELLED
        with pytest.raises(JobCancelledError, match="was cancelled: a cancel was requested"):
            cancelled.result()
        with pytest.raises(JobTimedOutError, match=r"timed out: JobTimeoutError: .* 0\.01 seconds"):
            await soon(late)


async def test_a_job_that_was_left_out_is_done_and_never_was() -> None:
    class Nobody(BaseOuterMiddleware):
        async def __call__(self, call_next: Any, context: Any) -> Any:
            assert not context.job.is_done()

    app = Jobify(storage=False, outer_middleware=[Nobody()])

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        for job in (await work.push(), await work.schedule().cron("* * * * *", job_id="it")):
            assert (job.status, job.is_done()) == (JobStatus.PENDING, True)
            await soon(job.wait())
            assert app.find_job(job.id) is None
            with pytest.raises(JobNotCompletedError, match="an outer middleware stopped it"):
                job.result()


async def test_a_job_that_is_passed_on_later_is_not_left_out() -> None:
    calls: list[Any] = []

    class Later(BaseOuterMiddleware):
        async def __call__(self, call_next: Any, context: Any) -> Any:
            calls.append(lambda: call_next(context))

    app = Jobify(storage=False, outer_middleware=[Later()])

    @app.task(name="work")
    async def work() -> str:
        return "ran"

    async with app:
        job = await work.schedule().delay(0.05)
        assert job.is_done()
        await calls.pop()()
        assert (job.status, job.is_done()) == (JobStatus.SCHEDULED, False)
        with pytest.raises(JobNotCompletedError, match="has not ended yet"):
            job.result()
        assert await soon(job) == "ran"


async def test_outer_middleware_knows_the_app() -> None:
    seen: list[Any] = []

    class Outer(BaseOuterMiddleware):
        async def __call__(self, call_next: Any, context: Any) -> Any:
            seen.append(context.app)
            return await call_next(context)

    app = Jobify(storage=False, outer_middleware=[Outer()])

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        await soon(await work.push())
    assert seen == [app]
