"""Hearing how jobs end: one thread, for everybody in this process who waits.

It begins with the first one who waits and ends some time after the last. While it is there, this process is an owner
with a bell: workers ring when jobs have ended. So an answer is pushed, within a millisecond. A ring may be lost, and a
user's own storage may have no bell: so it also looks without being rung, at the intervals that those who wait ask for,
and keeps a processor busy for a tenth of the time, or with tens of thousands of waiters for half of it.

When the app is closed (``Access.close``), those who wait are told, and nothing is opened again for them. When only the
storage is closed, because the app stops (``Access.release``), it is opened again as long as callers wait.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from jobify.exceptions import ApplicationStateError, JobNotFoundError, StorageError, StorageUnavailableError
from jobify.gateway.connection import CHANGED, Closed, StorageConnection
from jobify.gateway.threads import IDLE_TIMEOUT
from jobify.model.clock import Clock
from jobify.model.records import JobRecord, OwnerProfile, OwnerRole, SummaryIds
from jobify.model.status import TERMINAL
from jobify.model.transient import descriptor_shortage, refusal_of
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage

__all__ = ("CompletionListener", "PollInterval", "Waiter")

log = get_logger("jobify.client")

_BATCH = 500
_REST = 10
"""A look is followed by a rest of this many times the processor time that it took."""
_LONGEST_REST = 0.5
"""Seconds; a look that takes longer itself is followed by a rest of its own length."""
_GROWTH = 1.5
_JOIN_INTERVAL = 0.05
"""Seconds after which the end of the thread is awaited no longer if callers have begun to wait meanwhile."""
_RETRY = 0.2
"""Seconds until something is tried again that the system has refused."""
_FLOOD_REST = 0.05
"""Seconds for which nothing is heard after a bell was rung without end."""
_PROFILE = OwnerProfile(OwnerRole.CLIENT, queues=(), tasks=(), concurrency=0)


class PollInterval:
    """How long to go without a look, should nobody ring: ``first`` seconds, growing to ``longest``."""

    __slots__ = ("_longest", "interval")

    def __init__(self, first: float, longest: float) -> None:
        self.interval = first
        self._longest = max(first, longest)

    def slow_down(self) -> None:
        """A look was in vain."""
        self.interval = min(self.interval * _GROWTH, self._longest)


class Waiter:
    """Somebody who wants to know how a job ends; ``tell`` is called in the listener's thread, with the row or with an
    error. A follower is told at every news, with None."""

    __slots__ = ("generation", "is_follower", "job_id", "notify", "pace")

    def __init__(
        self,
        job_id: str,
        pace: PollInterval,
        notify: Callable[[JobRecord | Exception | None], object],
        *,
        is_follower: bool,
    ) -> None:
        self.job_id = job_id
        self.pace = pace
        self.notify = notify
        self.is_follower = is_follower
        self.generation = 0
        """How often the storage had been closed when the wait began."""


class CompletionListener:
    """Wakes those who wait."""

    def __init__(self, connection: StorageConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._waiters: set[Waiter] = set()
        self._new: list[Waiter] = []
        self._is_running = False
        self._is_ending = False
        self._thread: threading.Thread | None = None
        self._failures = FailureLog(log, "Clients that wait can listen again")

    @contextmanager
    def watching(self, waiter: Waiter) -> Iterator[None]:
        """Tell ``waiter`` while the block runs; also if the job has ended already."""
        with self._lock:
            waiter.generation = self._connection.generation
            self._waiters.add(waiter)
            self._new.append(waiter)
        try:
            self.ensure()
            self._connection.local.wake()
            yield
        finally:
            with self._lock:
                self._waiters.discard(waiter)
                is_over = self._is_ending and not self._waiters
            if is_over:
                self._connection.local.wake()

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._is_running

    def end(self, timeout: float) -> None:
        """End the thread and wait for that; where callers still wait, it ends with the last of them."""
        with self._lock:
            thread, self._is_ending = self._thread, self._is_running
        self._connection.local.wake()
        if thread is None or thread is threading.current_thread():
            return
        deadline = time.monotonic() + timeout
        while thread.is_alive() and not self._has_lasting_waiters() and time.monotonic() < deadline:
            thread.join(_JOIN_INTERVAL)

    def _has_lasting_waiters(self) -> bool:
        """Whether callers wait who were not dismissed."""
        with self._lock:
            return any(waiter.generation >= self._connection.stale_before for waiter in self._waiters)

    def ensure(self) -> bool:
        """Whether the thread runs; starts it if it does not. False: the system has no thread, ask again."""
        with self._lock:
            if not self._is_running:
                self._is_running = True
                try:
                    self._thread = threading.Thread(target=self._run, name="jobify-listener", daemon=True)
                    self._thread.start()
                except (RuntimeError, MemoryError) as error:
                    self._is_running = False
                    refusal = refusal_of(error)
                    if refusal is None:
                        raise
                    self._failures.failed(self, "A client that waits cannot listen yet: %s", refusal)
            return self._is_running

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._run_while_needed()
        except BaseException as error:  # the thread ends; the next one that waits starts another
            with self._lock:
                self._is_running = self._is_ending = False
            self._fail_all(StorageUnavailableError(f"The thread of the client that listens failed: {error!r}."))

    def _run_while_needed(self) -> None:
        while True:
            generation = self._connection.generation
            self._fail_stale(self._connection.stale_before)
            try:
                if self._waiters:
                    self._listen(generation)
            except Closed:
                pass  # whoever waited then is told at once
            except Exception as error:
                self._on_error(error)
            else:
                self._failures.succeeded(self)
            if self._is_ending and not self._waiters:
                self._connection.release()
            with self._lock:
                if not self._waiters:
                    self._is_running = self._is_ending = False
                    return

    def _on_error(self, error: Exception) -> None:
        """Where the system refuses something, try again; else the storage is away, and those who wait must know."""
        refusal = refusal_of(error) or descriptor_shortage()
        if refusal is None:
            self._fail_all(error)
        else:
            self._failures.failed(self, "A client that waits cannot listen yet: %s", refusal)
            time.sleep(_RETRY)

    def _fail_stale(self, stale_before: int) -> None:
        """Tell those who waited when the app was closed."""
        for waiter in self._snapshot()[0]:
            if waiter.generation < stale_before:
                self._resolve(waiter, _closed(waiter.job_id))

    def _listen(self, generation: int) -> None:
        """Become an owner, wake people until nobody waits any more, and leave."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.local.open(), selectors.EVENT_READ)
            try:
                with self._connection.if_generation(generation) as storage:
                    owner = self._enter(storage)
                    notifier = storage.notifier
                    if notifier is not None and notifier.fileno() >= 0:
                        selector.register(notifier.fileno(), selectors.EVENT_READ, notifier)
                try:
                    self._serve(selector, generation)
                finally:
                    self._leave(owner, generation)
            finally:
                self._connection.local.close()

    def _enter(self, storage: Storage) -> int | None:
        if not storage.is_shared:
            return None
        try:
            owner = storage.register(_PROFILE, now=self._clock.now())
        except StorageError as error:  # read-only, or locked: nobody rings, so it polls
            log.debug("Nobody can ring this process: %s", error)
            return None
        self._connection.set_owner(owner)
        return owner

    def _leave(self, owner: int | None, generation: int) -> None:
        if owner is not None:
            with suppress(Closed), self._connection.if_generation(generation) as storage:  # a close does it
                self._connection.set_owner(None)
                storage.deregister(owner)

    def _serve(self, selector: selectors.BaseSelector, generation: int) -> None:
        rounds = _PollSchedule()
        while self._connection.generation == generation:
            waiters, new = self._snapshot()
            if waiters and time.monotonic() >= rounds.due_at:
                started = time.thread_time()  # a busy process makes looks slow, and not costly
                self._check(waiters, generation)
                rounds.finished(waiters, time.thread_time() - started)
            elif new:
                self._check(new, generation)
                rounds.add(new)
            linger = 0.0 if self._is_ending else IDLE_TIMEOUT
            heard = self._wait(selector, rounds.remaining if waiters else linger)
            if CHANGED in heard:
                rounds.soon()
            elif not (waiters or self._waiters) and (self._is_ending or not heard):
                return

    def _snapshot(self) -> tuple[list[Waiter], list[Waiter]]:
        """All who wait, and those among them who have just come."""
        with self._lock:
            new, self._new = self._new, []
            return list(self._waiters), [waiter for waiter in new if waiter in self._waiters]

    def _wait(self, selector: selectors.BaseSelector, timeout: float) -> bytes:
        """What is heard within ``timeout`` seconds: news, somebody who is new, nothing."""
        heard = b""
        for key, _ in selector.select(timeout):
            if key.data is None:
                heard += self._connection.local.take()
            elif key.data.drain():  # else the app has answered it, and tells
                heard += CHANGED
                self._connection.forward()
            if key.data is not None and key.data.is_flooded:
                time.sleep(_FLOOD_REST)
        return heard

    def _check(self, waiters: Sequence[Waiter], generation: int) -> None:
        """Tell those whose jobs have ended, and all followers."""
        for waiter in waiters:
            if waiter.is_follower:
                waiter.notify(None)
        others = [waiter for waiter in waiters if not waiter.is_follower]
        for start in range(0, len(others), _BATCH):
            some = others[start : start + _BATCH]
            ids = list({waiter.job_id for waiter in some})
            found = {
                record.id: record
                for record in self._connection.reader(generation).get(SummaryIds(ids, with_results=True))
            }
            for waiter in some:
                record = found.get(waiter.job_id)
                if record is None:
                    self._resolve(waiter, JobNotFoundError(waiter.job_id))
                elif record.status in TERMINAL:
                    self._resolve(waiter, record)

    def _resolve(self, waiter: Waiter, found: JobRecord | Exception) -> None:
        with self._lock:
            self._waiters.discard(waiter)
        waiter.notify(found)

    def _fail_all(self, error: Exception) -> None:
        for waiter in self._snapshot()[0]:
            self._resolve(waiter, error)


