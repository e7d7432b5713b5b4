"""Checklist items 93-97: layers around a job."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest

from jobify import JobContext, Jobify, JobStatus, OuterContext, Plugin
from jobify.middleware import (
    BaseMiddleware,
    BaseOuterMiddleware,
    CallNext,
    CallNextOuter,
    Item,
    JobifyQueue,
    QueueMiddleware,
)


@pytest.mark.promise("item-93")
def test_call_next() -> None:
    for alias, context, result in ((CallNext, JobContext, Any), (CallNextOuter, OuterContext, asyncio.Handle)):
        arguments, returned = get_args(alias)
        assert arguments == [context]
        assert get_args(returned) == (result,)
        assert alias.__origin__ is Callable[..., Any].__origin__  # type: ignore[attr-defined]


def result_with(*layers: BaseMiddleware, retry: int | None = None) -> Any:
    async def main() -> Any:
        app = Jobify(storage=False, middleware=layers)

        @app.task(retry=retry)
        async def work(x: int) -> Any:
            if x < 0:
                raise ValueError(x)
            return x

        async with app:
            job = await work.push(1)
            await job.wait()
            assert job.status is JobStatus.SUCCESS
            return job.result()

    return asyncio.run(main())


@pytest.mark.promise("item-94")
def test_before_and_after() -> None:
    order = []

    class Around(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            order.append("before")
            value = await call_next(context)
            order.append("after")
            return value

    assert result_with(Around()) == 1
    assert order == ["before", "after"]


@pytest.mark.promise("item-94")
def test_change_the_result() -> None:
    class Double(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            return 2 * await call_next(context)

    assert result_with(Double(), Double()) == 4


@pytest.mark.promise("item-94")
def test_change_the_arguments() -> None:
    class Other(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            context.runnable.bound.arguments["x"] = 5
            return await call_next(context)

    assert result_with(Other()) == 5


@pytest.mark.promise("item-94", "rule-6")
def test_stop_the_chain() -> None:
    class Stop(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            return "stopped"

    class Never(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            raise AssertionError("the chain was stopped")

    assert result_with(Stop(), Never()) == "stopped"


@pytest.mark.promise("item-94")
async def test_raise() -> None:
    class Refuse(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            raise PermissionError("not today")

    app = Jobify(storage=False, middleware=[Refuse()])

    @app.task
    async def work() -> None: ...

    async with app:
        job = await work.push()
        await job.wait()
        assert job.status is JobStatus.FAILED
        assert isinstance(job.exception, PermissionError)


@pytest.mark.promise("item-95")
@pytest.mark.parametrize("kind", [BaseMiddleware, BaseOuterMiddleware])
def test_call_signature(kind: type) -> None:
    assert list(inspect.signature(kind.__call__).parameters) == ["self", "call_next", "context"]
    assert get_type_hints(kind.__call__)["return"] is Any


@pytest.mark.promise("item-96")
def test_jobify_queue() -> None:
    for name in ("get", "put", "task_done"):
        assert callable(getattr(JobifyQueue, name))
    for queue in (asyncio.Queue[Item](), asyncio.LifoQueue[Item](), asyncio.PriorityQueue[Item]()):
        QueueMiddleware(queue)


@pytest.mark.promise("item-97")
def test_queue_middleware() -> None:
    assert issubclass(QueueMiddleware, BaseMiddleware)
    parameters = inspect.signature(QueueMiddleware).parameters
    assert list(parameters) == ["queue", "workers"]
    assert parameters["workers"].default == 100
    middleware = QueueMiddleware()
    assert isinstance(middleware, Plugin)
    assert isinstance(middleware.queue, asyncio.PriorityQueue)
    assert middleware.queue.maxsize == 1024
    assert middleware.workers == 100
    assert QueueMiddleware(asyncio.Queue(), workers=3).workers == 3
    assert result_with(QueueMiddleware(workers=2)) == 1
