"""How jobs end, and what their handles say: stories B27, B40, B41, B43, B44 and B48."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobify import INJECT, Cron, Job, JobContext, Jobify, JobRouter, JobStatus, SmartRetry
from jobify.exceptions import (
    ApplicationStateError,
    ConfigurationError,
    InvalidCronError,
    JobFailedError,
    JobNotCompletedError,
    JobTimeoutError,
    NoResultError,
    TaskExitError,
)
from jobify.gateway import inline
from jobify.model.records import JobQuery
from jobify.storage.memory import MemoryStorage
from jobify.testing.clock import FakeClock
from support import durable, eventually, label, nudge, run, soon

pytestmark = pytest.mark.both_storages

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "memory"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Jobify:
    return Jobify(storage=durable(tmp_path) if request.param == "sqlite" else False, clock=FakeClock(NOON))


def advance(app: Jobify, seconds: float) -> None:
    app._clock.advance(seconds)  # type: ignore[attr-defined]  # a FakeClock
    nudge(app)


# -- B27 ---------------------------------------------------------------------------------------------------------------


async def cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises_cancelled() -> None:
    raise asyncio.CancelledError


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def cancelled_child() -> None:
    child = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(child.cancel)
    await child


async def exits() -> None:
    raise SystemExit(3)


async def interrupts() -> None:
    raise KeyboardInterrupt


async def stops() -> None:
    raise GeneratorExit


@pytest.mark.promise("b27")
@pytest.mark.parametrize(
    "func", [cancelled_future, raises_cancelled, cancels_itself, cancelled_child, exits, interrupts, stops]
)
async def test_whatever_a_job_raises_it_ends_once_and_is_gone(app: Jobify, func: Callable[[], Any]) -> None:
    task = app.task(func, name="task")

    @app.task
    async def other() -> str:
        return "fine"

    async with app:
        job = await task.push()
        await soon(job.wait())
        assert job.status is JobStatus.FAILED
        assert job.is_done()
        assert isinstance(job.exception, TaskExitError)
        with pytest.raises(JobFailedError):
            job.result()
        await soon(app.wait_all())
        assert app.get_active_jobs() == []
        assert await soon(await other.push()) == "fine"
    async with app:
        await soon(app.wait_all())


@pytest.mark.promise("b27")
async def test_a_cron_goes_on(app: Jobify) -> None:
    runs = []

    @app.task
    async def task() -> int:
        runs.append(True)
        if len(runs) == 1:
            raise asyncio.CancelledError
        return len(runs)

    async with app:
        job = await task.schedule().cron("* * * * *", job_id="it")
        for number in (1, 2):
            advance(app, 60)
            await eventually(lambda: len(runs) == number and job.status is JobStatus.SCHEDULED)
        assert job.result() == 2


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no words")


class Strange(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("nor a form")


ERRORS = [
    Unspeakable(),
    Strange(),
    ValueError("\udcff half a character"),
    ValueError("\0"),
    ValueError("x" * 5_000_000),
    RecursionError(),
    ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    StopIteration("no coroutine can raise it"),
    StopAsyncIteration(),
    MemoryError(),
]


@pytest.mark.promise("b27")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("retry", [0, SmartRetry(1, initial_delay=0)], ids=["no retry", "a retry"])
async def test_errors_that_cannot_be_shown_or_written(app: Jobify, error: Exception, retry: Any) -> None:
    @app.task(name="task", retry=retry)
    async def task() -> None:
        raise error

    @app.task(name="thread", retry=retry)
    def thread() -> None:
        raise error

    async with app:
        for job in (await task.push(), await thread.push()):
            await soon(job.wait())
            assert job.status is JobStatus.FAILED
            with pytest.raises(JobFailedError):
                job.result()
        await soon(app.wait_all())


@pytest.mark.parametrize("value", ["\udcff", "\0", object(), {1: object()}, float("nan")], ids=label)
async def test_results_that_cannot_be_written(app: Jobify, value: Any) -> None:
    @app.task(name="task")
    async def task() -> Any:
        return value

    async with app:
        job = await task.push()
        assert await soon(job) is value
        assert job.status is JobStatus.SUCCESS
        await soon(app.wait_all())


class BrokenRetry(SmartRetry):
    """A policy of the user's own, with a mistake in it."""

    def compute_delay(self, attempt: int) -> float:
        raise KeyError(attempt)


