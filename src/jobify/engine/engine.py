"""The engine: its parts, put together, and the order in which they start and stop.

::

    order ─▶ intake ─▶ storage ─▶ dispatcher ─▶ admission ─▶ executor ─▶ runner
                │ (short way)                                   ▲  │
                └───────────────────────────────────────────────┘  └─▶ completer ─▶ storage, handle

``open`` connects the storages; then the app runs its plugins and lifespans; ``start`` takes up work. ``drain`` ends the
work; then come the app's lifespans and plugins, in reverse; ``close`` lets go of the storages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any

from jobify.clock import Clock
from jobify.engine.admission import Admission
from jobify.engine.attempt import Attempt, Interruption
from jobify.engine.backend import Backend
from jobify.engine.completer import Completer
from jobify.engine.declarations import bring_in_line
from jobify.engine.desk import Desk
from jobify.engine.dispatcher import Dispatcher
from jobify.engine.executor import Executor
from jobify.engine.handles import Handles
from jobify.engine.intake import Intake
from jobify.engine.janitor import Janitor
from jobify.engine.lanes import Lanes
from jobify.engine.obedience import Obedience
from jobify.engine.overview import Overview
from jobify.engine.recovery import Recovery
from jobify.engine.rules import Rules
from jobify.engine.service import Service
from jobify.engine.unknown import UnknownTasks
from jobify.engine.wakeups import Wakeups
from jobify.engine.watcher import Watcher
from jobify.exceptions import AppStoppedError, StorageUnavailableError
from jobify.job import Job
from jobify.options import RunMode
from jobify.records import Settlement
from jobify.registry import Endpoint, Registry
from jobify.runners.base import Runner
from jobify.schedule import Order, Scheduler
from jobify.settings import JobifyConfiguration
from jobify.status import JobStatus
from jobify.types import Microseconds

__all__ = ("Engine",)

log = logging.getLogger("jobify.engine")

_NUDGE = 5.0
"""Seconds between two reminders to jobs that a shutdown waits for."""
_LOOK_AGAIN = 1.0
"""Seconds after which ``wait_all`` looks again, should nobody have told it of a change."""


class Engine:
    """One life of an app, in one event loop. A restart makes a new engine."""

    def __init__(
        self,
        *,
        registry: Registry,
        durable: Backend | None,
        volatile: Backend,
        runners: dict[RunMode, Runner],
        scheduler: Scheduler,
        config: JobifyConfiguration,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._durable = durable
        self._volatile = volatile
        self._runners = runners
        self._config = config
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        self._opened: list[Backend] = []
        self._activity = asyncio.Event()
        limits = config.limits
        self._rules = Rules(config.tz, config.cron_factory)
        self._lanes = Lanes({mode: runner.slots for mode, runner in runners.items()})
        self._desk = Desk(
            zone=config.tz,
            backends=self._opened,
            find_attempt=self._find_attempt,
            watch=self._watch,
            ended=self._cancelled,
            clock=clock,
            ttl=limits.result_ttl,
        )
        self._handles = Handles(self._desk, self._rules)
        self._completer = Completer(
            handles=self._handles,
            clock=clock,
            ttl=limits.result_ttl,
            on_settled=self._settled,
            on_refused=self._look,
        )
        self._executor = Executor(
            runners=runners,
            completer=self._completer,
            handles=self._handles,
            scheduler=scheduler,
            config=config,
            clock=clock,
            is_torn_down=self._is_torn_down,
        )
        self._admission = Admission(
            registry=registry,
            handles=self._handles,
            rules=self._rules,
            completer=self._completer,
            is_unwanted=self._desk.is_unwanted,
            launch=self._executor.launch_when_due,
            clock=clock,
        )
        self._intake = Intake(
            registry=registry,
            backend_of=self._backend_of,
            durable=durable,
            volatile=volatile,
            handles=self._handles,
            rules=self._rules,
            lanes=self._lanes,
            config=config,
            clock=clock,
            launch=self._executor.launch,
            expect=self._expect,
            find_attempt=self._find_attempt,
        )
        self.overview = Overview(registry, self._opened, self._attempts_here, self._find_attempt, self._handles)
        self._dispatchers: dict[Backend, Dispatcher] = {}
        self._watcher: Watcher | None = None
        self._obedience: Obedience | None = None
        self._services: list[Service] = []
        self._is_hurried = asyncio.Event()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect the storages, make the runners ready: what is pushed from now on may run."""
        for backend in filter(None, (self._durable, self._volatile)):
            await backend.start()
            self._opened.append(backend)
        for runner in self._runners.values():
            await runner.start()

    async def start(self) -> None:
        """Take up work: recover what died, bring declared crons in line, then dispatch."""
        if self._durable is not None:
            self._services += self._shared_services(self._durable)
        self._services += [Janitor(backend, self._clock) for backend in self._opened]
        for backend in self._opened:
            endpoints = [endpoint for endpoint in self._registry.values() if self._backend_of(endpoint) is backend]
            await bring_in_line(
                backend, endpoints, rules=self._rules, handles=self._handles, config=self._config, clock=self._clock
            )
            if backend is self._volatile:  # an outer middleware may keep a job of any task in memory
                endpoints = list(self._registry.values())
            dispatcher = Dispatcher(backend, self._lanes, endpoints, self._admission.admit, self._clock)
            self._dispatchers[backend] = dispatcher
            self._services.append(dispatcher)
        if self._durable is not None:
            self._services.append(UnknownTasks(self._durable, self._registry))
        for service in self._services:
            await service.start()

    def _shared_services(self, backend: Backend) -> list[Service]:
        self._watcher = Watcher(backend, self._handles, self._registry, self._is_local, self._clock)
        recovery = Recovery(backend, self._config.limits, self._clock, on_recovered=self._look)
        self._obedience = Obedience(backend, self._find_attempt)
        return [recovery, self._watcher, self._obedience, Wakeups(backend, self._look)]

    async def drain(self, grace: float) -> None:
        """Start nothing more; let running jobs finish for ``grace`` seconds, then interrupt them and wait for them.

        What they push meanwhile is stored and runs at the next start. Threads cannot be interrupted: they are waited
        for. A caller that is cancelled grants no more grace, and still waits; cancelled once more, it does not.
        """
        draining = asyncio.ensure_future(self._drain(grace))
        try:
            await asyncio.shield(draining)
        except asyncio.CancelledError:
            self._is_hurried.set()
            await asyncio.shield(draining)
            raise

    async def _drain(self, grace: float) -> None:
        self._intake.is_draining = True
        for dispatcher in self._dispatchers.values():
            await dispatcher.stop()
        await self._grant(grace)
        await self._interrupt_all()
        await self._completer.drain()
        await self._intake.close()
        await self._executor.idle()  # what was asked for just before the end is given back, unbegun
        await self._completer.drain()
        for job in self._handles:
            if not job.is_done():
                job.end(JobStatus.CANCELLED, AppStoppedError(is_stored=self._is_stored(job.id)))

    async def _grant(self, grace: float) -> None:
        ends = [asyncio.ensure_future(self._executor.idle()), asyncio.ensure_future(self._is_hurried.wait())]
        await asyncio.wait(ends, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _interrupt_all(self) -> None:
        while len(self._executor):
            for attempt in self._executor:
                attempt.interrupt(Interruption.SHUTDOWN)
            try:
                async with asyncio.timeout(_NUDGE):
                    await self._executor.idle()
            except TimeoutError:
                names = sorted({attempt.endpoint.name for attempt in self._executor})
                log.warning("The shutdown still waits for %d jobs: %s.", len(self._executor), ", ".join(names))

    async def close(self) -> None:
        """Stop the services, let go of runners and storages. Every step is taken, whatever fails; the first error is
        raised at the end."""
        errors: list[BaseException] = []
        steps = [service.stop for service in reversed(self._services)]
        steps += [runner.stop for runner in self._runners.values()]
        steps += [backend.stop for backend in reversed(self._opened)]
        for step in steps:
            try:
                await step()
            except BaseException as error:  # one part that cannot stop must not keep the others running
                log.warning("A part of the engine failed to stop: %r", error)
                errors.append(error)
        self._services.clear()
        self._opened.clear()
        self._dispatchers.clear()
        if errors:
            raise errors[0]

    def abandon(self) -> None:
        """Let go of the storages of an engine whose event loop was closed without a stop."""
        for backend in self._opened:
            backend.gate.abandon()

    # -- what users ask ------------------------------------------------------------------------------------------------

    def is_job(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this is the task of a job that runs here."""
        return task is not None and any(attempt.task is task for attempt in self._executor)

    def submit(self, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        """Take an order; see :class:`~jobify.schedule.Scheduler`."""
        return self._intake.submit(order)

    async def wait_all(self) -> None:
        """Return when no job of this app's tasks is waiting or running, here or elsewhere."""
        while True:
            self._activity.clear()
            await self._executor.idle()
            await self._completer.idle()
            try:
                if not await self.overview.has_active():
                    return
            except StorageUnavailableError as error:
                log.warning("Waiting for all jobs goes on, although the storage does not answer: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self._activity.wait()

    # -- what the parts tell each other --------------------------------------------------------------------------------

    def _backend_of(self, endpoint: Endpoint) -> Backend:
        return self._durable if self._durable is not None and endpoint.is_durable else self._volatile

    def _is_torn_down(self) -> bool:
        """Whether the event loop is ending (``asyncio.run`` then cancels every task) and nobody has stopped the app."""
        return any(service.was_cancelled for service in self._services)

    def _find_attempt(self, job_id: str) -> Attempt | None:
        """The attempt of a job that is in the hands of this process: running, or over while its thread goes on."""
        running = self._executor.find(job_id)
        return running or next((over for over in self._completer.overruns() if over.id == job_id), None)

    def _attempts_here(self) -> Iterator[Attempt]:
        yield from self._executor
        yield from self._completer.overruns()

    def _is_stored(self, job_id: str) -> bool:
        return self._durable is not None and not self._volatile.storage.get((job_id,))

    def _is_local(self, job_id: str) -> bool:
        """Whether the job runs here, or is known only here."""
        return self._find_attempt(job_id) is not None or bool(self._volatile.storage.get((job_id,)))

    def _expect(self, backend: Backend, due_at: Microseconds) -> None:
        dispatcher = self._dispatchers.get(backend)
        if dispatcher is not None:
            dispatcher.expect(due_at)

    def _settled(self, attempt: Attempt, settlement: Settlement) -> None:
        if attempt.is_replaced:
            self._look()
        elif settlement.finished_at is None:
            self._expect(attempt.backend, settlement.due_at)
        self._activity.set()

    def _cancelled(self, job: Job[Any]) -> None:
        self._activity.set()

    def _watch(self, job: Job[Any]) -> None:
        if self._watcher is not None and self._executor.find(job.id) is None:  # else its end is told here
            self._watcher.attend()

    def _look(self) -> None:
        """Something in the shared storage may have changed."""
        for dispatcher in self._dispatchers.values():
            dispatcher.wake()
        if self._watcher is not None:
            self._watcher.wake()
        if self._obedience is not None:
            self._obedience.wake()
        self._activity.set()
