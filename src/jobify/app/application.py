"""The app: users create it, declare tasks on it, and start it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timezone, tzinfo
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from zoneinfo import ZoneInfo

from jobify.app.lifecycle import CleanupStack, Lifecycle, Plugin, Plugins, enter_lifespans
from jobify.app.validation import (
    checked_clock,
    checked_limits,
    checked_renewal,
    checked_retention,
    checked_storage,
    checked_zone,
    memory_storage,
)
from jobify.client.producer import Producer
from jobify.config import JobifyConfiguration, Limits, WorkerPools
from jobify.crontab import CronFactory, create_crontab
from jobify.jobs.job import Job
from jobify.jobs.schedule_builder import PushRequest, Scheduler
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware
from jobify.model.clock import Clock
from jobify.model.durations import Duration, check_duration
from jobify.model.hooks import TakesHooks
from jobify.model.ids import is_storable, new_id
from jobify.model.retention import Retention
from jobify.model.state import State
from jobify.model.task_options import RunMode
from jobify.router import RootRoute, Route
from jobify.router.registry import Registry, build_registry, check_route, share_state
from jobify.router.router import frozen_error
from jobify.runtime.fork import ProcessBound
from jobify.serializers import Serializer
from jobify.serializers.codec import Codec
from jobify.storage import Storage
from jobify.typeadapter import Dumper, Loader
from jobify.types import UNSET, Lifespan, LoopFactory, MappingExceptionHandlers, Microseconds, UUIDGenerator

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor  # at run time it would import multiprocessing

    from jobify.client.client import Client
    from jobify.engine.engine import Engine
    from jobify.gateway.backend import Backends
    from jobify.runners.base import Runner

__all__ = ("Jobify",)


class Jobify(ProcessBound, TakesHooks, Producer):
    """An app: tasks, and the scheduler that runs them.

    ::

        app = Jobify()                      # jobs are kept in ./jobify.db

        @app.task
        async def greet(name: str) -> str:
            return f"Hello, {name}!"

        async with app:
            job = await greet.push("Ada")   # on disk when this returns
            print(await job)

    ``storage``: a :class:`~jobify.storage.Storage`, the path of an SQLite file, or its URL (``sqlite:///jobs.db``,
    relative as with SQLAlchemy); the default is SQLite in ``jobify.db``; ``False`` keeps everything in memory.
    ``tz``: the zone of naive datetimes and of the cron rules that this app writes (UTC), a ZoneInfo or a fixed
    offset. ``concurrency``: the number of async jobs that run at once. ``grace``: how long a shutdown lets running jobs
    finish. ``retention``: how long ended jobs are kept, a ``Retention``; ``result_ttl`` is short for its window of
    successes (a day). ``max_crashes``: the number of processes that a job may take down before it fails for good.
    ``max_tasks_per_child``, ``max_memory_per_child``: a child process is replaced after this number of tasks, or when
    it has more than this number of bytes of memory after a task.

    Durations are seconds or timedeltas. ConfigurationError for an invalid option.

    An app may be started again after a shutdown, also in another event loop.
    """

    def __init__(
        self,
        *,
        tz: ZoneInfo | timezone | None = None,
        state: State | None = None,
        dumper: Dumper | None = None,
        loader: Loader | None = None,
        storage: Storage | str | os.PathLike[str] | Literal[False] | None = UNSET,
        lifespan: Lifespan[Any] | None = None,
        serializer: Serializer | None = None,
        middleware: Sequence[BaseMiddleware] | None = None,
        outer_middleware: Sequence[BaseOuterMiddleware] | None = None,
        cron_factory: CronFactory = create_crontab,
        loop_factory: LoopFactory = asyncio.get_running_loop,
        exception_handlers: MappingExceptionHandlers | None = None,
        threadpool_executor: ThreadPoolExecutor | None = None,
        processpool_executor: ProcessPoolExecutor | None = None,
        route_class: type[RootRoute[..., Any]] = RootRoute,
        plugins: Sequence[Plugin] = (),
        uuid_generator: UUIDGenerator = new_id,
        concurrency: int = Limits.concurrency,
        grace: Duration | None = Limits.grace,
        result_ttl: Duration | None = None,
        retention: Retention | None = None,
        max_crashes: int = Limits.max_crashes,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        renamed_types: Mapping[str, type] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            state=state,
            prefix=None,
            lifespan=lifespan,
            middleware=middleware,
            outer_middleware=outer_middleware,
            exception_handlers=exception_handlers,
            route_class=route_class,
        )
        self._codec = codec = Codec(serializer, dumper, loader, renamed_types)
        limits = checked_limits(concurrency, grace, max_crashes, checked_retention(retention, result_ttl))
        self.configs = JobifyConfiguration(
            app=self,
            tz=checked_zone(tz),
            dumper=codec.dumper,
            loader=codec.loader,
            storage=checked_storage(storage),
            getloop=loop_factory,
            serializer=codec.serializer,
            renamed_types=codec.renamed_types,
            worker_pools=WorkerPools(threadpool_executor, processpool_executor),
            cron_factory=cron_factory,
            uuid_generator=uuid_generator,
            limits=checked_renewal(limits, max_tasks_per_child, max_memory_per_child, processpool_executor),
        )
        self.plugins, self.hooks = Plugins(plugins), self.configs.hooks
        self._is_memory_only = storage is False
        self._clock = checked_clock(clock, self.configs.storage)
        self._client = client = _client(self, codec)
        self._lifecycle = Lifecycle(self.configs, self._build_engine, on_end=self._drop_memory, release=client.release)

    instead = "Import it from its module there."

    def __repr__(self) -> str:
        return "<Jobify>"

    @property
    def _engine(self) -> Engine | None:
        return self._lifecycle.engine

    # -- lifecycle -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.startup()
        return self

    async def __aexit__(
        self,
        _exc_type: type[BaseException] | None = None,
        _exc_val: BaseException | None = None,
        _exc_tb: TracebackType | None = None,
    ) -> None:
        await self.shutdown()

    async def startup(self) -> None:
        """Open the storage, start plugins, enter lifespans, and begin to run jobs.

        Does nothing in a started app. If a step fails, the steps before it are undone and the error is raised:
        StorageUnavailableError, for example.
        """
        await self._lifecycle.start(self._begin)

    async def _begin(self, engine: Engine, cleanup: CleanupStack) -> None:
        share_state(self)
        cleanup.push(engine.close)
        await engine.open()
        for plugin in self._all_plugins():
            await plugin.startup(self)
            cleanup.push(plugin.shutdown)
        self.configs.app_started = True
        await enter_lifespans(self, cleanup)
        await engine.start()

    async def shutdown(self, *, grace: Duration | None = None) -> None:
        """Stop the app in order; running jobs have ``grace`` seconds to finish.

        ``grace`` defaults to that of the app. The steps: start no more jobs; wait for running jobs, then cancel the
        rest and wait for them; leave lifespans, in reverse; stop plugins; close the storage. All steps are taken even
        if one fails; the first error is raised at the end. If this coroutine is cancelled, the grace ends, and the
        steps are still taken.

        Durable jobs that did not finish are released and run at the next start, and the attempt is not counted. Does
        nothing if the app is not started; waits if it is being stopped already.
        """
        grace = self.configs.limits.grace or 0.0 if grace is None else check_duration(grace, what="grace")
        await self._lifecycle.stop(grace)

    def _build_engine(self) -> Engine:
        from jobify.engine.engine import Engine  # see jobify.app.lifecycle

        configs = self.configs
        registry = build_registry(self, configs.renamed_types)
        return Engine(
            registry=registry,
            backends=self._backends(),
            runners=_runners(registry, configs),
            scheduler=self,
            config=configs,
            clock=self._clock,
        )

    def _backends(self) -> Backends:
        from jobify.gateway.backend import Backend, Backends

        storage, queues = self.configs.storage, self.configs.limits.queues
        if storage.is_in_memory:
            return Backends(
                None, Backend(storage, self._codec, self._clock, in_memory=True, is_temporary=self._is_memory_only)
            )
        return Backends(
            Backend(storage, self._codec, self._clock, in_memory=False, queues=queues),
            Backend(memory_storage(), self._codec, self._clock, in_memory=True, is_temporary=True),
        )

    def _drop_memory(self) -> None:
        """Use a new storage in memory from now on, so that jobs enqueued after a stop wait for the next start."""
        if self._is_memory_only:
            self.configs.storage = memory_storage()

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def find_job(self, id_: str) -> Job[Any] | None:
        """The handle of a waiting or running job. None if there is none with this id."""
        if self._engine is None or not (isinstance(id_, str) and is_storable(id_)):
            return None
        return self._engine.active_jobs.find(id_)

    def get_active_jobs(self) -> list[Job[Any]]:
        """The handles of all waiting and running jobs of this app's tasks."""
        return [] if self._engine is None else self._engine.active_jobs.active()

    async def wait_all(self, timeout: Duration | None = None) -> None:
        """Return when no job of this app's tasks is waiting or running.

        WaitTimeoutError after ``timeout`` seconds. A ``timeout`` of 0 checks once. Returns at once if the app is not
        started. ApplicationStateError inside a job, because it would wait for itself. A cron without an end makes this
        wait for ever. SIGINT and SIGTERM end the wait: it returns, the app can be shut down in order, and the signal is
        delivered after that.
        """
        if timeout is not None:
            timeout = check_duration(timeout, what="timeout of wait_all()")
        await self._lifecycle.wait_all(timeout)

    # -- the scheduler of the tasks ------------------------------------------------------------------------------------

    @property
    def zone(self) -> tzinfo:
        """The zone of cron rules, naive datetimes and ``exec_at``."""
        return self.configs.tz

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the app. None means that it is not started."""
        return None if self._engine is None or self._engine.loop.is_closed() else self._engine.loop

    @property
    def description(self) -> str:
        """See :class:`~jobify.jobs.schedule_builder.Scheduler`."""
        place = "in memory" if self._is_memory_only else f"on {self.configs.storage!r}"
        return f"<Jobify {place}>"

    def now(self) -> Microseconds:
        """The app's clock: microseconds since the epoch."""
        return self._clock.now()

    def require_started(self) -> None:
        """See :class:`~jobify.jobs.schedule_builder.Scheduler`."""
        self._lifecycle.require("schedule a job")

    def submit(self, request: PushRequest) -> Coroutine[Any, Any, Job[Any]]:
        """Take a request; see :class:`~jobify.jobs.schedule_builder.Scheduler`."""
        return self._lifecycle.require("schedule a job").submit(request)

    # -- configuration -------------------------------------------------------------------------------------------------

    def add_plugin(self, plug: Plugin) -> None:
        """Start and stop ``plug`` with the app."""
        self._require_open("add a plugin")
        self.plugins.add(plug)

    def _all_plugins(self) -> Plugins:
        """The registered plugins, then the middleware that are plugins, those of the app first."""
        layers = (layer for router in self.chain_tail for layer in (*router.middleware, *router.outer_middleware))
        return Plugins([*self.plugins, *(layer for layer in layers if isinstance(layer, Plugin))])

    def _require_open(self, operation: str) -> None:
        if self._engine is not None:
            raise frozen_error(operation)
        self._client.tasks.forget()

    def _scheduler_for_routes(self) -> Scheduler:
        return self

    def _check_route(self, route: Route[..., Any]) -> None:
        check_route(route, self, is_durable=self.configs.storage.is_durable, cron_factory=self.configs.cron_factory)


