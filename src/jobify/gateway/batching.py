"""Queues of calls to a storage that are made together, in one transaction.

A :class:`BatchQueue` is filled by callers on event loops and emptied by the thread that makes the calls. With one
producer it needs no lock between the two: appending to a deque and popping from it are atomic, and a callback is
appended after its item, so a consumer that counts the callbacks finds as many items. Several producers need a lock
among themselves, and a queue that weighs its items is emptied with that lock held, because it iterates over them.

The results go back to the event loops: :func:`deliver` is called there, for all calls of a round at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from jobify.exceptions import ApplicationStateError, StorageError, StorageUnavailableError
from jobify.gateway.notification import NEW_WORK, STATE_CHANGED, Audience
from jobify.model.records import Claimed, ClaimRequest, Report, Settled
from jobify.model.transient import as_unavailable
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = (
    "Batch",
    "BatchQueue",
    "Callback",
    "TimedClaim",
    "as_result",
    "call_each",
    "cascade",
    "claim_each",
    "deliver",
    "execute_together",
    "fail_pending",
    "gateway_closed",
    "interrupted",
    "notify_processes",
    "report_all",
    "resolve",
)

ItemT = TypeVar("ItemT")
log = get_logger("jobify.storage")

TimedClaim: TypeAlias = tuple[ClaimRequest, Callable[[], Microseconds]]

Callback: TypeAlias = Callable[[Any], None]
"""Gets the value of a call, or its exception as a value. Called on the event loop; must not raise."""


class BatchQueue(Generic[ItemT]):
    """Calls of one method that takes many items at once, each with its callback.

    A batch has at most ``limit`` items; with ``weigh`` it also ends after the item with which it weighs more than
    ``max_weight``.
    """

    __slots__ = ("_callbacks", "_error", "_items", "_limit", "_max_weight", "_method", "_weigh", "is_open")

    def __init__(
        self,
        method: Callable[[Sequence[ItemT]], Sequence[Any]],
        limit: int,
        *,
        weigh: Callable[[ItemT], int] | None = None,
        max_weight: int = 0,
    ) -> None:
        self._method = method
        self._limit = limit
        self._weigh = weigh
        self._max_weight = max_weight
        self._items: deque[ItemT] = deque()
        self._callbacks: deque[Callback] = deque()
        self._error: Exception | None = None
        self.is_open = True

    def reopen(self) -> None:
        """Take calls again."""
        self._error, self.is_open = None, True

    def close(self, error: Exception) -> None:
        """Fail later calls with ``error``."""
        if self._error is None:
            self._error, self.is_open = error, False

    def put(self, item: ItemT, callback: Callback) -> None:
        """Enqueue a call; a closed queue fails it at once."""
        if self._error is not None:
            callback(self._error)
            return
        self._items.append(item)
        self._callbacks.append(callback)

    def drop_unpaired(self) -> None:
        """Remove the item of a ``put`` that was interrupted before its callback was there. With the lock held."""
        while len(self._items) > len(self._callbacks):
            self._items.pop()

    @property
    def is_empty(self) -> bool:
        """Whether no call waits."""
        return not self._callbacks

    def execute(self, items: Sequence[ItemT]) -> Sequence[Any]:
        """Make a call at once, ahead of the queue."""
        return self._method(items)

    def single(self, item: ItemT, callback: Callback) -> Batch[ItemT]:
        """A batch of one, ahead of the queue."""
        return Batch(self._method, [item], [callback])

    def take(self, taken: list[Batch[Any]]) -> Batch[ItemT] | None:
        """Take the next calls; None: there are none. The batch is in ``taken`` before any call leaves the queue, so
        that an error in between loses none."""
        count = min(len(self._callbacks), self._limit)
        if not count:
            return None
        if self._weigh is not None:
            count = self._fitting(count, self._weigh)
        batch: Batch[ItemT] = Batch(self._method, [], [])
        taken.append(batch)
        batch.fill(self._items, self._callbacks, count)
        return batch

    def _fitting(self, count: int, weigh: Callable[[ItemT], int]) -> int:
        """How many of the next ``count`` items make a batch."""
        weight = 0
        for number, item in enumerate(islice(self._items, count), 1):
            weight += weigh(item)
            if weight > self._max_weight:
                return number
        return count


class Batch(Generic[ItemT]):
    """Calls that are made together."""

    __slots__ = ("_callbacks", "_method", "items", "values")

    def __init__(
        self, method: Callable[[Sequence[ItemT]], Sequence[Any]], items: list[ItemT], callbacks: list[Callback]
    ) -> None:
        self.items = items
        self._method = method
        self._callbacks = callbacks
        self.values: Sequence[Any] = ()
        """The results, once the calls were made."""

    def __len__(self) -> int:
        return len(self.items)

    def fill(self, items: deque[ItemT], callbacks: deque[Callback], count: int) -> None:
        """Take ``count`` calls from the front of the queue."""
        self.items += [items.popleft() for _ in range(count)]
        self._callbacks += [callbacks.popleft() for _ in range(count)]

    @property
    def is_done(self) -> bool:
        """Whether each call has its result."""
        return len(self.values) == len(self.items)

    def execute(self) -> None:
        """Make all calls at once; an exception is raised."""
        if self.items:
            self.values = _one_each(self._method(self.items), len(self.items))

    def execute_each(self) -> None:
        """Make the calls one by one; an exception is the result of its call."""
        self.values = [self._execute_one(item) for item in self.items]

    def _execute_one(self, item: ItemT) -> Any:
        try:
            return _one_each(self._method([item]), 1)[0]
        except Exception as error:
            return as_result(error)

    def fail(self, error: Exception) -> None:
        """Make ``error`` the result of every call."""
        self.values = [error] * len(self.items)

    def results(self) -> Iterator[tuple[Callback, Any]]:
        """Each callback with the result of its call."""
        return zip(self._callbacks, self.values, strict=True)

    def deliver(self) -> None:
        """Call the callbacks."""
        for callback, value in zip(self._callbacks, self.values, strict=True):
            try:
                callback(value)
            except Exception:  # a defect of one callback must not keep the others from their results
                log.exception("A callback of the storage failed.")


def _one_each(values: Sequence[Any], count: int) -> Sequence[Any]:
    """``values``, one for each call. A storage of a user may return fewer, and no caller may wait for ever."""
    if len(values) != count:
        raise StorageError(f"The storage returned {len(values)} results for {count} calls.")
    return values


def as_result(error: Exception) -> Exception:
    """``error`` as the result of a call.

    If the system has refused a descriptor or another resource, the storage is unavailable for now. A MemoryError stays
    what it is, because the call itself may need too much.
    """
    if isinstance(error, OSError):
        return as_unavailable(error, "The storage cannot be used for now") or error
    return error


def call_each(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call functions that have nothing in common: the error of one is its own."""
    return [_attempt(function) for function in functions]


