"""Starting and stopping an app, any number of times: one engine from each start to its stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, MutableSet
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from jobify.config import JobifyConfiguration
from jobify.exceptions import ApplicationStateError, ConfigurationError, StorageLostError, WaitTimeoutError
from jobify.router import Router
from jobify.runtime.fork import guard_loop, release_loop
from jobify.runtime.logs import get_logger
from jobify.runtime.signals import SignalCatcher
from jobify.runtime.spawn import spawn

if TYPE_CHECKING:
    from jobify.engine.engine import Engine

__all__ = ("CleanupStack", "Lifecycle", "Plugin", "Plugins", "client_only", "enter_lifespans")


# -- plugins -----------------------------------------------------------------------------------------------------------
# Plugins: extensions that start and stop with an app.


@runtime_checkable
class Plugin(Protocol):
    """An extension that is started and stopped with the app.

    It is started before the lifespans, in order of registration, and stopped after them, in reverse.

    A middleware that has these two methods is a plugin, and need not be registered as one. ::

        class Metrics:
            async def startup(self, app: Jobify) -> None:
                self.server = await serve(port=9000)

            async def shutdown(self) -> None:
                await self.server.close()

        app = Jobify(plugins=[Metrics()])
    """

    async def startup(self, app: Any) -> None:
        """Called when the app starts, before any job runs. An error aborts the start."""
        ...

    async def shutdown(self) -> None:
        """Called when the app stops, after the last job."""
        ...


class Plugins(MutableSet[Plugin]):
    """An ordered set of plugins by identity: they need not be hashable, and equal ones are different members."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._by_identity: dict[int, Plugin] = {}
        if not isinstance(plugins, Iterable) or isinstance(plugins, str):
            raise ConfigurationError(f"plugins is {plugins!r}; it must be a list of plugins, such as [Metrics()].")
        for plugin in plugins:
            self.add(plugin)

    def __contains__(self, value: object) -> bool:
        return id(value) in self._by_identity

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._by_identity.values())

    def __len__(self) -> int:
        return len(self._by_identity)

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}"

    def add(self, value: Plugin) -> None:
        """Register a plugin; a second time does nothing. ConfigurationError if it is none."""
        if isinstance(value, type):
            raise ConfigurationError(f"A plugin is an object, not a class. Did you mean {value.__name__}()?")
        if not isinstance(value, Plugin):
            raise ConfigurationError(f"{value!r} is no plugin: it needs async startup(app) and async shutdown().")
        self._by_identity[id(value)] = value

    def discard(self, value: Plugin) -> None:
        """Remove a plugin, if it is registered."""
        self._by_identity.pop(id(value), None)


# -- lifespan ----------------------------------------------------------------------------------------------------------
# Lifespans of apps and routers, the cleanup stack of a started app, and the lock of starts and stops.


_Cleanup: TypeAlias = Callable[[], Awaitable[object]]


class CleanupStack:
    """The cleanup steps of a started app, run in reverse order.

    Unlike with an ``AsyncExitStack``, a failing step does not affect the others: the code after the ``yield`` of a
    lifespan runs even if the lifespan inside it failed.
    """

    def __init__(self) -> None:
        self._steps: list[_Cleanup] = []

    def push(self, step: _Cleanup) -> None:
        """Add a step, which runs before those that were added earlier."""
        self._steps.append(step)

    async def run(self) -> None:
        """Run all steps in the calling task, then raise the first error. A cancellation goes before other errors."""
        errors: list[BaseException] = []
        while self._steps:
            try:
                await self._steps.pop()()
            except BaseException as error:
                errors.append(error)
        errors.sort(key=lambda error: not isinstance(error, asyncio.CancelledError))
        for later in errors[1:]:
            if not isinstance(later, asyncio.CancelledError):  # the caller that cancelled knows
                log.error("Another error while the app was stopping: %r", later, exc_info=later)
        if errors:
            raise errors[0]


