"""The threads that make calls to a storage.

:class:`StorageThread` serves the engine; no error ends it silently. What is raised in it (a MemoryError, a defect, a
SystemExit of a user's storage) becomes the result of the calls under way, and the thread goes on. If it fails again and
again without one round that succeeds, it ends and reports that, so that no caller waits for it.

:class:`CallThread` serves async callers of a client, so that no event loop waits for a disk. It starts with the first
call and ends after a while without calls, or when :meth:`CallThread.end` is called. All inserts that arrive while a
transaction runs share the next one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from jobify.exceptions import StorageUnavailableError
from jobify.gateway.batching import Batch, BatchQueue, call_each, fail_pending, interrupted, resolve
from jobify.model.records import NewJob
from jobify.model.transient import as_unavailable
from jobify.runtime.backoff import Backoff
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger

__all__ = ("IDLE_TIMEOUT", "THREAD_TIMEOUT", "CallThread", "StorageThread", "Wakeup")

T = TypeVar("T")
log = get_logger("jobify.storage")

IDLE_TIMEOUT = 10.0
"""Seconds that a thread of the client waits for calls before it ends."""

THREAD_TIMEOUT = 30.0
"""Seconds for which a call waits for a thread that the system refuses."""

_FATAL: Final = 8
"""Failures in a row after which the storage's thread ends; with the pauses between them, two seconds and a half."""
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_RETRY = 0.1
_MAX_GROUP = 1000
_MAX_BYTES = 4_000_000


class Wakeup:
    """Wakes a thread, once until it has woken. Any thread may send it; one waits."""

    __slots__ = ("_tokens", "is_idle", "is_sent")

    def __init__(self) -> None:
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self.is_idle = False
        """Whether the thread waits, or is about to."""
        self.is_sent = False
        """Whether it will wake. The thread clears the flag before it works, so work that was enqueued before the flag
        was found set is still served."""

    def send(self) -> None:
        """Wake the thread."""
        if not self.is_sent:
            self.is_sent = True
            self._tokens.put(None)

    def send_again(self) -> None:
        """Wake the thread even if it has just woken, because what it woke for may not have been served."""
        self._tokens.put(None)

    def wait(self) -> None:
        """In the thread: return when it is woken."""
        self.is_idle = True
        self._tokens.get()
        self.is_idle = self.is_sent = False  # in this order: at any time one of them says that there is work


class StorageThread:
    """Calls ``serve`` in its thread after each wake-up, and again while it returns True.

    ``on_error`` is called in the thread with what ``serve`` raised, ``on_end`` with the error that ends the thread.
    """

    def __init__(
        self,
        serve: Callable[[], bool],
        *,
        on_error: Callable[[BaseException], None],
        on_end: Callable[[BaseException], None],
        name: str = "jobify-storage",
    ) -> None:
        self._serve = serve
        self._on_error = on_error
        self._on_end = on_end
        self.wakeup = Wakeup()
        self._is_ending = False
        self._failures = 0
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._log = FailureLog(log, "The storage's thread works again")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_resting(self) -> bool:
        """Whether there is nothing to serve."""
        return self.wakeup.is_idle and not self.wakeup.is_sent

    def start(self) -> None:
        """Start the thread. StorageUnavailableError if the system has none."""
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            raise as_unavailable(error, "The thread of the storage cannot start") or error from None

    def end(self, *, wait: bool) -> None:
        """End when everything is served; ``wait`` for it."""
        self._is_ending = True
        self.wakeup.send_again()
        if wait:
            self._thread.join()

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        while self._failures < _FATAL:
            try:
                if failure is not None:
                    self._recover(failure)
                self._work()
                return
            except BaseException as error:  # nothing else is done here, because it might fail, too
                failure = error
                self._failures += 1
        assert failure is not None
        self.wakeup.is_idle = False
        self._on_end(failure)

    def _work(self) -> None:
        while True:
            self.wakeup.wait()
            while self._serve():
                pass
            if self._failures:
                self._failures = 0
                self._backoff.reset()
                self._log.succeeded(self)
            if self._is_ending:
                return

    def _recover(self, error: BaseException) -> None:
        """Fail the calls that were under way with ``error``, and go on after a pause."""
        self.wakeup.is_idle = False
        self.wakeup.send_again()
        self._log.failed(self, "The storage's thread failed, and goes on: %r", error, error=error)
        self._on_error(error)
        time.sleep(self._backoff.next())


