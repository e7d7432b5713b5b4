"""Whatever makes the tasks of an event loop, a job knows itself from its first step (story F21); and every attempt of a
job starts from the same context variables (story F22)."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, SmartRetry, current_job
from jobify.exceptions import ApplicationStateError
from probes import attempts_of
from support import a_while, durable, eventually, run, soon

Factory = Callable[..., "asyncio.Task[Any]"]


def plain(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coro, loop=loop, **options)


def wrapping(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """A factory as tracing libraries have one: the task runs something of its own around the coroutine."""

    async def traced() -> Any:
        return await coro

    return asyncio.Task(traced(), loop=loop, **options)


FACTORIES: list[Any] = [None, plain, wrapping]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.fixture(params=FACTORIES, ids=lambda factory: getattr(factory, "__name__", "none"))
def factory(request: pytest.FixtureRequest) -> Factory | None:
    found: Factory | None = request.param
    return found


@pytest.fixture(params=["sqlite", "memory"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Jobify:
    return Jobify(storage=durable(tmp_path) if request.param == "sqlite" else False)


def go(main: Coroutine[Any, Any, None], factory: Factory | None) -> None:
    """Run ``main`` in a loop whose tasks are made by ``factory``."""

    async def prepared() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await main

    run(prepared())


@pytest.mark.promise("f21")
def test_a_job_can_cancel_itself_in_its_first_step(app: Jobify, factory: Factory | None) -> None:
    seen: list[str] = []

    @app.task
    async def cancel_me() -> None:
        job = app.find_job(current_job.id)
        assert job is not None
        await job.cancel()
        seen.append("told to stop")
        await asyncio.sleep(0)
        seen.append("not stopped")

    async def main() -> None:
        async with app:
            job = await cancel_me.push()
            await soon(job.wait())
            assert job.status.value == "cancelled"
        assert seen == ["told to stop"]

    go(main(), factory)


@pytest.mark.promise("f21")
def test_a_job_cannot_wait_for_itself_in_its_first_step(app: Jobify, factory: Factory | None) -> None:
    @app.task
    async def wait_for_me() -> str:
        job = app.find_job(current_job.id)
        assert job is not None
        with pytest.raises(ApplicationStateError, match="would wait for itself"):
            await job.wait()
        return "refused"

    async def main() -> None:
        async with app:
            assert await soon(await wait_for_me.push()) == "refused"

    go(main(), factory)


@pytest.mark.promise("f21")
def test_jobs_that_end_in_their_first_step_leave_nothing_behind(app: Jobify, factory: Factory | None) -> None:
    @app.task
    async def at_once(number: int) -> int:
        return number

    @app.task
    async def fails() -> None:
        raise ValueError("at once")

    async def main() -> None:
        async with app:
            jobs = await asyncio.gather(*[at_once.push(number) for number in range(20)])
            assert [await soon(job) for job in jobs] == list(range(20))
            failed = await fails.push()
            await soon(failed.wait())
            assert failed.status.value == "failed"
            await soon(app.wait_all())
            assert attempts_of(app).running == {}

    go(main(), factory)


@pytest.mark.slow
@pytest.mark.promise("f21")
def test_a_long_chain_of_pushes_does_not_nest(app: Jobify, factory: Factory | None) -> None:
    """A first step that runs at once would be inside of the push, and that of its own push inside of it."""
    ends: list[int] = []

    @app.task
    async def follow(left: int) -> None:
        if left:
            await follow.push(left - 1)
        else:
            ends.append(left)

    async def main() -> None:
        async with app:
            await follow.push(1500)
            await eventually(lambda: ends)
            await soon(app.wait_all())

    go(main(), factory)


@pytest.mark.promise("f21")
def test_a_shutdown_while_jobs_push(app: Jobify, factory: Factory | None) -> None:
    @app.task
    async def busy() -> None:
        while True:
            await idle.push()
            await asyncio.sleep(0)

    @app.task
    async def idle() -> None: ...

    async def main() -> None:
        await app.startup()
        await busy.push()
        await a_while()
        await soon(app.shutdown(grace=0.01))

    go(main(), factory)


# -- F22 ---------------------------------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


@pytest.mark.promise("f22")
def test_every_attempt_starts_from_the_same_context(app: Jobify, factory: Factory | None) -> None:
    seen: list[str] = []

    @app.task(retry=SmartRetry(retries=3, initial_delay=0.01))
    async def task() -> None:
        seen.append(variable.get())
        variable.set(f"set by attempt {current_job.attempt}")
        await asyncio.sleep(0)
        raise ValueError("again")

    async def main() -> None:
        async with app:
            variable.set("of the caller")
            job = await task.push()
            variable.set("changed by the caller")
            await soon(job.wait())

    go(main(), factory)
    assert seen == ["of the caller"] * 4


@pytest.mark.slow
@pytest.mark.promise("f22")
@pytest.mark.parametrize("mode", ["async", "thread"])
def test_so_does_every_run_of_a_schedule(app: Jobify, factory: Factory | None, mode: str) -> None:
    seen: list[str] = []

    def visit() -> None:
        seen.append(variable.get())
        variable.set(f"set by run {len(seen)}")

    async def visit_async() -> None:
        visit()

    task = app.task(visit if mode == "thread" else visit_async, name="visit")

    async def main() -> None:
        async with app:
            await task.schedule().cron("* * * * * * *", job_id="every second")
            await eventually(lambda: len(seen) >= 2)

    go(main(), factory)
    assert set(seen) == {"default"}


@pytest.mark.promise("f22")
def test_a_job_that_sets_a_variable_shows_it_to_no_other(app: Jobify, factory: Factory | None) -> None:
    seen: list[str] = []

    @app.task(retry=SmartRetry(retries=1, initial_delay=0.01))
    async def task(number: int) -> None:
        seen.append(variable.get())
        variable.set(f"set by job {number}")
        await asyncio.sleep(0)
        raise ValueError("again")

    async def main() -> None:
        async with app:
            jobs = [await task.schedule(number).delay(0.01) for number in range(5)]
            for job in jobs:
                await soon(job.wait())

    go(main(), factory)
    assert seen == ["default"] * 10
