"""Tasks that raise what is no Exception, or several errors at once: one rule in every run mode (story F19)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exit_tasks as tasks
import pytest

from jobify import Jobify, JobResult, RunMode, SmartRetry, current_job
from jobify.exceptions import JobTimeoutError, TaskExitError
from jobify.jobs.context import JobContext
from jobify.model.control_flow import all_match, any_matches
from jobify.model.retry import should_retry
from support import durable, label, run, soon

pytestmark = pytest.mark.promise("f19")

MODES = ["async", RunMode.THREAD, RunMode.PROCESS]


def register(app: Jobify, func: Callable[[], None], mode: Any, **options: Any) -> Any:
    """``func`` as a task of a run mode."""
    if mode != "async":
        return app.task(func, name="task", run_mode=mode, **options)

    @functools.wraps(func)
    async def on_the_loop() -> None:
        func()

    return app.task(on_the_loop, name="task", **options)


async def attempts_of(app: Jobify, task: Any) -> JobResult[Any]:
    """The handle of a job of ``task`` that has ended."""
    async with app:
        job: JobResult[Any] = await task.adelay()
        await job.await_end(60)
        return job


def outcome(folder: Path, func: Callable[[], None], mode: Any, **policy: Any) -> tuple[str, int]:
    """How a job ends, and after how many attempts."""
    app = Jobify(storage=durable(folder))
    retry = SmartRetry(retries=1, initial_delay=0.01, **policy)
    job = run(attempts_of(app, register(app, func, mode, retry=retry)))
    try:
        return job.status, len(job.errors)
    finally:
        app.close()


@pytest.mark.parametrize("mode", MODES, ids=label)
@pytest.mark.parametrize("func", tasks.ENDINGS, ids=lambda func: func.__name__)
def test_every_run_mode_retries_the_same(tmp_path: Path, func: Callable[[], None], mode: Any) -> None:
    expected = ("failed", 1) if func is tasks.nothing_to_give else ("dead", 2)
    assert outcome(tmp_path, func, mode) == expected


@pytest.mark.parametrize("mode", MODES, ids=label)
@pytest.mark.parametrize(
    ("func", "policy", "is_retried"),
    [
        (tasks.leave, {"exclude_exceptions": (SystemExit,)}, False),
        (tasks.leave, {"include_exceptions": (SystemExit,)}, True),
        (tasks.leave, {"include_exceptions": (TaskExitError,)}, True),
        (tasks.leave, {"include_exceptions": (ConnectionError,)}, False),
        (tasks.stray_cancel, {"exclude_exceptions": (asyncio.CancelledError,)}, False),
        (tasks.group, {"include_exceptions": (ConnectionError, TimeoutError)}, True),
        (tasks.group, {"include_exceptions": (OSError,)}, True),
        (tasks.group, {"include_exceptions": (ConnectionError,)}, False),
        (tasks.group, {"include_exceptions": (ExceptionGroup,)}, True),
        (tasks.group, {"exclude_exceptions": (TimeoutError,)}, False),
        (tasks.nested_group, {"include_exceptions": (ConnectionError,)}, True),
        (tasks.nested_group, {"exclude_exceptions": (ConnectionError,)}, False),
        (tasks.group_with_exit, {"exclude_exceptions": (SystemExit,)}, False),
        (tasks.group_with_exit, {"include_exceptions": (ConnectionError,)}, False),
        (tasks.group_with_exit, {"include_exceptions": (ConnectionError, SystemExit)}, True),
        (tasks.left_over, {"exclude_exceptions": (ConnectionError,)}, True),
    ],
    ids=label,
)
def test_policies_look_into_groups(
    tmp_path: Path, func: Callable[[], None], policy: dict[str, Any], is_retried: bool, mode: Any
) -> None:
    assert outcome(tmp_path, func, mode, **policy) == (("dead", 2) if is_retried else ("failed", 1))


@pytest.mark.parametrize("mode", MODES, ids=label)
@pytest.mark.parametrize("func", [tasks.leave, tasks.interrupt, tasks.stray_cancel], ids=lambda func: func.__name__)
async def test_handlers_and_history_say_the_same(tmp_path: Path, func: Callable[[], None], mode: Any) -> None:
    seen: list[BaseException] = []

    async def handle(error: TaskExitError, context: JobContext) -> str:
        assert error.__cause__ is not None
        seen.append(error.__cause__)
        return "handled"

    app = Jobify(storage=durable(tmp_path))
    handled = register(app, func, mode, exception_handlers={TaskExitError: handle})
    async with app:
        assert await soon(await handled.push()) == "handled"
    bare = Jobify(storage=durable(tmp_path))
    job = await attempts_of(bare, register(bare, func, mode))
    assert job.error is not None
    assert job.error.startswith("TaskExitError: The task raised ")
    (line,) = job.errors
    assert line["message"] == job.error
    for one in (app, bare):
        one.close()
    assert [type(cause) for cause in seen] == [SystemExit if func is tasks.leave else type(_raised(func))]


def _raised(func: Callable[[], None]) -> BaseException:
    try:
        func()
    except BaseException as error:
        return error
    raise AssertionError("it has raised nothing")


async def test_an_interruption_is_no_failure_of_the_task(tmp_path: Path) -> None:
    """A cancel passes middleware and handlers, as ever."""
    seen: list[BaseException] = []

    async def handle(error: Exception, context: JobContext) -> str:
        seen.append(error)
        return "handled"

    app = Jobify(storage=durable(tmp_path))

    @app.task(exception_handlers={Exception: handle}, retry=3, timeout=60)
    async def hang() -> None:
        await asyncio.sleep(3600)

    async with app:
        job = await hang.push()
        await job.cancel()
        assert job.status.value == "cancelled"
    app.close()
    assert seen == []


async def test_a_check_of_the_timeout_counts_inside_a_task_group(tmp_path: Path) -> None:
    seen: list[BaseException] = []

    async def handle(error: TimeoutError, context: JobContext) -> str:
        seen.append(error)
        return "handled"

    app = Jobify(storage=durable(tmp_path))

    @app.task(timeout=0.05, exception_handlers={TimeoutError: handle})
    async def checks() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())

    async def part() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            current_job.check_cancelled()

    async with app:
        assert await soon(await checks.push()) == "handled"
    app.close()
    assert [type(error) for error in seen] == [JobTimeoutError]


def test_a_group_may_be_nested_deeper_than_the_stack() -> None:
    error: Exception = ConnectionError("away")
    for _ in range(50_000):
        error = ExceptionGroup("more", [error])
    assert all_match(error, (ConnectionError,))
    assert any_matches(error, (ConnectionError,))
    assert not all_match(error, (ValueError,))
    assert should_retry(SmartRetry(retries=1, include_exceptions=(OSError,)), error, 1)
    while isinstance(error, ExceptionGroup):  # its own end would need a stack as deep
        error = error.exceptions[0]
