"""What type checkers must accept and refuse. Read by ``test_typing.py``, never run.

Each wrong line carries the error that a checker must find there: an ignore that nothing needs is an error itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, assert_type

from jobify import (
    INJECT,
    Cron,
    Job,
    JobContext,
    Jobify,
    JobRouter,
    JobStatus,
    OuterContext,
    RunMode,
    ScheduleBuilder,
    SmartRetry,
    State,
)
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter, Item, QueueMiddleware
from jobify.router import NodeRoute, RootRoute, Route
from jobify.serializers import JSONSerializer
from jobify.storage import SQLiteStorage
from jobify.typeadapter import PydanticConverter

NOW = datetime.now(UTC)

app = Jobify()
router = JobRouter(prefix="r")
app.include_router(router)


@app.task
async def bare_async(x: int, y: str = "") -> int:
    return x


@app.task
def bare_sync(x: int, y: str = "") -> int:
    return x


@app.task(name="with options", retry=3, timeout=5, metadata={"a": 1})
async def options_async(x: int, y: str = "") -> int:
    return x


@app.task(retry=SmartRetry(retries=1), run_mode=RunMode.PROCESS, cron=Cron("0 9 * * *", args=(1,)))
def options_sync(x: int, y: str = "") -> int:
    return x


@router.task
async def on_router(x: int, y: str = "") -> int:
    return x


@router.task(durable=False)
def on_router_sync(x: int, y: str = "") -> int:
    return x


@app.task
async def injected(x: int, context: JobContext = INJECT, job: Job[None] = INJECT, state: State = INJECT) -> None: ...


@app.task(exception_handlers={ValueError: lambda exc, context: None})
def nothing() -> None: ...


registered = app.task(bare_sync.func, name="again")
plain = app.task(len, name="len", durable=False)


async def right_calls() -> None:
    for task in (bare_async, bare_sync, options_async, options_sync, on_router, on_router_sync):
        assert_type(await task.push(1), Job[int])
        assert_type(await task.push(1, "a"), Job[int])
        assert_type(await task.push(x=1, y="a"), Job[int])
        assert_type(task.schedule(1), ScheduleBuilder[int])
        job = await task.schedule(1, y="a").delay(5)
        assert_type(job, Job[int])
        assert_type(await task.schedule(1).at(NOW, job_id="a", replace=True, force=True), Job[int])
        assert_type(await task.schedule(1).cron("* * * * *", job_id="a"), Job[int])
        assert_type(await task.schedule(1).cron(Cron("* * * * *"), job_id="a", replace=True), Job[int])
        assert_type(await task.schedule(1).push(), Job[int])
        assert_type(await task.schedule(1).delay(5, now=NOW, job_id="a", replace=True), Job[int])
        assert_type(job.result(), int)
        assert_type(await job, int)
        assert_type(await asyncio.gather(job, job), tuple[int, int])
        assert_type(await job.wait(), None)
        assert_type(await job.cancel(), None)
        assert_type(await job.cancel(interrupt=False), None)
        assert_type(job.status, JobStatus)
        assert_type(job.exec_at, datetime)
        assert_type(job.cron_expression, str | None)
        assert_type(job.exception, Exception | None)
        assert_type(job.is_done(), bool)
        assert_type(task.name, str)
    assert_type(await injected.push(1), Job[None])
    assert_type((await nothing.push()).result(), None)
    assert_type(await plain.push("abc"), Job[int])
    async with asyncio.TaskGroup() as group:
        group.create_task(bare_async.push(1))


async def wrong_calls() -> None:
    for task in (bare_async, bare_sync, options_async, options_sync, on_router, on_router_sync):
        await task.push()  # type: ignore[call-arg]
        await task.push("a")  # type: ignore[arg-type]
        await task.push(1, 2)  # type: ignore[arg-type]
        await task.push(1, "a", 3)  # type: ignore[call-arg]
        await task.push(1, z="a")  # type: ignore[call-arg]
        task.schedule("a")  # type: ignore[arg-type]
        task.schedule(1, y=2)  # type: ignore[arg-type]
        task.schedule()  # type: ignore[call-arg]
        await task.schedule(1).delay("5")  # type: ignore[arg-type]
        await task.schedule(1).at(5)  # type: ignore[arg-type]
        await task.schedule(1).cron("* * * * *")  # type: ignore[call-arg]
        await task.schedule(1).delay(5, "a")  # type: ignore[call-arg]
        wrong: Job[str] = await task.push(1)  # type: ignore[assignment]
        value: str = wrong.result()
        other: str = (await task.push(1)).result()  # type: ignore[assignment]
        print(value, other)
    await plain.push(5)  # type: ignore[arg-type]


def wrong_options() -> None:
    app.task(retry="3")  # type: ignore[call-overload]
    app.task(timeout="5")  # type: ignore[call-overload]
    app.task(timout=5)  # type: ignore[call-overload]
    Jobify(None)  # type: ignore[call-arg]
    Jobify(storage=True)  # type: ignore[arg-type]
    Jobify(middleware=[5])  # type: ignore[list-item]
    Cron("* * * * *", 5)  # type: ignore[call-arg]
    SmartRetry()  # type: ignore[call-arg]
    app.include_router(app)  # type: ignore[arg-type]


# -- what users write around it ----------------------------------------------------------------------------------------


class Timer(BaseMiddleware):
    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        context.request_state.started = context.runnable.name
        return await call_next(context)


class Tenant(BaseOuterMiddleware):
    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        context.arguments["tenant"] = context.job.id
        return await call_next(context)


class MyRoute(RootRoute[..., Any]):
    async def push(self, /, *args: Any, **kwargs: Any) -> Job[Any]:
        return await super().push(*args, **kwargs)


class MyNodeRoute(NodeRoute[..., Any]):
    pass


class Extension:
    async def startup(self, app: Jobify) -> None: ...

    async def shutdown(self) -> None: ...


@asynccontextmanager
async def lifespan(app: Jobify) -> AsyncGenerator[dict[str, Any], None]:
    yield {"a": 1}


@asynccontextmanager
async def plain_lifespan(app: Jobify) -> AsyncGenerator[None, None]:
    yield


@asynccontextmanager
async def router_lifespan(router: JobRouter) -> AsyncGenerator[None, None]:
    print(router.prefix)
    yield


async def handler(error: Exception, context: JobContext) -> str:
    return context.job.id


def plain_handler(error: ValueError, context: JobContext) -> int:
    return 0


configured = Jobify(
    storage=SQLiteStorage("jobs.db"),
    serializer=JSONSerializer(),
    dumper=PydanticConverter(),
    loader=PydanticConverter(),
    lifespan=lifespan,
    middleware=[Timer(), QueueMiddleware(asyncio.PriorityQueue[Item](5), workers=2)],
    outer_middleware=[Tenant()],
    exception_handlers={ValueError: plain_handler, Exception: handler, KeyError: lambda exc, context: None},
    route_class=MyRoute,
    plugins=[Extension()],
)
memory = Jobify(storage=False, lifespan=plain_lifespan)
mail = JobRouter(lifespan=router_lifespan, route_class=MyNodeRoute, exception_handlers={ValueError: plain_handler})


async def the_app() -> None:
    async with configured as entered:
        assert_type(entered, Jobify)
        assert_type(entered.find_job("a"), Job[Any] | None)
        assert_type(entered.get_active_jobs(), list[Job[Any]])
        await entered.wait_all(timeout=5)
        await entered.shutdown(grace=5)
    for route in configured.routes:
        assert_type(route, Route[..., Any])
