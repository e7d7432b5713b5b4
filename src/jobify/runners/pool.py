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

Short calls are sent ahead, so that a child does not wait for the event loop between two of them: as many as it has work
with for some 20 milliseconds, by what the calls of the same function have taken. A call whose function takes longer, or
has not been measured, goes to an idle child only. What was sent ahead and has not begun is taken back as soon as
another child is idle, or when the call in front of it takes long after all.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import suppress
from typing import Final

from jobify.exceptions import ApplicationStateError, ProcessStartError
from jobify.model.transient import TransientStartError, refusal_of
from jobify.runners import descendants
from jobify.runners.childprocess import ChildProcess, Renewal, StartDeathError
from jobify.runners.function_address import Address
from jobify.runners.queued_call import AHEAD, QueuedCall
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


_START_PAUSE: Final = 1.0
"""Seconds between two attempts to start a child for calls that another child will make otherwise."""

_IDLE_PAUSE: Final = 0.001
"""Seconds that a child may be idle while calls wait that were sent to another one; these are likely to begin sooner."""


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
        self._ready: dict[ChildProcess, None] = {}
        """Children that take calls."""
        self._idle: list[ChildProcess] = []
        self._starts: set[asyncio.Task[None]] = set()
        self._queue: deque[QueuedCall] = deque()
        """Calls that were not sent to a child, in the order in which they were submitted."""
        self._durations = Durations()
        self._check: asyncio.TimerHandle | None = None
        self._steal: asyncio.TimerHandle | None = None
        self._refused_until = 0.0
        """When a child may be started again that no call in the queue needs."""
        self._deaths = 0
        """Children that died while they started, since the last one that was ready."""
        self._first_death = 0.0
        self._is_open = True

    # -- calls ---------------------------------------------------------------------------------------------------------

    def submit(self, queued: QueuedCall) -> None:
        """Have a child make a call, in order of submission. A failed start of a child fails one call, and is not tried
        again on its behalf."""
        if not self._is_open:
            self._fail(queued, _closed())
            return
        self._queue.append(queued)
        if len(self._queue) == 1:
            self._feed()
        else:
            self._grow()

    def withdraw(self, queued: QueuedCall) -> bool:
        """Take a call back, if it has not begun; whether it never begins."""
        if queued.holder is not None:
            self._return(queued.holder.take_back())
            if queued.holder is not None:
                queued.begin()
                return False
        queued.forget()
        with suppress(ValueError):
            self._queue.remove(queued)
        return True

    def interrupt(self, queued: QueuedCall) -> None:
        """Take a call back, or end it by killing the child that makes it."""
        if not self.withdraw(queued):
            assert queued.holder is not None
            queued.holder.interrupt(queued)

    def extend(self, count: int) -> None:
        """Have ``count`` more children at most, or fewer. Of those too many, each ends when its call is over."""
        self._size += count
        self._grow()

    def _feed(self) -> None:
        """Send calls to children: to idle ones, and ahead to those that will soon be done."""
        queue, now = self._queue, 0
        while queue:
            queued = queue[0]
            queued.cost = self._durations.expected(queued.address)
            if self._idle:
                child = self._idle.pop()
            else:
                now = now or descendants.boot_time_ns()
                found = self._least_loaded(queued, now)
                if found is None:
                    break
                child = found
            queue.popleft()
            if not child.send(queued):
                queue.appendleft(queued)
        self._grow()
        self._schedule_checks()

    def _least_loaded(self, queued: QueuedCall, now: int) -> ChildProcess | None:
        if queued.is_large or queued.cost > AHEAD // 2:
            return None
        best = None
        for child in self._ready:
            if (best is None or child.sent.load < best.sent.load) and child.can_take(queued, now):
                best = child
        return best

    def _return(self, returned: list[QueuedCall]) -> None:
        """Queue calls again that a child has not begun; they were submitted before those in the queue."""
        if not self._is_open:
            for queued in returned:
                self._fail(queued, _closed())
        elif returned:
            self._queue.extendleft(reversed(returned))
            self.loop.call_soon(self._feed)

    def _on_progress(self, child: ChildProcess) -> None:
        """A child has replied, or can take calls."""
        if child not in self._ready:
            return
        if child.is_spent or len(self._children) > self._size:
            self._return(child.take_back())
        if not child.sent.calls and child not in self._idle:
            self._release(child)
        if self._queue or self._idle:
            self._feed()

    # -- what was sent ahead -------------------------------------------------------------------------------------------

    def _schedule_checks(self) -> None:
        """See later whether calls wait behind another one although they need not."""
        if any(len(child.sent.calls) > 1 for child in self._ready):
            if self._check is None:
                self._check = self.loop.call_later(AHEAD / 1e9, self._check_children)
            if self._idle and self._steal is None:
                self._steal = self.loop.call_later(_IDLE_PAUSE, self._steal_for_idle)

    def _check_children(self) -> None:
        """Take back what waits behind a call that takes long after all."""
        self._check = None
        now = descendants.boot_time_ns()
        for child in self._ready:
            if len(child.sent.calls) > 1 and now - child.sent.began_at > AHEAD:
                self._return(child.take_back())
        self._schedule_checks()

    def _steal_for_idle(self) -> None:
        """Take back what waits for the child with the most calls, if another one is idle."""
        self._steal = None
        if self._idle:
            self._return(max(self._ready, key=lambda child: len(child.sent.calls)).take_back())

    # -- children ------------------------------------------------------------------------------------------------------

    def _release(self, child: ChildProcess) -> None:
        """A child has nothing to do. A killed one is replaced when its death is known."""
        if child.dead.done() or child.is_killed:
            return
        if not self._is_open or len(self._children) > self._size:
            self._ready.pop(child, None)
            child.leave()
        elif child.is_spent:
            self._retire(child)
        else:
            self._idle.append(child)

    def _retire(self, child: ChildProcess) -> None:
        """Let a child end that is idle and has done enough; the next call that needs one gets a new one."""
        log.debug("Child process %s ends after %d calls, to be replaced.", child.name, child.calls)
        self._ready.pop(child, None)
        self._children.discard(child)
        self._retired.add(child)
        child.leave()
        self._grow()

    async def close(self) -> None:
        """Let idle children end, kill the others, and return when they are gone."""
        self._is_open = False
        for timer in (self._check, self._steal):
            if timer is not None:
                timer.cancel()
        for child in self._ready:
            self._queue.extend(child.take_back())
        while self._queue:
            self._fail(self._queue.popleft(), _closed())
        for task in self._starts:
            task.cancel()
        for child in self._children:  # those that are retired are leaving already
            if child in self._ready and not child.sent.calls:
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
        """Start as many children as calls wait for one that is not yet on its way, and as there is room for."""
        for _ in range(self._size - len(self._children) if self._is_open else 0):
            address = self._waiting_for(len(self._starts))
            if address is None:
                return
            self._start(address.module)

    def _waiting_for(self, number: int) -> Address | None:
        """The function of the first, second, ... call that has not begun; None if there are fewer."""
        if number < len(self._queue):
            return self._queue[number].address
        if self.loop.time() < self._refused_until:
            return None
        ahead = (queued.address for child in self._ready for queued in itertools.islice(child.sent.calls, 1, None))
        return next(itertools.islice(filter(None, ahead), number - len(self._queue), None), None)

    def _start(self, module: str) -> None:
        try:
            child = ChildProcess(
                next(self._names),
                self._renewal,
                on_progress=self._on_progress,
                on_returned=self._return,
                on_duration=self._durations.add,
            )
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
        elif not child.dead.done():
            self._deaths = 0
            self._ready[child] = None
            self._release(child)
            self._feed()

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
        self._ready.pop(child, None)
        if child in self._idle:
            self._idle.remove(child)
        self._grow()

    def _fail_one(self, error: BaseException) -> None:
        """A start has failed, and with it the call that has waited for longest."""
        if self._queue:
            self._fail(self._queue.popleft(), error)
        else:
            self._refused_until = self.loop.time() + _START_PAUSE

    def _fail(self, queued: QueuedCall, error: BaseException) -> None:
        self.loop.call_soon(queued.fail, error)

    async def _wait_for_deaths(self, timeout: float) -> None:
        if living := self._living():
            await asyncio.wait([child.dead for child in living], timeout=timeout)


class Durations:
    """How long calls of each function have taken, in nanoseconds."""

    def __init__(self) -> None:
        self._means: dict[Address | None, int] = {None: 0}  # calls of the runner's own take no time

    def expected(self, address: Address | None) -> int:
        """What a call is likely to take; of an unknown function, all the time that there is."""
        return self._means.get(address, AHEAD)

    def add(self, queued: QueuedCall, duration: int) -> None:
        """A call has taken so long. The last few of a function count."""
        if queued.address is not None:
            mean = self._means.get(queued.address, duration)
            self._means[queued.address] = mean + (duration - mean) // 4


def _closed() -> ApplicationStateError:
    return ApplicationStateError(
        operation="run a task in a process", reason="its runner is stopped.", solution="Start the app first."
    )
