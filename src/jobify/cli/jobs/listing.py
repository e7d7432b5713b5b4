"""``jobify jobs list``, ``wait`` and ``logs``: a page of jobs, or one job until it ends.

A page lists schedules after all other jobs. Their ids begin with the names of tasks, so in order of id they would stay
at the top of every list. On a terminal they have a heading of their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from jobify.cli.errors import CommandError
from jobify.cli.output import Column, Row, is_terminal, print_line, print_record, print_table
from jobify.cli.time_format import how_long, until
from jobify.model.public_status import ENDS, public_status
from jobify.model.records import MessageKind
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from datetime import tzinfo

    from jobify.cli.session import Session
    from jobify.client.arguments import Filters
    from jobify.client.views import ClusterState
    from jobify.model.records import JobRecord, MessageRecord

__all__ = ("END_CODES", "Page", "find_page", "follow", "message_printer", "print_page", "wait_for")

_COLUMNS: Final = (
    Column("ID", is_kept=True),
    Column("STATUS", is_kept=True),
    Column("TASK"),
    Column("QUEUE", from_width=110),
    Column("CREATED", from_width=95, is_kept=True),
    Column("TRY", from_width=125, is_number=True),
    Column("NOTE", style="dim", is_rest=True),
)


class Page(NamedTuple):
    """The jobs on a page, and the schedules after them."""

    jobs: list[JobRecord]
    schedules: list[JobRecord]

    @property
    def all(self) -> list[JobRecord]:
        return [*self.jobs, *self.schedules]


def find_page(session: Session, filters: Filters, *, limit: int, after: str | None, is_newest_first: bool) -> Page:
    """At most ``limit`` jobs and schedules, after the one with the id ``after``."""
    jobs: list[JobRecord] = []
    if after is None or not _is_schedule(session, after):
        plain_jobs = filters._replace(is_schedule=False)
        jobs = session.queries.find(plain_jobs, limit=limit, after=after, is_newest_first=is_newest_first)
        after = None
    room = limit - len(jobs)
    if not room:
        return Page(jobs, [])
    schedules = filters._replace(is_schedule=True)
    return Page(jobs, session.queries.find(schedules, limit=room, after=after, is_newest_first=is_newest_first))


def _is_schedule(session: Session, id: str) -> bool:
    from jobify.exceptions import JobNotFoundError

    try:
        return session.operations.reader.record(id).rule is not None
    except JobNotFoundError:  # it may have been deleted since
        return False


def print_page(page: Page, cluster: ClusterState) -> None:
    """Print the page: one table in a pipe, two on a terminal."""
    jobs, schedules = ([_row(job, cluster) for job in some] for some in page)
    if not is_terminal() or not (jobs or schedules):
        print_table(_COLUMNS, [*jobs, *schedules], nothing="No jobs.")
        return
    if jobs:
        print_table(_COLUMNS, jobs, nothing="")
    if schedules:
        if jobs:
            print_line()
        print_line("Schedules", "bold")
        print_table(_COLUMNS, schedules, nothing="")


def _row(job: JobRecord, cluster: ClusterState) -> Row:
    word, created = public_status(job.status, job.is_dead), until(job.created_at, now=cluster.now)
    return (job.id, word, job.task, job.queue, created, job.attempt, cluster.note(job))


# -- one job, until it ends --------------------------------------------------------------------------------------------

END_CODES: Final = {
    "complete": ExitCode.DONE,
    "failed": ExitCode.JOB_FAILED,
    "dead": ExitCode.JOB_FAILED,
    "cancelled": ExitCode.JOB_CANCELLED,
}
"""The exit code of ``jobify jobs wait`` by the status of the job."""

_POLL_INTERVAL: Final = 0.2
"""Seconds between two polls. Each reads one row and the new messages."""

Show: TypeAlias = Callable[["MessageRecord"], None]


def wait_for(session: Session, id: str, timeout: float | None) -> tuple[str, str | None]:
    """Wait until a job has ended; its status and its error.

    CommandError if it has not ended within ``timeout`` seconds, and immediately for a schedule, which never ends.
    """
    if session.operations.reader.record(id).rule is not None:
        raise CommandError(f"{id} is a schedule: it does not end with a run. Wait for a job.", ExitCode.USAGE)
    job = session.app.get_job(id)
    try:
        job.wait(timeout)
    except TimeoutError:
        why = f", {note}" if (note := job.note) else ""
        message = f"{id} has not ended within {how_long(timeout or 0)}: it is {job.status}{why}."
        raise CommandError(message, ExitCode.STILL_UNFINISHED) from None
    record = session.operations.reader.record(id)
    return public_status(record.status, record.is_dead), session.operations.reader.error(
        id
    ) or session.operations.reader.reason(id)


def follow(session: Session, id: str, after: int, show: Show, *, until_end: bool) -> str:
    """Show the messages of a job after number ``after``; returns its status.

    ``until_end`` means to continue until it has ended, and to show its progress as well.
    """
    progress = None
    while True:
        record = session.operations.reader.record(id)  # read before the messages, so that the last ones are not missed
        while page := session.operations.reader.messages(id, after):
            for message in page:
                show(message)
            after = page[-1].number
        if until_end and record.progress is not None and record.progress != progress:
            progress = record.progress
            show(_progress_of(record, after))
        word = public_status(record.status, record.is_dead)
        if not until_end or word in ENDS:
            return word
        time.sleep(_POLL_INTERVAL)


def _progress_of(record: JobRecord, number: int) -> MessageRecord:
    from jobify.model.records import MessageRecord

    at = time.time_ns() // 1000
    return MessageRecord(number, MessageKind.PROGRESS, record.attempt, at, f"{record.progress:g} %", None)


def message_printer(zone: tzinfo, *, as_json: bool) -> Show:
    """A function that prints one message per line and flushes it."""
    from jobify.cli.jobs.details import message_document, message_line

    def show(message: MessageRecord) -> None:
        if as_json:
            print_record(message_document(message))
        else:
            print_line(message_line(message, zone))
        sys.stdout.flush()  # the reader of a pipe must get it at once

    return show
