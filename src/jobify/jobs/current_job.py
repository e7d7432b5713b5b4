"""What a task can ask and say about the job that it carries out: ``current_job``.

::

    from jobify import current_job

    @app.task
    def thumbnails(paths: list[str]) -> None:
        for done, path in enumerate(paths):
            current_job.check_cancelled()
            current_job.publish(shrink(path))
            current_job.update_progress(100 * done / len(paths))

**Where it works.** A context variable holds the attempt that is under way. The executor sets it in the context of the
attempt's own task, before anything of the user's runs, and takes it away at the end. So everything in the attempt sees
it: the function, in the event loop, in a thread or in a child process; middleware and exception handlers; tasks and
threads that these start (``create_task``, ``asyncio.to_thread``; a bare ``threading.Thread`` has an empty context, as
always). A job that a job pushes begins in a copy of its pusher's context, and overwrites the variable there first of
all: it sees itself. A process that a task forks is not the job, and starts without it.

**Where there is no job,** a task is an ordinary function: a test may call it. What it says is
dropped (a log line still goes to the logger) and nothing tells it to stop; what it asks (``id``, ``attempt`` and the
rest) has no answer, and raises RuntimeError. :class:`jobify.testing.pretending.PretendJob` gives it one.

**What it costs.** Setting a variable that holds what exists anyway; nothing is made for a job that does not ask.

**Who carries it.** :class:`Running` is all that this module knows of an attempt. In the app's process it is the
engine's attempt; in a child process it is :class:`jobify.runners.remote_job.RemoteJob`, which sends the reports to the
parent. In a process of a ``processpool_executor`` of the user's own there is no way back: there the job can be asked,
and sees its timeout, but a report is refused with an ApplicationStateError.

**When a report is stored.** No call waits for the disk. Reports leave in order, in groups, and are stored before the
outcome is: nobody sees the job complete without its last values. After the end of the attempt (threads and tasks may
outlive it) they are dropped. :mod:`jobify.gateway.reports` says how many may be under way, and who waits when these are
too many.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any, Final, Protocol

from jobify.exceptions import ConfigurationError, JobTimeoutError, TaskCancelledError, shown
from jobify.model.records import MessageKind
from jobify.runtime.logs import get_logger

__all__ = (
    "CURRENT",
    "LEVELS",
    "TIMED_OUT",
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
"""The levels of a job's log, and what the standard library calls them."""


TIMED_OUT: Final = "timeout"
"""The reason to stop that is the attempt's own time."""


