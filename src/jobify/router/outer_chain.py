"""Running the outer middleware of a task around the storing of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

from jobify.config import JobifyConfiguration
from jobify.exceptions import ApplicationStateError
from jobify.jobs.context import At, CronTrigger, OuterContext, Push, Runnable, Triggers
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import PushRequest, ScheduleBuilder
from jobify.middleware.base import chain_outer
from jobify.model.clock import to_datetime
from jobify.model.cron import Cron
from jobify.model.state import RequestState
from jobify.router.registry import Endpoint
from jobify.types import Microseconds

__all__ = ("OuterCall", "Store", "run_outer")

Store: TypeAlias = Callable[[OuterContext], Awaitable[None]]
"""Stores the job with the arguments that ``context.runnable`` is bound to."""


class OuterCall(NamedTuple):
    """A resolved request, from which the context of the outer chain is built."""

    endpoint: Endpoint
    job: Job[Any]
    """The handle that the caller gets."""
    request: PushRequest
    cron: Cron | None
    due_at: Microseconds
    now: Microseconds
    is_persist: bool


async def run_outer(call: OuterCall, store: Store, config: JobifyConfiguration) -> None:
    """Run the outer middleware of the task around ``store``, which is called at most once."""
    context = _context(call, config)
    is_stored = False

    async def persist(*_: Any) -> None:
        nonlocal is_stored
        if not is_stored:
            is_stored = True
            _take_arguments(context)
            await store(context)

    async def end(passed: OuterContext) -> asyncio.Handle:
        context.arguments, context.is_persist = passed.arguments, passed.is_persist  # it may be a copy
        await passed.persist_job_hook()
        return passed.schedule_hook()

    context.persist_job_hook = persist
    await chain_outer(call.endpoint.outer, end)(context)


def _take_arguments(context: OuterContext) -> None:
    """Bind the function to the arguments as the middleware left them; TypeError if they do not fit it."""
    bound, spec = context.runnable.bound, context.func_spec
    for name in context.arguments:
        if name not in spec.signature.parameters:
            raise TypeError(f"{spec.name}() has no parameter {name!r}, to which an outer middleware gave a value")
    bound.arguments.clear()
    bound.arguments.update(context.arguments)
    args, kwargs = context.runnable.call_arguments()
    spec.check(*args, **kwargs)


def _context(call: OuterCall, config: JobifyConfiguration) -> OuterContext:
    endpoint, request = call.endpoint, call.request
    bound = endpoint.spec.bind(request.args, request.kwargs)
    return OuterContext(
        job=call.job,
        state=endpoint.state,
        trigger=_trigger(call, config),
        runnable=Runnable(
            name=endpoint.name,
            bound=bound,
            strategy=_not_here,
            func_spec=endpoint.spec,
            positional=len(request.args),
        ),
        arguments=dict(bound.arguments),
        func_spec=endpoint.spec,
        is_force=request.is_force,
        is_persist=call.is_persist,
        is_replace=request.is_replace,
        route_options=endpoint.options,
        jobify_config=config,
        request_state=RequestState(),
        persist_job_hook=_nothing,
        schedule_hook=_scheduled,
        schedule_builder=ScheduleBuilder(
            name=endpoint.name,
            func_spec=endpoint.spec,
            options=endpoint.options,
            scheduler=config.app,
            args=request.args,
            kwargs=request.kwargs,
        ),
    )


def _trigger(call: OuterCall, config: JobifyConfiguration) -> Triggers:
    job_id, zone = call.job.id, config.tz
    if call.cron is not None:
        return CronTrigger(job_id, call.cron, to_datetime(call.now, zone=zone), 0)
    if call.request.due_at is None:
        return Push(job_id)
    return At(job_id, to_datetime(call.due_at, zone=zone))


async def _nothing() -> None: ...


async def _not_here(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise ApplicationStateError(
        operation="run the job",
        reason="It is being scheduled; outer middleware runs before that.",
        solution="Use a middleware (not an outer one) to work around the run.",
    )


def _scheduled() -> asyncio.Handle:
    """What the outer chain returns: published as an event-loop handle. The engine starts jobs by itself."""
    handle = asyncio.Handle(lambda: None, (), asyncio.get_running_loop())
    handle.cancel()
    return handle
