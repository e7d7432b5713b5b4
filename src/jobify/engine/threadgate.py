"""The gate of a storage that blocks: a thread of its own, and group commit.

All inserts, settlements and claims that arrive while a transaction runs share the next one, so that under load the
price of a commit (a flush to the disk) is paid once for hundreds of jobs, and without load a call does not wait for
company.

What is large is written alone, one after the other, and what is small goes first each time.

Within a group the order is: inserts, reports, settlements, claims, then everything else one by one. That is a legal
order: a caller learns of its insert before it can ask anything further of that job, and calls that overlap in time have
no order anyway.

**On the spot.** Handing a call to a thread, and its answer back, costs more than a commit that does not wait for the
disk. So when exactly one call stands in line at the end of a turn of the event loop, the thread rests, and the storage
declares that it can (``Storage.on_the_spot``), the call is made right there, on the event loop's thread. Whatever would
have to be waited for, and whatever goes wrong, is left to the thread, as if nothing had been tried.

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
from typing import Any, NamedTuple, TypeAlias, TypeVar

from jobify.engine.gate import Insertion
from jobify.engine.lines import Answer, Batch, Line
from jobify.engine.news import ORDER, REPORT, WORK, News, all_of
from jobify.engine.spot import Spot
from jobify.exceptions import StorageUnavailableError
from jobify.records import Claimed, ClaimRequest, NewJob, Report, Settled, Settlement
from jobify.storage.base import Storage
from jobify.storage.sharing import share
from jobify.types import Microseconds

__all__ = ("ThreadGate",)

T = TypeVar("T")
log = logging.getLogger("jobify.storage")

_SMALL = 65_536
"""Bytes that may be written on the spot, or share a transaction: more would keep others for too long."""

_MAX_GROUP = 1000
"""Jobs in one transaction at most: a bound on how long the first of them waits for the last."""


class ThreadGate:
    """See the module, and :class:`~jobify.engine.gate.Gate`."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.on_news: Callable[[], None] = _nothing
        self._shared = share(storage)
        self._inserts: Line[NewJob] = Line(storage.insert, _MAX_GROUP)
        self._reports: Line[Sequence[Report]] = Line(self._report_all, _MAX_GROUP)
        self._settlements: Line[Settlement] = Line(storage.settle, _MAX_GROUP)
        self._claims: Line[_TimedClaim] = Line(self._claim_each, _MAX_GROUP)
        self._large: Line[_Single] = Line(_write_large, 1)
        self._calls: Line[Callable[[], Any]] = Line(_call_each, _MAX_GROUP)
        self._closing: Line[Callable[[], Any]] = Line(_call_each, 1)
        self._lines: tuple[Line[Any], ...] = (
            self._inserts,
            self._reports,
            self._settlements,
            self._claims,
            self._large,
            self._calls,
            self._closing,
        )
        self._news: deque[News] = deque()
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._is_signalled = False
        self._is_resting = False
        self._single: _Single | None = None
        self._has_turn = False
        self._spot = Spot(storage, self._shared)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- on the event loop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tokens = SimpleQueue()
        self._is_signalled = self._is_resting = self._has_turn = False
        self._thread = threading.Thread(target=self._run, name="jobify-storage", daemon=True)
        self._thread.start()
        self._shared = share(self.storage)
        self._spot = Spot(self.storage, self._shared)
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
        closed = self._ask(self._closing, partial(self._shared.close, self._hear))
        for line in self._lines:
            line.is_open = False
        try:
            await asyncio.shield(closed)
        finally:
            self._tokens.put(True)
            if closed.done():  # otherwise this was cancelled: the thread ends by itself once it has closed
                thread.join()

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._line_up()
            if last is not None:
                self._calls.ask(last, _nobody)
            self._closing.ask(partial(self._shared.close, self._hear), _nobody)
            self._tokens.put(False)
            self._tokens.put(True)
            thread.join()

    def insert(self, insertion: Insertion, *, is_unseen: bool) -> None:
        job = insertion.row()
        single = _Single(self._inserts, job, insertion, WORK if job.owner is None else None)
        if len(job.payload) > _SMALL:
            self._ask_large(single)
        else:
            self._ask_singly(single, may_be_on_the_spot=True)

    def settle(self, settlement: Settlement, answer: Answer, *, news: News | None, is_last: bool = False) -> None:
        single = _Single(self._settlements, settlement, answer, news)
        if settlement.result is not None and len(settlement.result) > _SMALL:
            self._ask_large(single)
        else:
            self._ask_singly(single, may_be_on_the_spot=not settlement.history, is_last=is_last)

    def report(self, reports: Sequence[Report], answer: Answer) -> None:
        self._line_up()
        self._reports.ask(reports, answer)
        self._signal()

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> asyncio.Future[Claimed]:
        return self._ask(self._claims, (request, now))

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

    def _ask_large(self, single: _Single) -> None:
        """Ask what takes long to write. Its news are told when it is written."""
        self._line_up()
        self._large.ask(single, single.answer)
        self._signal()

    def _ask_singly(self, single: _Single, *, may_be_on_the_spot: bool, is_last: bool = False) -> None:
        """Ask what may be made on the spot: at the end of this turn of the loop, should it still be the only one."""
        if self._has_turn or not (
            may_be_on_the_spot and self._is_resting and not self._is_signalled and self._spot.is_open
        ):
            self._line_up()
            self._stand_in_line(single)
        elif is_last:
            self._make(single)
        else:
            assert self._loop is not None
            self._single, self._has_turn = single, True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._has_turn = False
        single, self._single = self._single, None
        if single is not None:
            self._make(single)

    def _make(self, single: _Single) -> None:
        """Make a call on the spot, if that can be done now."""
        batch = single.line.alone(single.question, single.answer)
        if not (single.line.is_open and self._spot.execute(batch)):
            self._stand_in_line(single)
            return
        if self._spot.is_overheard:
            for news in filter(None, (single.news, _cascade(batch))):
                self.spread(news)
        batch.deliver()

    def _line_up(self) -> None:
        """The single call of this turn has got company: it stands in line, before what comes now."""
        single, self._single = self._single, None
        if single is not None:
            self._stand_in_line(single)

    def _stand_in_line(self, single: _Single) -> None:
        single.line.ask(single.question, single.answer)
        if single.news is not None:  # appended last: when the thread finds it, what is news is written or in line
            self._news.append(single.news)
        self._signal()

    def _ask(self, line: Line[Any], question: Any) -> asyncio.Future[Any]:
        assert self._loop is not None
        self._line_up()
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
        self._is_resting = True
        while not self._tokens.get():
            self._is_resting = self._is_signalled = False  # in this order: one of them says that there is work
            while self._serve():
                pass
            self._is_resting = True

    def _serve(self) -> bool:
        """Make the calls that stand in line, but of large writes only one; whether some were left."""
        is_full = self._serve_small()
        large = self._large.take()
        if large is None:
            return self._close_if_asked() or is_full
        with self._shared.lock:
            self._execute([large])
        news = [news for news in (*(single.news for single in large.questions), _cascade(large)) if news is not None]
        if news:
            self._ring(all_of(news))
        self._hand_over([large])
        return True

    def _close_if_asked(self) -> bool:
        """Close the storage, after everything else that was asked; whether this was the time for it."""
        closing = self._closing.take()
        if closing is None:
            return False
        with self._shared.lock:
            closing.execute()
        self._hand_over([closing])
        return True

    def _serve_small(self) -> bool:
        """Make the calls that share a transaction; whether a line was too long to be served at once."""
        news = [self._news.popleft() for _ in range(len(self._news))]
        inserts, reports, settlements = self._inserts.take(), self._reports.take(), self._settlements.take()
        taken: list[Batch[Any] | None] = [inserts, reports, settlements, self._claims.take()]
        calls = self._calls.take()
        batches: list[Batch[Any]] = [batch for batch in taken if batch is not None]
        with self._shared.lock:
            self._execute(batches)
            if calls is not None:
                calls.execute()
                batches.append(calls)
        cascade = None if settlements is None else _cascade(settlements)
        if cascade is not None:
            news.append(cascade)
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


class _Single(NamedTuple):
    """A call by itself."""

    line: Line[Any]
    question: Any
    answer: Answer
    news: News | None


_TimedClaim: TypeAlias = tuple[ClaimRequest, Microseconds]


def _write_large(singles: Sequence[_Single]) -> list[Any]:
    return [single.line.execute([single.question])[0] for single in singles]


def _cascade(batch: Batch[Any]) -> News | None:
    """Whom it concerns that settlements have moved other jobs, if they have."""
    return ORDER if Settled.CASCADED in batch.values else None


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
