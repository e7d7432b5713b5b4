"""Checklist items 77-92: the builder, contexts, state, plugins, routers."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC
from collections import UserDict
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, get_origin, get_type_hints

import pytest

from jobify import (
    INJECT,
    Cron,
    Job,
    JobContext,
    Jobify,
    JobRouter,
    JobStatus,
    OuterContext,
    Plugin,
    RequestState,
    RunMode,
    Runnable,
    ScheduleBuilder,
    State,
)
from jobify.exceptions import DuplicateJobError
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter
from jobify.router import NodeRoute, RootRoute, Route


@pytest.mark.promise("item-77")
async def test_builder() -> None:
    app = Jobify(storage=False)

    @app.task(name="add", timeout=5)
    async def add(x: int, y: int = 2) -> int:
        return x + y

    async with app:
        with pytest.raises(TypeError, match="'x'"):
            add.schedule()  # type: ignore[call-arg]
        builder = add.schedule(1)
    assert isinstance(builder, ScheduleBuilder)
    assert get_origin(ScheduleBuilder[int]) is ScheduleBuilder
    assert builder.name == "add"
    assert builder.route_options["timeout"] == 5
    assert builder.func_spec.name == "add"
    assert builder.func_spec.result_type is int
    assert builder.func_spec.type_params["x"] is int
    assert list(builder.func_spec.signature.parameters) == ["x", "y"]
    assert builder.func_spec.inject_params == {}


def assert_parameters(method: Any, expected: dict[str, Any]) -> None:
    """The names, in order, with their defaults; those after the first are keyword-only."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    assert {p.name: p.default for p in parameters} == expected


EMPTY = inspect.Parameter.empty
OPTIONS = {"job_id": None, "replace": False, "force": False}


@pytest.mark.promise("item-78")
async def test_at() -> None:
    assert_parameters(ScheduleBuilder.at, {"at": EMPTY, **OPTIONS})

    app = Jobify(storage=False)

    @app.task
    async def noop() -> None: ...

    async with app:
        builder = noop.schedule()
        when = datetime(2127, 1, 1, tzinfo=UTC)
        job = await builder.at(when, job_id="it")
        assert isinstance(job, Job)
        assert (job.id, job.exec_at, job.status) == ("it", when, JobStatus.SCHEDULED)
        past = await builder.at(datetime(2020, 1, 1, tzinfo=UTC))
        await past.wait()
        assert past.status is JobStatus.SUCCESS


@pytest.mark.promise("item-79")
async def test_cron() -> None:
    assert_parameters(ScheduleBuilder.cron, {"cron": EMPTY, "job_id": EMPTY, "replace": False, "force": False})

    app = Jobify(storage=False)

    @app.task
    async def noop() -> None: ...

    async with app:
        builder = noop.schedule()
        assert (await builder.cron("0 9 * * *", job_id="a")).is_cron()
        assert (await builder.cron(Cron("0 9 * * *"), job_id="b")).is_cron()
        with pytest.raises(TypeError):
            await builder.cron("0 9 * * *")  # type: ignore[call-arg]
        with pytest.raises(ValueError):
            await builder.cron("nonsense", job_id="c")


@pytest.mark.promise("item-80")
async def test_delay() -> None:
    assert_parameters(ScheduleBuilder.delay, {"seconds": EMPTY, "job_id": None, "now": None, "replace": False})

    app = Jobify(storage=False)

    @app.task
    async def noop() -> None: ...

    async with app:
        builder = noop.schedule()
        start = datetime(2127, 1, 1, tzinfo=UTC)
        job = await builder.delay(90, now=start)
        assert job.exec_at == start + timedelta(seconds=90)
        for wrong in (float("nan"), float("inf"), 1e12, "5", True):
            with pytest.raises(ValueError):
                await builder.delay(wrong)  # type: ignore[arg-type]
        assert len(app.get_active_jobs()) == 1, "nothing was stored"


@pytest.mark.promise("item-81")
async def test_push() -> None:
    assert_parameters(ScheduleBuilder.push, OPTIONS)

    app = Jobify(storage=False)

    @app.task
    async def add(x: int, y: int) -> int:
        return x + y

    async with app:
        assert await (await add.schedule(1, 2).push()) == 3
        job = await add.schedule(1, y=2).push(job_id="mine")
        assert job.id == "mine"
        assert await job == 3
        assert inspect.isawaitable(pending := add.push(1, 2))
        assert await (await pending) == 3