def _runners(registry: Registry, configs: JobifyConfiguration) -> dict[RunMode, Runner]:
    from jobify.runners.base import LoopRunner
    from jobify.runners.executor_thread import ExecutorThreadRunner
    from jobify.runners.thread import ThreadRunner

    threadpool = configs.worker_pools.threadpool
    runners: dict[RunMode, Runner] = {
        RunMode.MAIN: LoopRunner(configs.limits.concurrency),
        RunMode.THREAD: (
            ThreadRunner(slots=configs.limits.threads) if threadpool is None else ExecutorThreadRunner(threadpool)
        ),
    }
    if any(endpoint.run_mode is RunMode.PROCESS for endpoint in registry.values()):
        # Imported when needed, because multiprocessing takes a tenth of the time to import jobify.
        from jobify.runners.childprocess import Renewal
        from jobify.runners.process import ExecutorProcessRunner, ProcessRunner

        pool, limits = configs.worker_pools.processpool, configs.limits
        renewal = Renewal(limits.max_tasks_per_child, limits.max_memory_per_child)
        runners[RunMode.PROCESS] = (
            ProcessRunner(slots=limits.processes, renewal=renewal) if pool is None else ExecutorProcessRunner(pool)
        )
    return runners


def _client(app: Jobify, codec: Codec) -> Client:
    from jobify.client.client import Client  # imported here: a tenth of the time to import jobify

    return Client(
        app.configs,
        codec,
        app._clock,
        build=partial(build_registry, app),
        runs_here=lambda: _runs_here(app._engine),
    )


def _runs_here(engine: Engine | None) -> bool:
    """Whether this is the thread of the engine's event loop."""
    try:
        return engine is not None and asyncio.get_running_loop() is engine.loop
    except RuntimeError:
        return False
