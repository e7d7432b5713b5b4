"""What commands change, one answer per job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jobify.cli.errors import CommandError
from jobify.cli.filters import Filters
from jobify.cli.output import remark
from jobify.exceptions import JobNotFoundError
from jobify.exits import ExitCode
from jobify.records import CancelResult

if TYPE_CHECKING:
    from jobify.cli.desk import Desk
    from jobify.result import JobResult

__all__ = ("cancel", "confirm", "delete", "purge", "retry")


def confirm(question: str, is_sure: bool) -> None:
    """Ask whoever sits there; CommandError where nobody does, or the answer is no."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandError("Nobody is here to be asked. Add --yes to do it.", ExitCode.USAGE)
    import typer

    if not typer.confirm(question):
        raise CommandError("Nothing was done.")


def cancel(desk: Desk, ids: Sequence[str], *, patience: float) -> None:
    """Cancel, and wait for what runs. CommandError if one could not be cancelled."""
    answers = dict(zip(ids, desk.handles.request_cancel(ids), strict=True))
    deadline = time.monotonic() + patience
    problems = []
    for id, answer in answers.items():
        if answer is CancelResult.MISSING:
            problems.append(_missing(id))
            continue
        word = _word_at(deadline, desk.app.get_job(id)) if answer is CancelResult.REQUESTED else "cancelled"
        if word == "running":
            problems.append(f"{id}: it is told to stop, and still runs")
        elif answer is CancelResult.ENDED or word != "cancelled":
            problems.append(f"{id}: it had already ended")
        else:
            print(f"{id}\tcancelled")
    _complain(problems, is_missing=CancelResult.MISSING in answers.values())


def _word_at(deadline: float, job: JobResult[Any]) -> str:
    """The status of a job that is told to stop: when it has ended, or at the deadline."""
    patience = deadline - time.monotonic()
    if patience > 0:
        with suppress(TimeoutError):
            job.wait(patience)
    return job.status


def retry(desk: Desk, ids: Sequence[str]) -> None:
    """Put jobs back. CommandError if one cannot be."""
    jobs, problems = _find(desk, ids)
    is_missing = bool(problems)
    for job in jobs:
        if job.retry():
            print(f"{job.id}\tpending")
        else:
            problems.append(
                f"{job.id}: only a failed or dead job can be retried, and not while another has its unique key"
            )
    _complain(problems, is_missing=is_missing)


def delete(desk: Desk, ids: Sequence[str]) -> None:
    """Delete jobs. CommandError if one runs, or there is none."""
    jobs, problems = _find(desk, ids)
    is_missing = bool(problems)
    desk.app.delete_jobs(jobs)
    left = {job.id for job in _find(desk, ids)[0]}
    for job in jobs:
        if job.id in left:
            problems.append(f"{job.id}: it is running; cancel it first")
        else:
            print(f"{job.id}\tdeleted")
    _complain(problems, is_missing=is_missing)


def purge(desk: Desk, filters: Filters, *, is_dry: bool, is_sure: bool) -> None:
    """Delete what has ended and matches; without filters, what retention no longer keeps."""
    asked = None if filters == Filters() else filters.read(desk.app)
    total = sum(desk.board.purgeable().values()) if asked is None else desk.board.count_ended(asked)
    if is_dry or not total:
        print(f"{total}\twould be deleted" if is_dry else "0\tdeleted")
        return
    confirm(f"Delete {total} ended jobs, with results and history?", is_sure)
    print(f"{desk.orders.purge_due() if asked is None else desk.orders.purge(asked)}\tdeleted")


def _find(desk: Desk, ids: Sequence[str]) -> tuple[list[JobResult[Any]], list[str]]:
    """Those of the jobs that there are, each once; and what there is to say of the others."""
    found, problems = [], []
    for id in dict.fromkeys(ids):
        try:
            found.append(desk.app.get_job(id))
        except JobNotFoundError:
            problems.append(_missing(id))
    return found, problems


def _missing(id: str) -> str:
    return f"{id}: there is no such job"


def _complain(problems: Sequence[str], *, is_missing: bool) -> None:
    for problem in problems[:-1]:
        remark(problem)
    if problems:
        raise CommandError(problems[-1], ExitCode.NOT_FOUND if is_missing else ExitCode.FAILED)