def _closed(job_id: str) -> ApplicationStateError:
    return ApplicationStateError(
        operation=f"wait for job {job_id!r}",
        reason="The app let go of its storage meanwhile.",
        solution="Call close() when nobody waits any more, or wait again: that opens the storage.",
    )


class _PollSchedule:
    """When to look at everything again."""

    def __init__(self) -> None:
        self.due_at = 0.0
        self._rested_at = 0.0

    @property
    def remaining(self) -> float:
        """Seconds until then."""
        return max(0.0, self.due_at - time.monotonic())

    def finished(self, waiters: Sequence[Waiter], cost: float) -> None:
        """A look is over, and took ``cost`` seconds of the processor."""
        now = time.monotonic()
        for waiter in waiters:
            waiter.pace.slow_down()
        self._rested_at = now + min(cost * _REST, max(_LONGEST_REST, cost))
        self.due_at = max(self._rested_at, now + min(waiter.pace.interval for waiter in waiters))

    def add(self, new: Sequence[Waiter]) -> None:
        """There are some who may want it sooner."""
        soonest = time.monotonic() + min(waiter.pace.interval for waiter in new)
        self.due_at = max(self._rested_at, min(self.due_at, soonest))

    def soon(self) -> None:
        """As soon as it has rested."""
        self.due_at = self._rested_at
