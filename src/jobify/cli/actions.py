"""What commands change, one answer per job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from jobify.cli.errors import CommandError
from jobify.cli.filters import Filters
from jobify.cli.output import remark
from jobify.exits import ExitCode
from jobify.records import CancelResult, JobQuery
from jobify.status import ENDED, JobStatus

if TYPE_CHECKING:
    from jobify.cli.desk import Desk

__all__ = ("cancel", "confirm", "delete", "purge", "retry")

_BATCH: Final = 500
_LOOK_AGAIN: Final = 0.05


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
    now = desk.now()
    found = desk.storage.cancel(ids, reason="cancelled", now=now, delete_at=desk.delete_at(now))
    answers = dict(zip(ids, found, strict=True))
    desk.ring()
    running = [id for id, answer in answers.items() if answer is CancelResult.REQUESTED]
    stopped = _wait_for_ends(desk, running, patience)
    problems = []
    for id, answer in answers.items():
        if answer is CancelResult.MISSING:
            problems.append(f"{id}: there is no such job")
        elif answer is CancelResult.ENDED or stopped.get(id, "cancelled") not in ("cancelled", "running"):
            problems.append(f"{id}: it had already ended")
        elif stopped.get(id) == "running":
            problems.append(f"{id}: it is told to stop, and still runs")
        else:
            print(f"{id}\tcancelled")
    _complain(problems, is_missing=CancelResult.MISSING in answers.values())


def _wait_for_ends(desk: Desk, ids: Sequence[str], patience: float) -> dict[str, str]:
    """The statuses of these jobs as soon as they have ended, or after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while ids:
        statuses = {job.id: job.status for job in desk.storage.get(ids)}
        if all(status in ENDED for status in statuses.values()) or time.monotonic() >= deadline:
            return statuses
        time.sleep(_LOOK_AGAIN)
    return {}


def retry(desk: Desk, ids: Sequence[str]) -> None:
    """Put jobs back. CommandError if one cannot be."""
    missing = set(ids) - {job.id for job in desk.storage.get(ids)}
    problems = [f"{id}: there is no such job" for id in ids if id in missing]
    known = [id for id in ids if id not in missing]
    for id, is_done in zip(known, desk.storage.retry(known, now=desk.now()), strict=True):
        if is_done:
            print(f"{id}\tpending")
        else:
            problems.append(f"{id}: only a failed or dead job can be retried, and not while another has its unique key")
    desk.ring()
    _complain(problems, is_missing=bool(missing))


def delete(desk: Desk, ids: Sequence[str]) -> None:
    """Delete jobs. CommandError if one runs, or there is none."""
    rows = {job.id: job for job in desk.storage.get(ids)}
    problems = [f"{id}: there is no such job" for id in ids if id not in rows]
    running = [id for id, job in rows.items() if job.status == JobStatus.RUNNING]
    problems += [f"{id}: it is running; cancel it first" for id in running]
    now = desk.now()
    desk.storage.delete([id for id in rows if id not in running], now=now, delete_at=desk.delete_at(now))
    left = {job.id for job in desk.storage.get(list(rows))}
    for id in rows:
        if id not in left:
            print(f"{id}\tdeleted")
        elif id not in running:  # it began in between
            problems.append(f"{id}: it is running; cancel it first")
    desk.ring()
    _complain(problems, is_missing=len(rows) < len(set(ids)))


def purge(desk: Desk, filters: Filters, *, is_dry: bool, is_sure: bool) -> None:
    """Delete what has ended and matches; without filters, what retention no longer keeps."""
    query = None if filters == Filters() else _ended(filters.query(desk))
    counts = desk.storage.count_purgeable(now=desk.now()) if query is None else desk.storage.count(query)
    total = sum(counts.values())
    if is_dry or not total:
        print(f"{total}\twould be deleted" if is_dry else "0\tdeleted")
        return
    confirm(f"Delete {total} ended jobs, with results and history?", is_sure)
    print(f"{_purge_due(desk) if query is None else _purge_matching(desk, query)}\tdeleted")


def _ended(query: JobQuery) -> JobQuery:
    """Of these only what has ended; CommandError where that is nothing by its status."""
    if set(query.statuses or ()) - ENDED:
        raise CommandError("Only what has ended is purged. Cancel other jobs, or delete them by id.", ExitCode.USAGE)
    return query._replace(statuses=query.statuses or tuple(sorted(ENDED)))


def _purge_due(desk: Desk) -> int:
    total = 0
    while count := desk.storage.purge(now=desk.now(), limit=_BATCH):
        total += count
    return total


def _purge_matching(desk: Desk, query: JobQuery) -> int:
    """In batches, so that workers get their turns in between."""
    total = 0
    matching = (job.id for job in desk.pages(query))
    while batch := list(islice(matching, _BATCH)):
        now = desk.now()
        total += desk.storage.delete(batch, now=now, delete_at=desk.delete_at(now))
    return total


def _complain(problems: Sequence[str], *, is_missing: bool) -> None:
    for problem in problems[:-1]:
        remark(problem)
    if problems:
        raise CommandError(problems[-1], ExitCode.NOT_FOUND if is_missing else ExitCode.FAILED)
