"""What the log and the hooks hear of jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, JobFailure, Jobify, RunMode, current_job
from jobify.exceptions import ConfigurationError, JobFailedError, ProcessDiedError, TaskCancelledError
from jobify.model.retry import SmartRetry
from support import durable, eventually

SECRET = "4711-of-ada"


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "jobify.jobs")
    return caplog


def lines(heard: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in heard.records if record.name == "jobify.jobs"]


def breaks(number: str) -> None:
    raise LookupError("the shelf is empty")


async def breaks_on_loop(number: str) -> None:
    raise LookupError("the shelf is empty")


def dies(number: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits() -> None:
    raise SystemExit(3)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def unspeakable() -> None:
    raise Unspeakable


CASES = {
    "loop": (breaks_on_loop, RunMode.MAIN),
    "thread": (breaks, RunMode.THREAD),
    "process": (breaks, RunMode.PROCESS),
}


@pytest.mark.promise("f6")
@pytest.mark.parametrize("case", CASES)
async def test_a_failure_is_one_line_with_its_fields_and_the_users_frames(
    app: Jobify, heard: pytest.LogCaptureFixture, case: str
) -> None:
    function, mode = CASES[case]
    task: Any = app.task(function, name="fetch", run_mode=mode, queue="shelves")

    async with app:
        job = await task.push(SECRET)
        await eventually(lambda: job.is_done())
        id = str(job.id)
    (line,) = lines(heard)
    assert line.levelno == logging.ERROR
    assert line.getMessage() == f"Job {id} (fetch) failed in attempt 1: LookupError: the shelf is empty"
    assert (line.job_id, line.task, line.queue, line.attempt) == (id, "fetch", "shelves", 1)  # type: ignore[attr-defined]
    assert line.exc_info is not None
    assert line.exc_info[0] is LookupError
    text = logging.Formatter().format(line)
    assert "test_job_log.py" in text
    assert "jobify/engine" not in text
    assert SECRET not in text.replace(id, "")


@pytest.mark.promise("f6")
async def test_a_retry_is_one_line_and_a_dead_job_is_another(app: Jobify, heard: pytest.LogCaptureFixture) -> None:
    task: Any = app.task(breaks, name="fetch", retry=SmartRetry(1, initial_delay=0.01))

    async with app:
        job = await task.push("1")
        await eventually(lambda: job.is_done())
    retry, end = lines(heard)
    assert retry.levelno == logging.WARNING
    assert "failed in attempt 1 and is tried again in 0.0" in retry.getMessage()
    assert retry.exc_info is None
    assert "\n" not in retry.getMessage()
    assert end.levelno == logging.ERROR
    assert "failed in attempt 2, and there are no retries left: LookupError" in end.getMessage()
    assert (retry.attempt, end.attempt) == (1, 2)  # type: ignore[attr-defined]


@pytest.mark.promise("f6")
async def test_a_failure_that_is_awaited_is_one_line(app: Jobify, heard: pytest.LogCaptureFixture) -> None:
    task: Any = app.task(breaks_on_loop, name="fetch")

    async with app:
        with pytest.raises(JobFailedError):
            await (await task.push("1"))
    assert [line.levelno for line in lines(heard)] in (
        [logging.WARNING],
        [logging.ERROR],
    )  # it may end before the await


@pytest.mark.promise("f6")
async def test_a_waiter_of_a_failure_makes_its_line_a_warning(app: Jobify, heard: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()

    @app.task(name="fetch")
    async def fetch() -> None:
        await gate.wait()
        raise LookupError("the shelf is empty")

    async with app:
        job = await fetch.push()
        waiting = asyncio.ensure_future(job.wait())
        await eventually(lambda: job.has_waiters)
        gate.set()
        await waiting
    assert [line.levelno for line in lines(heard)] == [logging.WARNING]


@pytest.mark.promise("f6")
@pytest.mark.parametrize("wait", ["aresult", "result", "await_end"])
async def test_a_waiting_job_result_makes_its_line_a_warning(
    app: Jobify, heard: pytest.LogCaptureFixture, wait: str
) -> None:
    gate = asyncio.Event()

    @app.task(name="fetch")
    async def fetch() -> None:
        await gate.wait()
        raise LookupError("the shelf is empty")

    async with app:
        job: Any = await fetch.adelay()
        method = getattr(job, wait)
        waiting = asyncio.ensure_future(asyncio.to_thread(method) if wait == "result" else method())
        await eventually(lambda: app.configs.is_awaited(job.id))
        gate.set()
        await asyncio.wait([waiting])
        assert (waiting.exception() is None) is (wait == "await_end")
    assert [line.levelno for line in lines(heard)] == [logging.WARNING]


@pytest.mark.promise("f6")
async def test_a_timeout_is_heard(app: Jobify, heard: pytest.LogCaptureFixture) -> None:
    @app.task(name="hang", timeout=0.01)
    async def hang() -> None:
        await asyncio.sleep(100)

    async with app:
        job = await hang.push()
        await eventually(lambda: job.is_done())
    (line,) = lines(heard)
    assert (line.levelno, "exceeded its timeout" in line.getMessage()) == (logging.ERROR, True)


@pytest.mark.promise("f6")
async def test_a_schedule_that_stops_says_so_and_how_to_revive_it(app: Jobify, heard: pytest.LogCaptureFixture) -> None:
    @app.task(name="nightly", cron=Cron("* * * * * * *", max_failures=1))
    async def nightly() -> None:
        raise ZeroDivisionError("the books do not balance")

    async with app:
        await eventually(lambda: len(lines(heard)) == 2)
    failure, stop = lines(heard)
    assert "A run of schedule nightly" in failure.getMessage()
    assert stop.levelno == logging.ERROR
    assert "has stopped for good, after a run that failed (max_failures)" in stop.getMessage()
    assert "jobify schedules resume nightly" in stop.getMessage()


@pytest.mark.promise("f6")
async def test_a_child_that_dies_is_heard_for_each_attempt(tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    app = Jobify(storage=durable(tmp_path), max_crashes=2)
    task: Any = app.task(dies, name="dies", run_mode=RunMode.PROCESS)
    failures: list[JobFailure] = []
    app.on_retry(failures.append)
    app.on_dead(failures.append)

    async with app:
        job = await task.push("1")
        await eventually(lambda: job.is_done())
    lost, end = lines(heard)
    assert (lost.levelno, end.levelno) == (logging.WARNING, logging.ERROR)
    assert "lost its process in attempt 1 and runs again" in lost.getMessage()
    assert [failure.is_dead for failure in failures] == [False, True]
    assert all(isinstance(failure.error, ProcessDiedError) for failure in failures)


@pytest.mark.promise("f6")
@pytest.mark.parametrize("function", [exits, unspeakable])
async def test_what_is_hard_to_show_is_heard_too(app: Jobify, heard: pytest.LogCaptureFixture, function: Any) -> None:
    task: Any = app.task(function, name="odd")

    async with app:
        job = await task.push()
        await eventually(lambda: job.is_done())
    (line,) = lines(heard)
    assert line.levelno == logging.ERROR
    assert logging.Formatter().format(line)


@pytest.mark.promise("f6")
async def test_begins_and_ends_are_for_debug(app: Jobify, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "jobify.jobs")

    @app.task(name="add")
    async def add(a: int) -> int:
        return a

    async with app:
        assert await (await add.push(1)) == 1
    begin, end = lines(caplog)
    assert "begins attempt 1" in begin.getMessage()
    assert "succeeded in 0." in end.getMessage()
    assert {begin.levelno, end.levelno} == {logging.DEBUG}


@pytest.mark.promise("f6")
async def test_a_handler_that_fails_loses_no_outcome(app: Jobify) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk of the log is full")

    handler = Broken()
    logging.getLogger("jobify.jobs").addHandler(handler)
    task: Any = app.task(breaks_on_loop, name="fetch")

    try:
        async with app:
            job = await task.push("1")
            await eventually(lambda: job.is_done())
            assert job.status == "failed"
    finally:
        logging.getLogger("jobify.jobs").removeHandler(handler)


# -- hooks -------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f6")
async def test_hooks_are_called_in_order_after_the_outcome_is_stored(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    watching = durable(tmp_path)
    watching.open()
    task: Any = app.task(breaks, name="fetch", retry=SmartRetry(1, initial_delay=0), queue="shelves")
    calls: list[tuple[str, JobFailure, str]] = []

    def note(name: str, failure: JobFailure) -> None:
        calls.append((name, failure, watching.get((failure.id,))[0].status))

    @app.on_failure
    def first(failure: JobFailure) -> None:
        note("first", failure)

    @app.on_failure
    async def second(failure: JobFailure) -> None:
        await asyncio.sleep(0)
        note("second", failure)

    @app.on_retry
    def on_retry(failure: JobFailure) -> None:
        note("retry", failure)

    @app.on_dead
    def on_dead(failure: JobFailure) -> None:
        note("dead", failure)

    async with app:
        await (await task.push("1")).wait()
    watching.close()
    assert sorted(name for name, *_ in calls) == ["dead", "first", "retry", "second"]
    assert [name for name, *_ in calls if name != "second"] == ["retry", "first", "dead"]
    retry = calls[0][1]
    assert retry.retry_at is not None
    assert not retry.is_dead
    end = calls[-1][1]
    assert (end.task, end.queue, end.attempt, end.is_dead, end.retry_at) == ("fetch", "shelves", 2, True, None)
    assert str(end.error) == "the shelf is empty"
    assert [status for name, _, status in calls if name != "retry"] == ["failed"] * 3


@pytest.mark.promise("f6")
async def test_a_hook_that_fails_is_logged_and_changes_nothing(app: Jobify, caplog: pytest.LogCaptureFixture) -> None:
    task: Any = app.task(breaks_on_loop, name="fetch")
    called: list[str] = []

    @app.on_failure
    def broken(failure: JobFailure) -> None:
        raise KeyError("pager")

    @app.on_failure
    async def broken_later(failure: JobFailure) -> None:
        raise KeyError("phone")

    app.on_failure(lambda failure: called.append(failure.id))

    async with app:
        job = await task.push("1")
        await eventually(lambda: job.is_done())
        assert called == [str(job.id)]
    complaints = [record.getMessage() for record in caplog.records if record.name == "jobify.hooks"]
    assert sorted("pager" in text for text in complaints) == [False, True]


@pytest.mark.promise("f6")
async def test_a_shutdown_waits_for_async_hooks(app: Jobify) -> None:
    task: Any = app.task(breaks_on_loop, name="fetch")
    ends: list[str] = []

    @app.on_failure
    async def slow(failure: JobFailure) -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        ends.append(failure.id)

    async with app:
        job = await task.push("1")
        await eventually(lambda: job.is_done())
    assert len(ends) == 1


@pytest.mark.promise("f6")
def test_a_hook_must_be_a_function() -> None:
    with pytest.raises(ConfigurationError, match="cannot be a hook"):
        Jobify(storage=False).on_failure("alert")  # type: ignore[type-var]


@pytest.mark.promise("f6")
async def test_a_pushed_job_knows_the_queue_of_its_task(app: Jobify) -> None:
    from jobify import current_job

    @app.task(name="where", queue="shelves")
    async def where() -> str:
        return current_job.queue_name

    async with app:
        assert await (await where.push()) == "shelves"


def talks(number: str) -> None:
    logging.getLogger("shop.talks").warning("has seen a shelf")
    raise LookupError("the shelf is empty")


@pytest.mark.promise("f9")
async def test_what_a_child_logs_comes_before_its_failure(app: Jobify, caplog: pytest.LogCaptureFixture) -> None:
    task: Any = app.task(talks, name="fetch", run_mode=RunMode.PROCESS, queue="shelves")

    async with app:
        job = await task.push(SECRET)
        await eventually(lambda: job.is_done())
        id = str(job.id)
    told = [record for record in caplog.records if record.name in ("shop.talks", "jobify.jobs")]
    assert [record.name for record in told if record.levelno >= logging.WARNING] == ["shop.talks", "jobify.jobs"]
    for record in told:
        assert (record.job_id, record.task, record.queue, record.attempt) == (id, "fetch", "shelves", 1)  # type: ignore[attr-defined]


@pytest.mark.promise("f6")
@pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.THREAD, RunMode.PROCESS])
async def test_a_line_of_a_jobs_log_has_the_fields_of_the_job(
    app: Jobify, heard: pytest.LogCaptureFixture, mode: RunMode
) -> None:
    function = says_on_loop if mode is RunMode.MAIN else says
    task: Any = app.task(function, name="fetch", run_mode=mode, queue="shelves")

    async with app:
        job = await task.push()
        await job.wait()
        id = str(job.id)
    (line,) = [record for record in lines(heard) if "three rows" in record.getMessage()]
    assert (line.job_id, line.task, line.queue, line.attempt) == (id, "fetch", "shelves", 1)  # type: ignore[attr-defined]


def says() -> None:
    current_job.log("three rows")


async def says_on_loop() -> None:
    current_job.log("three rows")


@pytest.mark.promise("f6")
@pytest.mark.parametrize("delay", [3600, 0.3])
async def test_a_job_that_expires_has_a_record_of_its_own(
    app: Jobify, heard: pytest.LogCaptureFixture, delay: float
) -> None:
    task: Any = app.task(breaks_on_loop, name="fetch", queue="shelves")

    async with app:
        job = await task.configure(delay=delay, expires=0.05).adelay("1")
        with pytest.raises(TaskCancelledError, match="expired"):
            await job.aresult(timeout=20)
        await eventually(lambda: lines(heard))
        id = str(job.id)
    (line,) = lines(heard)
    assert line.levelno == logging.INFO
    assert line.getMessage() == f"Job {id} (fetch) has expired: its time was over while it waited."
    assert (line.job_id, line.task, line.queue) == (id, "fetch", "shelves")  # type: ignore[attr-defined]
    assert line.attempt in (0, 1)  # type: ignore[attr-defined]  # waiting, or claimed and not begun
