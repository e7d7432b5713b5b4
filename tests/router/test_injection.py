"""INJECT: documented behaviour 5, and what libraries that rewrite signatures rely on (23)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest

from jobify import (
    INJECT,
    Job,
    JobContext,
    Jobify,
    JobifyConfiguration,
    JobRouter,
    RequestState,
    RouteOptions,
    RunMode,
    Runnable,
    ScheduleBuilder,
    SmartRetry,
    State,
)
from jobify.exceptions import ConfigurationError
from jobify.middleware import BaseMiddleware, CallNext
from support import durable, run

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

    from jobify import Job as OnlyForTypeCheckers


class MyApp(Jobify):
    pass


class Injected(TypedDict):
    """What a task got, by the name of its type."""

    JobContext: JobContext
    Job: Job[Any]
    State: State
    Runnable: Runnable[Any]
    RequestState: RequestState
    RouteOptions: RouteOptions
    JobifyConfiguration: JobifyConfiguration
    ScheduleBuilder: ScheduleBuilder[Any]
    Jobify: Jobify
    MyApp: MyApp


def check(found: Injected, job: Job[Any], app: Jobify) -> None:
    context = found["JobContext"]
    assert found["Job"] is job is context.job
    assert found["State"] is app.state is context.state
    assert found["Runnable"] is context.runnable
    assert found["RequestState"] is context.request_state
    assert found["RouteOptions"] is context.route_options
    assert found["JobifyConfiguration"] is app.configs is context.jobify_config
    assert found["ScheduleBuilder"] is context.schedule_builder
    assert found["Jobify"] is found["MyApp"] is app is context.app


@pytest.mark.promise("rule-5")
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
def test_every_type(is_async: bool, tmp_path: Path) -> None:
    def plain(
        x: int,
        context: JobContext = INJECT,
        job: Job[Injected] = INJECT,
        state: State = INJECT,
        runnable: Runnable[Injected] = INJECT,
        *,
        request_state: RequestState = INJECT,
        options: RouteOptions = INJECT,
        config: JobifyConfiguration = INJECT,
        builder: ScheduleBuilder[Injected] = INJECT,
        app: Jobify = INJECT,
        my_app: MyApp = INJECT,
    ) -> Injected:
        return Injected(
            JobContext=context,
            Job=job,
            State=state,
            Runnable=runnable,
            RequestState=request_state,
            RouteOptions=options,
            JobifyConfiguration=config,
            ScheduleBuilder=builder,
            Jobify=app,
            MyApp=my_app,
        )

    @functools.wraps(plain)
    async def on_the_loop(*args: Any, **kwargs: Any) -> Injected:
        return plain(*args, **kwargs)

    async def main(storage: Any) -> None:
        app = MyApp(storage=storage)
        task: Any = app.task(on_the_loop if is_async else plain, name="task")
        assert set(task.func_spec.inject_params) == set(inspect.signature(plain).parameters) - {"x"}
        async with app:
            job = await task.push(1)
            check(await job, job, app)

    run(main(False))


async def test_injected_values_are_not_stored(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    seen = []

    @app.task
    async def look(x: int, context: JobContext = INJECT) -> None:
        seen.append((x, context.job.id))

    async with app:
        await (await look.schedule(1).delay(0.01, job_id="it"))
        assert seen == [(1, "it")]


@pytest.mark.promise("rule-5")
def test_without_an_annotation() -> None:
    for node in (Jobify(storage=False), JobRouter()):
        with pytest.raises(ValueError, match=r"'context'.*requires a type annotation for INJECT"):

            @node.task
            def work(context=INJECT) -> None: ...  # type: ignore[no-untyped-def]  # that is the point


@pytest.mark.promise("rule-5")
def test_of_an_unknown_type() -> None:
    app = Jobify(storage=False)
    with pytest.raises(ValueError, match="Unknown type for injection: int of parameter 'x'"):

        @app.task
        async def work(x: int = INJECT) -> None: ...

    assert list(app.routes) == []


def test_in_a_child_process_nothing_can_be_injected() -> None:
    app, router = Jobify(storage=False), JobRouter()
    with pytest.raises(ConfigurationError, match="child process"):
        app.task(injected_at_top_level, run_mode=RunMode.PROCESS)
    router.task(injected_at_top_level, run_mode=RunMode.PROCESS)
    with pytest.raises(ConfigurationError, match="child process"):
        app.include_router(router)


def injected_at_top_level(context: JobContext = INJECT) -> None: ...


async def test_annotations_for_type_checkers_only() -> None:
    """They cannot be resolved at run time: other parameters count as untyped, injected ones by their name."""

    app = Jobify(storage=False)

    with pytest.raises(ConfigurationError, match=r"Unknown type for injection: 'OnlyForTypeCheckers\[int\]'"):

        @app.task
        async def work(x: Missing, job: OnlyForTypeCheckers[int] = INJECT) -> Missing:
            return (x, job)

    @app.task
    async def by_name(a: "Job[Missing]" = INJECT, b: "jobify.JobContext | None" = INJECT) -> Any:  # type: ignore[name-defined]  # noqa: F821, UP037
        return a, b

    async with app:
        job = await by_name.push()
        own, context = await job
        assert own is job
        assert isinstance(context, JobContext)


async def test_annotations_by_name() -> None:
    async def work(context: Any = INJECT, job: Any = INJECT, app: Any = INJECT) -> tuple[Any, Any, Any]:
        return context, job, app

    work.__annotations__ = {"context": "lib.JobContext", "job": "lib.Job[Missing]", "app": "lib.Jobify"}

    app = MyApp(storage=False)
    task = app.task(work)
    async with app:
        job = await task.push()
        context, own, found = await job
        assert isinstance(context, JobContext)
        assert own is job
        assert found is app


async def test_annotated() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work(state: Annotated[State, "the app's"] = INJECT) -> State:
        return state

    async with app:
        assert await (await work.push()) is app.state


@pytest.mark.promise("rule-5")
async def test_what_is_passed_explicitly_is_replaced() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work(state: State = INJECT) -> State:
        return state

    async with app:
        assert await (await work.push(State())) is app.state


async def test_the_context_is_injected_as_middleware_left_it() -> None:
    own = RequestState({"mine": 1})

    class Replace(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            return await call_next(context._replace(request_state=own))

    app = Jobify(storage=False, middleware=[Replace()])

    @app.task
    async def work(state: RequestState = INJECT, context: JobContext = INJECT) -> Any:
        return state, context.request_state

    async with app:
        assert await (await work.push()) == (own, own)


async def test_a_job_schedules_the_next_one() -> None:
    app = Jobify(storage=False)
    done = asyncio.Event()

    @app.task
    async def count(left: int, builder: ScheduleBuilder[None] = INJECT) -> None:
        if left == 0:
            done.set()
        else:
            assert builder.name == count.name
            await count.schedule(left - 1).delay(0)

    async with app:
        await count.push(3)
        await done.wait()


# -- libraries that rewrite signatures ---------------------------------------------------------------------------------


class Service:
    """Something that a dependency injection library provides."""


def inject_services(func: Callable[..., Any]) -> Callable[..., Any]:
    """What such a library does: it takes its own parameters out of the signature and asks for the request's state."""
    signature = inspect.signature(func)
    asked = inspect.Parameter("services_state", inspect.Parameter.KEYWORD_ONLY, annotation=RequestState, default=INJECT)
    kept = [p for p in signature.parameters.values() if p.name != "service"]

    def provided(kwargs: dict[str, Any]) -> dict[str, Any]:
        state = kwargs.pop("services_state")
        assert isinstance(state, RequestState)
        return {**kwargs, "service": state["container"]}

    if inspect.iscoroutinefunction(func):

        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await func(*args, **provided(kwargs))

    else:

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return func(*args, **provided(kwargs))

    wrapper.__signature__ = signature.replace(parameters=[*kept, asked])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in kept}
    return wrapper


