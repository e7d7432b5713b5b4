"""``jobify jobs list``: which jobs are on a page.

Schedules come after all other jobs, because their ids begin with the names of tasks: in order of id they would stand at
the top of every list, for ever. On a terminal they have a heading of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.cli.columns import Column, Row
from jobify.cli.output import is_terminal, print_line, print_table
from jobify.cli.time_format import until
from jobify.model.public_status import public_status

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.cli.wait_reasons import ClusterState
    from jobify.client.arguments import Filters
    from jobify.model.records import JobRecord

__all__ = ("Page", "find_page", "print_page")

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
        return session.operations.record(id).rule is not None
    except JobNotFoundError:  # it may have been deleted since
        return False


def print_page(page: Page, cluster: ClusterState) -> None:
    """The page, as one table in a pipe, as two on a terminal."""
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
