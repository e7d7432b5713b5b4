"""``raise Retry(...)`` and ``raise Snooze(...)`` in a task."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from signal_tasks import FAILS, RETRIES, SNOOZES, attempts, fails, in_a_group, retries, snoozes, snoozes_on_loop

from jobify import (
    BaseMiddleware,
    Cron,
    JobFailure,
    Jobify,
    JobStatus,
    MisfirePolicy,
    Retry,
    Snooze,
    TaskCancelledError,
    current_job,
)
from jobify.exceptions import JobFailedError, JobTimeoutError, NoRetriesLeftError
from jobify.testing.clock import FakeClock
from support import durable, eventually, nudge, run


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "attempts")


@pytest.mark.parametrize("mode", RETRIES)
async def test_a_retry_counts_and_is_in_the_history(app: Jobify, log: str, mode: str) -> None:
    function, run_mode = RETRIES[mode]
    task: Any = app.task(function, name="it", run_mode=run_mode, retry=2)

    async with app:
        job = await task.push(log, 2)
        assert await job == "there after 3"
        found = await app.aget_job(job.id)
        errors = await asyncio.to_thread(lambda: found.errors)
    assert [(line["attempt"], line["outcome"], line["message"]) for line in errors] == [
        (1, "retry at", "Retry: not yet, 1"),
        (2, "retry at", "Retry: not yet, 2"),
    ]
    assert attempts(log) == [1, 2, 3]


@pytest.mark.parametrize("mode", FAILS)
async def test_a_retry_that_is_not_left_ends_the_job_with_its_reason(app: Jobify, log: str, mode: str) -> None:
    function, run_mode = FAILS[mode]
    task: Any = app.task(function, name="it", run_mode=run_mode, retry=1)

    async with app:
        job = await task.push(log)
        with pytest.raises(JobFailedError) as caught:
            await job
        assert job.public_status == "dead"
        failure = caught.value.__cause__
        assert type(failure) is NoRetriesLeftError
        assert failure.reason == "ConnectionError: the shop is closed"
        text = "The task raised Retry (ConnectionError: the shop is closed), and no retry is left after attempt 2."
        assert job.error == f"NoRetriesLeftError: {text}"
        found = await app.aget_job(job.id)
        errors = await asyncio.to_thread(lambda: found.errors)
        assert [line["attempt"] for line in errors] == [1, 2]
        assert all("signal_tasks.py" in line["error"] and "ConnectionError" in line["error"] for line in errors)
    assert attempts(log) == [1, 2]


async def test_a_task_without_retries_has_none_to_ask_for(app: Jobify, log: str) -> None:
    task: Any = app.task(fails, name="it")

    async with app:
        job = await task.push(log)
        await job.wait()
        assert job.public_status == "failed"
        assert job.error is not None
        assert job.error.endswith("but has no retries: set retry=3.")


async def test_the_retries_of_the_job_come_before_those_of_the_task(app: Jobify, log: str) -> None:
    task: Any = app.task(retries, name="it")

    async with app:
        job = await task.configure(retry=1).adelay(log, 1)
        assert await job.aresult(timeout=20) == "there after 2"


async def test_a_retry_without_a_delay_waits_as_the_policy_says(app: Jobify) -> None:
    moments: list[float] = []

    @app.task(retry=1)
    async def it() -> None:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) == 1:
            raise Retry

    async with app:
        await (await it.push())
    assert moments[1] - moments[0] >= 0.24  # half of the first delay: jitter


@pytest.mark.parametrize("mode", SNOOZES)
async def test_a_snooze_does_not_count_and_leaves_no_error(app: Jobify, log: str, mode: str) -> None:
    function, run_mode = SNOOZES[mode]
    task: Any = app.task(function, name="it", run_mode=run_mode)

    async with app:
        job = await task.push(log, 3)
        assert await job == "there after 4"
        assert job.error is None
        found = await app.aget_job(job.id)
        assert await asyncio.to_thread(lambda: (found.error, found.errors)) == (None, [])
    assert attempts(log) == [1, 1, 1, 1]


async def test_a_snooze_between_retries_does_not_count(app: Jobify, log: str) -> None:
    numbers: list[int] = []

    @app.task(retry=1)
    async def it() -> str:
        numbers.append(current_job.attempt)
        if len(numbers) == 1:
            raise Retry(0.01)
        if len(numbers) < 4:
            raise Snooze(0.01)
        return "done"

    async with app:
        assert await (await it.push()) == "done"
    assert numbers == [1, 2, 2, 2]


async def test_a_group_that_asks_for_a_retry_is_one(app: Jobify, log: str) -> None:
    task: Any = app.task(in_a_group, name="it", retry=1)

    async with app:
        assert await (await task.push(log, 1)) == "there after 2"


# -- while it waits ----------------------------------------------------------------------------------------------------


async def test_what_a_waiting_job_says(tmp_path: Path, log: str) -> None:
    app = Jobify(storage=durable(tmp_path))
    snoozing: Any = app.task(snoozes_on_loop, name="snoozing")
    retrying: Any = app.task(name="retrying", retry=1)(retry_in_an_hour)

    async with app:
        job = await snoozing.push(log, 1, 3600)
        other = await retrying.push()
        await eventually(lambda: job.status == other.status == JobStatus.SCHEDULED)
        assert (job.exec_at - datetime.now(UTC)).total_seconds() > 3500
        found, second = await app.aget_job(job.id), await app.aget_job(other.id)

        def look() -> None:
            assert (found.status, found.error, found.errors) == ("pending", None, [])
            assert found.note.startswith("due in ")
            assert found.note.endswith("; snoozed by its task: not yet, 1")
            assert found.to_dict()["error"] is None
            assert second.error == "Retry: come back later"
            assert second.note.startswith("tries again in ")

        await asyncio.to_thread(look)


async def retry_in_an_hour() -> None:
    raise Retry(3600, "come back later")


def test_a_snooze_outlives_its_process(tmp_path: Path, log: str) -> None:
    async def first() -> str:
        app = Jobify(storage=durable(tmp_path))
        task: Any = app.task(snoozes_on_loop, name="it")
        async with app:
            job = await task.push(log, 1, 0.3)
            await eventually(lambda: attempts(log) and job.status == JobStatus.SCHEDULED)
            return str(job.id)

    async def second(id: str) -> object:
        app = Jobify(storage=durable(tmp_path))
        app.task(snoozes_on_loop, name="it")
        async with app:
            return await (await app.aget_job(id)).aresult(timeout=20)

    assert run(second(run(first()))) == "there after 2"
    assert attempts(log) == [1, 1]


async def test_a_snoozed_job_can_be_cancelled(app: Jobify, log: str) -> None:
    task: Any = app.task(snoozes_on_loop, name="it")

    async with app:
        job = await task.push(log, 1, 3600)
        await eventually(lambda: attempts(log) and job.status == JobStatus.SCHEDULED)
        await job.cancel()
        assert job.status == JobStatus.CANCELLED


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
async def test_only_its_expiry_ends_a_job_that_snoozes_on(tmp_path: Path, storage: str, log: str) -> None:
    clock = FakeClock(datetime(2030, 1, 1, tzinfo=UTC))
    app = Jobify(storage=False if storage == "memory" else durable(tmp_path), clock=clock)
    task: Any = app.task(snoozes_on_loop, name="it")

    def comes_again() -> bool:
        clock.advance(0.1)
        nudge(app)
        return len(attempts(log)) > 1

    async with app:
        job = await task.configure(expires=86_400).adelay(log, 10**9)
        await eventually(comes_again)
        clock.advance(86_400)
        with pytest.raises(TaskCancelledError, match="expired"):
            await job.aresult(timeout=20)


# -- what else wants to end it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [Retry(0.01), Snooze(0.01)], ids=["retry", "snooze"])
async def test_a_cancel_wins(app: Jobify, signal: Exception) -> None:
    begun = asyncio.Event()

    @app.task(retry=5)
    async def it() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise signal from None

    async with app:
        job = await it.push()
        await begun.wait()
        await job.cancel()
        await job.wait()
        assert job.status == JobStatus.CANCELLED


@pytest.mark.parametrize("signal", [Retry(0.01), Snooze(0.01)], ids=["retry", "snooze"])
@pytest.mark.parametrize("is_grouped", [False, True])
async def test_a_timeout_wins(app: Jobify, signal: Exception, is_grouped: bool) -> None:
    @app.task(timeout=0.05)
    async def it() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise (ExceptionGroup("", [signal]) if is_grouped else signal) from None

    async with app:
        job = await it.push()
        await job.wait()
        assert job.status == JobStatus.TIMEOUT
        assert isinstance(job.exception, JobTimeoutError)


async def test_a_signal_within_the_timeout_is_heard(app: Jobify, log: str) -> None:
    task: Any = app.task(snoozes_on_loop, name="it", timeout=30)

    async with app:
        assert await (await task.push(log, 1)) == "there after 2"


@pytest.mark.parametrize(("signal", "is_kept"), [(Retry(3600), False), (Snooze(3600), True)], ids=["retry", "snooze"])
async def test_a_snooze_during_a_shutdown_keeps_its_delay(tmp_path: Path, signal: Exception, is_kept: bool) -> None:
    """A thread is waited for, and its word counts; a retry is given back uncounted, as an error is."""
    storage = durable(tmp_path)
    app = Jobify(storage=storage, grace=0)
    begun = threading.Event()

    @app.task(name="it", retry=1)
    def it() -> None:
        begun.set()
        while True:
            try:
                current_job.check_cancelled()
            except TaskCancelledError:  # the shutdown interrupts it
                raise signal from None
            time.sleep(0.001)

    await app.startup()
    job = await it.push()
    await asyncio.to_thread(begun.wait, 20)
    await app.shutdown()
    id = str(job.id)
    storage.open()
    (row,) = storage.get((id,))
    storage.close()
    assert (row.status, row.attempt) == ("scheduled", 0)
    assert (row.due_at - row.created_at > 3000_000_000) is is_kept


# -- who hears of it ---------------------------------------------------------------------------------------------------


async def test_exception_handlers_do_not_see_them_and_may_raise_them(app: Jobify, log: str) -> None:
    seen: list[Exception] = []

    async def handle(error: Exception, context: Any) -> None:
        seen.append(error)
        raise Retry(0.01, "from the handler")

    app.add_exception_handler(Exception, handle)
    calls: list[int] = []

    @app.task(retry=3)
    async def it() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise Snooze(0.01)
        if len(calls) == 2:
            raise Retry(0.01)
        if len(calls) == 3:
            raise ValueError("an error")
        return "done"

    async with app:
        assert await (await it.push()) == "done"
    assert [type(error) for error in seen] == [ValueError]


async def test_middleware_sees_them_and_may_raise_them(app: Jobify) -> None:
    seen: list[Exception] = []

    class Witness(BaseMiddleware):
        async def __call__(self, call_next: Any, context: Any) -> Any:
            if not seen:
                seen.append(Snooze(0.01, "not today"))
                raise seen[0]
            try:
                return await call_next(context)
            except Exception as error:
                seen.append(error)
                raise

    app.add_middleware(Witness())
    calls: list[int] = []

    @app.task(retry=1)
    def it() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise Retry(0.01)
        return "done"

    async with app:
        assert await (await it.push()) == "done"
    assert [type(error) for error in seen] == [Snooze, Retry]


async def test_a_retry_is_heard_as_one_and_a_snooze_is_no_failure(
    app: Jobify, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobify.jobs")
    heard: list[tuple[str, JobFailure]] = []
    app.on_retry(lambda failure: heard.append(("retry", failure)))
    app.on_failure(lambda failure: heard.append(("failure", failure)))
    calls: list[int] = []

    @app.task(name="it", retry=1)
    async def it() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise Snooze(0.01, "not yet")
        if len(calls) == 2:
            raise Retry(0.01, "too many requests")

    async with app:
        await (await it.push())
    ((kind, failure),) = heard
    assert (kind, type(failure.error), str(failure.error)) == ("retry", Retry, "too many requests")
    assert failure.retry_at is not None
    snooze, retry = (record for record in caplog.records if record.name == "jobify.jobs")
    assert (snooze.levelno, retry.levelno) == (logging.INFO, logging.WARNING)
    assert "is put off by its task until" in snooze.getMessage()
    assert snooze.getMessage().endswith(": not yet")
    assert retry.getMessage().endswith("is tried again in 0.01 s: Retry: too many requests")


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [MisfirePolicy.SKIP, MisfirePolicy.ONCE, MisfirePolicy.ALL], ids=str)
async def test_a_snoozed_run_of_a_schedule_is_the_same_run(
    policy: MisfirePolicy, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    clock = FakeClock(datetime(2030, 1, 1, 11, 59, tzinfo=UTC))
    app = Jobify(storage=durable(tmp_path), clock=clock)
    runs: list[datetime] = []

    @app.task(name="it", cron=Cron("0 * * * *", misfire_policy=policy))
    async def it() -> None:
        runs.append(clock.moment)
        if len(runs) == 1:
            raise Snooze(600, "not yet")

    async with app:
        (job,) = app.get_active_jobs()
        clock.advance(60)
        nudge(app)
        await eventually(lambda: len(runs) == 1 and job.status == JobStatus.SCHEDULED)
        (schedule,) = await app.aschedules()
        assert (schedule.run_count, schedule.failure_count, schedule.error) == (0, 0, None)
        clock.advance(600)
        nudge(app)
        await eventually(lambda: len(runs) == 2 and job.status == JobStatus.SCHEDULED)
        (schedule,) = await app.aschedules()
        assert (schedule.run_count, schedule.failure_count) == (1, 0)
        assert schedule.next_at == datetime(2030, 1, 1, 13, tzinfo=UTC)
    assert [moment.strftime("%H:%M") for moment in runs] == ["12:00", "12:10"]


async def test_a_schedule_that_snoozes_never_fails_and_one_that_asks_in_vain_does(app: Jobify, log: str) -> None:
    task: Any = app.task(snoozes, name="snoozing")
    retrying: Any = app.task(fails, name="retrying")

    async with app:
        rule = Cron("* * * * * * *", max_runs=1, max_failures=1)
        job = await task.schedule(log, 3).cron(rule, job_id="a")
        await job.wait()
        assert job.status == JobStatus.SUCCESS
        other = await retrying.schedule(log).cron(rule, job_id="b")
        await other.wait()
        assert other.status == JobStatus.PERMANENTLY_FAILED
    assert attempts(log)[:4] == [1, 1, 1, 1]
