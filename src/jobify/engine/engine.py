"""The engine: its parts, put together, and the order in which they start and stop.

::

    push ─▶ enqueuer ─▶ storage ─▶ dispatcher ─▶ claim handler ─▶ executor ─▶ runner
               │ (fast path)                                         ▲  │
               └─────────────────────────────────────────────────────┘  └─▶ completer ─▶ storage, handle

``open`` connects the storages; then the app runs its plugins and lifespans; ``start`` begins to claim jobs. ``drain``
ends the work; then come the app's lifespans and plugins, in reverse; ``close`` closes the storages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from jobify.config import JobifyConfiguration
from jobify.engine.active_jobs import ActiveJobs
from jobify.engine.enqueue.declared_schedules import FormerDeclarations, sync_declared_schedules
from jobify.engine.enqueue.enqueuer import Enqueuer
from jobify.engine.enqueue.pending_job import PendingJobFactory
from jobify.engine.events import EngineEvents
from jobify.engine.execution.attempt import Interruption, RunningAttempts
from jobify.engine.execution.claim_handler import ClaimHandler, ReleasedClaims
from jobify.engine.execution.completer import Completer
from jobify.engine.execution.dispatcher import Dispatcher
from jobify.engine.execution.executor import Executor, build_context
from jobify.engine.execution.handles import HandleRegistry
from jobify.engine.execution.job_log import JobLog
from jobify.engine.execution.outcome import AppCode
from jobify.engine.execution.slots import SlotPools
from jobify.engine.execution.trials import Trials
from jobify.engine.job_controller import JobController
from jobify.engine.service import Service, ServiceRestarts
from jobify.engine.services.change_listener import ChangeListener
from jobify.engine.services.command_listener import CommandListener
from jobify.engine.services.maintenance import Expiry, Janitor
from jobify.engine.services.recovery import Heartbeat, Recovery
from jobify.engine.services.remote_watcher import RemoteJobWatcher
from jobify.engine.services.startup import StoppedSchedules, UnknownTasks, announce, check_children, define_limits
from jobify.engine.services.timekeeper import Timekeeper
from jobify.engine.shutdown import abandon, leave
from jobify.exceptions import (
    AppStoppedError,
    StorageLostError,
    StorageUnavailableError,
)
from jobify.gateway.backend import Backend, Backends
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import PushRequest, Scheduler
from jobify.model.clock import Clock
from jobify.model.cron_rules import CronRuleCache
from jobify.model.records import OwnerProfile, OwnerRole
from jobify.model.status import TERMINAL, JobStatus
from jobify.model.task_options import RunMode
from jobify.router.registry import Endpoint, Registry, endpoints_of
from jobify.runners.base import Runner
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn

__all__ = ("Engine",)

log = get_logger("jobify.engine")

_NUDGE = 5.0
"""Seconds after which a shutdown interrupts the jobs again that it waits for, and logs them."""
_RECHECK = 1.0
"""Seconds after which ``wait_all`` checks the storages again, in case that an event was missed."""


class Engine:
    """One life of an app, in one event loop. A restart makes a new engine."""

    def __init__(
        self,
        *,
        registry: Registry,
        backends: Backends,
        runners: dict[RunMode, Runner],
        scheduler: Scheduler,
        config: JobifyConfiguration,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._backends = backends
        self._runners = runners
        self._config = config
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        self._opened: list[Backend] = []
        self._services: list[Service] = []
        self.dispatchers: dict[Backend, Dispatcher] = {}
        self.timekeepers: dict[Backend, Timekeeper] = {}
        self._skip_grace = asyncio.Event()
        self._restarts = restarts = ServiceRestarts(self._services)
        self._rules = rules = CronRuleCache(config.tz, config.cron_factory)
        self._pools = pools = SlotPools({mode: runner.slots for mode, runner in runners.items()})
        self._attempts = attempts = RunningAttempts()
        self._events = events = EngineEvents()
        self._controller = controller = JobController(self._opened, attempts, events, config, clock)
        self._handles = handles = HandleRegistry(controller, rules)
        app_code = AppCode(registry, config)
        self._completer = Completer(handles, JobLog(config, registry), attempts, events, config.limits, clock)
        for backend in backends.all():
            backend.app_code, backend.success_of = app_code, self._completer.success_of
        self._released = ReleasedClaims(events, clock)
        self._executor = executor = Executor(
            registry,
            runners,
            self._completer,
            pools,
            partial(build_context, handles, scheduler, config),
            clock=clock,
            loop_is_closing=restarts.is_loop_closing,
        )
        restarts.relaunch = executor.relaunch
        pending_jobs = PendingJobFactory(registry, backends, handles, rules, clock, config.uuid_generator)
        self._enqueuer = Enqueuer(pending_jobs, pools, attempts, events, executor, self._released, config)
        self._trials = Trials(pools, self._completer.idle, config.limits.on_trial)
        self.active_jobs = ActiveJobs(registry, self._opened, attempts, handles)
        self.lost, self.unsaved, self.is_running_jobs = events.lost, self._completer.count_unsaved, attempts.is_busy
        self.lost.add_done_callback(self._on_lost)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect the storages and start the runners: jobs that are pushed from now on may run."""
        announce(self._config, self._registry, self._runners)
        for backend in self._backends.all():
            await backend.start(self._profile(backend))
            backend.gate.on_local_change = partial(self._events.local_change, backend)
            backend.gate.on_lost = self._events.storage_lost
            self._opened.append(backend)
        if self._backends.durable is not None:  # it records which jobs begin here, also those in memory
            self._attempts.begun = begun = self._backends.durable.begun
            if begun is None or begun.is_local:  # all that a dead process held may count, so it holds no more than runs
                self._executor.prefetch.close()
        for runner in self._runners.values():
            await runner.start()
        if self._config.limits.are_children_checked:
            await check_children(self._runners.get(RunMode.PROCESS), self._registry, self._config.limits.queues)

    def _profile(self, backend: Backend) -> OwnerProfile:
        tasks = tuple(name for endpoint in self._served_by(backend) for name in endpoint.names)
        return OwnerProfile(OwnerRole.WORKER, backend.queues.served, tasks, self._config.limits.concurrency)

    def _served_by(self, backend: Backend) -> list[Endpoint]:
        """The tasks whose jobs may be in this storage: in memory those of any, as an outer middleware chooses."""
        is_any = backend is self._backends.memory
        return [each for each in endpoints_of(self._registry) if is_any or self._backends.of(each) is backend]

    async def start(self) -> None:
        """Begin to claim jobs: recover those of dead processes, sync declared crons, then dispatch."""
        for backend in self._opened:
            await define_limits(backend, self._served_by(backend), self._clock.now())
            services = self._services_of(backend)
            for service in services:
                service.on_lost, service.storage_failures = self._events.storage_lost, backend.failures
            self._services += services
            endpoints = [each for each in endpoints_of(self._registry) if self._backends.of(each) is backend]
            await sync_declared_schedules(
                backend, endpoints, rules=self._rules, handles=self._handles, config=self._config, clock=self._clock
            )
            await self.timekeepers[backend].begin()
        for service in self._services:
            self._restarts.watch(service)
            await service.start()

    def _services_of(self, backend: Backend) -> list[Service]:
        """The services of a storage, subscribed to events. A storage in memory needs none for other processes."""
        events, clock, limits = self._events, self._clock, self._config.limits
        handles, completer, changed = self._handles, self._completer, partial(events.storage_changed, backend)
        claim_handler = ClaimHandler(
            self._registry,
            completer,
            self._rules,
            self._released,
            is_being_cancelled=self._controller.is_being_cancelled,
            executor=self._executor,
            clock=clock,
        )
        timekeeper = Timekeeper(backend, self._rules, clock, on_changed=changed)
        dispatcher = Dispatcher(
            backend, self._pools, self._served_by(backend), claim_handler, trials=self._trials, timekeeper=timekeeper
        )
        watcher = RemoteJobWatcher(backend, handles, self._registry, partial(self._is_hidden, backend), clock)
        commands = CommandListener(backend, self._attempts, self._served_by(backend))
        self.dispatchers[backend], self.timekeepers[backend] = dispatcher, timekeeper
        events.on_job_due[backend] = dispatcher.job_due
        events.on_waiter_added.append(watcher.watch_now)
        events.on_storage_changed[backend] = (dispatcher.wake, watcher.wake, commands.wake)
        services: list[Service] = [
            watcher,
            commands,
            timekeeper,
            Expiry(backend, limits.retention, timekeeper, completer.job_log, on_expired=changed),
            Heartbeat(backend, clock),
            StoppedSchedules(backend, self._registry),
            Janitor(backend, timekeeper),
            FormerDeclarations(backend, self._served_by(backend), clock),
            dispatcher,
        ]
        if backend is self._backends.durable:
            recovery = Recovery(backend, limits, clock, completer.job_log, changed)
            services = [recovery, ChangeListener(backend, changed), *services, UnknownTasks(backend, self._registry)]
        elif len(backend.storage.owners()) > 1:  # an earlier life of the app has left jobs in threads
            services.append(Recovery(backend, limits, clock, completer.job_log, changed))
        return services

    async def drain(self, grace: float) -> None:
        """Start no more jobs; give running jobs ``grace`` seconds to finish, then interrupt them and wait for them.

        What they push meanwhile is stored and runs at the next start. Threads cannot be interrupted, so they are waited
        for. A cancel of the caller ends the grace period; a second one ends the waiting.
        """
        draining = spawn(self._drain(grace))
        try:
            await asyncio.shield(draining)
        except asyncio.CancelledError:
            self._skip_grace.set()
            await asyncio.shield(draining)
            raise

    async def _drain(self, grace: float) -> None:
        self._enqueuer.is_draining = True
        for dispatcher in self.dispatchers.values():
            await dispatcher.stop()
        self._executor.prefetch.close()
        await self._wait_for_jobs(grace)
        await self._interrupt_all()
        await self._wait_for_threads()
        await self._completer.drain()
        await self._enqueuer.close()
        await self._executor.idle()  # jobs that were pushed just before the end are released, unbegun
        await self._completer.drain()
        self._completer.report_lost()
        for job in self._handles:
            if not job.is_done():
                job.end(JobStatus.CANCELLED, AppStoppedError(is_stored=self._is_stored(job.id)))

    async def _wait_for_jobs(self, grace: float) -> None:
        ends: list[asyncio.Task[Any]] = [spawn(self._executor.idle()), spawn(self._skip_grace.wait())]
        await asyncio.wait(ends, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _interrupt_all(self) -> None:
        while self._attempts.running:
            for attempt in list(self._attempts.running.values()):
                attempt.interrupt(Interruption.SHUTDOWN)
            try:
                async with asyncio.timeout(_NUDGE):
                    await self._executor.idle()
            except TimeoutError:
                running = self._attempts.running.values()
                names = sorted({attempt.endpoint.name for attempt in running})
                log.warning("The shutdown still waits for %d jobs: %s.", len(running), ", ".join(names))

    async def _wait_for_threads(self) -> None:
        """Wait for threads whose jobs are over, because they may use what the lifespans are about to close."""
        while overruns := list(self._attempts.lingering):
            _, left = await asyncio.wait(overruns, timeout=_NUDGE)
            if left:
                log.warning("The shutdown still waits for threads whose jobs are over: %d.", len(left))

    async def close(self) -> None:
        """Stop services, runners and storages. Each step is taken, whatever fails; then the first error is raised."""
        errors: list[BaseException] = []
        steps = [self._config.hooks.idle, *(service.stop for service in reversed(self._services))]
        steps += [runner.stop for runner in self._runners.values()]
        steps += [partial(self._leave, backend) for backend in reversed(self._opened)]
        for step in steps:
            try:
                await step()
            except BaseException as error:  # one part that cannot stop must not keep the others running
                if not isinstance(error, asyncio.CancelledError):  # the caller knows that it has cancelled
                    log.warning("A part of the engine failed to stop: %r", error)
                errors.append(error)
        self._executor.close()
        self._completer.close()
        for parts in (self._services, self._opened, self.dispatchers):
            parts.clear()
        if errors:
            raise errors[0]

    async def _leave(self, backend: Backend) -> None:
        """Close a storage; for jobs that run on after a drain that was cancelled twice, at their end."""
        makers = self._executor.call_makers
        await leave(backend, self._attempts, makers, self._config.limits.retention, self._clock)

    def abandon(self) -> None:
        """Close the storages of an engine whose event loop was closed without a stop."""
        self._executor.close()
        abandon(self._opened, self._runners.values())

    # -- the app's calls -----------------------------------------------------------------------------------------------

    def is_job(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this is the task of a job that runs here."""
        return task is not None and any(attempt.task is task for attempt in self._attempts)

    def submit(self, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        """Store a job; see :class:`~jobify.jobs.schedule_builder.Scheduler`."""
        return self._enqueuer.submit(request)

    async def wait_all(self) -> None:
        """Return when no job of this app's tasks is waiting or running, here or elsewhere."""
        while True:
            self._events.jobs_changed.clear()
            await self._executor.idle()
            await self._completer.idle()
            try:
                if not await self.active_jobs.has_active_async():
                    return
            except StorageLostError:
                raise
            except StorageUnavailableError as error:
                failures = self._opened[0].failures
                failures.warn(self, "Waiting for all jobs goes on, although the storage does not answer: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECHECK):
                    await self._events.jobs_changed.wait()

    # -- helpers of the parts ------------------------------------------------------------------------------------------

    def _on_lost(self, lost: asyncio.Future[StorageLostError]) -> None:
        """The database was deleted or replaced: log it once, and end the handles of its jobs.

        The services of the storage end with the same error, so nothing is claimed any more. The handles of jobs that
        run here end with their attempts.
        """
        if lost.cancelled():
            return
        error = lost.result()
        log.error("%s No more jobs are claimed, and pushing one raises this error.", error)
        for job in self._handles:
            if not job.is_done() and self._attempts.find(job.id) is None and self._is_stored(job.id):
                job.end(JobStatus.CANCELLED, error)

    def _is_stored(self, job_id: str) -> bool:
        return self._backends.durable is not None and not self._backends.memory.storage.get((job_id,))

    def _is_hidden(self, backend: Backend, job_id: str) -> bool:
        """Whether the watcher of ``backend`` must not touch a handle: its job runs here, or is in the other storage."""
        if self._attempts.find(job_id) is not None:
            return True
        if self._backends.durable is None:
            return False
        is_in_memory = any(record.status not in TERMINAL for record in self._backends.memory.storage.get((job_id,)))
        return is_in_memory is not (backend is self._backends.memory)
