"""The way to a storage: awaitable, grouped, and never on the event loop's thread.

A storage is blocking code. A :class:`Gate` gives it one thread of its own. All inserts, settlements and claims that
arrive while a transaction runs share the next one, so that under load the price of a commit (a flush to the disk) is
paid once for hundreds of jobs, and without load a call does not wait for company.

Within a group the order is: inserts, settlements, claims, then everything else one by one. That is a legal order: a
caller learns of its insert before it can ask anything further of that job, and calls that overlap in time have no
order anyway.

If a group fails because of one call in it, its calls are made again one by one, so that each caller gets its own error.
If the storage is unavailable all of them get that error, and nothing was changed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from jobify.exceptions import StorageUnavailableError
from jobify.records import Claimed, ClaimRequest, NewJob, Settlement
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("DirectGate", "Gate", "ThreadGate")

T = TypeVar("T")
Answer = Callable[[Any], None]
"""Gets the value, or the exception as a value. Called on the event loop."""

log = logging.getLogger("jobify.storage")

_MAX_GROUP = 2000
"""Jobs in one transaction at most: a bound on how long the first of them waits for the last."""


class Gate(Protocol):
    """What the engine sees of a storage."""

    storage: Storage

    async def start(self) -> None:
        """Open the storage. The gate then belongs to the running event loop, until it is stopped."""
        ...

    async def stop(self) -> None:
        """Finish what was asked, close the storage."""
        ...

    def insert(self, job: NewJob, answer: Answer) -> None:
        """Ask for :meth:`Storage.insert` of one job."""
        ...

    def settle(self, settlement: Settlement, answer: Answer, *, is_news: bool) -> None:
        """Ask for :meth:`Storage.settle` of one attempt. ``is_news``: other processes are to be told."""
        ...

    async def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        """:meth:`Storage.claim`."""
        ...

    async def call(self, function: Callable[[], T]) -> T:
        """Run any other use of the storage; one that writes is atomic by itself or opens a transaction."""
        ...


class DirectGate:
    """The gate of a storage that never blocks: calls are made at once."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    async def start(self) -> None:
        self.storage.open()

    async def stop(self) -> None:
        self.storage.close()

    def insert(self, job: NewJob, answer: Answer) -> None:
        answer(self.storage.insert((job,))[0])

    def settle(self, settlement: Settlement, answer: Answer, *, is_news: bool) -> None:
        answer(self.storage.settle((settlement,))[0])

    async def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        return self.storage.claim(request, now=now)

    async def call(self, function: Callable[[], T]) -> T:
        return function()


