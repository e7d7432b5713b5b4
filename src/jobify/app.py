"""The app: what users create, declare tasks on, and start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from zoneinfo import ZoneInfo

from jobify.clock import Clock, SystemClock
from jobify.crontab import CronFactory, create_crontab
from jobify.engine.backend import Backend
from jobify.engine.engine import Engine
from jobify.exceptions import ApplicationStateError, ConfigurationError
from jobify.identifiers import is_storable, new_id
from jobify.job import Job
from jobify.lifespan import Exits, Turns, enter_lifespans
from jobify.middleware.base import BaseMiddleware, BaseOuterMiddleware
from jobify.options import RunMode, check_duration
from jobify.plugins import Plugin, Plugins
from jobify.registry import Registry, build_registry, check_route, share_state
from jobify.router import RootRoute, Route, Router
from jobify.router.tree import frozen
from jobify.runners.base import Runner
from jobify.runners.loop import LoopRunner
from jobify.runners.thread import ThreadRunner
from jobify.schedule import Order, Scheduler
from jobify.serializers import Serializer
from jobify.serializers.codec import Codec
from jobify.settings import JobifyConfiguration, Limits, WorkerPools
from jobify.signals import SignalCatcher
from jobify.state import State
from jobify.storage import SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from jobify.typeadapter import Dumper, Loader
from jobify.types import UNSET, Lifespan, LoopFactory, MappingExceptionHandlers, Microseconds, UUIDGenerator

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor  # at run time it would bring multiprocessing along

__all__ = ("Jobify",)

log = logging.getLogger("jobify")


class Jobify(Router):
    """A scheduler and its tasks.

    ::

        app = Jobify()                      # jobs are kept in ./jobify.db

        @app.task
        async def greet(name: str) -> str:
            return f"Hello, {name}!"

        async with app:
            job = await greet.push("Ada")   # on disk when this returns
            print(await job)

    ``storage``: a :class:`~jobify.storage.Storage`; the default is SQLite in ``jobify.db``; ``False`` keeps
    everything in memory. ``tz``: the zone of cron rules and naive datetimes (UTC). ``concurrency``: async jobs at
    once. ``grace``: seconds that a shutdown lets running jobs finish. ``result_ttl``: seconds that ended jobs are
    kept (a day). ``max_crashes``: processes that a job may take down before it fails for good.

    An app may be started again after a shutdown, also in another event loop.
    """

    def __init__(
        self,
        *,
        tz: ZoneInfo | None = None,
        state: State | None = None,
        dumper: Dumper | None = None,
        loader: Loader | None = None,
        storage: Storage | Literal[False] | None = UNSET,
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
        grace: float = Limits.grace,
        result_ttl: float = Limits.result_ttl,
        max_crashes: int = Limits.max_crashes,
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
        self._codec = codec = Codec(serializer, dumper, loader)
        self.configs = JobifyConfiguration(
            app=self,
            tz=_zone(tz),
            dumper=codec.dumper,
            loader=codec.loader,
            storage=_storage(storage),
            getloop=loop_factory,
            serializer=codec.serializer,
            worker_pools=WorkerPools(threadpool_executor, processpool_executor),
            cron_factory=cron_factory,
            uuid_generator=uuid_generator,
            limits=_limits(concurrency, grace, result_ttl, max_crashes),
        )
        self.plugins = Plugins(plugins)
        self._is_memory_only = storage is False
        self._clock = _clock(clock)
        self._engine: Engine | None = None
        self._exits = Exits()
        self._turns = Turns()
        self._signals = SignalCatcher()

    def __repr__(self) -> str:
        return "<Jobify>"

    # -- life ----------------------------------------------------------------------------------------------------------

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
        """Open the storage, run the lifespans and plugins, take up work. Starting a started app does nothing.

        If any of it fails, what was started is stopped again and the error is raised.
        """
        async with self._turns.turn():
            self._forget_closed_loop()
            if self._engine is not None:
                return
            engine, exits = self._engine, self._exits = self._build_engine(), Exits()
            try:
                await self._start(engine, exits)
            except BaseException as error:
                try:
                    await self._stop(engine, exits, 0.0)
                except BaseException as another:
                    log.warning("Undoing a start that failed has failed, too: %r", another)
                raise error

    async def _start(self, engine: Engine, exits: Exits) -> None:
        share_state(self)
        exits.push(engine.close)
        await engine.open()
        for plugin in self._all_plugins():
            await plugin.startup(self)
            exits.push(plugin.shutdown)
        self.configs.app_started = True
        await enter_lifespans(self, exits)
        await engine.start()

    async def shutdown(self, *, grace: float | None = None) -> None:
        """Stop, in order: start nothing more; let running jobs finish for ``grace`` seconds (default: the app's), then
        cancel them and wait for them; leave lifespans, in reverse; stop plugins; close the storage.

        Durable jobs that did not finish are given back and run at the next start, without a lost attempt. Stopping an
        app that is not started does nothing; one that is being stopped is waited for. All steps are taken, whatever
        fails: the first error is raised at the end. Cancelled, this grants no more grace and still stops in order.
        """
        grace = self.configs.limits.grace if grace is None else check_duration(grace, what="grace")
        if self._engine is not None and self._engine.is_job(asyncio.current_task()):
            raise ApplicationStateError(
                operation="shut the app down",
                reason="A job cannot do that: the shutdown would wait for the job.",
                solution="Set an event for whoever started the app, or send the process a SIGTERM.",
            )
        async with self._turns.turn():
            self._forget_closed_loop()
            if self._engine is not None:
                await self._stop(self._engine, self._exits, grace)

    async def _stop(self, engine: Engine, exits: Exits, grace: float) -> None:
        exits.push(partial(self._drain, engine, grace))
        try:
            await exits.leave()
        finally:
            self._engine = None
            if self._signals.deliver():
                await asyncio.sleep(0)  # a signal that cancels this task does so here, not at some later time or never

    async def _drain(self, engine: Engine, grace: float) -> None:
        try:
            await engine.drain(grace)
        finally:
            self.configs.app_started = False

    def _forget_closed_loop(self) -> None:
        """Let go of a life whose event loop was closed without a shutdown: none of it can be stopped in order."""
        if self._engine is not None and self._engine.loop.is_closed():
            log.warning("The app was not shut down before its event loop was closed; what it ran is lost.")
            self._engine.abandon()
            self._engine, self.configs.app_started = None, False

    def _build_engine(self) -> Engine:
        configs = self.configs
        if self._is_memory_only:  # what was waiting in memory is gone with the life that it belonged to
            configs.storage = MemoryStorage()
        is_volatile = isinstance(configs.storage, MemoryStorage)
        registry = build_registry(self)
        return Engine(
            registry=registry,
            durable=None if is_volatile else Backend(configs.storage, self._codec, self._clock, in_memory=False),
            volatile=Backend(
                configs.storage if is_volatile else MemoryStorage(), self._codec, self._clock, in_memory=True
            ),
            runners=_runners(registry, configs),
            scheduler=self,
            config=configs,
            clock=self._clock,
        )

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def find_job(self, id_: str) -> Job[Any] | None:
        """The handle of a waiting or running job, None if there is none with this id."""
        if self._engine is None or not (isinstance(id_, str) and is_storable(id_)):
            return None
        return self._engine.overview.find(id_)

    def get_active_jobs(self) -> list[Job[Any]]:
        """The handles of all waiting and running jobs of this app's tasks."""
        return [] if self._engine is None else self._engine.overview.active()

    async def wait_all(self, timeout: float | None = None) -> None:
        """Return when no job of this app's tasks is waiting or running; TimeoutError after ``timeout`` seconds.

        An endless cron makes this wait for ever. SIGINT and SIGTERM end the wait: it returns, the app can be shut
        down in order, and the signal is delivered after that.
        """
        if timeout is not None:
            timeout = check_duration(timeout, what="timeout of wait_all()")
        engine = self._require_engine("wait for all jobs")
        loop = asyncio.get_running_loop()
        waiting = loop.create_task(engine.wait_all())
        try:
            with self._signals.catching(lambda: loop.call_soon_threadsafe(waiting.cancel)):
                done, _ = await asyncio.wait([waiting], timeout=timeout)
        finally:
            waiting.cancel()
        if not done:
            raise TimeoutError(f"There are still jobs to wait for after {timeout:g} seconds.")
        if not waiting.cancelled():
            waiting.result()

    # -- the scheduler that tasks submit to ----------------------------------------------------------------------------

    @property
    def zone(self) -> ZoneInfo:
        """The zone of cron rules, naive datetimes and ``exec_at``."""
        return self.configs.tz

    def now(self) -> Microseconds:
        """The app's clock: microseconds since the epoch."""
        return self._clock.now()

    def require_started(self) -> None:
        """See :class:`~jobify.schedule.Scheduler`."""
        self._require_engine("schedule a job")

    def submit(self, order: Order) -> Coroutine[Any, Any, Job[Any]]:
        """Take an order; see :class:`~jobify.schedule.Scheduler`."""
        return self._require_engine("schedule a job").submit(order)

    def _require_engine(self, operation: str) -> Engine:
        if self._engine is None or not self.configs.app_started:
            raise ApplicationStateError(
                operation=operation,
                reason="The app is not started.",
                solution="Do it inside `async with app:`, or after `await app.startup()`.",
            )
        return self._engine

    # -- configuration -------------------------------------------------------------------------------------------------

    def add_plugin(self, plug: Plugin) -> None:
        """Start and stop ``plug`` with the app."""
        self._require_open("add a plugin")
        self.plugins.add(plug)

    def _all_plugins(self) -> Plugins:
        """The registered ones, then the middleware that are plugins, from the app down."""
        layers = (layer for router in self.chain_tail for layer in (*router.middleware, *router.outer_middleware))
        return Plugins([*self.plugins, *(layer for layer in layers if isinstance(layer, Plugin))])

    def _require_open(self, operation: str) -> None:
        if self._engine is not None:
            raise frozen(operation)

    def _scheduler_for_routes(self) -> Scheduler:
        return self

    def _check_route(self, route: Route[..., Any]) -> None:
        check_route(route, is_durable=self.configs.storage.is_durable, cron_factory=self.configs.cron_factory)


def _zone(tz: Any) -> ZoneInfo:
    if tz is None:
        return ZoneInfo("UTC")
    if not isinstance(tz, ZoneInfo):
        raise ConfigurationError(f"tz is {tz!r}; it must be a ZoneInfo, for example ZoneInfo('Europe/Berlin').")
    return tz


def _clock(clock: Any) -> Clock:
    if clock is None:
        return SystemClock()
    if isinstance(clock, type) or not (callable(getattr(clock, "now", None)) and hasattr(clock, "monotonic")):
        raise ConfigurationError(
            f"clock is {clock!r}; it must be an object with now() and monotonic(), such as SystemClock()."
        )
    checked: Clock = clock
    return checked


def _storage(storage: Any) -> Storage:
    if storage is UNSET or storage is None:
        return SQLiteStorage()
    if storage is False:
        return MemoryStorage()
    if not isinstance(storage, Storage):
        raise ConfigurationError(f"storage is {storage!r}; it must be a Storage, or False for memory only.")
    return storage


def _runners(registry: Registry, configs: JobifyConfiguration) -> dict[RunMode, Runner]:
    runners: dict[RunMode, Runner] = {
        RunMode.MAIN: LoopRunner(configs.limits.concurrency),
        RunMode.THREAD: ThreadRunner(executor=configs.worker_pools.threadpool),
    }
    if any(endpoint.run_mode is RunMode.PROCESS for endpoint in registry.values()):
        # Imported when needed: it brings multiprocessing along, a tenth of the time to import jobify.
        from jobify.runners.process import ExecutorProcessRunner, ProcessRunner

        pool = configs.worker_pools.processpool
        runners[RunMode.PROCESS] = ProcessRunner() if pool is None else ExecutorProcessRunner(pool)
    return runners


def _limits(concurrency: int, grace: float, result_ttl: float, max_crashes: int) -> Limits:
    for name, value in (("concurrency", concurrency), ("max_crashes", max_crashes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} is {value!r}; it must be a whole number of at least 1.")
    return Limits(
        concurrency=concurrency,
        grace=check_duration(grace, what="grace"),
        result_ttl=check_duration(result_ttl, what="result_ttl"),
        max_crashes=max_crashes,
    )
