"""Calls of one storage method that wait in line, and are made together.

A :class:`Line` is filled on the event loop's thread and emptied on the storage's. It needs no lock: a deque's append
and popleft are atomic, and the answer is appended after the item, so whoever sees as many answers sees the
items, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from jobify.exceptions import ApplicationStateError, StorageUnavailableError
from jobify.gateway.notification import Audience
from jobify.model.records import Claimed, ClaimRequest, Report
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
"""Gets the value of a call, or its exception as a value. Called on the event loop, and must not raise."""


class BatchQueue(Generic[ItemT]):
    """Questions for one method, which takes many at once, and who wants the answers."""

    __slots__ = ("_callbacks", "_items", "_limit", "_method", "_refusal", "is_open")

    def __init__(self, method: Callable[[Sequence[ItemT]], Sequence[Any]], limit: int) -> None:
        self._method = method
        self._limit = limit
        self._items: deque[ItemT] = deque()
        self._callbacks: deque[Callback] = deque()
        self._refusal: Exception | None = None
        self.is_open = True

    def reopen(self) -> None:
        """Take items again."""
        self._refusal, self.is_open = None, True

    def close(self, refusal: Exception) -> None:
        """Answer whatever is asked from now on with ``refusal``."""
        if self._refusal is None:
            self._refusal, self.is_open = refusal, False

    def put(self, item: ItemT, callback: Callback) -> None:
        """Stand in line; a line that is closed answers at once, with an error."""
        if self._refusal is not None:
            callback(self._refusal)
            return
        self._items.append(item)
        self._callbacks.append(callback)

    @property
    def is_empty(self) -> bool:
        """Whether no item waits."""
        return not self._callbacks

    def execute(self, items: Sequence[ItemT]) -> Sequence[Any]:
        """Make the call at once, past the line."""
        return self._method(items)

    def single(self, item: ItemT, callback: Callback) -> Batch[ItemT]:
        """A batch of one, past the line."""
        return Batch(self._method, [item], [callback])

    def take(self, taken: list[Batch[Any]]) -> Batch[ItemT] | None:
        """The calls at the front of the line, None if it is empty. Their batch is in ``taken`` before any is out of
        the line, so that an error on the way loses none."""
        count = min(len(self._callbacks), self._limit)
        if not count:
            return None
        batch: Batch[ItemT] = Batch(self._method, [], [])
        taken.append(batch)
        batch.fill(self._items, self._callbacks, count)
        return batch


class Batch(Generic[ItemT]):
    """Questions that are answered together."""

    __slots__ = ("_callbacks", "_method", "items", "values")

    def __init__(
        self,
        method: Callable[[Sequence[ItemT]], Sequence[Any]],
        items: list[ItemT],
        callbacks: list[Callback],
    ) -> None:
        self.items = items
        self._method = method
        self._callbacks = callbacks
        self.values: Sequence[Any] = ()
        """The answers, once there are any."""

    def __len__(self) -> int:
        return len(self.items)

    def fill(self, items: deque[ItemT], callbacks: deque[Callback], count: int) -> None:
        """Take so many from the front."""
        self.items += [items.popleft() for _ in range(count)]
        self._callbacks += [callbacks.popleft() for _ in range(count)]

    @property
    def is_done(self) -> bool:
        return len(self.values) == len(self.items)

    def execute(self) -> None:
        """Make the call; what it raises is raised."""
        if self.items:
            self.values = self._method(self.items)

    def execute_each(self) -> None:
        """Make one call for each item; what one of them raises is its answer."""
        self.values = [self._execute_one(item) for item in self.items]

    def _execute_one(self, item: ItemT) -> Any:
        try:
            return self._method([item])[0]
        except Exception as error:
            return as_result(error)

    def fail(self, error: Exception) -> None:
        """Answer every item with ``error``."""
        self.values = [error] * len(self.items)

    def deliver(self) -> None:
        """Give the answers to those who want them."""
        for callback, value in zip(self._callbacks, self.values, strict=True):
            try:
                callback(value)
            except Exception:  # it must not: but the others must get theirs
                log.exception("An answer of the storage could not be handled.")


def as_result(error: Exception) -> Exception:
    """``error`` of a call, as its answer: where the system has refused a descriptor or the like, that the storage is
    unavailable for now. Lack of memory stays what it is: it may be the call itself that needs too much."""
    if isinstance(error, OSError):
        return as_unavailable(error, "The storage cannot be used for now") or error
    return error


def call_each(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """These have nothing in common: the error of one is its own."""
    return [_attempt(function) for function in functions]


def _attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return as_result(error)


def deliver(batches: list[Batch[Any]]) -> None:
    """Give their answers to those who want them."""
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
    """The answer to what is asked after a stop."""
    return ApplicationStateError(
        operation="use the storage", reason="The app was shut down.", solution="Do it inside `async with app:`."
    )


def execute_together(storage: Storage, batches: list[Batch[Any]]) -> None:
    """Make the calls of all batches in one transaction; one by one if a call spoils it."""
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
    """Answer with ``error`` what has no answer yet."""
    for batch in batches:
        if not batch.is_done:
            batch.fail(error)


def report_all(storage: Storage, groups: Sequence[Sequence[Report]]) -> list[list[bool]]:
    """Report what several jobs have to say; whether each claim held, by group."""
    held = iter(storage.report([report for group in groups for report in group]))
    return [list(islice(held, len(group))) for group in groups]


def claim_each(storage: Storage, claims: Sequence[TimedClaim]) -> list[Claimed]:
    """Make several claims, one after the other."""
    return [storage.claim(request, now=now()) for request, now in claims]


def notify_processes(storage: Storage, audience: Audience) -> None:
    """Notify other processes of a change."""
    if storage.notifier is not None:
        storage.notifier.notify(workers=audience.workers, clients=audience.clients, owners=audience.owners)


def interrupted(error: BaseException) -> StorageUnavailableError:
    """What those get whose calls were being made when the storage's thread failed with ``error``."""
    unavailable = StorageUnavailableError(f"The storage's thread failed before it could answer: {error!r}.")
    unavailable.__cause__ = error
    return unavailable
