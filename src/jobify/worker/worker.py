"""A worker process: an app that runs until a stop is requested.

::

    start ─▶ children can start? ─▶ ready ──stop requested──▶ drain (grace) ─▶ interrupt ─▶ release ─▶ end
                                                                 └──second request──▶┘

**The first signal** (SIGTERM, SIGINT, SIGHUP) stops claiming. Running jobs have ``grace`` seconds to finish; then event
loop tasks are cancelled and children are killed, and their jobs are released without a lost attempt.

**The second signal**, at least a second later (:mod:`jobify.runtime.signals`), ends the grace period. A thread passes
signals to the event loop. If the loop does not take the second one, a task blocks it and no job can be released any
more: the process ends, and its jobs run again as those of a process that died.

**Threads** cannot be stopped. A worker that waited for them would exceed its grace period and be killed by the service
manager; so it releases their jobs, too, and the process ends while they still run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from jobify.app.validation import checked_renewal
from jobify.exceptions import ConfigurationError, StorageLostError, StorageReplacedError
from jobify.gateway.backend import release_lingering_owners
from jobify.model.durations import Duration, as_seconds
from jobify.runtime.fork import install_handler
from jobify.runtime.logs import Lines, get_logger
from jobify.runtime.machine import available_cpus
from jobify.runtime.signals import StopSignals, stop_signals
from jobify.runtime.spawn import is_loop_ending, spawn
from jobify.worker.control_socket import DISCONNECTED, DRAIN, ControlSocket
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.app.application import Jobify
    from jobify.engine.services.startup import StartReport

__all__ = ("DEFAULT_GRACE", "Worker", "prepare")

log = get_logger("jobify.worker")

DEFAULT_GRACE: Final = 30.0
"""Seconds. systemd waits 90 before it kills. Kubernetes waits 30, so its period must be set a little longer."""

_CLEANUP_TIMEOUT: Final = 5.0
"""Seconds after the grace period that interrupted tasks have to clean up. It also limits the exit of a lifespan."""
_FORCED_CLEANUP_TIMEOUT: Final = 1.0
"""The same after a second stop request."""

_LOOP_TIMEOUT: Final = 2.0
"""Seconds in which the event loop must take a second stop request; otherwise a task blocks it."""


def prepare(
    app: Jobify,
    *,
    queues: tuple[str, ...] | None = None,
    concurrency: int | None = None,
    threads: int | None = None,
    children: int | None = None,
    max_tasks_per_child: int | None = None,
    max_memory_per_child: int | None = None,
) -> None:
    """Set the queues and limits of ``app`` before it starts; None keeps its own values.

    ``concurrency`` applies to each kind of job, but there are never more child processes than processors; ``threads``
    and ``children`` apply to one kind. ConfigurationError for an app whose jobs no other process can see, and for a
    limit of a pool that the user made.
    """
    if not app.configs.storage.is_shared:
        raise ConfigurationError(
            "This app keeps its jobs in its own memory, where a worker would find none. Give it a storage that "
            "processes can share: Jobify() or Jobify(storage=SQLiteStorage(...))."
        )
    limits = replace(app.configs.limits, queues=queues, are_children_checked=True)
    if concurrency is not None:
        processes = min(concurrency, available_cpus())
        limits = replace(limits, concurrency=concurrency, threads=concurrency, processes=processes)
    pools = app.configs.worker_pools
    _refuse_with_own_pool("--threads", threads, "threadpool_executor", pools.threadpool)
    _refuse_with_own_pool("--children", children, "processpool_executor", pools.processpool)
    tasks = limits.max_tasks_per_child if max_tasks_per_child is None else max_tasks_per_child
    memory = limits.max_memory_per_child if max_memory_per_child is None else max_memory_per_child
    limits = checked_renewal(limits, tasks, memory, pools.processpool)
    threads, children = threads or limits.threads, children or limits.processes
    app.configs.limits = replace(limits, threads=threads, processes=children)


def _refuse_with_own_pool(option: str, value: int | None, argument: str, pool: object) -> None:
    if value is not None and pool is not None:
        raise ConfigurationError(f"{option} limits a pool of Jobify, but this app has a {argument}. Omit the option.")


class Worker:
    """Runs ``app`` in this process, once. ``control`` is the socket to the supervisor; None means there is none.

    The first log lines name the app by ``name``; ``is_brief`` leaves them out, because another worker of the same
    supervisor has logged them. ``grace`` is the time in seconds that running jobs have to finish at a stop; None means
    the app's own value, or 30.
    """

    def __init__(
        self,
        app: Jobify,
        *,
        grace: Duration | None = None,
        control: ControlSocket | None = None,
        name: str = "",
        is_brief: bool = False,
    ) -> None:
        self._app = app
        self._name = name
        own = app.configs.limits.grace
        self._grace = as_seconds(grace) if grace is not None else DEFAULT_GRACE if own is None else own
        self._control = control
        on_trial = app.configs.limits.on_trial if control is None else control.send_trial
        announce = _announce_nothing if is_brief else self._announce
        app.configs.limits = replace(app.configs.limits, on_trial=on_trial, on_starting=announce)
        self._stop_requested = asyncio.Event()
        self._force_requested = asyncio.Event()
        self._signal = 0
        self._loss: StorageLostError | None = None

    async def run(self) -> int:
        """Run until a stop is requested; returns the exit code. Raises the error of an app that cannot start.

        Does not return if threads still run at the end: the process ends while they run.
        """
        forget = self._install_stop_handlers()
        try:
            if not await self._start():
                return self._exit_code()
            log.info("At work as process %d.", os.getpid())
            if self._control is not None:
                self._control.send_ready(self._grace)
            await self._until_stop_requested()
            return await self._stop()
        finally:
            forget()

    def _announce(self, report: StartReport) -> None:
        fields = {**report.fields(), "app": self._name, "grace": self._grace}
        block = report.block(self._name or repr(self._app), self._grace)
        log.info("Worker %d starts.%s", os.getpid(), Lines(f"\n{block}"), extra=fields)

    # -- stop requests -------------------------------------------------------------------------------------------------

    def _install_stop_handlers(self) -> Callable[[], None]:
        """Handle signals and messages of the supervisor; returns a function that restores the signal handlers."""
        loop = asyncio.get_running_loop()
        received: SimpleQueue[tuple[int, float]] = SimpleQueue()  # reentrant: a signal may interrupt its put()

        def put(number: int, _: object) -> None:
            received.put((number, time.monotonic()))

        restores = [install_handler(number, put) for number in stop_signals()]
        threading.Thread(target=self._relay_signals, args=(received, loop), name="jobify-signals", daemon=True).start()
        if self._control is not None:
            self._control.listen(lambda message: loop.call_soon_threadsafe(self._on_control_message, message))

        def forget() -> None:
            for restore in restores:
                restore()
            received.put((0, 0.0))

        return forget

    def _relay_signals(self, received: SimpleQueue[tuple[int, float]], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: pass signals to the event loop; end the process if it does not take the second one."""
        wishes = StopSignals()
        while True:
            number, at = received.get()
            if not number:
                return
            is_second, taken = wishes.is_repeated(at), threading.Event()
            with suppress(RuntimeError):  # closed: the process is about to end
                loop.call_soon_threadsafe(self._on_signal, number, is_second, taken)
            if is_second and self._control is None and not taken.wait(_LOOP_TIMEOUT):
                log.error(
                    "A task blocks the event loop, so no job can be released. The process ends; its jobs run again, "
                    "with a lost attempt. Make such a task a plain def: it runs in a thread."
                )
                _exit_process(128 + number)

    def _on_signal(self, number: int, is_second: bool, taken: threading.Event) -> None:
        taken.set()
        if is_second and self._control is None:
            self._signal = number
            self._force_requested.set()
        self._stop_requested.set()

    def _on_control_message(self, message: bytes) -> None:
        self._stop_requested.set()
        if message != DRAIN:
            self._force_requested.set()
        if message == DISCONNECTED:
            log.error("The supervisor has died; the worker stops.")

    def _exit_code(self) -> int:
        if self._loss is not None:
            return ExitCode.REPLACED if isinstance(self._loss, StorageReplacedError) else ExitCode.FAILED
        if self._app._lifecycle.unsaved:
            return ExitCode.NOT_STORED
        return 128 + self._signal if self._signal else ExitCode.DONE

    async def _until_stop_requested(self) -> None:
        """Return when a stop is requested, or when the database is lost."""
        is_over = False
        while not is_over:
            lost = spawn(self._app._lifecycle.until_lost())
            ends: list[asyncio.Task[Any]] = [spawn(self._stop_requested.wait()), lost]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:  # a job has cancelled all tasks of the loop; the engine logs it
                if is_loop_ending():
                    raise
                cast("asyncio.Task[Any]", asyncio.current_task()).uncancel()
            self._loss = lost.result() if lost.done() and not lost.cancelled() else None
            is_over = any(end.done() and not end.cancelled() for end in ends)
            for end in ends:
                end.cancel()

    # -- starting and stopping -----------------------------------------------------------------------------------------

    async def _start(self) -> bool:
        """Start the app; False if it was interrupted, which only a second stop request does."""
        starting = spawn(self._app.startup())
        await self._until_force_requested(starting)
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            return False
        await starting
        return True

    async def _stop(self) -> int:
        grace = self._grace if self._loss is None else 0.0  # no outcome can be stored: other processes run the jobs
        if self._loss is not None:
            log.warning("The worker stops without delay, because nothing can be stored any more.")
        elif not self._force_requested.is_set():
            log.info("Stop requested: no more jobs are started; running jobs have %g seconds to finish.", grace)
        stopping = spawn(self._app.shutdown(grace=grace))
        await self._until_force_requested(stopping, within=grace + _CLEANUP_TIMEOUT)
        if self._force_requested.is_set():
            log.warning("Stopping at once: running jobs are interrupted and released.")
        if not stopping.done():
            stopping.cancel()  # ends the grace period
            await asyncio.wait([stopping], timeout=_FORCED_CLEANUP_TIMEOUT)
        if not stopping.done():
            lifecycle = self._app._lifecycle
            is_running_jobs = lifecycle.engine is not None and lifecycle.engine.is_running_jobs()
            stopping.cancel()  # ends the wait for threads, and releases their jobs
            await asyncio.wait([stopping], timeout=_CLEANUP_TIMEOUT)
            if lifecycle.unsaved:
                log.error("The process ends. %s", _unsaved(lifecycle.unsaved))
            if is_running_jobs or not lifecycle.unsaved:
                log.warning("The process ends while threads still run; their jobs run again.")
            _exit_process(self._exit_code())
        self._log_shutdown_error(stopping)
        code = self._exit_code()
        if code == ExitCode.NOT_STORED:
            log.error("Stopped. %s", _unsaved(self._app._lifecycle.unsaved))
        else:
            log.info("Stopped.")
        return code

    def _log_shutdown_error(self, stopped: asyncio.Future[None]) -> None:
        """Log the error of a lifespan or a plugin; everything is stopped in spite of it."""
        error = None if stopped.cancelled() else stopped.exception()
        if error is not None:
            log.error("The app stopped with an error: %s: %s", type(error).__name__, error, exc_info=error)

    async def _until_force_requested(self, doing: asyncio.Future[None], *, within: float | None = None) -> None:
        again: asyncio.Future[Any] = spawn(self._force_requested.wait())
        await asyncio.wait([doing, again], timeout=within, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()


def _announce_nothing(report: StartReport) -> None:
    """Instead of the first lines of log."""


def _unsaved(count: int) -> str:
    return f"The database has not taken the outcomes of {count} jobs; they run again."


def _exit_process(code: int) -> NoReturn:
    """End the process with all its threads."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    release_lingering_owners()  # last: from here on another process may run these jobs
    os._exit(code)