async def test_an_attempt_ends_even_if_its_retry_policy_fails(app: Jobify, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the policy does not keep the job running, and its slot taken, for ever."""

    @app.task(name="task", retry=BrokenRetry(3))
    async def task() -> None:
        raise ValueError

    async with app:
        job = await task.push()
        await soon(job.wait())
        assert job.status is JobStatus.FAILED
        assert isinstance(job.exception, KeyError)
        await soon(app.wait_all())
    assert "The retry policy of job" in caplog.text
    assert "compute_delay" in caplog.text


async def test_a_retry_that_is_far_away_is_a_retry(app: Jobify) -> None:
    @app.task(retry=SmartRetry(1, initial_delay=1e300, max_delay=1e300))
    async def task() -> None:
        raise ValueError

    async with app:
        job = await task.push()
        await eventually(lambda: job.exec_at > NOON + timedelta(days=3650))
        assert job.status is JobStatus.SCHEDULED
        await job.cancel()
        await soon(app.wait_all())


# -- B40 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b40")
async def test_cancelling_what_has_ended_changes_nothing(app: Jobify) -> None:
    @app.task
    async def task(fails: bool) -> str:
        if fails:
            raise ValueError("as it was told")
        return "done"

    async with app:
        good, bad = await task.push(False), await task.push(True)
        await soon(asyncio.gather(good.wait(), bad.wait()))
        for job in (good, bad):
            await job.cancel()
            await job.cancel(interrupt=False)
        assert (good.status, good.result()) == (JobStatus.SUCCESS, "done")
        assert (bad.status, type(bad.exception)) == (JobStatus.FAILED, ValueError)
    await good.cancel()
    assert (good.status, good.result()) == (JobStatus.SUCCESS, "done")


@pytest.mark.promise("b40")
async def test_a_timeout_error_of_the_task_is_no_timeout_of_the_job(app: Jobify) -> None:
    @app.task(timeout=300)
    async def task() -> None:
        raise TimeoutError("of a socket")

    @app.task(timeout=300)
    async def inner() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    @app.task(timeout=300)
    def thread() -> None:
        raise TimeoutError("of a socket")

    async with app:
        for job in (await task.push(), await inner.push(), await thread.push()):
            await soon(job.wait())
            assert job.status is JobStatus.FAILED
            assert type(job.exception) is TimeoutError


@pytest.mark.promise("b40")
async def test_a_timeout_of_the_job(app: Jobify) -> None:
    @app.task(timeout=0.02)
    async def task() -> None:
        await asyncio.Event().wait()

    @app.task(timeout=0.02)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "no"
        return "never"

    async with app:
        for job in (await task.push(), await stubborn.push()):
            await soon(job.wait())
            assert job.status is JobStatus.TIMEOUT
            assert isinstance(job.exception, JobTimeoutError)
            assert isinstance(job.exception, TimeoutError)
            assert (job.exception.job_id, job.exception.timeout) == (job.id, 0.02)
            with pytest.raises(JobFailedError, match="timed out") as caught:
                job.result()
            assert isinstance(caught.value, JobNotCompletedError)
            assert caught.value.__cause__ is job.exception


@pytest.mark.promise("b40")
@pytest.mark.parametrize("level", ["task", "app"])
async def test_handlers_of_timeout_error_see_a_timeout_of_the_job(level: str) -> None:
    def handle(error: Exception, context: JobContext) -> str:
        return f"handled {type(error).__name__}"

    handlers: dict[type[Exception], Any] = {TimeoutError: handle}
    app = Jobify(storage=False, exception_handlers=handlers if level == "app" else None)

    @app.task(timeout=0.02, exception_handlers=handlers if level == "task" else None)
    async def task() -> None:
        await asyncio.Event().wait()

    async with app:
        assert await soon(await task.push()) == "handled JobTimeoutError"


@pytest.mark.promise("b40")
async def test_a_job_that_swallows_its_cancel_is_cancelled(app: Jobify) -> None:
    begun = []

    @app.task
    async def task() -> str:
        begun.append(True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "nevertheless"

    async with app:
        job = await task.push()
        await eventually(lambda: begun)
        await soon(job.cancel())
        assert job.status is JobStatus.CANCELLED
        with pytest.raises(JobFailedError):
            job.result()


@pytest.mark.promise("x2")
async def test_cancelling_waiting_running_and_threads(app: Jobify) -> None:
    begun, ended, go_on = threading.Event(), [], threading.Event()

    @app.task
    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    @app.task
    def thread() -> str:
        begun.set()
        go_on.wait(60)
        ended.append("thread")
        return "discarded"

    async with app:
        waiting, running, threaded = await task.schedule().delay(300), await task.push(), await thread.push()
        await asyncio.to_thread(begun.wait, 60)
        await soon(asyncio.gather(*(job.cancel() for job in (waiting, running, threaded))))
        assert ended == ["task"]
        for job in (waiting, running, threaded):
            assert job.status is JobStatus.CANCELLED
            await soon(job.wait())
        go_on.set()
        await soon(app.wait_all())
    assert threaded.status is JobStatus.CANCELLED


@pytest.mark.promise("x2")
async def test_a_running_job_can_be_left_alone(app: Jobify) -> None:
    go_on = asyncio.Event()
    begun = []

    @app.task
    async def task() -> str:
        begun.append(True)
        await go_on.wait()
        return "done"

    async with app:
        job = await task.push()
        cron = await task.schedule().cron("* * * * *", job_id="cron")
        advance(app, 60)
        await eventually(lambda: len(begun) == 2)
        await job.cancel(interrupt=False)
        await cron.cancel(interrupt=False)
        assert JobStatus.RUNNING == job.status == cron.status
        go_on.set()
        assert await soon(job) == "done"
        await soon(cron.wait())
        assert cron.is_done()
        assert cron.result() == "done"
        advance(app, 3600)
        await soon(app.wait_all())
        assert len(begun) == 2


@pytest.mark.promise("x2")
async def test_a_cron_that_is_left_alone_is_not_tried_again(app: Jobify) -> None:
    go_on = asyncio.Event()
    begun = []

    @app.task(retry=SmartRetry(3, initial_delay=0))
    async def task() -> str:
        begun.append(True)
        await go_on.wait()
        raise ValueError

    async with app:
        cron = await task.schedule().cron("* * * * *", job_id="cron")
        advance(app, 60)
        await eventually(lambda: begun)
        await cron.cancel(interrupt=False)
        go_on.set()
        await soon(cron.wait())
        assert cron.status is JobStatus.CANCELLED
        await soon(app.wait_all())
        assert len(begun) == 1


async def test_a_job_may_cancel_itself(app: Jobify) -> None:
    @app.task
    async def task(job: Job[None] = INJECT) -> None:
        await job.cancel()
        await asyncio.Event().wait()

    async with app:
        job = await task.push()
        await soon(job.wait())
        assert job.status is JobStatus.CANCELLED


# -- B41 ---------------------------------------------------------------------------------------------------------------


async def test_a_job_is_told_that_it_cannot_wait_for_itself(app: Jobify) -> None:
    """Nor as a second one who waits; what a job starts on the side may wait for its end."""
    beside: list[asyncio.Task[None]] = []
    others = asyncio.Event()

    @app.task(name="task")
    async def task(job: Job[None] = INJECT) -> None:
        beside.append(asyncio.create_task(job.wait()))
        await others.wait()
        await job

    async with app:
        job = await task.push()
        waiting = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        others.set()
        await soon(asyncio.gather(waiting, *beside))
        assert isinstance(job.exception, ApplicationStateError)
        assert "wait for itself" in str(job.exception)


@pytest.mark.promise("b41", "x12")
async def test_a_cron_handle_speaks_of_the_last_run(app: Jobify) -> None:
    runs = 0

    @app.task(timeout=0.05)
    async def task() -> str:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise ValueError("second")
        if runs == 3:
            await asyncio.Event().wait()
        return f"run {runs}"

    async with app:
        job = await task.schedule().cron("* * * * *", job_id="it")
        with pytest.raises(JobNotCompletedError):
            job.result()

        async def next_run() -> None:
            waiting = asyncio.ensure_future(job.wait())
            advance(app, 60)
            await soon(waiting)
            assert job.status is JobStatus.SCHEDULED
            assert not job.is_done()

        await next_run()
        assert (job.result(), job.exception) == ("run 1", None)
        await next_run()
        assert isinstance(job.exception, ValueError)
        with pytest.raises(JobFailedError, match="second"):
            job.result()
        await next_run()
        assert isinstance(job.exception, JobTimeoutError)
        with pytest.raises(JobFailedError, match="timed out"):
            job.result()
        await next_run()
        assert (job.result(), job.exception) == ("run 4", None)
        waiting = asyncio.ensure_future(job)
        await asyncio.sleep(0)
        advance(app, 60)
        assert await soon(waiting) == "run 5"


# -- B43 ---------------------------------------------------------------------------------------------------------------

BAD_CRONS = ["0 0 30 2 *", "61 * * * *", "* * * *", "", "every minute", "0 0 31 4 *", "0 0 1 1 * 1999 7 8"]


@pytest.mark.promise("b43")
@pytest.mark.parametrize("expression", BAD_CRONS)
async def test_an_impossible_cron_is_a_value_error_where_it_is_written(app: Jobify, expression: str) -> None:
    async def task() -> None: ...

    for cron in (expression, lambda: Cron(expression)):
        with pytest.raises(ValueError):
            app.task(cron=cron() if callable(cron) else cron)(task)
    assert list(app.routes) == []

    good = app.task(task)
    async with app:
        with pytest.raises(InvalidCronError):
            await good.schedule().cron(expression, job_id="it")
        assert app.get_active_jobs() == []


@pytest.mark.promise("b43")
def test_in_a_router_it_is_an_error_at_the_include_at_the_latest() -> None:
    with pytest.raises(ValueError):
        router = JobRouter()

        @router.task(cron="0 0 30 2 *")
        async def task() -> None: ...

        Jobify(storage=False).include_router(router)


# -- B44 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b44")
async def test_annotations_for_type_checkers_only(app: Jobify) -> None:
    @app.task
    async def task(number: OnlyForTypeCheckers, text: str) -> OnlyForTypeCheckers:
        return number

    async with app:
        assert await soon(await task.push(3, "x")) == 3  # type: ignore[arg-type]
        assert await soon(await task.schedule(4, "x").delay(0)) == 4  # type: ignore[arg-type]


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    async def __call__(self, other: int) -> int:
        return self.number + other


class PlainAdder(Adder):
    def __call__(self, other: int) -> int:  # type: ignore[override]
        return self.number + other


async def add(a: int, b: int) -> int:
    return a + b


def plain_add(a: int, b: int) -> int:
    return a + b


@pytest.mark.promise("b44")
@pytest.mark.parametrize(
    "func", [functools.partial(add, 1), functools.partial(plain_add, 1), Adder(1), PlainAdder(1), Adder(1).__call__]
)
async def test_partials_and_objects_can_be_tasks(app: Jobify, func: Any) -> None:
    task = app.task(func, name="task")

    async with app:
        assert await soon(await task.push(2)) == 3
    async with app:
        assert await soon(await task.schedule(3).delay(0)) == 4


@pytest.mark.promise("b44")
async def test_an_object_can_be_a_handler(app: Jobify) -> None:
    class Handler:
        async def __call__(self, error: Exception, context: JobContext) -> str:
            await asyncio.sleep(0)
            return f"handled {error}"

    @app.task(exception_handlers={ValueError: Handler()})
    async def task() -> None:
        raise ValueError("it")

    async with app:
        assert await soon(await task.push()) == "handled it"


@pytest.mark.promise("b44")
async def test_context_variables_reach_every_kind_of_task(app: Jobify) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    @app.task
    async def task() -> str:
        return who.get()

    @app.task
    def thread() -> str:
        return who.get()

    async with app:
        who.set("caller")
        assert await soon(await task.push()) == "caller"
        assert await soon(await thread.push()) == "caller"


@pytest.mark.promise("b44")
@pytest.mark.parametrize(
    "options",
    [
        {"retry": -5},
        {"retry": 1.5},
        {"retry": True},
        {"timeout": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "1"},
        {"timout": 3},
        {"durable": "yes"},
        {"run_mode": "elsewhere"},
        {"name": ""},
        {"metadata": 3},
        {"exception_handlers": {"ValueError": print}},
    ],
    ids=str,
)
def test_options_are_checked_where_they_are_written(app: Jobify, options: dict[str, Any]) -> None:
    async def task() -> None: ...

    with pytest.raises((ConfigurationError, TypeError)):
        app.task(**options)(task)
    assert list(app.routes) == []


@pytest.mark.promise("b44")
def test_a_long_series_of_delays_overflows_nothing() -> None:
    policy = SmartRetry(retries=2000, jitter=False)
    assert policy.compute_delay(1100) == policy.compute_delay(100_000) == 60.0


@pytest.mark.promise("b44")
def test_the_function_is_left_as_it_was(app: Jobify) -> None:
    async def task(a: int) -> int:
        """It has words."""
        return a

    route = app.task(task)
    assert task.__name__ == "task"
    assert task.__qualname__.endswith("<locals>.task")
    assert route.__doc__ == "It has words."
    assert run(route(3)) == 3


# -- B48 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b48")
@pytest.mark.parametrize("delay", [1e12, 1e300, float("inf"), float("nan"), -float("inf"), -1e300])
async def test_an_impossible_delay_is_refused_and_nothing_stored(app: Jobify, delay: float) -> None:
    @app.task
    async def task() -> None: ...

    async with app:
        with pytest.raises((ValueError, OverflowError)):
            await task.schedule().delay(delay)
        assert app.get_active_jobs() == []


@pytest.mark.promise("b48")
async def test_past_times_are_at_once_and_far_ones_are_fine(app: Jobify) -> None:
    @app.task
    async def task() -> str:
        return "done"

    async with app:
        far = await task.schedule().delay(50 * 365 * 86_400)
        farther = await task.schedule().at(datetime(9000, 1, 1, tzinfo=UTC))
        assert await soon(await task.schedule().at(NOON - timedelta(days=10_000))) == "done"
        assert await soon(await task.schedule().at(datetime(1, 1, 1, tzinfo=UTC))) == "done"
        assert await soon(await task.schedule().delay(0)) == "done"
        past = await task.schedule().delay(-0.5)
        assert await soon(past) == "done"
        assert past.exec_at == NOON - timedelta(seconds=0.5)
        assert far.exec_at == NOON + timedelta(days=50 * 365)
        assert farther.exec_at.year == 9000


@pytest.mark.promise("b48")
def test_results_survive_a_restart_until_their_time_is_over(tmp_path: Path) -> None:
    clock = FakeClock(NOON)

    def app() -> Jobify:
        app = Jobify(storage=durable(tmp_path), clock=clock, result_ttl=3600)

        @app.task(name="task")
        async def task() -> dict[str, int]:
            return {"answer": 42}

        return app

    async def first(app: Jobify) -> None:
        async with app:
            (route,) = app.routes
            await (await route.schedule().push(job_id="it")).wait()

    async def second(app: Jobify) -> tuple[str, bytes | None]:
        async with app:
            (record,) = app.configs.storage.get(["it"])
            return record.status, record.result

    async def third(app: Jobify) -> None:
        async with app:
            await eventually(lambda: app.configs.storage.get(["it"]) == [])

    run(first(app()))
    status, result = run(second(app()))
    assert status == "success"
    assert result is not None
    assert b"42" in result
    clock.advance(3601)
    run(third(app()))


# -- memory ------------------------------------------------------------------------------------------------------------


class Thing:
    """An argument that can be watched."""


@pytest.mark.parametrize("outcome", ["returns", "raises", "is retried", "times out", "is cancelled"])
@pytest.mark.parametrize("has_middleware", [False, True])
async def test_jobs_leave_nothing_behind(outcome: str, has_middleware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once their rows are forgotten. (pytest keeps all records of the log, and with them the errors.)"""
    monkeypatch.setattr(inline, "_KEPT", 0)
    monkeypatch.setattr(logging.getLogger("jobify.jobs"), "disabled", True)
    app = Jobify(storage=MemoryStorage(keep=0), exception_handlers={KeyError: print} if has_middleware else None)

    @app.task(retry=SmartRetry(2, initial_delay=0) if outcome == "is retried" else None)
    async def task(thing: Thing) -> None:
        if outcome in ("raises", "is retried"):
            raise ValueError(thing)
        if outcome == "is cancelled":
            await asyncio.Event().wait()

    @app.task(timeout=0.001)
    async def slow(thing: Thing) -> None:
        await asyncio.Event().wait()

    async with app:
        held: list[weakref.ref[Any]] = []
        for number in range(5):
            thing = Thing()
            made = (slow if outcome == "times out" else task).schedule(thing)
            job = await (made.push() if number % 2 else made.delay(0.001))
            held += [weakref.ref(thing), weakref.ref(job)]
            if outcome == "is cancelled":
                await soon(job.cancel())
            await soon(job.wait())
        del thing, made, job
        await soon(app.wait_all())
        await asyncio.sleep(0)
        app.configs.storage.purge(now=2**62, limit=1)  # queues let go of what is past when somebody looks
        gc.collect()
        assert [ref() for ref in held if ref() is not None] == []


async def test_of_what_ended_in_memory_the_newest_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "_KEPT", 5)
    app = Jobify(storage=MemoryStorage(keep=5))

    @app.task
    async def task(number: int) -> int:
        return number

    async with app:
        jobs = [await task.push(number) for number in range(8)]
        jobs += [await task.schedule(number).delay(0.001 * number) for number in range(8, 12)]
        for job in jobs:
            await soon(job.wait())
        cancelled = await task.schedule(0).delay(300)
        await cancelled.cancel()
        waiting = await task.schedule(0).delay(300)

        found = {record.id: record for record in app.configs.storage.find(JobQuery())}
        assert set(found) == {*(job.id for job in jobs[-4:]), cancelled.id, waiting.id}
        assert found[jobs[-1].id].result == (11,)


async def test_no_result_error_ends_a_job_without_a_retry(app: Jobify) -> None:
    runs = []

    @app.task(retry=5)
    async def task() -> None:
        runs.append(True)
        raise NoResultError("enough")

    async with app:
        job = await task.push()
        await soon(job.wait())
        assert job.status is JobStatus.FAILED
        assert len(runs) == 1
