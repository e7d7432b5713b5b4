"""The way to a storage: awaitable, grouped, and never on the event loop's thread.

A storage is blocking code. A :class:`Gate` gives it one thread of its own. All inserts, settlements and claims that
arrive while a transaction runs share the next one, so that under load the price of a commit (a flush to the disk) is
paid once for hundreds of jobs, and without load a call does not wait for company.

Within a group the order is: inserts, reports, settlements, claims, then everything else one by one. That is a legal
order: a caller learns of its insert before it can ask anything further of that job, and calls that overlap in time have
no order anyway.

If a group fails because of one call in it, its calls are made again one by one, so that each caller gets its own error.
If the storage is unavailable all of them get that error, and nothing was changed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias, TypeVar

from jobify.engine.lines import Answer, Batch, Line
from jobify.engine.news import ORDER, REPORT, WORK, News, all_of
from jobify.exceptions import StorageUnavailableError
from jobify.records import Claimed, ClaimRequest, NewJob, Report, Settled, Settlement
from jobify.storage.base import Storage
from jobify.storage.sharing import share
from jobify.types import Microseconds

__all__ = ("Gate", "ThreadGate")

T = TypeVar("T")
log = logging.getLogger("jobify.storage")

_MAX_GROUP = 1000
"""Jobs in one transaction at most: a bound on how long the first of them waits for the last."""


class Gate(Protocol):
    """What the engine sees of a storage."""

    storage: Storage
    on_news: Callable[[], None]
    """Called on the event loop when another user of the same storage object has written what concerns others."""

    def tell_others(self) -> None:
        """Tell the other users of the same storage object that there are news."""
        ...

    async def start(self) -> None:
        """Open the storage. The gate then belongs to the running event loop, until it is stopped."""
        ...

    async def stop(self) -> None:
        """Finish what was asked, close the storage. Later questions are answered with an error."""
        ...

    def abandon(self) -> None:
        """:meth:`stop`, after the event loop was closed without it: close the storage, answer nobody."""
        ...

    def insert(self, job: NewJob, answer: Answer, *, is_id_new: bool) -> None:
        """Ask for :meth:`Storage.insert` of one job. ``is_id_new``: its id was made for it, nobody else can have it."""
        ...

    def settle(self, settlement: Settlement, answer: Answer, *, news: News | None) -> None:
        """Ask for :meth:`Storage.settle` of one attempt. ``news``: who is to be told; of what the end does to other
        jobs everybody is."""
        ...

    def report(self, reports: Sequence[Report], answer: Answer) -> None:
        """Ask for :meth:`Storage.report` of what one job has to say: all of it is written, or none."""
        ...

    async def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        """:meth:`Storage.claim`."""
        ...

    async def call(self, function: Callable[[], T], *, news: News | None = None) -> T:
        """Run any other use of the storage; one that writes is atomic by itself or opens a transaction. ``news``: who
        is to be told of it."""
        ...

    async def tend(self, function: Callable[[], T]) -> T:
        """:meth:`call`, for what concerns only jobs that wait, or were claimed: rows that are held back stay so."""
        ...

    def spread(self, news: News) -> None:
        """Tell of what was written by an earlier call."""
        ...


class ThreadGate:
    """The gate of a storage that blocks: a thread of its own, and group commit."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.on_news: Callable[[], None] = _nothing
        self._shared = share(storage)
        self._inserts: Line[NewJob] = Line(storage.insert, _MAX_GROUP)
        self._reports: Line[Sequence[Report]] = Line(self._report_all, _MAX_GROUP)
        self._settlements: Line[Settlement] = Line(storage.settle, _MAX_GROUP)
        self._claims: Line[_TimedClaim] = Line(self._claim_each, _MAX_GROUP)
        self._calls: Line[Callable[[], Any]] = Line(_call_each, _MAX_GROUP)
        self._lines: tuple[Line[Any], ...] = (
            self._inserts,
            self._reports,
            self._settlements,
            self._claims,
            self._calls,
        )
        self._news: deque[News] = deque()
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
        self._shared = share(self.storage)
        for line in self._lines:
            line.is_open = True
        try:
            await self.call(partial(self._shared.open, self._hear))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        closed = self._ask(self._calls, partial(self._shared.close, self._hear))
        for line in self._lines:
            line.is_open = False
        try:
            await asyncio.shield(closed)
        finally:
            self._tokens.put(True)
            if closed.done():  # otherwise this was cancelled: the thread ends by itself once it has closed
                thread.join()

    def abandon(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.ask(partial(self._shared.close, self._hear), _nobody)
            self._tokens.put(False)
            self._tokens.put(True)
            thread.join()

    def insert(self, job: NewJob, answer: Answer, *, is_id_new: bool) -> None:
        self._inserts.ask(job, answer)
        self._signal()

    def settle(self, settlement: Settlement, answer: Answer, *, news: News | None) -> None:
        self._settlements.ask(settlement, answer)
        if news is not None:  # appended last: when the thread finds it, the settlement is written or in line
            self._news.append(news)
        self._signal()

    def report(self, reports: Sequence[Report], answer: Answer) -> None:
        self._reports.ask(reports, answer)
        self._signal()

    async def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        claimed: Claimed = await self._ask(self._claims, (request, now))
        return claimed

    async def call(self, function: Callable[[], T], *, news: News | None = None) -> T:
        answered = self._ask(self._calls, function)
        if news is not None:
            self.spread(news)
        value: T = await answered
        return value

    async def tend(self, function: Callable[[], T]) -> T:
        return await self.call(function)

    def spread(self, news: News) -> None:
        self._news.append(news)
        self._signal()

    def tell_others(self) -> None:
        self._shared.tell_others(self._hear)

    def _hear(self) -> None:
        """On any thread: another user of the storage object has news."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop was closed
                self._loop.call_soon_threadsafe(lambda: self.on_news())

    def _ask(self, line: Line[Any], question: Any) -> asyncio.Future[Any]:
        assert self._loop is not None
        answered: asyncio.Future[Any] = self._loop.create_future()
        line.ask(question, partial(_resolve, answered))
        self._signal()
        return answered

    def _signal(self) -> None:
        # The thread lowers the flag before it takes the lines: whoever finds it raised is still going to be taken.
        if not self._is_signalled:
            self._is_signalled = True
            self._tokens.put(False)

    # -- on the storage's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._tokens.get():
            self._is_signalled = False
            while self._serve():
                pass

    def _serve(self) -> bool:
        """Make the calls that stand in line; whether a line was too long to be served at once."""
        news = [self._news.popleft() for _ in range(len(self._news))]
        inserts, settlements, calls = self._inserts.take(), self._settlements.take(), self._calls.take()
        reports = self._reports.take()
        taken: list[Batch[Any] | None] = [inserts, reports, settlements, self._claims.take()]
        batches: list[Batch[Any]] = [batch for batch in taken if batch is not None]
        with self._shared.lock:
            self._execute(batches)
            if calls is not None:
                calls.execute()
                batches.append(calls)
        if inserts is not None and any(job.owner is None for job in inserts.questions):
            news.append(WORK)
        if settlements is not None and Settled.CASCADED in settlements.values:
            news.append(ORDER)
        if reports is not None:
            news.append(REPORT)
        if news:
            self._ring(all_of(news))
        if batches:
            self._hand_over(batches)
        return any(len(batch) == _MAX_GROUP for batch in batches)

    def _ring(self, news: News) -> None:
        try:
            self.tell_others()
            if self.storage.bell is not None:
                self.storage.bell.ring(workers=news.workers, clients=news.clients, owners=news.owners)
        except Exception:  # of a user's own storage: what is committed must still be answered
            log.exception("The bell of %r failed.", self.storage)

    def _execute(self, batches: list[Batch[Any]]) -> None:
        try:
            with self.storage.transaction() if len(batches) > 1 else nullcontext():  # one call is atomic by itself
                for batch in batches:
                    batch.execute()
        except StorageUnavailableError as error:
            for batch in batches:
                batch.refuse(error)
        except Exception:  # one of the calls is at fault: find out which
            for batch in batches:
                batch.execute_apart()

    def _hand_over(self, batches: list[Batch[Any]]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_deliver, batches)
        except RuntimeError:
            log.debug("The event loop was closed before the app was shut down: nobody is left to be answered.")

    def _report_all(self, groups: Sequence[Sequence[Report]]) -> list[list[bool]]:
        held = iter(self.storage.report([report for group in groups for report in group]))
        return [list(islice(held, len(group))) for group in groups]

    def _claim_each(self, claims: Sequence[_TimedClaim]) -> list[Claimed]:
        return [self.storage.claim(request, now=now) for request, now in claims]


_TimedClaim: TypeAlias = tuple[ClaimRequest, Microseconds]


def _call_each(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """These have nothing in common: the error of one is its own."""
    return [_attempt(function) for function in functions]


def _attempt(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return error


def _nothing() -> None:
    """Nobody wants to hear of news."""


def _nobody(answer: Any) -> None:
    """Takes the answer to a question that nobody waits for."""


def _deliver(batches: list[Batch[Any]]) -> None:
    for batch in batches:
        batch.deliver()


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if future.done():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
