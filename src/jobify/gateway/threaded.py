"""The gate of a storage that blocks: a thread of its own, and group commit.

All inserts, settlements and claims that arrive while a transaction runs share the next one, so that under load the
price of a commit (a flush to the disk) is paid once for hundreds of jobs, and without load a call does not wait for
company.

What is large is written alone, one after the other, and what is small goes first each time. Within a group the order
is: inserts, reports, settlements, claims, then everything else one by one. That is a legal order: a caller learns of
its insert before it can ask anything further of that job, and calls that overlap in time have no order anyway.

**On the spot.** Handing a call to a thread, and its answer back, costs more than a commit that does not wait for the
disk. So when exactly one call stands in line at the end of a turn of the event loop, the thread rests, and the storage
declares that it can (``Storage.nonblocking``), the call is made right there, on the event loop's thread. Whatever would
have to be waited for, and whatever goes wrong, is left to the thread, as if nothing had been tried.

If a group fails because of one call in it, its calls are made again one by one, so that each caller gets its own error.
If the storage is unavailable all of them get that error, and nothing was changed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jobify.exceptions import StorageEndedError, StorageError, StorageLostError
from jobify.gateway.batching import (
    Answer,
    Batch,
    Line,
    TimedClaim,
    call_each,
    claim_each,
    closed,
    deliver,
    execute_together,
    interrupted,
    refuse_unanswered,
    report_all,
    resolve,
    ring_bell,
)
from jobify.gateway.gateway import Insertion
from jobify.gateway.nonblocking import Spot
from jobify.gateway.notification import ORDER, REPORT, WORK, News, all_of
from jobify.gateway.sharing import share
from jobify.gateway.storage_thread import StorageThread
from jobify.model.records import Claimed, ClaimRequest, NewJob, Report, Settled, Settlement
from jobify.runtime.logs import get_logger
from jobify.storage.base import Storage
from jobify.types import Microseconds

__all__ = ("ThreadGate",)

T = TypeVar("T")
log = get_logger("jobify.storage")

_SMALL = 65_536
"""Bytes that may be written on the spot, or share a transaction: more would keep others for too long."""

_MAX_GROUP = 1000
"""Jobs in one transaction at most: a bound on how long the first of them waits for the last."""


class ThreadGate:
    """See the module, and :class:`~jobify.gateway.gateway.Gate`."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.on_news: Callable[[], None] = _nobody
        self.on_end: Callable[[StorageLostError], None] = _nobody
        self._shared = share(storage)
        self._inserts: Line[NewJob] = Line(storage.insert, _MAX_GROUP)
        self._reports: Line[Sequence[Report]] = Line(partial(report_all, storage), _MAX_GROUP)
        self._settlements: Line[Settlement] = Line(storage.settle, _MAX_GROUP)
        self._claims: Line[TimedClaim] = Line(partial(claim_each, storage), _MAX_GROUP)
        self._large: Line[_Single] = Line(_write_large, 1)
        self._calls: Line[Callable[[], Any]] = Line(call_each, _MAX_GROUP)
        self._closing: Line[Callable[[], Any]] = Line(call_each, 1)
        small = (self._inserts, self._reports, self._settlements, self._claims)
        self._served: tuple[Line[Any], ...] = (*small, self._large, self._calls)
        self._lines: tuple[Line[Any], ...] = (*self._served, self._closing)
        self._news: deque[News] = deque()
        self._taken: list[Batch[Any]] = []
        """What the thread has taken out of the lines and not answered yet."""
        self._single: _Single | None = None
        self._has_turn = False
        self._spot = Spot(storage, self._shared)
        self._thread: StorageThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: StorageEndedError | None = None

    # -- on the event loop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_turn = False
        self._ended = None
        self._taken.clear()
        thread = StorageThread(self._serve, on_error=self._on_error, on_end=self._on_end)
        thread.start()
        self._thread = thread
        self._shared = share(self.storage)
        self._spot = Spot(self.storage, self._shared)
        for line in self._lines:
            line.reopen()
        try:
            await self.call(partial(self._shared.open, self._hear))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._ended is not None:
            self._shared.close(self._hear)
            return
        closing = self._ask(self._closing, partial(self._shared.close, self._hear))
        thread.signal()
        for line in self._lines:
            line.close(closed())
        try:
            await asyncio.shield(closing)
        except StorageError:
            self._shared.close(self._hear)  # the thread could not
        finally:
            thread.end(wait=closing.done())  # if this was cancelled, the thread ends by itself once it has closed

    def abandon(self, last: Callable[[], None] | None = None) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._line_up()
            if last is not None:
                self._calls.ask(last, _nobody)
            self._closing.ask(partial(self._shared.close, self._hear), _nobody)
            thread.end(wait=True)

    def insert(self, insertion: Insertion, *, is_unseen: bool) -> None:
        job = insertion.row()
        news = WORK if job.owner is None else None
        if len(job.payload) > _SMALL:
            self._ask_large(_Single(self._inserts, job, insertion, news))
        else:
            self._ask_singly(self._inserts, job, insertion, news, is_small=True, is_last=False)

    def settle(self, settlement: Settlement, answer: Answer, *, news: News | None, is_last: bool = False) -> None:
        if settlement.result is not None and len(settlement.result) > _SMALL:
            self._ask_large(_Single(self._settlements, settlement, answer, news))
        else:
            is_small = not settlement.history
            self._ask_singly(self._settlements, settlement, answer, news, is_small=is_small, is_last=is_last)

    def report(self, reports: Sequence[Report], answer: Answer) -> None:
        self._line_up()
        self._reports.ask(reports, answer)
        self._signal()

    def claim(self, request: ClaimRequest, *, now: Callable[[], Microseconds]) -> asyncio.Future[Claimed]:
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

    def _ask_singly(
        self, line: Line[Any], question: Any, answer: Answer, news: News | None, *, is_small: bool, is_last: bool
    ) -> None:
        """Ask what may be made on the spot: at the end of this turn of the loop, should it still be the only one."""
        thread = self._thread
        if (
            self._has_turn
            or thread is None
            or thread.is_signalled
            or not (thread.is_resting and is_small and self._spot.is_open)
        ):
            if self._single is not None:
                self._line_up()
            self._stand_in_line(line, question, answer, news)
        elif is_last:
            self._make(_Single(line, question, answer, news))
        else:
            assert self._loop is not None
            self._single, self._has_turn = _Single(line, question, answer, news), True
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
            self._stand_in_line(*single)
            return
        if self._spot.is_overheard:
            for news in filter(None, (single.news, _cascade(batch))):
                self.spread(news)
        batch.deliver()

    def _line_up(self) -> None:
        """The single call of this turn has got company: it stands in line, before what comes now."""
        single, self._single = self._single, None
        if single is not None:
            self._stand_in_line(*single)

    def _stand_in_line(self, line: Line[Any], question: Any, answer: Answer, news: News | None) -> None:
        line.ask(question, answer)
        if news is not None:  # appended last: when the thread finds it, what is news is written or in line
            self._news.append(news)
        thread = self._thread
        if thread is not None and not thread.is_signalled:  # signal() asks it, too, but is called for every job
            thread.signal()

    def _ask(self, line: Line[Any], question: Any) -> asyncio.Future[Any]:
        assert self._loop is not None
        self._line_up()
        answered: asyncio.Future[Any] = self._loop.create_future()
        line.ask(question, partial(resolve, answered))
        self._signal()
        return answered

    def _signal(self) -> None:
        if self._thread is not None:
            self._thread.signal()

    # -- on the storage's thread ---------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Make the calls that stand in line, but of large writes only one; whether some were left."""
        if self._taken:
            self._hand_over()  # an error kept it from being answered
        is_full = self._serve_small()
        large = self._large.take(self._taken)
        if large is None:
            return self._close_if_asked() or is_full
        with self._shared.lock:
            execute_together(self.storage, [large])
        news = [news for news in (*(single.news for single in large.questions), _cascade(large)) if news is not None]
        if news:
            self._ring(all_of(news))
        self._hand_over()
        return True

    def _close_if_asked(self) -> bool:
        """Close the storage, after everything else that was asked; whether there is something to do at once."""
        if self._closing.is_empty:
            return False
        if any(not line.is_empty for line in self._served):
            return True  # asked before the close, and after this round had passed its line
        closing = self._closing.take(self._taken)
        assert closing is not None
        with self._shared.lock:
            closing.execute()
        self._hand_over()
        return True

    def _serve_small(self) -> bool:
        """Make the calls that share a transaction; whether a line was too long to be served at once."""
        news = [self._news.popleft() for _ in range(len(self._news))]
        taken = self._taken
        self._inserts.take(taken)
        reports, settlements = self._reports.take(taken), self._settlements.take(taken)
        self._claims.take(taken)
        batches = taken[:]
        calls = self._calls.take(taken)
        with self._shared.lock:
            execute_together(self.storage, batches)
            if calls is not None:
                calls.execute()
        cascade = None if settlements is None else _cascade(settlements)
        if cascade is not None:
            news.append(cascade)
        if reports is not None:
            news.append(REPORT)
        if news:
            self._ring(all_of(news))
        is_full = any(len(batch) == _MAX_GROUP for batch in taken)
        if taken:
            self._hand_over()
        return is_full

    def _ring(self, news: News) -> None:
        try:
            self.tell_others()
            ring_bell(self.storage, news)
        except Exception:  # of a user's own storage: what is committed must still be answered
            log.exception("The bell of %r failed.", self.storage)

    def _hand_over(self) -> None:
        """Have what was taken answered."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(deliver, self._taken[:])
        except RuntimeError:
            log.debug("The event loop was closed before the app was shut down: no answer reaches anything.")
        self._taken.clear()

    def _on_error(self, error: BaseException) -> None:
        """What was taken and has no answer yet gets this one."""
        refuse_unanswered(self._taken, interrupted(error))
        self._hand_over()

    def _on_end(self, error: BaseException) -> None:
        """The thread cannot go on: everything that waits, and everything that is asked from now on, gets an error."""
        self._ended = ended = StorageEndedError(error)
        for line in self._lines:
            line.close(ended)
            while line.take(self._taken):
                pass
        refuse_unanswered(self._taken, ended)
        self._hand_over()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.on_end, ended)


class _Single(NamedTuple):
    """A call by itself."""

    line: Line[Any]
    question: Any
    answer: Answer
    news: News | None


def _write_large(singles: Sequence[_Single]) -> list[Any]:
    return [single.line.execute([single.question])[0] for single in singles]


def _cascade(batch: Batch[Any]) -> News | None:
    """Whom it concerns that settlements have moved other jobs, if they have."""
    return ORDER if Settled.CASCADED in batch.values else None


def _nobody(*_: Any) -> None:
    """Takes news and answers that nothing waits for."""