class Container(BaseMiddleware):
    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        context.request_state["container"] = context.app.state["container"]
        return await call_next(context)


@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_library_that_rewrites_signatures(is_durable: bool, tmp_path: Path) -> None:
    service = Service()
    app = Jobify(storage=durable(tmp_path) if is_durable else False, state=State({"container": service}))
    app.add_middleware(Container())

    @app.task
    @inject_services
    async def on_the_loop(x: int, *, service: Service) -> tuple[int, bool]:
        return x, isinstance(service, Service)

    router = JobRouter()

    @router.task
    @inject_services
    def in_a_thread(x: int, service: Service) -> tuple[int, bool]:
        return x, isinstance(service, Service)

    app.include_router(router)
    async with app:
        for task in (on_the_loop, in_a_thread):
            assert await (await task.push(1)) == (1, True)
            assert await (await task.schedule(x=2).delay(0.01)) == (2, True)
            with pytest.raises(TypeError):
                task.schedule(1, service=Service())


@pytest.mark.parametrize("is_durable", [True, False])
async def test_arguments_arrive_as_they_were_given(is_durable: bool, tmp_path: Path) -> None:
    """By position or by name, as the caller wrote them: a parameter may have been taken out between two others."""

    app = Jobify(storage=durable(tmp_path) if is_durable else False, state=State({"container": Service()}))
    app.add_middleware(Container())

    @app.task
    @inject_services
    async def work(x: int, service: Service, y: str = "default", *, z: str = "z") -> str:
        return f"{x} {y} {z}"

    @app.task
    async def everything(a: int, /, b: int, c: int = 3, *args: int, d: int = 4, **kwargs: Any) -> Any:
        return a, b, c, args, d, kwargs

    async with app:
        assert await (await work.push(1)) == "1 default z"
        assert await (await work.push(1, y="Y", z="Z")) == "1 Y Z"
        assert await (await work.push(x=1, y="Y")) == "1 Y z"
        assert await (await everything.push(1, 2)) == (1, 2, 3, (), 4, {})
        assert await (await everything.push(1, b=2, d=5, e=6)) == (1, 2, 3, (), 5, {"e": 6})
        assert await (await everything.push(1, 2, 7, 8, 9, e=6)) == (1, 2, 7, (8, 9), 4, {"e": 6})


