"""Waiting for a job: blocking, and awaitable."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from jobify.client.completion_listener import PollInterval, Waiter
from jobify.client.job_reader import JobReader
from jobify.client.threads import ClientThreads
from jobify.exceptions import ApplicationStateError, ConfigurationError, WaitTimeoutError
from jobify.jobs.current_job import lent_slot
from jobify.jobs.result_backend import Polls
from jobify.model.durations import Duration, as_seconds, check_duration
from jobify.model.public_status import public_status
from jobify.model.records import JobRecord, MessageKind, MessageRecord
from jobify.model.status import TERMINAL
from jobify.serializers.offload import LARGE_BYTES, off_loop

__all__ = ("POLLS", "JobWaiter", "check_number", "limit_of")

POLLS: Polls = (0.05, 0.5)

_LAST_NUMBER: Final = 2**63 - 1

_RETRY = 0.2
"""Seconds until the next attempt to start a thread that the system has refused."""


class _Page(NamedTuple):
    """New messages, and whether there will be no more."""

    messages: list[MessageRecord]
    is_last: bool


class JobWaiter:
    """Waits for ends and for messages. ``runs_here()``: whether this is the thread of the loop that runs the app."""

    def __init__(self, reads: JobReader, threads: ClientThreads, runs_here: Callable[[], bool]) -> None:
        self._reader = reads
        self._threads = threads
        self._runs_here = runs_here

    def refuse_to_block(self, operation: str, instead: str) -> None:
        """Raise ApplicationStateError if waiting would keep the job from ending."""
        if self._runs_here():
            raise ApplicationStateError(
                operation=operation,
                reason="This is the thread of the event loop that runs the app: the job could not end meanwhile.",
                solution=f"Write `{instead}`.",
            )

    # -- for the end ---------------------------------------------------------------------------------------------------

    def end(self, job_id: str, timeout: Duration | None, polls: Polls, instead: str) -> JobRecord:
        """Block until the job has ended; its row. TimeoutError names its status."""
        with self._threads.awaiting(job_id):
            return self._end(job_id, timeout, polls, instead)

    def _end(self, job_id: str, timeout: Duration | None, polls: Polls, instead: str) -> JobRecord:
        pace, limit = _pace(polls), limit_of(timeout)
        record = self._reader.ended_record(job_id)
        if record.status in TERMINAL:
            return record
        self.refuse_to_block(f"wait for job {job_id!r}", instead)
        answers: SimpleQueue[Any] = SimpleQueue()
        with lent_slot(), self._threads.listener.watching(Waiter(job_id, pace, answers.put, is_follower=False)):
            try:
                return _row(self._next(answers, _Deadline(limit)))
            except Empty:
                pass
        return self._check_once_more(job_id, timeout)

    async def aend(self, job_id: str, timeout: Duration | None, polls: Polls) -> JobRecord:
        """:meth:`end`, awaitable."""
        with self._threads.awaiting(job_id):
            return await self._aend(job_id, timeout, polls)

    async def _aend(self, job_id: str, timeout: Duration | None, polls: Polls) -> JobRecord:
        pace, limit = _pace(polls), limit_of(timeout)
        record = await self._threads.reader.call(lambda: self._reader.ended_record(job_id))
        if record.status in TERMINAL:
            return record
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiter = Waiter(job_id, pace, _FutureSink(answer), is_follower=False)
        with lent_slot(), self._threads.listener.watching(waiter), suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._listener_started()
                await asyncio.wait([answer])
        if answer.done():
            return _row(answer.result())
        return await self._threads.reader.call(lambda: self._check_once_more(job_id, timeout))

    def _next(self, answers: SimpleQueue[Any], deadline: _Deadline) -> Any:
        """The next result of the listener; Empty when the time is over."""
        while not self._threads.listener.ensure():  # the system has no thread for it just now
            rest = deadline.rest()
            with suppress(Empty):
                return answers.get(timeout=_RETRY if rest is None else min(rest, _RETRY))
            if rest == 0:
                raise Empty
        return answers.get(timeout=deadline.rest())

    async def _listener_started(self) -> None:
        """Return once the listener has a thread."""
        while not self._threads.listener.ensure():  # noqa: ASYNC110  the system reports no event for it
            await asyncio.sleep(_RETRY)

    def _check_once_more(self, job_id: str, timeout: Duration | None) -> JobRecord:
        record = self._reader.ended_record(job_id)
        if record.status in TERMINAL:
            return record
        word = public_status(record.status, record.is_dead)
        limit: float = as_seconds(timeout)
        message = f"Job {job_id!r} is still {word} after {limit:g} seconds{self._reason(job_id)}."
        raise WaitTimeoutError(message, timeout=limit, job_id=job_id)

    def _reason(self, job_id: str) -> str:
        """Why the job has not ended, as the end of a sentence; empty if that is not known."""
        try:
            note = self._reader.note(job_id)
        except Exception:  # the storage is unavailable: report the timeout without a reason
            return ""
        return f": {note.rstrip('.')}" if note else ""

    # -- for messages --------------------------------------------------------------------------------------------------

    def stream(self, job_id: str, timeout: Duration | None, after: int) -> Iterator[Any]:
        """The values of a job, as they come."""
        page = _Page([], False)
        while not page.is_last:
            page = self._page(job_id, timeout, after)
            for message in page.messages:
                after = message.number
                if message.kind == MessageKind.VALUE:
                    yield self._reader.published(message)

    async def astream(self, job_id: str, timeout: Duration | None, after: int) -> AsyncIterator[Any]:
        """:meth:`stream`, awaitable."""
        page = _Page([], False)
        while not page.is_last:
            page = await self._apage(job_id, timeout, after)
            for message in page.messages:
                after = message.number
                if message.kind == MessageKind.VALUE:
                    yield await self._published(message)

    async def _published(self, message: MessageRecord) -> Any:
        if isinstance(message.data, bytes) and len(message.data) > LARGE_BYTES:
            return await off_loop(lambda: self._reader.published(message))
        return self._reader.published(message)

    def _peek(self, job_id: str, after: int) -> _Page:
        """Read the status before the messages, so that the last messages are not missed."""
        has_ended = self._reader.record(job_id).status in TERMINAL
        messages = self._reader.messages(job_id, after)
        return _Page(messages, has_ended and not messages)

    def _page(self, job_id: str, timeout: Duration | None, after: int) -> _Page:
        limit = limit_of(timeout)
        page = self._peek(job_id, after)
        if page.messages or page.is_last:
            return page
        self.refuse_to_block(f"follow job {job_id!r}", "async for value in job.astream()")
        answers: SimpleQueue[Any] = SimpleQueue()
        deadline = _Deadline(limit)
        waiter = Waiter(job_id, _pace(POLLS), answers.put, is_follower=True)
        with lent_slot(), self._threads.listener.watching(waiter):
            while not (page.messages or page.is_last):
                try:
                    _check(self._next(answers, deadline))
                except Empty:
                    raise self._silent(job_id, timeout) from None
                page = self._peek(job_id, after)
        return page

    async def _apage(self, job_id: str, timeout: Duration | None, after: int) -> _Page:
        reader = self._threads.reader
        page = await reader.call(lambda: self._peek(job_id, after))
        if page.messages or page.is_last:
            return page
        answers: asyncio.Queue[Any] = asyncio.Queue()
        waiter = Waiter(job_id, _pace(POLLS), _QueueSink(answers), is_follower=True)
        with lent_slot(), self._threads.listener.watching(waiter):
            try:
                async with asyncio.timeout(limit_of(timeout)):
                    await self._listener_started()
                    while not (page.messages or page.is_last):
                        _check(await answers.get())
                        page = await reader.call(lambda: self._peek(job_id, after))
            except TimeoutError:
                raise await reader.call(lambda: self._silent(job_id, timeout)) from None
        return page

    def _silent(self, job_id: str, timeout: Duration | None) -> WaitTimeoutError:
        limit: float = as_seconds(timeout)
        message = (
            f"Job {job_id!r} has published nothing for {limit:g} seconds, and has not ended{self._reason(job_id)}."
        )
        return WaitTimeoutError(message, timeout=limit, job_id=job_id)


class _Deadline:
    """Seconds that are left of a limit."""

    def __init__(self, limit: float | None) -> None:
        self._at = None if limit is None else time.monotonic() + limit

    def rest(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - time.monotonic())


class _FutureSink:
    """Passes the result of the listener to a future of any event loop."""

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        self._answer = answer

    def __call__(self, found: Any) -> None:
        with suppress(RuntimeError):  # the event loop was closed
            self._answer.get_loop().call_soon_threadsafe(self._resolve, found)

    def _resolve(self, found: Any) -> None:
        if not self._answer.done():
            self._answer.set_result(found)


class _QueueSink:
    """Passes each result to a queue of the running event loop."""

    def __init__(self, answers: asyncio.Queue[Any]) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()

    def __call__(self, found: Any) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._answers.put_nowait, found)


def _row(found: Any) -> JobRecord:
    _check(found)
    row: JobRecord = found
    return row


def _check(found: Any) -> None:
    if isinstance(found, Exception):
        raise found


def _pace(polls: Polls) -> PollInterval:
    first = check_duration(polls[0], what="poll_interval", allow_zero=False)
    return PollInterval(first, check_duration(polls[1], what="max_poll_interval", allow_zero=False))


def limit_of(timeout: Duration | None) -> float | None:
    """The timeout in seconds, as locks take it; None: wait for ever. ConfigurationError if it is not a duration."""
    if timeout is None or timeout == math.inf:
        return None
    return min(check_duration(timeout, what="timeout"), threading.TIMEOUT_MAX)


def check_number(after: Any) -> int:
    """``after``, if it can be the number of a message; else ConfigurationError."""
    if isinstance(after, bool) or not isinstance(after, int) or not 0 <= after <= _LAST_NUMBER:
        raise ConfigurationError(f"after is {after!r}; it must be the number of a message, or 0 for all of them.")
    return after