def _attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return as_result(error)


def deliver(batches: list[Batch[Any]]) -> None:
    """Call the callbacks of all batches. Runs on their event loop."""
    for batch in batches:
        batch.deliver()


def resolve(future: asyncio.Future[Any], value: Any) -> None:
    """Set ``value`` as the result of ``future``, or as its exception."""
    if future.done():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)


def gateway_closed() -> ApplicationStateError:
    """The error of calls after a stop."""
    return ApplicationStateError(
        operation="use the storage", reason="The app was shut down.", solution="Do it inside `async with app:`."
    )


def execute_together(storage: Storage, batches: list[Batch[Any]]) -> None:
    """Make the calls of all batches in one transaction; one by one if one of them fails."""
    try:
        with storage.transaction() if len(batches) > 1 else nullcontext():  # one call is atomic by itself
            for batch in batches:
                batch.execute()
    except (StorageUnavailableError, OSError) as error:
        for batch in batches:
            batch.fail(as_result(error))
    except Exception:  # one of the calls is at fault: find out which
        for batch in batches:
            batch.execute_each()
    except BaseException:  # nothing was changed
        for batch in batches:
            batch.values = ()
        raise


def fail_pending(batches: list[Batch[Any]], error: Exception) -> None:
    """Fail the calls that have no result yet with ``error``."""
    for batch in batches:
        if not batch.is_done:
            batch.fail(error)


def cascade(batch: Batch[Any]) -> Audience | None:
    """Which processes to notify because settlements have changed other jobs; None: they have not."""
    if Settled.CASCADED in batch.values:
        return STATE_CHANGED
    return NEW_WORK if Settled.FREED in batch.values else None


def report_all(storage: Storage, groups: Sequence[Sequence[Report]]) -> list[list[bool]]:
    """Store the reports of several jobs; for each group, whether each claim held."""
    held = iter(storage.report([report for group in groups for report in group]))
    return [list(islice(held, len(group))) for group in groups]


def claim_each(storage: Storage, claims: Sequence[TimedClaim]) -> list[Claimed]:
    """Make several claims, one after the other."""
    return [storage.claim(request, now=now()) for request, now in claims]


def notify_processes(storage: Storage, audience: Audience) -> None:
    """Notify other processes of a change."""
    if storage.notifier is not None:
        storage.notifier.notify(workers=audience.workers, clients=audience.clients, owners=audience.owners)


def interrupted(error: BaseException, thread: str = "The storage's thread") -> StorageUnavailableError:
    """The result of calls that were under way when the thread failed with ``error``."""
    unavailable = StorageUnavailableError(f"{thread} failed before it could answer: {error!r}.")
    unavailable.__cause__ = error
    return unavailable