async def test_middleware_may_add_any_argument() -> None:
    class Add(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            context.runnable.bound.arguments.update({"b": 20, "args": (30,), "d": 40, "kwargs": {"e": 50}})
            return await call_next(context)

    app = Jobify(storage=False, middleware=[Add()])

    @app.task
    async def everything(a: int, b: int, *args: int, d: int = 4, **kwargs: Any) -> Any:
        return a, b, args, d, kwargs

    async with app:
        assert await (await everything.push(a=1, b=2)) == (1, 20, (30,), 40, {"e": 50})


# -- context variables -------------------------------------------------------------------------------------------------

request_id: ContextVar[str] = ContextVar("request_id", default="none")


async def test_context_variables_of_the_caller_reach_the_job() -> None:
    app = Jobify(storage=False)

    @app.task
    async def on_the_loop() -> str:
        return request_id.get()

    @app.task
    def in_a_thread() -> str:
        return request_id.get()

    request_id.set("before")
    async with app:
        for task in (on_the_loop, in_a_thread):
            request_id.set(task.name)
            assert await (await task.push()) == task.name


async def test_context_variables_reach_jobs_that_wait_for_a_slot_and_every_attempt() -> None:
    app = Jobify(storage=False)
    release = threading.Event()
    seen: dict[str, list[str]] = {}

    @app.task
    def hold() -> None:
        release.wait()

    @app.task(retry=SmartRetry(retries=1, initial_delay=0))
    def note(name: str) -> None:
        seen.setdefault(name, []).append(request_id.get())
        if len(seen[name]) == 1:
            raise ValueError

    async with app:
        held = [await hold.push() for _ in range(64)]
        jobs = []
        for name in ("a", "b"):
            request_id.set(name)
            jobs.append(await note.push(name))
        request_id.set("other")
        release.set()
        await asyncio.gather(*held, *jobs)
        assert seen == {"a": ["a", "a"], "b": ["b", "b"]}


async def test_what_middleware_sets_reaches_threads() -> None:
    class Name(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            request_id.set(context.job.id)
            return await call_next(context)

    app = Jobify(storage=False, middleware=[Name()])
    task = app.task(lambda: request_id.get(), name="get")

    @app.task(exception_handlers={ValueError: lambda exc, context: request_id.get()})
    def fail() -> str:
        raise ValueError

    async with app:
        for job in (await task.push(), await fail.push()):
            assert await job == job.id


def test_a_plain_call_says_what_only_a_job_fills_in() -> None:
    app = Jobify(storage=False)

    @app.task(name="sync_one")
    def sync_one(x: int, state: State = INJECT, *, job: Job[int] = INJECT) -> Any:
        return (x, state, job)

    @app.task(name="async_one")
    async def async_one(x: int, state: State = INJECT) -> Any:
        return (x, state)

    words = re.escape("Task 'sync_one' was called as a plain function without 'state', 'job': INJECT is filled in only")
    for given in ({}, {"state": INJECT}):
        with pytest.raises(TypeError, match=words):
            sync_one(1, **given)
    with pytest.raises(TypeError, match=r"without 'job': .* Pass a value: \(job=\.\.\.\)\."):
        sync_one.configure(delay=1)(1, State())
    with pytest.raises(TypeError, match="without 'state'"):
        async_one(1)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'x'"):
        sync_one(state=State(), job=None)  # type: ignore[call-arg]  # Python's own words for what is its own
    state = State()
    assert sync_one(1, state, job=None) == (1, state, None)  # type: ignore[arg-type]  # whatever a test likes
    assert asyncio.run(async_one(1, state)) == (1, state)
