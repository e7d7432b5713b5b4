"""A bounded queue in front of the tasks: back-pressure, a limit of running jobs, and a custom order.

::

    app = Jobify(middleware=[QueueMiddleware(workers=10)])

    @app.task(metadata={"priority": 5})
    async def urgent() -> None: ...

A job runs where it would run without the queue, in the asyncio task of its attempt. A worker of the queue only starts
it and waits until it is over, so that a cancel, a timeout or an error of the job never affects a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple, Protocol, Self

from jobify.exceptions import ApplicationStateError, ConfigurationError
from jobify.jobs.context import JobContext
from jobify.middleware.base import BaseMiddleware, CallNext
from jobify.model.status import JobStatus
from jobify.runtime.logs import get_logger
from jobify.runtime.spawn import spawn_lasting

__all__ = ("Item", "JobifyQueue", "QueueMiddleware")

log = get_logger("jobify.middleware")

_PAUSE = 1.0
"""Seconds before a worker calls ``get()`` again after an error of the queue."""


class Item(NamedTuple):
    """A job in the queue. Items are ordered by priority, the highest first, then by arrival."""

    call_next: CallNext
    context: JobContext
    turn: asyncio.Future[None]
    """Done when a worker has started the job, or the job has left the queue without that."""
    over: asyncio.Future[None]
    """Done when the job has run, or has left the queue."""
    priority: float = 0
    """The negative of ``metadata["priority"]``."""
    number: int = 0
    """The number of the arrival."""

    def __lt__(self, other: tuple[Any, ...], /) -> bool:
        return (self.priority, self.number) < other[-2:]


class JobifyQueue(Protocol):
    """The methods of a queue that a :class:`QueueMiddleware` uses; those of :mod:`asyncio` have them."""

    async def get(self) -> Item:
        """Wait for the next item."""
        ...

    async def put(self, item: Item, /) -> None:
        """Wait for room, then add an item. The job waits meanwhile."""
        ...

    def task_done(self) -> None:
        """Called after an item from ``get()`` was processed."""
        ...


class QueueMiddleware(BaseMiddleware):
    """Runs at most ``workers`` jobs at a time, and keeps the others in ``queue``.

    The default queue is an ``asyncio.PriorityQueue(1024)``: jobs with a higher ``metadata["priority"]`` (a number; 0 if
    there is none) run first, equal ones in the order of their arrival. ``asyncio.Queue`` ignores the priority,
    ``asyncio.LifoQueue`` runs the latest first. A job that finds the queue full waits outside it.

    A job in the queue is SCHEDULED. If it is cancelled it never runs, and its place is freed when a worker reaches it.
    Time in the queue does not count for the ``timeout`` of the task. At a shutdown, jobs in the queue are released.

    The middleware is also a plugin, which is started with its app. An app that is started again gets a new queue of the
    same kind and size; a custom queue class must work in any event loop. ConfigurationError if ``workers`` is less
    than 1.
    """

    is_queue = True

    def __init__(self, queue: JobifyQueue | None = None, workers: int = 100) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigurationError(f"workers is {workers!r}; it must be a whole number of at least 1.")
        self.queue: JobifyQueue = asyncio.PriorityQueue(1024) if queue is None else queue
        self.workers = workers
        self._workers: list[asyncio.Task[None]] = []
        self._numbers = count()
        self._has_served = False

    def __copy__(self) -> Self:
        """A copy for another app, with an empty queue of the same kind and size, and its own workers."""
        double = object.__new__(type(self))
        vars(double).update(vars(self), queue=_fresh(self.queue), _workers=[], _numbers=count(), _has_served=False)
        return double

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        if not self._workers:
            raise ApplicationStateError(
                operation="queue a job",
                reason="No worker of the QueueMiddleware runs.",
                solution="Give it to an app or a router as middleware, or register it as a plugin.",
            )
        item = self._item(call_next, context)
        context.job.status = JobStatus.SCHEDULED
        try:
            await self.queue.put(item)
            await item.turn
            context.job.status = JobStatus.RUNNING
            return await call_next(context)
        finally:
            _resolve(item.turn)
            _resolve(item.over)

    async def startup(self, app: Any) -> None:
        """Start the workers."""
        if self._has_served:
            self.queue = _fresh(self.queue)
        self._has_served = True
        self._workers = []
        for _ in range(self.workers):
            spawn_lasting(self._work, self._add_worker)

    async def shutdown(self) -> None:
        """Stop the workers. The queue is empty, because the app has waited for all jobs, or released them."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def _add_worker(self, worker: asyncio.Task[None]) -> Callable[[], bool]:
        """Add a worker, in place of one that was cancelled from outside. Returns whether it is still needed."""
        self._workers = [other for other in self._workers if not other.done()] + [worker]
        return lambda: worker in self._workers

    def _item(self, call_next: CallNext, context: JobContext) -> Item:
        priority = (context.route_options.get("metadata") or {}).get("priority", 0)
        if not isinstance(priority, int | float):
            raise ConfigurationError(
                f"The priority in the metadata of task {context.runnable.name!r} is {priority!r}; it must be a number."
            )
        loop = asyncio.get_running_loop()
        return Item(call_next, context, loop.create_future(), loop.create_future(), -priority, next(self._numbers))

    async def _work(self) -> None:
        while True:
            try:
                item = await self.queue.get()
            except Exception:
                log.exception("The queue %r failed; the next attempt to read it is in %g s.", self.queue, _PAUSE)
                await asyncio.sleep(_PAUSE)
                continue
            if not item.turn.done():
                item.turn.set_result(None)
                await item.over
            self.queue.task_done()


def _fresh(queue: Any) -> JobifyQueue:
    """An empty queue for another event loop, because asyncio's queues are bound to their first event loop."""
    kind: Any = type(queue)
    is_asyncio = kind in (asyncio.PriorityQueue, asyncio.LifoQueue, asyncio.Queue)
    return kind(queue.maxsize) if is_asyncio else queue  # type: ignore[no-any-return]  # it is a JobifyQueue either way


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
