"""Outer middleware around a job that is enqueued without an engine; from sync code, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

import msgspec

from jobify.client.rows import PLACEHOLDER, args_with_placeholder
from jobify.client.targets import ResolvedTask
from jobify.config import JobifyConfiguration
from jobify.exceptions import ApplicationStateError
from jobify.jobs.context import OuterContext
from jobify.jobs.job import Job
from jobify.jobs.job_request import JobRequest
from jobify.jobs.schedule_builder import PushRequest
from jobify.router.outer_chain import OuterCall, run_outer
from jobify.types import Microseconds

__all__ = ("run_outer_chain", "run_sync")

T = TypeVar("T")


async def run_outer_chain(
    task: ResolvedTask,
    request: JobRequest,
    job_id: str,
    *,
    due_at: Microseconds,
    now: Microseconds,
    config: JobifyConfiguration,
    store: Callable[[JobRequest], Awaitable[None]],
) -> None:
    """Run the outer chain of the task around ``store``, which gets the request as the chain has left it. A chain that
    is stopped does not reach it."""
    endpoint = task.endpoint
    assert endpoint is not None, "what is not known here has no middleware"
    args, kwargs = args_with_placeholder(request), dict(request.kwargs)
    order = PushRequest(task.name, args, kwargs, due_at if due_at > now else None)
    job: Job[Any] = Job(job_id=job_id, exec_at=due_at)

    async def end(context: OuterContext) -> None:
        if not context.is_persist:
            raise ApplicationStateError(
                operation=f"keep a job of {task.name!r} in memory",
                reason="It is enqueued for whichever process runs it.",
                solution="Have the outer middleware leave is_persist alone, or use push().",
            )
        await store(_changed(request, *context.runnable.call_arguments()))

    await run_outer(OuterCall(endpoint, job, order, None, due_at, now, True), end, config)


def _changed(request: JobRequest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobRequest:
    if args_with_placeholder(request) is not request.args:
        if not args or args[0] is not PLACEHOLDER:
            raise TypeError(f"an outer middleware has replaced {PLACEHOLDER!r}, the first argument of {request.task}()")
        args = args[1:]
    return msgspec.structs.replace(request, args=args, kwargs=kwargs)


def run_sync(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``main`` gives, from sync code: in an event loop of its own; in a thread of its own, if this one's event
    loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main)
    outcome: list[T | BaseException] = []
    context = copy_context()

    def run() -> None:
        try:
            outcome.append(context.run(_run, main))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="jobify-outer")
    thread.start()
    thread.join()
    (ended,) = outcome
    if isinstance(ended, BaseException):
        raise ended
    return ended


def _run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.new_event_loop()  # asyncio.run would take this thread's own one away
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
