"""The order of layers, exception handlers, NoResultError: documented behaviour 6-8."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobify import JobContext, Jobify, JobRouter, JobStatus, SmartRetry
from jobify.exceptions import JobTimeoutError, NoResultError
from jobify.middleware import BaseMiddleware, CallNext
from support import run

AT_ONCE = SmartRetry(retries=2, initial_delay=0)


class Note(BaseMiddleware):
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        self.log.append(f"{self.name} in")
        try:
            return await call_next(context)
        except Exception as error:
            self.log.append(f"{self.name} saw {type(error).__name__}")
            raise
        finally:
            self.log.append(f"{self.name} out")


# -- 6. order ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("rule-6")
async def test_order_of_layers() -> None:
    """App, router, sub-router; then the handlers; then the function."""

    log: list[str] = []

    def handle(error: Exception, context: JobContext) -> str:
        log.append("handler")
        return "handled"

    app = Jobify(storage=False, middleware=[Note(log, "app 1")])
    outer, inner = JobRouter(middleware=[Note(log, "outer")]), JobRouter(middleware=[Note(log, "inner")])
    app.include_router(outer)
    outer.include_router(inner)
    app.add_middleware(Note(log, "app 2"))
    inner.add_middleware(Note(log, "inner 2"))

    @inner.task(exception_handlers={ValueError: handle})
    async def work() -> str:
        log.append("work")
        raise ValueError

    @outer.task
    async def above() -> None:
        log.append("above")

    names = ["app 1", "app 2", "outer", "inner", "inner 2"]
    async with app:
        assert await (await work.push()) == "handled"
        assert log == [
            *(f"{name} in" for name in names),
            "work",
            "handler",
            *(f"{name} out" for name in reversed(names)),
        ]
        log.clear()
        await (await above.push())
        assert log == [
            "app 1 in", "app 2 in", "outer in", "above", "outer out", "app 2 out", "app 1 out",
        ]  # fmt: skip


@pytest.mark.promise("rule-6", "x17")
async def test_layers_apply_to_every_attempt() -> None:
    log: list[str] = []
    app = Jobify(storage=False, middleware=[Note(log, "m")])

    @app.task(retry=AT_ONCE)
    async def fail() -> None:
        raise OSError

    async with app:
        await (await fail.push()).wait()
    assert log == ["m in", "m saw OSError", "m out"] * 3


@pytest.mark.promise("rule-6")
async def test_the_timeout_is_the_innermost_layer_and_timeouts_are_retried() -> None:
    class Slow(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            await asyncio.sleep(0.05)
            return await call_next(context)

    log: list[str] = []
    app = Jobify(storage=False, middleware=[Note(log, "m"), Slow()])
    attempts = 0

    @app.task(timeout=0.02)
    async def quick() -> str:
        return "in time"

    @app.task(timeout=0.02, retry=AT_ONCE)
    async def hang() -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.Event().wait()

    async with app:
        assert await (await quick.push()) == "in time"
        log.clear()
        job = await hang.push()
        await job.wait()
        assert job.status is JobStatus.TIMEOUT
        assert attempts == 3
        assert log == ["m in", "m saw JobTimeoutError", "m out"] * 3


async def test_a_task_that_swallows_the_interruption_has_timed_out_all_the_same() -> None:
    app = Jobify(storage=False)

    @app.task(timeout=0.01)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    async with app:
        job = await stubborn.push()
        await job.wait()
        assert job.status is JobStatus.TIMEOUT


async def test_a_timeout_of_ones_own_is_an_ordinary_failure() -> None:
    app = Jobify(storage=False)

    @app.task(timeout=300)
    async def fail() -> None:
        raise TimeoutError("the service did not answer")

    async with app:
        job = await fail.push()
        await job.wait()
        assert job.status is JobStatus.FAILED
        assert "the service did not answer" in str(job.exception)
        assert not isinstance(job.exception, JobTimeoutError)


# -- 7. exception handlers ---------------------------------------------------------------------------------------------


class Base(Exception):
    pass


class Special(Base):
    pass


def outcome_with(
    raised: Exception | type[Exception],
    *,
    app: Any = None,
    router: Any = None,
    inner: Any = None,
    task: Any = None,
    retry: SmartRetry | None = AT_ONCE,
) -> tuple[Any, int]:
    """What a failing task of a sub-router gives with these handlers at each level, and how often it was tried."""

    async def main() -> tuple[Any, int]:
        root = Jobify(storage=False, exception_handlers=app)
        middle, below = JobRouter(exception_handlers=router), JobRouter(exception_handlers=inner)
        root.include_router(middle)
        middle.include_router(below)
        attempts = 0

        @below.task(exception_handlers=task, retry=retry)
        async def fail() -> Any:
            nonlocal attempts
            attempts += 1
            raise raised

        async with root:
            job = await fail.push()
            await job.wait()
            return (job.result() if job.status is JobStatus.SUCCESS else job.exception), attempts

    return run(main())


def says(word: str) -> Callable[[Exception, JobContext], str]:
    return lambda error, context: word


@pytest.mark.promise("rule-7")
def test_returning_recovers_without_a_retry() -> None:
    assert outcome_with(ValueError, app={ValueError: says("handled")}) == ("handled", 1)
    assert outcome_with(ValueError, app={ValueError: says("")}) == ("", 1)
    assert outcome_with(ValueError, app={ValueError: lambda error, context: None}) == (None, 1)


@pytest.mark.promise("rule-7")
def test_raising_fails_the_attempt() -> None:
    def reraise(error: Exception, context: JobContext) -> None:
        raise error

    def another(error: Exception, context: JobContext) -> None:
        raise KeyError("another") from error

    same, attempts = outcome_with(ValueError("x"), app={ValueError: reraise})
    assert (type(same), attempts) == (ValueError, 3)
    other, attempts = outcome_with(ValueError("x"), app={ValueError: another})
    assert (type(other), attempts) == (KeyError, 3)
    assert isinstance(other.__cause__, ValueError)


def test_a_handler_gets_the_error_and_the_context() -> None:
    error = ValueError("x")
    seen = []

    async def handle(raised: Exception, context: JobContext) -> str:
        seen.append((raised, context.job.status, type(context)))
        return "handled"

    assert outcome_with(error, app={ValueError: handle}) == ("handled", 1)
    assert seen == [(error, JobStatus.RUNNING, JobContext)]


@pytest.mark.promise("rule-7")
def test_the_nearest_level_wins() -> None:
    handlers: dict[str, Any] = {level: {ValueError: says(level)} for level in ("app", "router", "inner", "task")}
    assert outcome_with(ValueError, **handlers)[0] == "task"
    del handlers["task"]
    assert outcome_with(ValueError, **handlers)[0] == "inner"
    del handlers["inner"]
    assert outcome_with(ValueError, **handlers)[0] == "router"
    del handlers["router"]
    assert outcome_with(ValueError, **handlers)[0] == "app"
    assert outcome_with(ValueError, app={ValueError: says("app")}, task={Exception: says("task")})[0] == "task"


@pytest.mark.promise("rule-7")
def test_in_a_level_the_nearest_type_wins() -> None:
    handlers = {Exception: says("Exception"), Base: says("Base"), Special: says("Special")}
    assert outcome_with(Special, app=handlers)[0] == "Special"
    assert outcome_with(Base, app=handlers)[0] == "Base"
    assert outcome_with(KeyError, app=handlers)[0] == "Exception"
    assert outcome_with(Special, app={Base: says("Base")})[0] == "Base"
    assert isinstance(outcome_with(Base, app={Special: says("Special")})[0], Base)


@pytest.mark.promise("rule-7")
def test_a_level_that_does_not_fit_is_passed() -> None:
    assert outcome_with(ValueError, app={ValueError: says("app")}, task={KeyError: says("task")})[0] == "app"


async def test_handlers_of_timeouts() -> None:
    """JobTimeoutError is a TimeoutError, so either name finds it."""

    for kind in (TimeoutError, JobTimeoutError, OSError):
        app = Jobify(storage=False, exception_handlers={kind: says(kind.__name__)})

        @app.task(timeout=0.01)
        async def hang() -> str:
            await asyncio.Event().wait()
            return "never"

        async with app:
            assert await (await hang.push()) == kind.__name__


@pytest.mark.promise("rule-7")
def test_a_plain_handler_runs_in_a_thread_and_in_the_pool_that_the_app_was_given() -> None:
    loop_thread = threading.get_ident()
    names = []

    def handle(error: Exception, context: JobContext) -> str:
        assert threading.get_ident() != loop_thread
        names.append(threading.current_thread().name)
        return "handled"

    async def main(**options: Any) -> None:
        app = Jobify(storage=False, exception_handlers={ValueError: handle}, **options)

        @app.task
        async def fail() -> str:
            raise ValueError

        async with app:
            assert await (await fail.push()) == "handled"

    run(main())
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        run(main(threadpool_executor=pool))
    assert names[1].startswith("mine")


class AsyncHandler:
    async def __call__(self, error: Exception, context: JobContext) -> str:
        return "object"


def test_every_kind_of_handler() -> None:
    import functools

    async def handle(extra: str, error: Exception, context: JobContext) -> str:
        return extra

    async def hidden(error: Exception, context: JobContext) -> str:
        return "hidden"

    handlers: list[tuple[Any, str]] = [
        (AsyncHandler(), "object"),
        (functools.partial(handle, "partial"), "partial"),
        (lambda error, context: hidden(error, context), "hidden"),
    ]
    for handler, word in handlers:
        assert outcome_with(ValueError, app={ValueError: handler}) == (word, 1)


def test_a_handler_that_raises_stop_iteration_hangs_nothing() -> None:
    def handle(error: Exception, context: JobContext) -> None:
        raise StopIteration

    failure, _ = outcome_with(ValueError, app={ValueError: handle}, retry=None)
    assert isinstance(failure, RuntimeError)
    assert "StopIteration" in str(failure)


async def test_a_cancel_is_not_handled() -> None:
    app = Jobify(storage=False, exception_handlers={Exception: says("handled")})
    begun = asyncio.Event()

    @app.task
    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with app:
        job = await hang.push()
        await begun.wait()
        await job.cancel()
        assert job.status is JobStatus.CANCELLED


async def test_handlers_added_later_apply() -> None:
    app, router = Jobify(storage=False), JobRouter()
    app.include_router(router)
    router.add_exception_handler(ValueError, says("router"))
    app.add_exception_handler(KeyError, says("app"))

    @router.task
    async def fail(kind: str) -> str:
        raise {"v": ValueError, "k": KeyError}[kind]

    async with app:
        assert await (await fail.push("v")) == "router"
        assert await (await fail.push("k")) == "app"


# -- 8. NoResultError --------------------------------------------------------------------------------------------------


@pytest.mark.promise("rule-8")
def test_no_result_error_ends_the_job() -> None:
    failure, attempts = outcome_with(NoResultError("enough"))
    assert (str(failure), attempts) == ("enough", 1)

    def give_up(error: Exception, context: JobContext) -> None:
        raise NoResultError("enough") from error

    failure, attempts = outcome_with(ValueError, app={ValueError: give_up})
    assert (type(failure), attempts) == (NoResultError, 1)


@pytest.mark.promise("rule-8")
@pytest.mark.parametrize("retry", [AT_ONCE, SmartRetry(retries=2, initial_delay=0, include_exceptions=(Exception,))])
async def test_no_result_error_fails(retry: SmartRetry) -> None:
    app = Jobify(storage=False)

    @app.task(retry=retry)
    async def fail() -> None:
        raise NoResultError

    async with app:
        job = await fail.push()
        await job.wait()
        assert job.status is JobStatus.FAILED
