"""The child processes, as the parent sees them. Everything here belongs to one event loop and runs on it.

Why a pool of our own. What a job needs is that one child can be killed and the rest not feel it, that a death is known
at once, and that nothing polls. The executors of the standard library lose the whole pool with one child. The pools
that can kill one share a pipe and a lock between all children, so that a child that dies while it holds the lock stalls
the others; they poll for deaths and cancellations every tenth of a second, idle or not, and restart a broken child
without end. A child with a socket pair of its own needs no lock; the event loop sees the end of the socket and of the
process as they happen (well below a millisecond), and sleeps otherwise.

A child is started when a call finds none idle and the pool is not full, and serves calls until it is killed, dies, has
served enough (:class:`~jobify.runners.childprocess.Renewal`) or the pool closes. A call that is interrupted while it
waits for a child that is still starting does not stop the start: a module that takes longer to import than the timeout
of its task would otherwise never be imported.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import suppress
from typing import Final

from jobify.exceptions import ApplicationStateError, ProcessStartError
from jobify.model.transient import TransientStartError, refusal_of
from jobify.runners.childprocess import ChildProcess, Renewal, StartDeathError
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn

__all__ = ("ChildPool",)

log = get_logger("jobify.runners")

EXIT_TIMEOUT: Final = 1.5
"""Seconds that idle children have to end by themselves when the pool closes, a little more than their own limit."""

FATAL_STARTS: Final = 5
FATAL_TIME: Final = 30.0
"""After this many deaths of starting children in a row, over at least this many seconds, no child can start and calls
fail. Before that, a call whose child died at its start is made again later."""

KILL_TIMEOUT: Final = 5.0
"""Seconds until a killed child that is still there is reported; the kernel keeps one that waits for a broken disk."""


class ChildPool:
    """Up to ``size`` children of the running event loop, started as they are needed."""

    def __init__(self, size: int, renewal: Renewal | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self._size = size
        self._renewal = renewal or Renewal()
        self._names = (f"jobify-process-{number}" for number in itertools.count(1))
        self._children: set[ChildProcess] = set()
        self._retired: set[ChildProcess] = set()
        """Children that have done enough and are about to end. They take up no room."""
        self._idle: list[ChildProcess] = []
        self._starts: set[asyncio.Task[None]] = set()
        self._waiters: deque[tuple[str, asyncio.Future[ChildProcess]]] = deque()
        self._deaths = 0
        """Children that died while they started, since the last one that was ready."""
        self._first_death = 0.0
        self._is_open = True

    async def acquire(self, module: str) -> ChildProcess:
        """A child that is ready, in order of asking; ``module`` is what a new one should import beforehand.

        ProcessStartError if none can be started, TransientStartError if one may be a moment later. Each failed start
        fails one caller, and is not tried again on its behalf.
        """
        if not self._is_open:
            raise _closed()
        if self._idle:
            return self._idle.pop()
        waiter: asyncio.Future[ChildProcess] = self.loop.create_future()
        entry = (module, waiter)
        self._waiters.append(entry)
        self._grow()
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(entry)

    def extend(self, count: int) -> None:
        """Have ``count`` more children at most, or fewer. Of those too many, each ends when its call is over."""
        self._size += count
        self._grow()

    def release(self, child: ChildProcess) -> None:
        """Return a child to the pool. A killed one is replaced when its death is known."""
        if child.dead.done():
            return
        if not self._is_open or len(self._children) > self._size:
            child.leave()
        elif child.is_spent:
            self._retire(child)
        elif waiter := self._next_waiter():
            waiter.set_result(child)
        else:
            self._idle.append(child)

    def _retire(self, child: ChildProcess) -> None:
        """Let a child end that is idle and has done enough; the next call that needs one gets a new one."""
        log.debug("Child process %s ends after %d calls, to be replaced.", child.name, child.calls)
        self._children.discard(child)
        self._retired.add(child)
        child.leave()
        self._grow()

    async def close(self) -> None:
        """Let idle children end, kill the others, and return when they are gone."""
        self._is_open = False
        while waiter := self._next_waiter():
            waiter.set_exception(_closed())
        for task in self._starts:
            task.cancel()
        for child in self._children:  # those that are retired are leaving already
            if child in self._idle:
                child.leave()
            else:
                child.kill()
        try:
            await self._wait_for_deaths(EXIT_TIMEOUT)
        finally:
            for child in self._living():
                child.kill()
        await self._wait_for_deaths(KILL_TIMEOUT)
        if left := self._living():
            log.error("Killed, but still there: %s", ", ".join(sorted(child.name for child in left)))

    def _living(self) -> set[ChildProcess]:
        return self._children | self._retired

    def _grow(self) -> None:
        """Start as many children as callers wait for one that is not yet on its way, and as there is room for."""
        waiting = [module for module, waiter in self._waiters if not waiter.done()]
        room = self._size - len(self._children)
        for module in waiting[len(self._starts) :][:room]:
            self._start(module)

    def _start(self, module: str) -> None:
        try:
            child = ChildProcess(next(self._names), self._renewal)
        except (OSError, RuntimeError, MemoryError) as error:
            refusal = refusal_of(error)
            kind = ProcessStartError if refusal is None else TransientStartError
            self._fail_one(kind(None, f"The system started no child process: {refusal or error}."))
            return
        self._children.add(child)
        child.dead.add_done_callback(lambda _: self._on_death(child))
        start = spawn(child.prepare(module))
        self._starts.add(start)
        start.add_done_callback(lambda _: self._on_start(child, start))

    def _on_start(self, child: ChildProcess, start: asyncio.Task[None]) -> None:
        self._starts.discard(start)
        if start.cancelled():
            child.leave()
        elif error := start.exception():
            child.kill()
            self._fail_one(self._start_error(error))
        else:
            self._deaths = 0
            self.release(child)

    def _start_error(self, error: BaseException) -> BaseException:
        """The error of a failed start for its call.

        One death may have an outside cause; many in a row mean that no child can start.
        """
        if not isinstance(error, StartDeathError):
            return error
        if not self._deaths:
            self._first_death = self.loop.time()
        self._deaths += 1
        if self._deaths >= FATAL_STARTS and self.loop.time() - self._first_death >= FATAL_TIME:
            return ProcessStartError(error.exit_code, error.reason)
        return TransientStartError(error.exit_code, error.reason)

    def _on_death(self, child: ChildProcess) -> None:
        self._children.discard(child)
        self._retired.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        self._grow()

    def _fail_one(self, error: BaseException) -> None:
        if waiter := self._next_waiter():
            waiter.set_exception(error)

    def _next_waiter(self) -> asyncio.Future[ChildProcess] | None:
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _wait_for_deaths(self, timeout: float) -> None:
        if living := self._living():
            await asyncio.wait([child.dead for child in living], timeout=timeout)


def _closed() -> ApplicationStateError:
    return ApplicationStateError(
        operation="run a task in a process", reason="its runner is stopped.", solution="Start the app first."
    )