class LifecycleLock:
    """Serializes the starts and stops of one app, in any event loop."""

    def __init__(self) -> None:
        self._released: asyncio.Future[None] | None = None
        self._holder: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Acquire the lock; reentrant for the task that holds it.

        A start or stop that is under way in another event loop is not waited for: its caller is refused later, by its
        own loop check.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._holder is task:
            yield
            return
        while self._released is not None and not self._released.done() and self._released.get_loop() is loop:
            await asyncio.shield(self._released)
        released = self._released = loop.create_future()
        self._holder = task
        try:
            yield
        finally:
            self._holder = None
            released.set_result(None)


async def enter_lifespans(router: Router, cleanup: CleanupStack) -> None:
    """Enter the lifespan of ``router``, then those of its sub-routers, and push their exits to ``cleanup``.

    Each lifespan is called with its router (that of the app with the app). A mapping that it yields is merged into
    that router's state.
    """
    if router.lifespan is not None:
        lifespan = router.lifespan(router)
        yielded: Any = await lifespan.__aenter__()
        cleanup.push(partial(lifespan.__aexit__, None, None, None))
        if yielded is not None and not isinstance(yielded, Mapping):
            raise ConfigurationError(f"The lifespan of {router!r} gave {yielded!r}; yield a mapping, or nothing.")
        router.state.update(yielded or {})
    for below in router.sub_routers:
        await enter_lifespans(below, cleanup)


# -- preload -----------------------------------------------------------------------------------------------------------
# What a start needs: imported when an app is made, because a start runs on the event loop, which would wait for it.
#
# A program that only looks at the jobs of an app, such as a command, leaves it out and is ready sooner.

_is_client_only: Final = ContextVar("_is_client_only", default=False)


def preload() -> None:
    """Import the engine, the runners that every app has, and the storage in memory, which an app has beside its own."""
    if not _is_client_only.get():
        import jobify.engine.engine
        import jobify.runners.base
        import jobify.runners.thread
        import jobify.storage.memory  # noqa: F401


@contextmanager
def client_only() -> Iterator[None]:
    """The apps that are made meanwhile are expected never to start. (One that does imports what it needs then.)"""
    token = _is_client_only.set(True)
    try:
        yield
    finally:
        _is_client_only.reset(token)


# -- lifecycle ---------------------------------------------------------------------------------------------------------

log = get_logger("jobify")

Release: TypeAlias = Callable[[], Awaitable[None]]
"""Closes the connections of the app's client. Awaited last when the app stops."""

Begin: TypeAlias = "Callable[[Engine, CleanupStack], Awaitable[None]]"
"""Starts an engine, plugins and lifespans, and pushes the cleanup of each."""


