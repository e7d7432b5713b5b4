"""Hooks: what they raise stays in the log, and each failure is told once, also that of a process."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import JobFailure, Jobify, RunMode
from jobify.exceptions import ConfigurationError, JobLostError, ProcessDiedError
from jobify.model.clock import SystemClock
from jobify.testing.rows import PROFILE
from support import address, durable, eventually, run, soon

pytestmark = [pytest.mark.promise("f6"), pytest.mark.both_storages]

RAISED = [KeyError("pager"), SystemExit(4), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]


def complaints(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "jobify.hooks"]


async def breaks() -> None:
    raise LookupError("the shelf is empty")


async def wait_for_failure(app: Jobify, task: Any) -> str:
    async with app:
        job = await task.push()
        await soon(job.wait())
        return str(job.id)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_hook_raises_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture, raised: BaseException, is_async: bool
) -> None:
    app = Jobify(storage=False)
    task = app.task(breaks, name="fetch", queue="shelves")
    called: list[str] = []

    def plain(failure: JobFailure) -> None:
        raise raised

    async def later(failure: JobFailure) -> None:
        await asyncio.sleep(0)
        raise raised

    app.on_failure(later if is_async else plain)
    app.on_failure(lambda failure: called.append(failure.id))
    job_id = run(wait_for_failure(app, task))
    assert called == [job_id]
    (record,) = complaints(caplog)
    assert ("later" if is_async else "plain") in record.getMessage()
    assert (record.levelno, record.job_id, record.task, record.queue, record.attempt) == (  # type: ignore[attr-defined]
        logging.ERROR, job_id, "fetch", "shelves", 1,
    )  # fmt: skip
    assert record.exc_info
    assert record.exc_info[1] is raised


def test_a_hook_that_cannot_take_the_failure_is_refused() -> None:
    app = Jobify(storage=False)
    for function in (lambda: None, lambda failure, more: None):
        with pytest.raises(ConfigurationError, match="one argument, a JobFailure"):
            app.on_dead(function)
    app.on_dead(lambda failure, more=None: None)
    app.on_dead(lambda *failures: None)
    app.on_dead(print)


WORKER = """
import asyncio, sys, time
from jobify import Jobify, RunMode

app = Jobify(storage=sys.argv[1])

@app.task(name="hang", queue="shelves")
async def hang() -> None:
    print("begun", flush=True)
    await asyncio.sleep(3600)

async def main() -> None:
    async with app:
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def hang() -> None: ...


@pytest.mark.parametrize("max_crashes", [1, 3])
async def test_a_job_whose_process_died_is_told_once_by_the_process_that_found_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, max_crashes: int
) -> None:
    """The hooks of the process that takes the job up are called, as for any other attempt that was lost."""
    place = address(tmp_path)
    app = Jobify(storage=place, max_crashes=max_crashes)
    task = app.task(hang, name="hang", queue="shelves", run_mode=RunMode.THREAD)
    heard: list[tuple[str, JobFailure]] = []
    app.on_retry(lambda failure: heard.append(("retry", failure)))
    app.on_failure(lambda failure: heard.append(("failure", failure)))
    app.on_dead(lambda failure: heard.append(("dead", failure)))
    job = task.delay()
    before = datetime.now(UTC)
    with subprocess.Popen([sys.executable, "-c", WORKER, place], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.kill()

    async with app:
        await eventually(job.is_done)
        await eventually(lambda: bool(heard))
    expected = ["retry"] if max_crashes > 1 else ["failure", "dead"]
    assert [name for name, _ in heard] == expected
    for _, failure in heard:
        assert (failure.id, failure.task, failure.queue, failure.attempt) == (job.id, "hang", "shelves", 1)
        assert isinstance(failure.error, JobLostError if max_crashes == 1 else ProcessDiedError)
        assert "died" in str(failure.error)
        assert failure.is_dead is (max_crashes == 1)
        assert failure.retry_at is None if max_crashes == 1 else (failure.retry_at or before) > before
    lines = [record for record in caplog.records if record.name == "jobify.jobs" and record.levelno > logging.INFO]
    assert [record.levelno for record in lines] == ([logging.ERROR] if max_crashes == 1 else [])


def dies() -> None:
    import os

    os._exit(9)


def test_a_job_is_not_blamed_for_its_child_while_others_die_for_another_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kills processes from outside may hit the children of one job three times."""
    storage = durable(tmp_path)
    storage.open()
    storage.register(PROFILE, now=SystemClock().now())
    storage.close()  # as the death of a process does
    app = Jobify(storage=storage, max_crashes=2)
    task = app.task(dies, name="dies", run_mode=RunMode.PROCESS)
    heard: list[JobFailure] = []
    app.on_retry(heard.append)

    async def scenario() -> None:
        async with app:
            await eventually(lambda: bool(storage.recent_deaths(now=SystemClock().now())))
            job = task.delay()
            await eventually(lambda: len(heard) >= 2)
            (record,) = storage.get((job.id,))
            assert (record.status in ("scheduled", "running"), record.crashes) == (True, 0)
            first, second = (failure.retry_at for failure in heard[:2])
            assert first is not None
            assert second is not None
            assert second - first >= timedelta(seconds=1)  # each pause is longer than the one before

    run(scenario())


def test_a_child_that_dies_too_often_is_no_matter_of_retries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = Jobify(storage=durable(tmp_path), max_crashes=2)
    task = app.task(dies, name="dies", run_mode=RunMode.PROCESS)
    heard: list[JobFailure] = []
    app.on_retry(heard.append)
    before = datetime.now(UTC)

    run(wait_for_failure(app, task))
    (retry,) = heard
    assert retry.retry_at is not None
    assert retry.retry_at > before
    (end,) = [record for record in caplog.records if record.name == "jobify.jobs" and "took" in record.getMessage()]
    assert "took 2 processes down" in end.getMessage()
    assert "retries" not in end.getMessage()
