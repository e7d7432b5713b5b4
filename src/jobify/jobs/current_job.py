"""``current_job``: what a task can read and report about its own job.

::

    from jobify import current_job

    @app.task
    def thumbnails(paths: list[str]) -> None:
        for done, path in enumerate(paths):
            current_job.check_cancelled()
            current_job.publish(shrink(path))
            current_job.update_progress(100 * done / len(paths))

**Where it works.** A context variable holds the attempt that is under way. The executor sets it in the context of the
attempt's own task, before any code of the user runs, and resets it at the end. So all code of the attempt sees it: the
function, on the event loop, in a thread or in a child process; middleware and exception handlers; tasks and threads
that these start (``create_task``, ``asyncio.to_thread``; a bare ``threading.Thread`` has an empty context, as always).
A job that is pushed by a job starts in a copy of that context, and overwrites the variable first, so that it sees
itself. A process that a task forks is not the job, and starts without it.

**Without a job,** a task is an ordinary function, which a test may call. Reports are dropped (a log line still goes to
the logger), and checks pass. The attributes (``id``, ``attempt`` and the rest) raise RuntimeError.
:class:`jobify.testing.pretending.PretendJob` provides a job.

**Cost.** One context variable is set to an object that exists anyway; a job that does not use ``current_job`` pays
nothing else.

**Implementations.** :class:`Running` is the part of an attempt that this module uses. In the app's process it is the
engine's attempt; in a child process it is :class:`jobify.runners.remote_job.RemoteJob`, which sends the reports to the
parent. A process of a user's ``processpool_executor`` has no channel to the app: the job's attributes and its timeout
are known there, but a report raises ApplicationStateError.

**When a report is stored.** No call waits for the disk. Reports are stored in order, in groups, and before the outcome,
so that no reader sees the job complete without its last values. After the end of the attempt (threads and tasks may
outlive it) they are dropped. :mod:`jobify.gateway.reports` says how many may wait to be stored, and what is slowed down
when there are more.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any, Final, Protocol

from jobify.exceptions import ConfigurationError, JobTimeoutError, TaskCancelledError, shown
from jobify.jobs.job_transaction import Completion, JobTransaction
from jobify.model.records import MessageKind
from jobify.runtime.logs import get_logger
from jobify.transactions.blocks import block_on

__all__ = (
    "CURRENT",
    "LEVELS",
    "TIMED_OUT",
    "BatchJob",
    "CurrentJob",
    "Running",
    "current_job",
    "is_overdue",
    "lent_slot",
    "set_deadline",
)


log = get_logger("jobify.jobs")

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
"""The levels of a job's log, with their values in the standard library."""


TIMED_OUT: Final = "timeout"
"""The stop reason of an attempt whose own time is over."""


