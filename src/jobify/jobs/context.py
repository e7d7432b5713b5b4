"""The contexts that tasks, middleware and exception handlers get, and the triggers in those of outer middleware."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from jobify.config import JobifyConfiguration
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import ScheduleBuilder
from jobify.model.cron import Cron
from jobify.model.signature import FuncSpec
from jobify.model.state import RequestState, State
from jobify.model.task_options import RouteOptions

__all__ = ("At", "CronTrigger", "JobContext", "OuterContext", "Push", "RunStrategy", "Runnable", "Triggers")


# -- triggers ----------------------------------------------------------------------------------------------------------
# Triggers: when a job runs. Outer middleware gets one in ``context.trigger``.


@dataclass(frozen=True, slots=True)
class Push:
    """Now."""

    job_id: str


@dataclass(frozen=True, slots=True)
class At:
    """At a point in time, or after a delay."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Repeatedly, by a cron rule."""

    job_id: str
    cron: Cron
    offset: datetime
    """The next run is the first one after this time."""
    run_count: int


Triggers: TypeAlias = Push | At | CronTrigger
"""The type of ``context.trigger``."""


# -- context -----------------------------------------------------------------------------------------------------------

ReturnT = TypeVar("ReturnT")


class RunStrategy(Protocol):
    """Calls the function of a task: on the event loop, in a thread or in a process."""

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Awaitable[Any]: ...


class Runnable(Generic[ReturnT]):
    """The function of a task with the arguments of one job; ``await runnable()`` runs it.

    A middleware may change ``bound.arguments`` before it calls ``call_next``; ``origin_arguments`` are the job's.
    """

    __slots__ = ("_positional", "bound", "func_spec", "name", "origin_arguments", "strategy")

    def __init__(
        self,
        *,
        name: str,
        bound: inspect.BoundArguments,
        strategy: RunStrategy,
        func_spec: FuncSpec[ReturnT],
        positional: int,
    ) -> None:
        self.name = name
        self.bound = bound
        self.strategy = strategy
        self.func_spec = func_spec
        self.origin_arguments = dict(bound.arguments)
        self._positional = positional
        """The number of arguments that the caller passed by position."""

    async def __call__(self) -> Any:
        args, kwargs = self.call_arguments()
        return await self.strategy(args, kwargs)

    def call_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``bound.arguments`` as a call: positional where the caller passed them by position, the rest by name.

        ``bound.args`` would pass every argument by position that can be. That does not fit functions whose signature
        was rewritten by a library that removes its own parameters from it.
        """
        args, kwargs = self.bound.args, self.bound.kwargs
        parameters = list(self.bound.signature.parameters.values())[: len(args)]
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
            return args, kwargs  # parameters before *args cannot be passed by name
        only = sum(parameter.kind is parameter.POSITIONAL_ONLY for parameter in parameters)
        kept = max(self._positional, only)
        named = {parameter.name: value for parameter, value in zip(parameters[kept:], args[kept:], strict=True)}
        return args[:kept], named | kwargs

    def __await__(self) -> Generator[Any, None, Any]:
        return self().__await__()


class JobContext(NamedTuple):
    """The context of one attempt: ``ctx: JobContext = INJECT``."""

    job: Job[Any]
    state: State
    runnable: Runnable[Any]
    request_state: RequestState
    route_options: RouteOptions
    jobify_config: JobifyConfiguration
    schedule_builder: ScheduleBuilder[Any]
    app: Any


@dataclass(slots=True, kw_only=True)
class OuterContext:
    """The context of a job that is being scheduled.

    ``arguments``, by parameter name, are stored and run as the middleware leaves them. A new job for which it sets
    ``is_persist`` to False stays in memory.
    """

    job: Job[Any]
    state: State
    trigger: Triggers
    runnable: Runnable[Any]
    arguments: dict[str, Any]
    func_spec: FuncSpec[Any]
    is_force: bool
    is_persist: bool
    is_replace: bool
    route_options: RouteOptions
    jobify_config: JobifyConfiguration
    request_state: RequestState
    persist_job_hook: Callable[..., Awaitable[None]]
    """Stores the job with ``arguments``; called at the end of the chain. A second call does nothing. Takes no
    arguments; those of older releases are ignored."""
    schedule_hook: Callable[[], asyncio.Handle]
    """Passes the stored job to the engine."""
    schedule_builder: ScheduleBuilder[Any]

    @property
    def app(self) -> Any:
        """The app that the job is scheduled with."""
        return self.jobify_config.app