class ThreadGate:
    """The gate of a storage that blocks: a thread of its own, and group commit."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._inserts: deque[tuple[NewJob, Answer]] = deque()
        self._settlements: deque[tuple[Settlement, Answer]] = deque()
        self._claims: deque[tuple[tuple[ClaimRequest, Microseconds], Answer]] = deque()
        self._calls: deque[tuple[Callable[[], Any], Answer]] = deque()
        self._news: deque[str] = deque()
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._is_signalled = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- on the event loop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tokens = SimpleQueue()
        self._is_signalled = False
        self._thread = threading.Thread(target=self._run, name="jobify-storage", daemon=True)
        self._thread.start()
        try:
            await self.call(self.storage.open)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._thread = thread
        closed = asyncio.ensure_future(self.call(self.storage.close))
        try:
            await asyncio.shield(closed)
        finally:
            self._thread = None
            self._tokens.put(True)
            if closed.done():  # otherwise this was cancelled: the thread ends by itself once it has closed
                thread.join()

    def insert(self, job: NewJob, answer: Answer) -> None:
        self._inserts.append((job, answer))
        self._signal()

    def settle(self, settlement: Settlement, answer: Answer, *, is_news: bool) -> None:
        if is_news:
            self._news.append(settlement.id)
        self._settlements.append((settlement, answer))
        self._signal()

    async def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        claimed: Claimed = await self._ask(self._claims, (request, now))
        return claimed

    async def call(self, function: Callable[[], T]) -> T:
        value: T = await self._ask(self._calls, function)
        return value

    async def _ask(self, queue: deque[tuple[Any, Answer]], what: Any) -> Any:
        assert self._loop is not None
        answered: asyncio.Future[Any] = self._loop.create_future()
        queue.append((what, _resolver(answered)))
        self._signal()
        return await answered

    def _signal(self) -> None:
        # The thread lowers the flag before it takes the queues: whoever finds it raised is still going to be taken.
        if not self._is_signalled:
            self._is_signalled = True
            self._tokens.put(False)

    # -- on the storage's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._tokens.get():
            self._is_signalled = False
            self._serve()

    def _serve(self) -> None:
        while True:
            group = _Group(_take(self._inserts), _take(self._settlements), _take(self._claims), _take(self._calls))
            if not group:
                return
            is_news = bool(self._news) or group.has_work_for_others
            self._news.clear()
            answers = group.execute(self.storage)
            if is_news and self.storage.bell is not None:
                self.storage.bell.ring()
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(_deliver, answers)
            except RuntimeError:  # the loop was closed under us: nobody is left to be told
                log.warning(
                    "The event loop was closed before the app was shut down; %d answers are lost.", len(answers)
                )


class _Group:
    """Requests that share a transaction."""

    __slots__ = ("calls", "claims", "inserts", "settlements")

    def __init__(
        self,
        inserts: list[tuple[NewJob, Answer]],
        settlements: list[tuple[Settlement, Answer]],
        claims: list[tuple[tuple[ClaimRequest, Microseconds], Answer]],
        calls: list[tuple[Callable[[], Any], Answer]],
    ) -> None:
        self.inserts = inserts
        self.settlements = settlements
        self.claims = claims
        self.calls = calls

    def __bool__(self) -> bool:
        return bool(self.inserts or self.settlements or self.claims or self.calls)

    @property
    def has_work_for_others(self) -> bool:
        """Whether jobs are inserted that nobody has claimed."""
        return any(job.owner is None for job, _ in self.inserts)

    def execute(self, storage: Storage) -> list[tuple[Answer, Any]]:
        """Do it all; the answers, in any order."""
        answers: list[tuple[Answer, Any]] = []
        if self.inserts or self.settlements or self.claims:
            try:
                answers += self._execute_together(storage)
            except StorageUnavailableError as error:
                answers += self._refuse(error)
            except Exception:  # one of the calls is at fault: find out which
                answers += self._execute_apart(storage)
        answers += [(answer, _attempt(function)) for function, answer in self.calls]
        return answers

    def _execute_together(self, storage: Storage) -> list[tuple[Answer, Any]]:
        kinds = bool(self.inserts) + bool(self.settlements) + len(self.claims)
        if kinds == 1:  # each method is atomic by itself, and cheaper alone
            return self._execute_kinds(storage)
        with storage.transaction():
            return self._execute_kinds(storage)

    def _execute_kinds(self, storage: Storage) -> list[tuple[Answer, Any]]:
        answers: list[tuple[Answer, Any]] = []
        if self.inserts:
            jobs, who = zip(*self.inserts, strict=True)
            answers += zip(who, storage.insert(jobs), strict=True)
        if self.settlements:
            settlements, who = zip(*self.settlements, strict=True)
            answers += zip(who, storage.settle(settlements), strict=True)
        for (request, now), answer in self.claims:
            answers.append((answer, storage.claim(request, now=now)))
        return answers

    def _execute_apart(self, storage: Storage) -> list[tuple[Answer, Any]]:
        answers: list[tuple[Answer, Any]] = []
        for job, answer in self.inserts:
            answers.append((answer, _attempt(partial(_only, storage.insert, job))))
        for settlement, answer in self.settlements:
            answers.append((answer, _attempt(partial(_only, storage.settle, settlement))))
        for (request, now), answer in self.claims:
            answers.append((answer, _attempt(partial(storage.claim, request, now=now))))
        return answers

    def _refuse(self, error: Exception) -> list[tuple[Answer, Any]]:
        everyone: Sequence[tuple[Any, Answer]] = [*self.inserts, *self.settlements, *self.claims]
        return [(answer, error) for _, answer in everyone]


def _only(method: Callable[[Sequence[Any]], list[bool]], record: Any) -> bool:
    return method((record,))[0]


def _attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return error


def _take(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(min(len(queue), _MAX_GROUP))]


def _deliver(answers: list[tuple[Answer, Any]]) -> None:
    for answer, value in answers:
        answer(value)


def _resolver(future: asyncio.Future[Any]) -> Answer:
    def resolve(value: Any) -> None:
        if future.done():
            return
        if isinstance(value, BaseException):
            future.set_exception(value)
        else:
            future.set_result(value)

    return resolve