async def test_bad_arguments_of_the_builder_are_refused_and_nothing_is_stored() -> None:
    app = Jobify(storage=False)

    @app.task
    async def noop() -> None: ...

    async with app:
        builder = noop.schedule()
        with pytest.raises(ValueError, match="datetime"):
            await builder.at(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expression"):
            await builder.cron(5, job_id="x")  # type: ignore[arg-type]
        for wrong in ("", 5):
            with pytest.raises(ValueError, match="job_id"):
                await builder.push(job_id=wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="job_id"):
            await builder.cron("* * * * *", job_id=None)  # type: ignore[arg-type]
        assert app.get_active_jobs() == []


@pytest.mark.promise("item-82")
async def test_now() -> None:
    app = Jobify(storage=False)
    task = app.task(lambda: None, name="noop")
    async with app:
        now = task.schedule().now()
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.promise("item-83", "rule-11")
async def test_replace_and_force() -> None:
    layer = CountingOuter()
    app = Jobify(storage=False, outer_middleware=[layer])

    @app.task
    async def work(x: int) -> int:
        return x

    async with app:
        when = datetime(2127, 1, 1, tzinfo=UTC)
        job = await work.schedule(1).at(when, job_id="it")
        with pytest.raises(DuplicateJobError):
            await work.schedule(1).at(when, job_id="it")
        layer.count = 0
        assert await work.schedule(1).at(when, job_id="it", replace=True) is job
        assert layer.count == 0, "nothing changed"
        assert await work.schedule(1).at(when, job_id="it", replace=True, force=True) is job
        assert layer.count == 1
        later = when + timedelta(days=1)
        assert await work.schedule(1).at(later, job_id="it", replace=True) is job
        assert job.exec_at == later
        assert layer.count == 2
        assert await work.schedule(5).delay(0, job_id="it", replace=True) is job
        assert await job == 5
        assert layer.count == 3


class CountingOuter(BaseOuterMiddleware):
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        self.count += 1
        return await call_next(context)


@pytest.mark.promise("item-84", "x11")
async def test_job_context() -> None:
    assert issubclass(JobContext, tuple)
    assert JobContext._fields[:7] == (
        "job", "state", "runnable", "request_state", "route_options", "jobify_config", "schedule_builder",
    )  # fmt: skip

    app = Jobify(storage=False, state=State({"a": 1}))

    @app.task(name="look", timeout=5)
    async def look(x: int, context: JobContext = INJECT) -> JobContext:
        return context

    async with app:
        job = await look.push(7)
        context = await job
        assert context.job is job
        assert context.state is app.state
        assert context.runnable.name == "look"
        assert context.request_state == {}
        assert context.route_options is look.options
        assert context.jobify_config is app.configs
        assert isinstance(context.schedule_builder, ScheduleBuilder)
        assert context.schedule_builder.name == "look"
        assert context.app is app
        assert "context" in get_type_hints(look.func)


class Look(BaseOuterMiddleware):
    def __init__(self) -> None:
        self.seen: list[OuterContext] = []

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        self.seen.append(context)
        assert context.is_replace or context.job.status is JobStatus.PENDING
        handle = await call_next(context)
        assert isinstance(handle, asyncio.Handle)
        return handle


@pytest.mark.promise("item-85")
async def test_outer_context_fields() -> None:
    look = Look()
    app = Jobify(storage=False, outer_middleware=[look])

    @app.task(name="work", metadata={"a": 1})
    async def work(x: int, y: int = 2) -> int:
        return x

    async with app:
        job = await work.schedule(1).delay(300, job_id="it")
        (context,) = look.seen
        assert context.job is job
        assert context.state is app.state
        assert context.trigger.job_id == "it"
        assert context.trigger.at == job.exec_at  # type: ignore[union-attr]
        assert context.runnable.name == "work"
        assert context.arguments == {"x": 1}
        assert context.func_spec is context.runnable.func_spec
        assert (context.is_force, context.is_persist, context.is_replace) == (False, False, False)
        assert context.route_options["metadata"] == {"a": 1}
        assert context.jobify_config is app.configs
        assert context.request_state == {}
        assert isinstance(context.request_state, RequestState)
        assert callable(context.persist_job_hook)
        assert callable(context.schedule_hook)
        assert isinstance(context.schedule_builder, ScheduleBuilder)
        await work.schedule(1).push(job_id="it", replace=True, force=True)
        assert look.seen[1].is_replace
        assert look.seen[1].is_force
        cron = await work.schedule(1).cron("0 9 * * *", job_id="cron")
        trigger: Any = look.seen[2].trigger
        assert trigger.cron == Cron("0 9 * * *")
        assert trigger.run_count == 0
        assert trigger.offset < cron.exec_at


@pytest.mark.promise("item-85")
async def test_intercept() -> None:
    class Stop(BaseOuterMiddleware):
        async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
            return None

    app = Jobify(storage=False, outer_middleware=[Stop()])
    ran = []

    @app.task
    async def work() -> None:
        ran.append(1)

    async with app:
        job = await work.push()
        assert job.status is JobStatus.PENDING
        await app.wait_all(1)
        assert ran == []
        assert app.get_active_jobs() == []


@pytest.mark.promise("item-86")
def test_state() -> None:
    state = State({"a": 1})
    assert isinstance(state, UserDict)
    state.b = 2
    state["c"] = 3
    assert (state["a"], state.a, state["b"], state.c) == (1, 1, 2, 3)
    del state.a
    assert "a" not in state
    with pytest.raises(AttributeError):
        state.a  # noqa: B018
    with pytest.raises(KeyError):
        state["a"]
    assert State() == {}
    assert State(state={"x": 1}) == {"x": 1}
    assert state | {"d": 4} == {"b": 2, "c": 3, "d": 4}
    assert isinstance(state.copy(), State)


@pytest.mark.promise("item-87")
async def test_request_state_is_one_per_execution() -> None:
    class Stamp(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            context.request_state.stamp = context.job.id
            return await call_next(context)

    app = Jobify(storage=False, middleware=[Stamp()])

    @app.task
    def look(state: RequestState = INJECT) -> RequestState:
        return state

    async with app:
        first, second = await look.push(), await look.push()
        assert (await first).stamp == first.id
        assert (await second).stamp == second.id
        assert await first is not await second
    assert issubclass(RequestState, State)


@pytest.mark.promise("item-88")
async def test_runnable() -> None:
    class Twice(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            runnable = context.runnable
            assert isinstance(runnable, Runnable)
            assert isinstance(runnable.bound, inspect.BoundArguments)
            assert runnable.name == "double"
            assert runnable.func_spec.name == "double"
            assert callable(runnable.strategy)
            runnable.bound.arguments["x"] *= 10
            assert runnable.origin_arguments == {"x": 2}
            assert isinstance(runnable, Awaitable)
            return await call_next(context) + await runnable() + await runnable

    app = Jobify(storage=False, middleware=[Twice()])

    @app.task(name="double")
    async def double(x: int) -> int:
        return 2 * x

    async with app:
        assert await (await double.push(2)) == 120
    assert get_origin(Runnable[int]) is Runnable


@pytest.mark.promise("item-89")
def test_run_mode() -> None:
    assert {mode.name: mode.value for mode in RunMode} == {"MAIN": "main", "THREAD": "thread", "PROCESS": "process"}
    assert issubclass(RunMode, str)
    assert str(RunMode.MAIN) == "main"


@pytest.mark.promise("item-90")
def test_plugin() -> None:
    class Good:
        async def startup(self, app: Any) -> None: ...

        async def shutdown(self) -> None: ...

    class Bad:
        pass

    assert isinstance(Good(), Plugin)
    assert not isinstance(Bad(), Plugin)
    with pytest.raises(ValueError, match="plugin"):
        Jobify(storage=False, plugins=[Bad()])  # type: ignore[list-item]


@pytest.mark.promise("item-91")
def test_job_router() -> None:
    parameters = inspect.signature(JobRouter).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "state": None,
        "prefix": None,
        "lifespan": None,
        "middleware": None,
        "outer_middleware": None,
        "exception_handlers": None,
        "route_class": NodeRoute,
    }
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    router = JobRouter(state=State({"a": 1}), prefix="mail")
    assert router.state == {"a": 1}
    assert router.prefix == "mail"
    assert repr(router) == "<NodeRouter>"


@pytest.mark.promise("item-92")
def test_routes() -> None:
    for kind in (NodeRoute, RootRoute):
        assert issubclass(kind, Route)
        assert get_origin(kind[[int], str]) is kind
    app, router = Jobify(storage=False), JobRouter()
    on_app = app.task(lambda: 1, name="a")
    on_router = router.task(lambda: 2, name="b")
    assert type(on_app) is RootRoute
    assert type(on_router) is NodeRoute
    assert (on_app(), on_router()) == (1, 2)
    assert issubclass(Route, ABC)
