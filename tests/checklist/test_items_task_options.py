"""Checklist items 34-41: what a task can be told."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from checklist_tasks import process_id
from jobify import INJECT, Cron, JobContext, Jobify, JobStatus, MisfirePolicy, RouteOptions, RunMode, SmartRetry
from jobify.exceptions import JobTimeoutError
from support import durable


@pytest.mark.promise("item-34")
def test_name() -> None:
    app = Jobify(storage=False)

    @app.task(name="my_daily_report")
    def report() -> None: ...

    @app.task
    def other() -> None: ...

    assert report.name == "my_daily_report"
    assert other.name == f"{__name__}:test_name.<locals>.other"


@pytest.mark.promise("item-35")
async def test_cron_as_text_and_as_rule() -> None:
    app = Jobify(storage=False)

    @app.task(cron="0 9 * * *")
    def text() -> None: ...

    @app.task(cron=Cron("0 10 * * *"))
    def rule() -> None: ...

    @app.task(cron=None)
    def without() -> None: ...

    async with app:
        assert {job.id: job.cron_expression for job in app.get_active_jobs()} == {
            f"{text.name}__jobify_cron_definition": "0 9 * * *",
            f"{rule.name}__jobify_cron_definition": "0 10 * * *",
        }


@pytest.mark.promise("item-35")
def test_the_rule_is_checked_where_it_is_written() -> None:
    app = Jobify(storage=False)
    with pytest.raises(ValueError, match="minute"):
        app.task(process_id, cron="61 * * * *")
    with pytest.raises(ValueError):
        app.task(process_id, cron="0 0 30 2 *")
    with pytest.raises(ValueError):
        app.task(process_id, cron=5)  # type: ignore[call-overload]


def failing_attempts(retry: Any) -> int:
    """How often a task that always fails is tried."""
    attempts = 0

    async def main() -> JobStatus:
        app = Jobify(storage=False)

        @app.task(retry=retry)
        async def fail() -> None:
            nonlocal attempts
            attempts += 1
            raise OSError

        async with app:
            job = await fail.push()
            await job.wait()
            return job.status

    assert asyncio.run(main()) is JobStatus.FAILED
    return attempts


@pytest.mark.promise("item-36")
def test_retry() -> None:
    assert failing_attempts(None) == 1
    assert failing_attempts(0) == 1
    assert failing_attempts(SmartRetry(retries=3, initial_delay=0.001)) == 4


@pytest.mark.promise("item-36", "x6", "rule-9")
def test_a_number_is_a_smart_retry() -> None:
    app = Jobify(storage=False)
    assert app.task(process_id, retry=3).options["retry"] == SmartRetry(retries=3)
    for wrong in (-1, 1.5, "3", True):
        with pytest.raises(ValueError):
            app.task(process_id, name="wrong", retry=wrong)  # type: ignore[arg-type]


@pytest.mark.promise("item-37")
async def test_timeout() -> None:
    app = Jobify(storage=False)
    stopped = asyncio.Event()

    @app.task(timeout=0.01)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @app.task(timeout=30)
    async def quick() -> str:
        return "in time"

    async with app:
        job = await slow.push()
        await job.wait()
        assert stopped.is_set()
        assert job.status is JobStatus.TIMEOUT
        assert isinstance(job.exception, JobTimeoutError)
        assert job.exception.timeout == 0.01
        assert job.exception.job_id == job.id
        assert await (await quick.push()) == "in time"
    for wrong in (0, -1, float("nan"), float("inf"), "5"):
        with pytest.raises(ValueError):
            Jobify(storage=False).task(process_id, timeout=wrong)  # type: ignore[arg-type]


@pytest.mark.promise("item-38")
async def test_durable(tmp_path: Path) -> None:
    ran = []

    async def life(schedule: bool) -> None:
        app = Jobify(storage=durable(tmp_path))

        @app.task(name="kept")
        def kept() -> None:
            ran.append("kept")

        @app.task(name="stored", durable=True)
        def stored() -> None:
            ran.append("stored")

        @app.task(name="lost", durable=False)
        def lost() -> None:
            ran.append("lost")

        async with app:
            if schedule:
                for task in (kept, stored, lost):
                    await task.schedule().delay(0.05)
            else:
                assert {job.status for job in app.get_active_jobs()} == {JobStatus.SCHEDULED}
                await app.wait_all(5)

    await life(schedule=True)
    await life(schedule=False)
    assert sorted(ran) == ["kept", "stored"]


@pytest.mark.slow
@pytest.mark.promise("item-38")
async def test_every_second_without_the_database(tmp_path: Path) -> None:
    storage = durable(tmp_path)
    app = Jobify(storage=storage)
    ticked = asyncio.Event()

    @app.task(cron="* * * * * * *", durable=False)
    async def tick() -> None:
        ticked.set()

    async with app:
        await ticked.wait()
        assert list(storage.get([f"{tick.name}__jobify_cron_definition"])) == []


@pytest.mark.promise("item-39")
async def test_run_mode() -> None:
    app = Jobify(storage=False)
    here = threading.get_ident()

    @app.task
    async def on_the_loop() -> int:
        return threading.get_ident()

    @app.task(run_mode=RunMode.MAIN)
    async def on_the_loop_too() -> int:
        return threading.get_ident()

    @app.task
    def in_a_thread() -> int:
        return threading.get_ident()

    @app.task(run_mode=RunMode.THREAD)
    def in_a_thread_too() -> int:
        return threading.get_ident()

    in_a_process = app.task(process_id, run_mode=RunMode.PROCESS)
    async with app:
        assert await (await on_the_loop.push()) == here
        assert await (await on_the_loop_too.push()) == here
        assert await (await in_a_thread.push()) != here
        assert await (await in_a_thread_too.push()) != here
        assert await (await in_a_process.push()) != process_id()


@pytest.mark.promise("item-39")
def test_run_mode_must_fit_the_function() -> None:
    app = Jobify(storage=False)

    async def coroutine() -> None: ...

    for mode in (RunMode.THREAD, RunMode.PROCESS):
        with pytest.raises(ValueError, match="async"):
            app.task(coroutine, run_mode=mode)
    with pytest.raises(ValueError, match="thread"):
        app.task(process_id, run_mode=RunMode.MAIN)
    with pytest.raises(ValueError, match="process"):
        app.task(process_id, run_mode="proces")  # type: ignore[call-overload]


@pytest.mark.promise("item-40")
@pytest.mark.parametrize("metadata", [{"key1": "x"}, MappingProxyType({"key1": "x"}), None])
async def test_metadata(metadata: Mapping[str, Any] | None) -> None:
    app = Jobify(storage=False)

    @app.task(metadata=metadata)
    async def see(options: RouteOptions = INJECT) -> Any:
        return options.get("metadata")

    async with app:
        assert await (await see.push()) == metadata


@pytest.mark.promise("item-41")
def test_all_options_together() -> None:
    """The decorators of the documentation as they stand there; ``test_items_examples`` runs them as a file."""
    app = Jobify(storage=False)
    report = app.task(
        process_id,
        name="my_daily_report",
        cron=Cron("* * * * *", max_runs=30, max_failures=4, misfire_policy=MisfirePolicy.SKIP),
        retry=3,
        timeout=300,
        durable=True,
        run_mode=RunMode.PROCESS,
        metadata={"key1": "somekey_for_metadata"},
    )
    assert report.options["timeout"] == 300
    with pytest.raises(ValueError, match="Did you mean 'timeout'"):
        app.task(process_id, name="other", timout=3)  # type: ignore[call-overload]


@pytest.mark.promise("item-41")
async def test_naive_start_date(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    start = datetime(2127, 1, 1)
    cron = Cron("0 18 * * 1-5", max_runs=100, max_failures=5, misfire_policy=MisfirePolicy.ALL, start_date=start)

    @app.task(cron=cron)
    def my_daily_report() -> None: ...

    async with app:
        (job,) = app.get_active_jobs()
        assert job.exec_at == start.replace(tzinfo=UTC)


@pytest.mark.promise("item-41")
async def test_exception_handlers_of_a_task() -> None:
    app = Jobify(storage=False, exception_handlers={ValueError: lambda exc, context: "app"})

    def handle(exc: Exception, context: JobContext) -> str:
        return f"task {context.route_options['name']}"

    @app.task(name="x", exception_handlers={ValueError: handle})
    async def fail() -> str:
        raise ValueError

    async with app:
        assert await (await fail.push()) == "task x"


@pytest.mark.promise("item-41")
def test_the_function_is_left_as_it_was() -> None:
    app = Jobify(storage=False)

    def report(day: int = 1) -> str:
        """Says the day."""
        return f"day {day}"

    before = (report.__name__, report.__qualname__, report.__module__)
    task = app.task(report)
    assert (report.__name__, report.__qualname__, report.__module__) == before
    assert task.__doc__ == "Says the day."
    assert task.__wrapped__ is report  # type: ignore[attr-defined]
    assert task(2) == "day 2"
    assert inspect.signature(task) == inspect.signature(report)