class CallThread:
    """Makes the calls of any event loops. ``insert`` stores a batch of rows: for each, whether it was added."""

    def __init__(self, insert: Callable[[Sequence[NewJob]], Sequence[bool]]) -> None:
        self._inserts: BatchQueue[NewJob] = BatchQueue(insert, _MAX_GROUP, weigh=_payload_size, max_weight=_MAX_BYTES)
        self._calls: BatchQueue[Callable[[], Any]] = BatchQueue(call_each, _MAX_GROUP)
        self._taken: list[Batch[Any]] = []
        """Calls that have left the queues, and were not answered yet."""
        self._arrival = threading.Condition()
        """Holds the lock of the queues, and of all that follows."""
        self._is_running = False
        self._is_ending = False
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._is_running

    def end(self, timeout: float) -> None:
        """End the thread after the calls made so far, and wait for that. The next call starts another one."""
        with self._arrival:
            if not self._is_running:
                return
            thread, self._is_ending = self._thread, True
            self._arrival.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Call ``function`` in the thread. Cancelling the future does not cancel the call."""
        return self._put(self._calls, function)

    def insert(self, row: NewJob) -> asyncio.Future[bool]:
        """Add one job, in a transaction that it may share; whether it was added."""
        return self._put(self._inserts, row)

    def _put(self, queue: BatchQueue[Any], item: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._arrival:
            try:
                queue.put(item, _Resolver(future))
            except BaseException:  # a signal in the middle
                queue.drop_unpaired()
                raise
            is_running = self._is_running
            self._arrival.notify()
        if not is_running:
            self._start(loop, time.monotonic() + THREAD_TIMEOUT)
        return future

    def _start(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """Start the thread. If the system has none, try again until ``deadline``, and then fail the calls."""
        try:
            with self._arrival:
                if self._is_running or not self._has_calls:
                    return
                self._is_running = True
                try:
                    self._thread = threading.Thread(target=self._run, name="jobify-client", daemon=True)
                    self._thread.start()
                except BaseException:
                    self._is_running = False
                    raise
        except (RuntimeError, MemoryError) as error:
            refusal = as_unavailable(error, "The client has no thread for this call")
            if refusal is None or time.monotonic() >= deadline:
                with self._arrival:
                    batches = self._take_all()
                _fail(batches, refusal or error)
            else:
                loop.call_later(_RETRY, self._start, loop, deadline)

    @property
    def _has_calls(self) -> bool:
        return not (self._inserts.is_empty and self._calls.is_empty)

    def _take_all(self) -> list[Batch[Any]]:
        """With the lock held: every call that has no result yet."""
        batches, self._taken = self._taken, []
        while self._inserts.take(batches) or self._calls.take(batches):
            pass
        return batches

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait():
                self._serve()
        except BaseException as error:  # the thread ends; the next call starts another one
            with self._arrival:
                self._is_running = self._is_ending = False
                batches = self._take_all()
            _fail(batches, interrupted(error, "The client's thread"))

    def _wait(self) -> bool:
        """Wait for calls; False if there was none for a while, and the thread is to end."""
        with self._arrival:
            if not (self._has_calls or self._is_ending):
                self._arrival.wait(IDLE_TIMEOUT)
            if not self._has_calls:
                self._is_running = self._is_ending = False
                return False
        return True

    def _serve(self) -> None:
        with self._arrival:
            inserts, calls = self._inserts.take(self._taken), self._calls.take(self._taken)
        if inserts is not None:
            _insert(inserts)
        if calls is not None:
            calls.execute()
        _deliver(self._taken)
        self._taken = []  # not before: what is raised meanwhile is the answer of all that have none


class _Resolver:
    """Resolves a future with the result of a call."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def __call__(self, value: Any) -> None:
        resolve(self.future, value)


def _payload_size(row: NewJob) -> int:
    return len(row.payload) if isinstance(row.payload, bytes) else 0


def _insert(batch: Batch[NewJob]) -> None:
    """Insert in one transaction. If a row spoils it, insert each in its own, so that each caller gets its own error."""
    try:
        batch.execute()
    except StorageUnavailableError as error:
        batch.fail(error)
    except Exception:
        batch.execute_each()


def _fail(batches: list[Batch[Any]], error: Exception) -> None:
    fail_pending(batches, error)
    _deliver(batches)


def _deliver(batches: list[Batch[Any]]) -> None:
    """Have each event loop resolve its futures, with one wake-up for all of them."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[_Resolver, Any]]] = defaultdict(list)
    for batch in batches:
        for resolver, value in batch.results():
            assert isinstance(resolver, _Resolver)
            by_loop[resolver.future.get_loop()].append((resolver, value))
    for loop, results in by_loop.items():
        with suppress(RuntimeError):  # the event loop was closed: no caller is left
            loop.call_soon_threadsafe(_resolve_all, results)


def _resolve_all(results: list[tuple[_Resolver, Any]]) -> None:
    for resolver, value in results:
        resolver(value)
