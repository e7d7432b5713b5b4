"""Checklist items 62-76: statuses and handles."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobify import Cron, CronContext, Job, Jobify, JobStatus
from jobify.crontab import create_crontab
from jobify.exceptions import (
    JobCancelledError,
    JobFailedError,
    JobNotCompletedError,
    JobTimedOutError,
    JobTimeoutError,
)
from support import durable, soon

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


long_began = asyncio.Event()


@asynccontextmanager
async def running_app(**options: Any) -> AsyncIterator[Jobify]:
    long_began.clear()
    app = Jobify(storage=False, **options)

    @app.task(name="add")
    async def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fail", retry=0)
    async def fail() -> None:
        raise ZeroDivisionError("by zero")

    @app.task(name="slow", timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    @app.task(name="long")
    async def long() -> None:
        long_began.set()
        await asyncio.Event().wait()

    async with app:
        yield app


def task(app: Jobify, name: str) -> Any:
    return next(route for route in app.routes if route.name == name)


@pytest.mark.promise("item-62", "x9")
def test_statuses() -> None:
    names = ["PENDING", "SCHEDULED", "RUNNING", "CANCELLED", "SUCCESS", "FAILED", "TIMEOUT", "PERMANENTLY_FAILED"]
    assert {status.name for status in JobStatus} == set(names)
    for status in JobStatus:
        assert isinstance(status, str)
        assert status.value == status.name.lower()
        assert str(status) == f"{status}" == status.value == status


@pytest.mark.promise("item-63")
async def test_meaning_of_statuses() -> None:
    async with running_app() as app:
        assert (await task(app, "add").schedule(1, 2).delay(300)).status is JobStatus.SCHEDULED
        running = await task(app, "long").push()
        await soon(long_began.wait())
        seen = [running.status]
        await running.cancel()
        assert [*seen, running.status] == [JobStatus.RUNNING, JobStatus.CANCELLED]
        for name, arguments, status in (
            ("add", (1, 2), JobStatus.SUCCESS),
            ("fail", (), JobStatus.FAILED),
            ("slow", (), JobStatus.TIMEOUT),
        ):
            job = await task(app, name).push(*arguments)
            await job.wait()
            assert job.status is status
        cron = await task(app, "fail").schedule().cron(Cron("* * * * * * *", max_failures=1), job_id="cron")
        await cron.wait()
        assert cron.status is JobStatus.PERMANENTLY_FAILED


@pytest.mark.promise("item-63")
async def test_shutdown_cancels() -> None:
    kept = []

    async with running_app() as app:
        kept.append(await task(app, "add").schedule(1, 2).delay(300))

    assert kept[0].status is JobStatus.CANCELLED


@pytest.mark.promise("item-64")
async def test_id() -> None:
    async with running_app() as app:
        jobs = [await task(app, "add").push(1, 2) for _ in range(10)]
        assert all(isinstance(job.id, str) for job in jobs)
        assert len({job.id for job in jobs}) == 10
        assert (await task(app, "add").schedule(1, 2).push(job_id="mine")).id == "mine"


@pytest.mark.promise("item-65")
async def test_status() -> None:
    async with running_app() as app:
        job = await task(app, "add").schedule(1, 2).delay(0)
        assert isinstance(job.status, JobStatus)
        await job.wait()
        assert job.status is JobStatus.SUCCESS
        assert job.status.value == "success"


@pytest.mark.promise("item-66", "x13")
async def test_exec_at_is_aware() -> None:
    async with running_app(tz=ZoneInfo("Asia/Tokyo")) as app:
        tokyo = ZoneInfo("Asia/Tokyo")
        builder = task(app, "add").schedule(1, 2)
        for job in (await builder.push(), await builder.delay(10), await builder.at(datetime(2127, 1, 1))):
            assert job.exec_at.tzinfo == tokyo
        assert job.exec_at == datetime(2127, 1, 1, tzinfo=tokyo)
        before = builder.now()
        delayed = await builder.delay(3600)
        assert before + timedelta(hours=1) <= delayed.exec_at <= builder.now() + timedelta(hours=1)


@pytest.mark.promise("item-67")
async def test_cron_expression() -> None:
    async with running_app() as app:
        builder = task(app, "add").schedule(1, 2)
        for job in (await builder.push(), await builder.delay(10), await builder.at(builder.now())):
            assert job.cron_expression is None
        assert (await builder.cron("0 9 * * *", job_id="c")).cron_expression == "0 9 * * *"
        assert isinstance(inspect.getattr_static(Job, "cron_expression"), property)


@pytest.mark.promise("item-68")
async def test_exception() -> None:
    async with running_app() as app:
        job = await task(app, "add").push(1, 2)
        await job.wait()
        assert job.exception is None
        failed = await task(app, "fail").push()
        await failed.wait()
        assert isinstance(failed.exception, ZeroDivisionError)
        late = await task(app, "slow").push()
        await late.wait()
        assert isinstance(late.exception, JobTimeoutError)
        assert isinstance(late.exception, TimeoutError)


@pytest.mark.promise("item-69")
async def test_wait() -> None:
    async with running_app() as app:
        failed = await task(app, "fail").push()
        assert await asyncio.gather(*(failed.wait() for _ in range(5))) == [None] * 5
        await soon(failed.wait())

        job = await task(app, "long").push()
        first, second = asyncio.create_task(job.wait()), asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        await job.cancel()
        await second


@pytest.mark.promise("item-70")
async def test_result() -> None:
    async with running_app() as app:
        waiting = await task(app, "add").schedule(1, 2).delay(300)
        with pytest.raises(JobNotCompletedError):
            waiting.result()
        done = await task(app, "add").push(1, 2)
        await done.wait()
        assert done.result() == 3

        failed = await task(app, "fail").push()
        await failed.wait()
        with pytest.raises(JobFailedError, match="by zero") as caught:
            failed.result()
        assert caught.value.__cause__ is failed.exception
        assert caught.value.job_id == failed.id
        assert "by zero" in caught.value.reason
        assert not isinstance(caught.value, JobNotCompletedError)


@pytest.mark.promise("item-70", "x1")
async def test_no_result_can_come() -> None:
    """Timed out, cancelled, given up: both readings of the documentation hold, and the message says what happened."""

    async with running_app() as app:
        late = await task(app, "slow").push()
        await late.wait()
        cancelled = await task(app, "add").schedule(1, 2).delay(300)
        await cancelled.cancel()
        cron = await task(app, "fail").schedule().cron(Cron("* * * * * * *", max_failures=1), job_id="cron")
        await cron.wait()
        for job, words in ((late, "timed out"), (cancelled, "was cancelled"), (cron, "stopped for good")):
            with pytest.raises(JobFailedError, match=words) as caught:
                job.result()
            assert isinstance(caught.value, JobNotCompletedError)
            assert "not ready" not in str(caught.value)
            assert caught.value.__cause__ is job.exception
        with pytest.raises(JobTimedOutError) as timed_out:
            late.result()
        assert isinstance(timed_out.value.__cause__, JobTimeoutError)
        with pytest.raises(JobCancelledError):
            cancelled.result()


@pytest.mark.promise("item-71")
async def test_await() -> None:
    async with running_app() as app:
        add = task(app, "add")
        assert await (await add.push(1, 2)) == 3
        jobs = [await add.schedule(i, i).delay(0) for i in range(3)]
        assert await asyncio.gather(*jobs) == [0, 2, 4]
        failed = await task(app, "fail").push()
        with pytest.raises(JobFailedError):
            await failed


@pytest.mark.promise("item-72")
async def test_cancel_removes_it(tmp_path: Path) -> None:
    ran = []

    async def life(first: bool) -> None:
        storage = durable(tmp_path)
        app = Jobify(storage=storage)

        @app.task(name="work")
        async def work() -> None:
            ran.append(1)

        async with app:
            if first:
                job = await work.schedule().delay(300, job_id="it")
                await job.cancel()
                assert job.status is JobStatus.CANCELLED
                assert job.is_done()
                assert app.find_job("it") is None
                assert app.get_active_jobs() == []
                await work.schedule().delay(0.02, job_id="it")  # the id is free again
                await app.wait_all(5)
                assert ran == [1]
            else:
                await app.wait_all(5)

    await life(first=True)
    await life(first=False)
    assert ran == [1]


@pytest.mark.promise("item-72")
async def test_cancel_of_a_finished_job_does_nothing() -> None:
    async with running_app() as app:
        done = await task(app, "add").push(1, 2)
        await done.wait()
        await done.cancel()
        assert done.status is JobStatus.SUCCESS
        assert done.result() == 3
        failed = await task(app, "fail").push()
        await failed.wait()
        await failed.cancel()
        assert failed.status is JobStatus.FAILED


@pytest.mark.promise("item-72")
async def test_cancel_of_a_running_job() -> None:
    app = Jobify(storage=False)
    begun, release, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> str:
        begun.set()
        try:
            await release.wait()
        except asyncio.CancelledError:
            stopped.set()
            raise
        return "done"

    async with app:
        job = await work.push()
        await begun.wait()
        await job.cancel(interrupt=False)
        assert job.status is JobStatus.RUNNING
        release.set()
        assert await job == "done"
        release.clear()
        begun.clear()
        job = await work.push()
        await begun.wait()
        await job.cancel()
        assert stopped.is_set()
        assert job.status is JobStatus.CANCELLED


@pytest.mark.promise("item-73")
async def test_is_done() -> None:
    async with running_app() as app:
        waiting = await task(app, "add").schedule(1, 2).delay(300)
        assert waiting.is_done() is False
        await waiting.cancel()
        assert waiting.is_done() is True
        for name, arguments in (("add", (1, 2)), ("fail", ()), ("slow", ())):
            job = await task(app, name).push(*arguments)
            await job.wait()
            assert job.is_done() is True
        cron = await task(app, "add").schedule(1, 2).cron("* * * * * * *", job_id="cron")
        await cron.wait()
        assert cron.result() == 3
        assert cron.is_done() is False, "there are runs to come"


@pytest.mark.promise("item-74")
async def test_is_cron() -> None:
    async with running_app() as app:
        builder = task(app, "add").schedule(1, 2)
        assert (await builder.delay(300)).is_cron() is False
        assert (await builder.cron("0 9 * * *", job_id="c")).is_cron() is True


@pytest.mark.promise("item-75")
def test_is_reschedulable() -> None:
    for status in JobStatus:
        job: Job[int] = Job(job_id="1", storage=None, exec_at=NOON, unregister_hook=lambda _: None, job_status=status)
        is_over = status in (JobStatus.PERMANENTLY_FAILED, JobStatus.CANCELLED)
        assert job.is_reschedulable() is not is_over


@pytest.mark.promise("item-76", "x19")
async def test_constructor_and_hooks() -> None:
    unregistered: list[str] = []
    job = Job[int](job_id="1", storage=None, exec_at=NOON, unregister_hook=unregistered.append)
    assert (job.id, job.status, job.exec_at) == ("1", JobStatus.PENDING, NOON)
    job.update(exec_at=NOON + timedelta(days=1), status=JobStatus.SCHEDULED)
    assert job.exec_at == NOON + timedelta(days=1)
    assert job.status is JobStatus.SCHEDULED

    context = CronContext[int](
        cron=Cron("0 9 * * *"), cron_parser=create_crontab("0 9 * * *"), job=job, offset=NOON, run_count=0
    )
    job.bind_cron_context(context)
    assert job.is_cron()
    assert job.cron_expression == "0 9 * * *"

    waiter = asyncio.create_task(job.wait())
    await asyncio.sleep(0)
    job.set_exception(OSError("no"), status=JobStatus.FAILED)
    await waiter
    with pytest.raises(JobFailedError, match="no"):
        job.result()
    job.set_result(5, status=JobStatus.SUCCESS)
    assert job.result() == 5
    assert job.exception is None

    fired: list[int] = []
    other = Job[int](job_id="2", storage=None, exec_at=NOON, unregister_hook=unregistered.append)
    other.bind_handle(asyncio.get_running_loop().call_soon(fired.append, 1))
    await other.cancel()
    await asyncio.sleep(0)
    assert unregistered == ["2"]
    assert fired == []
    assert other.status is JobStatus.CANCELLED
    with pytest.raises(TypeError):
        Job("1")  # type: ignore[call-arg]
