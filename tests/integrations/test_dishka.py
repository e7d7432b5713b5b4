"""dishka-jobify as the package index has it: dependencies are injected into tasks, and none of it is stored."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NewType

import pytest
from dishka import Provider, Scope, make_async_container, make_container, provide
from dishka_jobify import FromDishka, JobifyProvider, inject, setup_dishka

import jobify
from jobify import Job, JobContext, Jobify, JobRouter, RequestState, Runnable, SmartRetry, State
from jobify.exceptions import JobFailedError
from jobify.testing.clock import FakeClock
from support import durable, nudge, opened, soon

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
TaskName = NewType("TaskName", str)


@dataclass
class Pool:
    """One for the whole app."""

    log: list[str] = field(default_factory=list)


@dataclass
class Session:
    """One for each attempt."""

    pool: Pool
    number: int


class Services(Provider):
    @provide(scope=Scope.APP)
    def pool(self) -> Pool:
        return Pool()

    @provide(scope=Scope.REQUEST)
    async def session(self, pool: Pool) -> AsyncIterator[Session]:
        number = sum(line.startswith("open") for line in pool.log)
        pool.log.append(f"open {number}")
        yield Session(pool, number)
        pool.log.append(f"close {number}")

    @provide(scope=Scope.REQUEST)
    def name(self, context: JobContext, runnable: Runnable[Any], job: Job[Any], state: State) -> TaskName:
        assert context.job is job
        return TaskName(f"{runnable.name} for {state.owner}")


class PlainServices(Provider):
    @provide(scope=Scope.APP)
    def pool(self) -> Pool:
        return Pool()

    @provide(scope=Scope.REQUEST)
    def session(self, pool: Pool) -> Iterator[Session]:
        pool.log.append("open")
        yield Session(pool, 0)
        pool.log.append("close")


def test_it_accepts_this_package_as_the_one_it_asks_for() -> None:
    requirements = importlib.metadata.requires("dishka-jobify") or []
    assert any(requirement.startswith("jobify") for requirement in requirements)
    assert importlib.metadata.version("jobify") == jobify.__version__
    assert Path(jobify.__file__).parts[-3:-1] == ("src", "jobify")


@pytest.mark.promise("rule-23")
@pytest.mark.parametrize("is_durable", [True, False])
async def test_async_tasks(tmp_path: Path, is_durable: bool) -> None:
    app = Jobify(storage=durable(tmp_path) if is_durable else False, state=State({"owner": "ann"}))
    container = make_async_container(Services(), JobifyProvider())
    setup_dishka(container, app)

    @app.task(name="work")
    @inject
    async def work(number: int, session: FromDishka[Session], name: FromDishka[TaskName]) -> tuple[int, int, str]:
        return number, session.number, str(name)

    pool = await container.get(Pool)
    async with app:
        assert await soon(await work.push(5)) == (5, 0, "work for ann")
        assert await soon(await work.schedule(number=6).delay(0)) == (6, 1, "work for ann")
    await container.close()
    assert pool.log == ["open 0", "close 0", "open 1", "close 1"]


async def test_each_attempt_has_a_scope_of_its_own_and_a_failed_one_is_closed(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), state=State({"owner": "ann"}))
    container = make_async_container(Services(), JobifyProvider())
    setup_dishka(container, app)

    @app.task(name="work", retry=SmartRetry(1, initial_delay=0))
    @inject
    async def work(session: FromDishka[Session]) -> None:
        raise LookupError(session.number)

    pool = await container.get(Pool)
    async with app:
        with pytest.raises(JobFailedError, match="LookupError: 1"):
            await soon(await work.push())
    assert pool.log == ["open 0", "close 0", "open 1", "close 1"]


@pytest.mark.promise("rule-23")
async def test_injected_parameters_are_no_arguments_and_are_not_stored(tmp_path: Path) -> None:
    def make_app(clock: FakeClock) -> tuple[Jobify, Any]:
        app = Jobify(storage=durable(tmp_path), clock=clock, state=State({"owner": "ann"}))
        setup_dishka(make_async_container(Services(), JobifyProvider()), app)

        @app.task(name="work")
        @inject
        async def work(number: int, name: FromDishka[TaskName], *, times: int = 2) -> str:
            return f"{number * times} {name}"

        return app, work

    app, work = make_app(FakeClock(NOON))
    async with app:
        with pytest.raises(TypeError, match="number"):
            work.schedule()
        job = await work.schedule(4, times=3).delay(3600, job_id="it")
    (record,) = _stored(tmp_path, job.id)
    assert record.payload == b'[[4],{"times":3}]'
    clock = FakeClock(NOON + timedelta(minutes=59))
    app, work = make_app(clock)
    async with app:
        found = app.find_job("it")
        assert found is not None
        clock.advance(3600)
        nudge(app)
        assert await soon(found) == "12 work for ann"


def _stored(directory: Path, job_id: str) -> Any:
    with opened(durable(directory)) as storage:
        return storage.get([job_id])


@pytest.mark.promise("rule-23")
async def test_plain_functions_in_threads() -> None:
    app = Jobify(storage=False)
    container = make_container(PlainServices(), JobifyProvider())
    setup_dishka(container, app)

    @app.task(name="work")
    @inject
    def work(number: int, session: FromDishka[Session], request: FromDishka[RequestState]) -> tuple[int, bool]:
        return number + session.number, "dishka_container" in request

    async with app:
        assert await soon(await work.push(5)) == (5, True)
    assert container.get(Pool).log == ["open", "close"]


@pytest.mark.promise("rule-23")
async def test_tasks_of_routers() -> None:
    router = JobRouter(prefix="mail")

    @router.task(name="send")
    @inject
    async def send(name: FromDishka[TaskName]) -> str:
        return str(name)

    app = Jobify(storage=False, state=State({"owner": "ann"}))
    app.include_router(router)
    setup_dishka(make_async_container(Services(), JobifyProvider()), app)

    async with app:
        assert await soon(await send.push()) == "mail:send for ann"
