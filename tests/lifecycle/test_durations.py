"""A timedelta is as good as a number of seconds, wherever a duration is asked for: story F40."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import jobify
from jobify import (
    BaseJobifyError,
    ConfigurationError,
    DuplicateJobError,
    Jobify,
    JobRouter,
    Retention,
    RouterError,
    SmartRetry,
    SQLiteStorage,
    TaskNotAttachedError,
    WaitTimeoutError,
)
from jobify.model.durations import check_duration
from jobify.testing.clock import FakeClock
from jobify.worker.worker import Worker
from support import durable, eventually, soon

pytestmark = pytest.mark.promise("f40")

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(milliseconds=20)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_one_checker_reads_numbers_and_timedeltas() -> None:
    assert check_duration(MINUTE, what="x") == check_duration(60, what="x") == 60.0
    assert type(check_duration(MINUTE, what="x")) is float
    for wrong in ("60", None, True, -MINUTE, float("nan"), [MINUTE]):
        with pytest.raises(ConfigurationError, match="The pause is"):
            check_duration(wrong, what="pause")
    with pytest.raises(ConfigurationError, match="more than 0"):
        check_duration(timedelta(0), what="pause", allow_zero=False)


def test_what_is_configured() -> None:
    app = Jobify(storage=False, grace=MINUTE, result_ttl=2 * MINUTE)
    assert (app.configs.limits.grace, app.configs.limits.retention.complete) == (60.0, 120.0)
    kept = Retention(complete=MINUTE, failed=2 * MINUTE, dead=None, cancelled=0)
    assert kept == Retention(complete=60, failed=120, dead=None, cancelled=0)
    assert SmartRetry(1, initial_delay=MINUTE, max_delay=2 * MINUTE) == SmartRetry(1, 60, 120)
    assert SQLiteStorage("jobs.db", timeout=MINUTE).timeout == 60.0
    assert Worker(app, grace=MINUTE)._grace == 60.0
    clock = FakeClock(NOON)
    clock.advance(MINUTE)
    assert clock.moment == NOON + MINUTE


def test_options_of_tasks_and_jobs(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), clock=FakeClock(NOON))

    @app.task(name="work", timeout=MINUTE)
    async def work() -> None: ...

    assert work.options.get("timeout") == 60.0
    for options in (
        {"delay": MINUTE},
        {"timeout": MINUTE},
        {"expires": MINUTE},
        {"result_ttl": MINUTE},
        {"delay": 60},
    ):
        assert work.apply_async(**options)  # type: ignore[arg-type]
        assert app.enqueue("work", **options)  # type: ignore[arg-type]
        assert work.s().set(**options).delay()  # type: ignore[arg-type]
    rows = app.configs.storage.get([job.id for job in app.jobs(limit=3, newest_first=False)])
    assert {row.due_at - row.created_at for row in rows} == {60_000_000}
    app.close()


async def test_schedules_count_a_timedelta(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work")
    async def work() -> str:
        return "done"

    async with app:
        assert await soon(await work.schedule().delay(MOMENT)) == "done"
        assert await soon(await work.schedule().delay(-MINUTE)) == "done"
        with pytest.raises(ConfigurationError):
            await work.schedule().delay("1")  # type: ignore[arg-type]
        await work.schedule().delay(timedelta(days=1), job_id="later")
        with pytest.raises(WaitTimeoutError, match=r"0\.02 seconds"):
            await app.wait_all(timeout=MOMENT)
    await app.startup()
    await app.shutdown(grace=MOMENT)


def test_handles_wait_for_a_timedelta(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    job = app.enqueue("unknown")

    def streamed() -> Any:
        return list(job.stream(timeout=MOMENT))

    async def astreamed() -> Any:
        return [value async for value in job.astream(timeout=MOMENT)]

    waits: list[Callable[[], Any]] = [
        lambda: job.result(timeout=MOMENT, poll_interval=MOMENT, max_poll_interval=MINUTE),
        lambda: job.wait(timeout=MOMENT),
        streamed,
        lambda: asyncio.run(job.aresult(timeout=MOMENT, poll_interval=MOMENT)),
        lambda: asyncio.run(job.await_end(timeout=MOMENT)),
        lambda: asyncio.run(astreamed()),
    ]
    for wait in waits:
        with pytest.raises(WaitTimeoutError, match=r"0\.02 seconds") as error:
            wait()
        assert isinstance(error.value, TimeoutError)
        assert isinstance(error.value, BaseJobifyError)
        assert (error.value.timeout, error.value.job_id) == (0.02, job.id)
    assert job.cancel(timeout=MINUTE)
    app.close()


async def test_an_attempt_ends_after_its_timedelta(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="slow", timeout=MOMENT)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with app:
        job = await slow.push()
        await eventually(lambda: job.status.value == "timeout")


DURATIONS = {"timeout", "grace", "delay", "initial_delay", "max_delay", "result_ttl", "poll_interval", "seconds"}


def test_every_public_duration_says_that_it_takes_one() -> None:
    places = {
        f"{name}.{key}.{parameter.name}": str(parameter.annotation)
        for name in jobify.__all__
        if inspect.isclass(kind := getattr(jobify, name)) and not issubclass(kind, Exception)
        for key, function in inspect.getmembers(kind, inspect.isfunction)
        if not key.startswith("_") or key in ("__init__", "__new__")
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name in DURATIONS
    }
    assert len(places) > 15
    assert {place for place, text in places.items() if "Duration" not in text} <= {
        "Storage.recover.grace",
        "SQLiteStorage.recover.grace",
    }


def test_errors_of_one_tree_keep_their_older_bases(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    router = JobRouter()

    @router.task(name="alone")
    async def alone() -> None: ...

    with pytest.raises(TaskNotAttachedError) as unattached:
        alone.delay()
    with pytest.raises(RouterError) as circular:
        router.include_router(router)
    app.enqueue("x", job_id="1")
    with pytest.raises(DuplicateJobError) as duplicate:
        app.enqueue("x", job_id="1")
    for error in (unattached, circular, duplicate):
        assert isinstance(error.value, BaseJobifyError)
        assert isinstance(error.value, RuntimeError)
    app.close()
