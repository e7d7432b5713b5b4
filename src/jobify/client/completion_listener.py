"""Learning how jobs end: one thread for all waiters of this process.

The thread starts with the first waiter and ends some time after the last. While it runs, this process is an owner with
a notifier, and workers notify it when jobs have ended, so that a result arrives within a millisecond. A notification
may be lost, and a user's own storage may have no notifier. So the thread also polls, at the intervals that the waiters
ask for, and keeps a processor busy for a tenth of the time, or with tens of thousands of waiters for half of it.

When the app is closed (``StorageConnection.close``), the waiters get an error, and nothing is opened again for them.
When only the storage is closed, because the app stops (``StorageConnection.release``), the thread opens it again as
long as callers wait.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from jobify.exceptions import ApplicationStateError, JobNotFoundError, StorageError, StorageUnavailableError
from jobify.gateway.connection import CHANGED, Closed, StorageConnection, Subscription
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
"""A poll is followed by a rest of this many times the processor time that it took."""
_LONGEST_REST = 0.5
"""Seconds; a poll that takes longer is followed by a rest of its own length."""
_GROWTH = 1.5
_JOIN_INTERVAL = 0.05
"""Seconds after which to give up joining the thread if callers have begun to wait meanwhile."""
_RETRY = 0.2
"""Seconds until the next attempt at something that the system has refused."""
_FLOOD_REST = 0.05
"""Seconds to ignore notifications after a flood of them."""
_PROFILE = OwnerProfile(OwnerRole.CLIENT, queues=(), tasks=(), concurrency=0)


class PollInterval:
    """Seconds between two polls if no notification comes: ``first``, growing to ``longest``."""

    __slots__ = ("_longest", "interval")

    def __init__(self, first: float, longest: float) -> None:
        self.interval = first
        self._longest = max(first, longest)

    def slow_down(self) -> None:
        """A poll has found nothing."""
        self.interval = min(self.interval * _GROWTH, self._longest)


class Waiter:
    """A caller that waits for the end of a job. ``notify`` is called in the listener's thread, with the row or with an
    error; for a follower after every change, with None."""

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
        """The generation of the connection in which the wait began."""


class CompletionListener:
    """Notifies waiters."""

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
        """Notify ``waiter`` while the block runs; also if the job has already ended."""
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
        """End the thread and wait for that; if callers still wait, it ends with the last of them."""
        with self._lock:
            thread, self._is_ending = self._thread, self._is_running
        self._connection.local.wake()
        if thread is None or thread is threading.current_thread():
            return
        deadline = time.monotonic() + timeout
        while thread.is_alive() and not self._has_lasting_waiters() and time.monotonic() < deadline:
            thread.join(_JOIN_INTERVAL)

    def _has_lasting_waiters(self) -> bool:
        """Whether callers wait that do not have to give up."""
        with self._lock:
            return any(waiter.generation >= self._connection.stale_before for waiter in self._waiters)

    def ensure(self) -> bool:
        """Start the thread if it does not run; whether it runs. False: the system has no thread, try again."""
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
        except BaseException as error:  # the thread ends; the next waiter starts another
            with self._lock:
                self._is_running = self._is_ending = False
            self._fail_all(StorageUnavailableError(f"The thread of the client that listens failed: {error!r}."))

    def _run_while_needed(self) -> None:
        while True:
            subscription = self._connection.subscribe()
            self._fail_stale(self._connection.stale_before)
            try:
                if self._waiters:
                    self._listen(subscription)
            except Closed:
                pass  # the next round fails the waiters that are stale
            except Exception as error:
                if subscription.is_current:  # else a read was interrupted by a close
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
        """Try again if the system refuses something; otherwise fail the waiters: the storage is unavailable."""
        refusal = refusal_of(error) or descriptor_shortage()
        if refusal is None:
            self._fail_all(error)
        else:
            self._failures.failed(self, "A client that waits cannot listen yet: %s", refusal)
            time.sleep(_RETRY)

    def _fail_stale(self, stale_before: int) -> None:
        """Fail the waiters of before the app was closed."""
        for waiter in self._snapshot()[0]:
            if waiter.generation < stale_before:
                self._resolve(waiter, _closed(waiter.job_id))

    def _listen(self, subscription: Subscription) -> None:
        """Register as an owner, notify waiters until there are none, and deregister."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.local.open(), selectors.EVENT_READ)
            try:
                with subscription.locked() as storage:
                    owner = self._enter(storage)
                    notifier = storage.notifier
                    if notifier is not None and notifier.fileno() >= 0:
                        selector.register(notifier.fileno(), selectors.EVENT_READ, notifier)
                try:
                    self._serve(selector, subscription)
                finally:
                    self._leave(owner, subscription)
            finally:
                self._connection.local.close()

    def _enter(self, storage: Storage) -> int | None:
        if not storage.is_shared:
            return None
        try:
            owner = storage.register(_PROFILE, now=self._clock.now())
        except StorageError as error:  # read-only, or locked: no notification comes, so it polls
            log.debug("Workers cannot notify this process, so it polls: %s", error)
            return None
        self._connection.set_owner(owner)
        return owner

    def _leave(self, owner: int | None, subscription: Subscription) -> None:
        if owner is not None:
            with suppress(Closed), subscription.locked() as storage:  # a close deregisters the owner itself
                self._connection.set_owner(None)
                storage.deregister(owner)

    def _serve(self, selector: selectors.BaseSelector, subscription: Subscription) -> None:
        schedule = _PollSchedule()
        while subscription.is_current:
            waiters, new = self._snapshot()
            if waiters and time.monotonic() >= schedule.due_at:
                started = time.thread_time()  # of the processor: on a busy machine a poll takes longer, but not more
                self._check(waiters, subscription)
                schedule.polled(waiters, time.thread_time() - started)
            elif new:
                self._check(new, subscription)
                schedule.add(new)
            idle_timeout = 0.0 if self._is_ending else IDLE_TIMEOUT
            received = self._wait(selector, schedule.remaining if waiters else idle_timeout)
            if CHANGED in received:
                schedule.advance()
            elif not (waiters or self._waiters) and (self._is_ending or not received):
                return

    def _snapshot(self) -> tuple[list[Waiter], list[Waiter]]:
        """All waiters, and those among them that are new."""
        with self._lock:
            new, self._new = self._new, []
            return list(self._waiters), [waiter for waiter in new if waiter in self._waiters]

    def _wait(self, selector: selectors.BaseSelector, timeout: float) -> bytes:
        """What was received within ``timeout`` seconds: changes, wake-ups, or nothing."""
        received = b""
        for key, _ in selector.select(timeout):
            if key.data is None:
                received += self._connection.local.take()
            elif key.data.drain():  # False: the app has drained the notifier, and notifies this process
                received += CHANGED
                self._connection.forward()
            if key.data is not None and key.data.is_flooded:
                time.sleep(_FLOOD_REST)
        return received

    def _check(self, waiters: Sequence[Waiter], subscription: Subscription) -> None:
        """Notify the waiters whose jobs have ended, and all followers."""
        for waiter in waiters:
            if waiter.is_follower:
                waiter.notify(None)
        others = [waiter for waiter in waiters if not waiter.is_follower]
        for start in range(0, len(others), _BATCH):
            batch = others[start : start + _BATCH]
            ids = list({waiter.job_id for waiter in batch})
            found = {record.id: record for record in subscription.reader().get(SummaryIds(ids, with_results=True))}
            for waiter in batch:
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
        solution="Call close() when no caller waits any more, or wait again: that opens the storage.",
    )


class _PollSchedule:
    """When to poll for all waiters next."""

    def __init__(self) -> None:
        self.due_at = 0.0
        self._rested_at = 0.0

    @property
    def remaining(self) -> float:
        """Seconds until then."""
        return max(0.0, self.due_at - time.monotonic())

    def polled(self, waiters: Sequence[Waiter], cost: float) -> None:
        """A poll has taken ``cost`` seconds of the processor."""
        now = time.monotonic()
        for waiter in waiters:
            waiter.pace.slow_down()
        self._rested_at = now + min(cost * _REST, max(_LONGEST_REST, cost))
        self.due_at = max(self._rested_at, now + min(waiter.pace.interval for waiter in waiters))

    def add(self, new: Sequence[Waiter]) -> None:
        """Poll early enough for new waiters."""
        soonest = time.monotonic() + min(waiter.pace.interval for waiter in new)
        self.due_at = max(self._rested_at, min(self.due_at, soonest))

    def advance(self) -> None:
        """Poll as soon as the rest is over, because of a notification."""
        self.due_at = self._rested_at