class Lifecycle:
    """Owns the engine of a started app.

    ``build`` makes the engine at each start; ``on_end`` is called when it has stopped, after ``release``.
    """

    def __init__(
        self, config: JobifyConfiguration, build: Callable[[], Engine], *, on_end: Callable[[], None], release: Release
    ) -> None:
        preload()
        self._config = config
        self._release = release
        self._build = build
        self._on_end = on_end
        self.engine: Engine | None = None
        """None while the app is not started."""
        self._cleanup = CleanupStack()
        self._lock = LifecycleLock()
        self._signals = SignalCatcher()
        self._unsaved = 0

    @property
    def unsaved(self) -> int:
        """The number of ended attempts whose outcome is not stored, since this start or, after a stop, the last one."""
        return self._unsaved if self.engine is None else self.engine.unsaved()

    async def until_lost(self) -> StorageLostError | None:
        """Wait until the storage cannot be used any more, and return the reason. None if the app is not started."""
        return None if self.engine is None else await asyncio.shield(self.engine.lost)

    def require(self, operation: str) -> Engine:
        """The engine. ApplicationStateError if the app is not started, or is being stopped."""
        if self.engine is None or not self._config.app_started:
            raise ApplicationStateError(
                operation=operation,
                reason="The app is not started.",
                solution="Do it inside `async with app:`, or after `await app.startup()`.",
            )
        return self.engine

    async def start(self, begin: Begin) -> None:
        """See :meth:`jobify.Jobify.startup`."""
        async with self._lock.hold():
            self._forget_closed_loop()
            if self.engine is not None:
                _require_own_loop(self.engine, "start the app", "startup()")
                return
            engine, cleanup = self.engine, self._cleanup = self._build(), CleanupStack()
            cleanup.push(self._release)
            guard_loop(engine.loop)
            try:
                await begin(engine, cleanup)
            except BaseException as error:
                try:
                    await self._end(engine, cleanup, 0.0)
                except BaseException as another:
                    log.warning("The cleanup after a failed start has failed, too: %r", another)
                raise error

    async def stop(self, grace: float) -> None:
        """See :meth:`jobify.Jobify.shutdown`."""
        if self.engine is not None:
            solution = "Set an event that the code that started the app waits for, or send the process a SIGTERM."
            _refuse_jobs(self.engine, "shut the app down", "the shutdown would wait for the job.", solution)
        async with self._lock.hold():
            self._forget_closed_loop()
            if self.engine is not None:
                _require_own_loop(self.engine, "shut the app down", "shutdown()")
                await self._end(self.engine, self._cleanup, grace)

    async def wait_all(self, timeout: float | None) -> None:
        """See :meth:`jobify.Jobify.wait_all`."""
        engine, loop = self.engine, asyncio.get_running_loop()
        if engine is None or engine.loop.is_closed():
            return
        _require_own_loop(engine, "wait for all jobs", "wait_all()")
        _refuse_jobs(engine, "wait for all jobs", "it would wait for itself.", "Await the jobs that it needs.")
        waiting = spawn(engine.wait_all())
        try:
            with self._signals.catching(lambda: loop.call_soon_threadsafe(waiting.cancel)):
                done, _ = await asyncio.wait([waiting], timeout=timeout)
        finally:
            waiting.cancel()
        if done:
            if not waiting.cancelled():
                waiting.result()
        elif engine.active_jobs.has_active():
            limit = timeout or 0.0
            raise WaitTimeoutError(f"There are still jobs to wait for after {limit:g} seconds.", timeout=limit)

    async def _end(self, engine: Engine, cleanup: CleanupStack, grace: float) -> None:
        cleanup.push(partial(self._drain, engine, grace))
        try:
            await cleanup.run()
        finally:
            self._forget()
            if self._signals.deliver():
                await asyncio.sleep(0)  # so that a signal that cancels this task does it here and now

    async def _drain(self, engine: Engine, grace: float) -> None:
        try:
            await engine.drain(grace)
        finally:
            self._unsaved = engine.unsaved()
            self._config.app_started = False

    def _forget_closed_loop(self) -> None:
        """Abandon an engine whose event loop was closed without a shutdown: it cannot be stopped in order any more."""
        if self.engine is not None and self.engine.loop.is_closed():
            log.warning("The app was not shut down before its event loop was closed; what it ran is lost.")
            self.engine.abandon()
            self._config.app_started = False
            self._forget()

    def _forget(self) -> None:
        if self.engine is not None:
            release_loop(self.engine.loop)
        self.engine = None
        self._on_end()


def _require_own_loop(engine: Engine, operation: str, call: str) -> None:
    """ApplicationStateError if the caller is in another event loop than the app."""
    if engine.loop is not asyncio.get_running_loop():
        raise ApplicationStateError(
            operation=operation,
            reason="It runs in another event loop.",
            solution=f"From another thread use asyncio.run_coroutine_threadsafe(app.{call}, loop).",
        )


def _refuse_jobs(engine: Engine, operation: str, consequence: str, solution: str) -> None:
    """ApplicationStateError if the caller is a job, because ``operation`` waits for the end of all jobs."""
    if engine.is_job(asyncio.current_task()):
        reason = f"A job cannot do that: {consequence}"
        raise ApplicationStateError(operation=operation, reason=reason, solution=solution)