class BatchJob(Protocol):
    """One of the jobs that the function of a task with ``batch=`` runs; see :attr:`CurrentJob.batch`."""

    @property
    def id(self) -> str:
        """The id of the job."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """Whether the job is over already: it was cancelled, or its time is over. What the function returns for it is
        dropped. In a child process False."""
        ...


class Running(Protocol):
    """An attempt, as :data:`current_job` needs it; or the call that several attempts share, whose ``id`` is only for
    people to read. Every method may be called from any thread."""

    id: str
    number: int
    """From 1."""
    timeout: float | None
    """Seconds that the attempt may take. None means no limit."""
    deadline: float | None
    """When the timeout is reached, by :func:`time.monotonic`. (asyncio's timeouts use this clock, too, and it is the
    same in all processes of a machine.)"""

    @property
    def batch(self) -> Sequence[BatchJob]:
        """The jobs of a shared call. Empty for an attempt."""
        ...

    @property
    def app(self) -> object:
        """The app of the job. None in a process other than the app's."""
        ...

    @property
    def task_name(self) -> str: ...

    @property
    def queue_name(self) -> str: ...

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata of the task and the job."""
        ...

    def stop_reason(self) -> str | None:
        """Why the attempt has to stop. None means that it may go on."""
        ...

    def encode(self, value: Any) -> Any:
        """``value`` as it is stored in a report; PayloadError if it cannot be encoded."""
        ...

    def completion(self) -> Completion | None:
        """Its part in a transaction. None: it has none. ConfigurationError if no transaction can complete it."""
        ...

    def lend(self) -> None:
        """Lend the slot of this job to other jobs while it waits for one of them."""
        ...

    def take_back(self) -> None:
        """Take the slot back after the wait. It counts as taken again even if another job holds it."""
        ...

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        """Accept a report. Never blocks an event loop; may slow down a thread that reports too much."""
        ...


CURRENT: Final[ContextVar[Running | None]] = ContextVar("jobify_running", default=None)
"""The attempt that the running code is part of."""

if hasattr(os, "register_at_fork"):
    # The child has no event loop, thread or connection of its own to send a report.
    os.register_at_fork(after_in_child=lambda: CURRENT.set(None))


class CurrentJob:
    """The job that the calling code belongs to.

    :data:`current_job` is the only instance. All methods are synchronous, return at once and may be called from any
    thread. Outside a job, reports and checks do nothing, and the attributes raise RuntimeError.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        running = CURRENT.get()
        return f"<current_job {'(none)' if running is None else running.id}>"

    @property
    def id(self) -> str:
        """The id of the job."""
        return _one().id

    @property
    def batch(self) -> Sequence[BatchJob]:
        """The jobs that this call of the function runs, in the order of its list; empty if it runs one.

        Of a task with ``batch=``. Each has ``id``, ``attempt``, ``is_cancelled``. Reports of the function are of all of
        them; its own ``id``, ``attempt``, ``retry_count`` raise RuntimeError, ``transaction`` ConfigurationError. ::

            for row, job in zip(rows, current_job.batch):
                if not job.is_cancelled:
                    write(row)
        """
        return _here().batch

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return _here().task_name

    @property
    def queue_name(self) -> str:
        """The queue of the job."""
        return _here().queue_name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return _one().number

    @property
    def retry_count(self) -> int:
        """The number of earlier attempts."""
        return _one().number - 1

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the task, updated with that of the job, as a copy.

        In a child process without the values that cannot be pickled.
        """
        return _here().metadata

    def update_progress(self, percent: float) -> None:
        """Report the progress of the job, from 0 to 100.

        Of several calls in quick succession, the last one is stored. ConfigurationError (a ValueError) for a
        number outside of these, and for what is no number.

        ::

            current_job.update_progress(100 * done / total)
        """
        if isinstance(percent, bool) or not isinstance(percent, Real) or not 0 <= percent <= 100:
            raise ConfigurationError(f"The progress of a job is a number from 0 to 100, not {percent!r}.")
        running = CURRENT.get()
        if running is not None:
            running.report(MessageKind.PROGRESS, float(percent))

    def publish(self, value: Any) -> None:
        """Publish a partial result to the readers of ``JobResult.stream()``.

        All values are kept, in order. The app's serializer encodes the value before this returns: PayloadError if it
        cannot, and later changes of the value have no effect. (Without a database, the value is passed on as it is.)

        Values that are published faster than they can be stored are buffered up to a limit. At the limit, a thread or
        a child process is slowed down; on an event loop, which must not block, ApplicationStateError is raised.

        ::

            for row in rows:
                current_job.publish(convert(row))
        """
        running = CURRENT.get()
        if running is not None:
            running.report(MessageKind.VALUE, running.encode(value))

    def log(self, message: object, level: str = "info") -> None:
        """Add a line to the log of the job.

        ``level`` is debug, info, warning, error or critical, in any case. The line also goes to the logger
        ``jobify.jobs`` of :mod:`logging`, so that it appears in the output of a worker, with ``job_id``, ``task``,
        ``queue`` and ``attempt`` on the record. For a task in a child process, that is the app's process. The message
        is taken as it is, without values for a format. ConfigurationError (a ValueError) for another level.

        ::

            current_job.log("3 rows have no address", level="warning")
        """
        word = str(level).lower()
        if word not in LEVELS:
            import difflib

            near = difflib.get_close_matches(word, LEVELS, n=1)
            advice = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(LEVELS)}."
            if "%" in str(message):
                advice += ' Format the message first: log(f"...").'
            raise ConfigurationError(f"There is no log level {level!r}. {advice}")
        running = CURRENT.get()
        if running is None:
            log.log(LEVELS[word], "%s", shown(message))
        else:
            running.report(MessageKind.LOG, shown(message), word)

    def transaction(self, target: Any) -> JobTransaction:
        """A transaction in which the job does its work and ends: both are committed, or none.

        ``target`` is where it begins: an engine or a session maker of SQLAlchemy, a pool of psycopg or asyncpg, or a
        connection without an open transaction (of these, of sqlite3 or aiosqlite, Django's ``connections[alias]``), to
        the database of the app's storage. For ``async with``, or ``with`` in a ``def`` task. It is committed at the end
        of the block, and rolled back if the block raises; a connection is not closed. ::

            async with current_job.transaction(engine) as tx:
                await tx.execute(mark_paid(order_id))
                return tx.complete("paid")

        ``tx.complete(value)`` ends the job with that value in the same commit. TaskCancelledError at the end of the
        block, and a rollback, if the job was taken from this process meanwhile; ConfigurationError if the connection
        leads to another database, or for a task in a child process. The same commit stores what the block reports.

        Outside a job it is an ordinary transaction.
        """
        running = CURRENT.get()
        return JobTransaction(block_on(target), None if running is None else running.completion())

    def check_cancelled(self) -> None:
        """Raise TaskCancelledError if the job has to stop.

        The reason is a cancel, a shutdown or its timeout. A thread cannot be stopped from outside, but one that calls
        this from time to time ends early. Do not catch the exception; exception handlers do not get it either. After a
        cancel, the job ends cancelled; after a shutdown, it is released and runs again. A coroutine is interrupted, and
        a child process is killed, so these seldom need it.

        ::

            for block in blocks:
                current_job.check_cancelled()
                work(block)
        """
        running = CURRENT.get()
        reason = None if running is None else running.stop_reason()
        if running is not None and reason is not None:
            raise TaskCancelledError(running.id, reason)

    def check_timeout(self) -> None:
        """Raise JobTimeoutError if the timeout of this attempt is over; for code that cannot be interrupted."""
        running = CURRENT.get()
        if running is not None and running.timeout is not None and is_overdue(running):
            raise JobTimeoutError(running.id, running.timeout)


current_job: Final = CurrentJob()
"""The job that the calling code belongs to."""


@contextmanager
def lent_slot() -> Iterator[None]:
    """Lend the slot of the calling job while it waits for another job.

    Does nothing outside a job. Without it, jobs that wait for jobs could take all slots, so that the jobs they wait for
    would never begin.
    """
    running = CURRENT.get()
    if running is None:
        yield
        return
    running.lend()
    try:
        yield
    finally:
        running.take_back()


def set_deadline(timeout: float) -> None:
    """Set the timeout of the current attempt to ``timeout`` seconds from now. Called by the timeout middleware."""
    running = CURRENT.get()
    if running is not None:
        running.timeout, running.deadline = timeout, time.monotonic() + timeout


def is_overdue(running: Running) -> bool:
    """Whether the attempt's time is over."""
    return running.deadline is not None and time.monotonic() >= running.deadline


def _here() -> Running:
    running = CURRENT.get()
    if running is None:
        raise RuntimeError(
            "There is no current job here. Use current_job in a task, and in what a task calls; a process that a task "
            "starts is not the job. In a test: with PretendJob(), of jobify.testing.pretending."
        )
    return running


def _one() -> Running:
    running = _here()
    if running.batch:
        raise RuntimeError(
            f"This call runs {len(running.batch)} jobs of {running.task_name!r}. current_job.batch has them, in order."
        )
    return running