class Running(Protocol):
    """An attempt, as :data:`current_job` needs it. Every method may be called from any thread."""

    id: str
    number: int
    """From 1."""
    timeout: float | None
    """Seconds that the attempt may take; None: as long as it likes."""
    deadline: float | None
    """When they are over, on :func:`time.monotonic`. (asyncio's timeouts use this clock, too, and it is the same in all
    processes of a machine.)"""

    @property
    def app(self) -> object:
        """The app whose job it is; None in another process than the app's."""
        ...

    @property
    def task_name(self) -> str: ...

    @property
    def queue_name(self) -> str: ...

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy."""
        ...

    def stop_reason(self) -> str | None:
        """Why the attempt was told to stop; None: it was not."""
        ...

    def encode(self, value: Any) -> Any:
        """``value`` as a report carries it; PayloadError."""
        ...

    def lend(self) -> None:
        """Let other jobs have the slot of this one while it waits for one of them."""
        ...

    def take_back(self) -> None:
        """The wait is over. The slot counts as taken again, also if others have filled it."""
        ...

    def report(self, kind: MessageKind, data: Any, level: str | None = None) -> None:
        """Take a report. Never blocks an event loop; may hold up a thread that says too much."""
        ...


CURRENT: Final[ContextVar[Running | None]] = ContextVar("jobify_running", default=None)
"""The attempt that this code is a part of."""

if hasattr(os, "register_at_fork"):
    # The child has no event loop, no thread and no connection to carry a report; those it sees are its parent's.
    os.register_at_fork(after_in_child=lambda: CURRENT.set(None))


class CurrentJob:
    """The job that the calling code carries out: see :data:`current_job`, its only instance.

    All calls are plain calls, return at once and may be made from any thread. Outside of a job, reports and checks do
    nothing, and the attributes raise RuntimeError.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        running = CURRENT.get()
        return f"<current_job {'(none)' if running is None else running.id}>"

    @property
    def id(self) -> str:
        """The id of the job."""
        return _here().id

    @property
    def task_name(self) -> str:
        """The name of its task."""
        return _here().task_name

    @property
    def queue_name(self) -> str:
        """The queue that it came from."""
        return _here().queue_name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return _here().number

    @property
    def retry_count(self) -> int:
        """How many attempts came before this one."""
        return _here().number - 1

    @property
    def metadata(self) -> dict[str, Any]:
        """What the task and whoever enqueued the job have noted about it, as a copy. In a child process without what
        pickle does not know."""
        return _here().metadata

    def update_progress(self, percent: float) -> None:
        """Say how far the job is, from 0 to 100. Of several that follow one another quickly, the last one is stored.

        ConfigurationError (a ValueError) if it is no such number.

        ::

            current_job.update_progress(100 * done / total)
        """
        if isinstance(percent, bool) or not isinstance(percent, Real) or not 0 <= percent <= 100:
            raise ConfigurationError(f"The progress of a job is a number from 0 to 100, not {percent!r}.")
        running = CURRENT.get()
        if running is not None:
            running.report(MessageKind.PROGRESS, float(percent))

    def publish(self, value: Any) -> None:
        """Hand out a part of the result, for whoever follows the job. All values are kept, in order.

        The app's serializer encodes the value here and now: PayloadError if it cannot, and what is done to the value
        afterwards is not seen. (Without a database the value is handed on as it is.)

        What cannot be stored as fast as it is said piles up, but only so far: a thread or a child process is slowed
        down then; on an event loop, which must not be, ApplicationStateError.

        ::

            for row in rows:
                current_job.publish(convert(row))
        """
        running = CURRENT.get()
        if running is not None:
            running.report(MessageKind.VALUE, running.encode(value))

    def log(self, message: object, level: str = "info") -> None:
        """Add a line to the job's log: debug, info, warning, error or critical, in letters of any size
        (ConfigurationError, a ValueError, for anything else).

        The line goes to the logger ``jobify.jobs`` of :mod:`logging` as well, so that whoever watches a worker sees it,
        with ``job_id``, ``task``, ``queue`` and ``attempt`` on the record; in the app's process, also for a task in a
        child.

        ::

            current_job.log("3 rows have no address", level="warning")
        """
        word = str(level).lower()
        if word not in LEVELS:
            import difflib

            near = difflib.get_close_matches(word, LEVELS, n=1)
            advice = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(LEVELS)}."
            raise ConfigurationError(f"There is no log level {level!r}. {advice}")
        running = CURRENT.get()
        if running is None:
            log.log(LEVELS[word], "%s", shown(message))
        else:
            running.report(MessageKind.LOG, shown(message), word)

    def check_cancelled(self) -> None:
        """Raise TaskCancelledError if the job was told to stop: by a cancel, a shutdown or its timeout.

        A thread cannot be stopped from outside; one that asks this now and then ends early. Let the exception pass. The
        job ends as it was going to: cancelled after a cancel; after a shutdown it is given back and runs again.
        Exception handlers do not get it. A coroutine is interrupted, and a child process is killed, so that these
        hardly ever have to ask.

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
        """Raise JobTimeoutError if the time that this attempt has is over; for code that nothing can interrupt."""
        running = CURRENT.get()
        if running is not None and running.timeout is not None and is_overdue(running):
            raise JobTimeoutError(running.id, running.timeout)


current_job: Final = CurrentJob()
"""The job that the calling code carries out."""


@contextmanager
def lent_slot() -> Iterator[None]:
    """The time in which the calling code waits for another job: if it is a job itself, its slot is free meanwhile. Else
    jobs that wait for jobs could take all the slots, and what they wait for would never begin."""
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
    """For the layer that keeps the time: the attempt has ``timeout`` seconds from now on."""
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
