"""``jobify jobs cancel``, ``retry``, ``delete`` and ``purge``: change jobs by id, or all jobs that match filters.

By id there is one result per job. By filters there are a preview, a confirmation and a count.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.cli.errors import CommandError
from jobify.cli.jobs.selection import Filters, Matches, Selection, explain_nothing
from jobify.cli.output import PrintResult, print_document, print_line, print_note, report_problems
from jobify.cli.session import Found, find_all, job_id
from jobify.model.public_status import ENDS, PUBLIC_STATUSES, public_status
from jobify.model.records import CancelResult
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.model.records import JobRecord

__all__ = (
    "cancel",
    "cancel_matching",
    "confirm",
    "confirm_deletion",
    "delete",
    "delete_matching",
    "purge",
    "retry",
    "retry_matching",
    "wait_for_stop",
)


def confirm(question: str, is_sure: bool) -> None:
    """Ask on the terminal. CommandError where standard input is none, or if the answer is no."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandError("Nothing was done: there is no terminal to confirm it on. Add --yes.", ExitCode.USAGE)
    import typer

    if not typer.confirm(question):
        raise CommandError("Nothing was done.")


def confirm_deletion(session: Session, texts: Sequence[str], is_sure: bool) -> None:
    """:func:`confirm` with the full ids, because the command line may hold the beginnings of ids."""
    ids = _find(session, texts).ids
    if not ids or is_sure:
        return
    which = ids[0] if len(ids) == 1 else f"{len(ids)} jobs"
    confirm(f"Delete {which}, with results and history?", is_sure)


def cancel(
    session: Session, texts: Sequence[str], print_result: PrintResult, *, timeout: float, with_dependents: bool
) -> None:
    """Cancel jobs and wait until running ones have stopped. CommandError if a job could not be cancelled."""
    found = _find(session, texts)
    answers = session.admin.cancel(found.ids, with_dependents=with_dependents)
    deadline = time.monotonic() + timeout
    problems = [*found.problems]
    for id, answer in answers.items():
        if answer is CancelResult.MISSING:
            problems.append(_missing(id))
            continue
        status = wait_for_stop(session, id, deadline) if answer is CancelResult.REQUESTED else "cancelled"
        if status == "running":
            problems.append(f"{id}: {_why_still_running(session, id)}")
        elif answer is CancelResult.ENDED or status != "cancelled":
            if not with_dependents:
                problems.append(f"{id}: it had already ended")
        else:
            print_result(id, "cancelled")
    report_problems(problems, ExitCode.NOT_FOUND if CancelResult.MISSING in answers.values() else found.code)


def wait_for_stop(session: Session, id: str, deadline: float) -> str:
    """Wait for a running job that has a cancel request; its status at its end, or at the deadline."""
    job = session.app.get_job(id)
    timeout = deadline - time.monotonic()
    if timeout > 0:
        with suppress(TimeoutError):
            job.wait(timeout)
    return job.status


def _why_still_running(session: Session, id: str) -> str:
    note = session.app.get_job(id).note
    requested = "cancellation is requested"
    return f"{requested}: {note}" if note.startswith("its worker") else f"{requested}, but it still runs"


def retry(session: Session, texts: Sequence[str], print_result: PrintResult, *, with_dependents: bool) -> None:
    """Make failed jobs pending again. CommandError if one cannot be retried."""
    found = _find(session, texts)
    problems = [*found.problems]
    for id in found.ids:
        if session.operations.retry(id, with_dependents):
            print_result(id, "pending")
        else:
            problems.append(f"{id}: {_why_not_retried(session, id)}")
    report_problems(problems, found.code)


def _why_not_retried(session: Session, id: str) -> str:
    reason = session.operations.reader.reason(id) or ""
    if reason.startswith("dependency "):
        return f"it was cancelled because of another job ({reason}); retry that one, and this one is retried with it"
    record = session.operations.reader.record(id)
    status = public_status(record.status, record.is_dead)
    if status in ("failed", "dead"):
        return "another job with its unique key has not ended"
    return f"it is {status}; only a failed or dead job can be retried"


def delete(session: Session, texts: Sequence[str], print_result: PrintResult, *, with_dependents: bool) -> None:
    """Delete jobs. CommandError if one is running or does not exist."""
    found = _find(session, texts)
    problems = [*found.problems]
    session.admin.delete(found.ids, with_dependents=with_dependents)
    left = set(_find(session, found.ids).ids)
    for id in found.ids:
        if id in left:
            problems.append(f"{id}: {_why_not_deleted(session, id)}")
        else:
            print_result(id, "deleted")
    report_problems(problems, found.code)


def _why_not_deleted(session: Session, id: str) -> str:
    if session.app.get_job(id).status == "running":
        return "it is running; cancel it first"
    return "another job needs its result, or will if it is retried; delete that one as well (--with-dependents)"


def purge(session: Session, filters: Filters, *, is_dry: bool, is_sure: bool, as_json: bool) -> None:
    """Delete the ended jobs that match; without filters, those whose retention is over."""
    query = None if filters == Filters() else filters.read(session.app)
    total = sum(session.queries.purgeable().values()) if query is None else session.queries.count_ended(query)
    if not is_dry and total:
        confirm(f"Delete {total} ended jobs, with results and history?", is_sure)
        matching = total
        total = session.admin.purge_due() if query is None else session.admin.purge(query)
        if total < matching:
            print_note(f"{matching - total} are kept: other jobs need their results, or will if they are retried.")
    what = "would be deleted" if is_dry else "deleted"
    if as_json:
        print_document({what.replace(" ", "_"): total})
    else:
        print(f"{total}\t{what}")


def _find(session: Session, texts: Sequence[str]) -> Found:
    return find_all(texts, partial(job_id, session), lambda _: "there is no such job")


def _missing(id: str) -> str:
    return f"{id}: there is no such job"


# -- all jobs that match filters ---------------------------------------------------------------------------------------


_RETRIABLE: Final = ("failed", "dead")
_CANCELLABLE: Final = ("pending", "running")
_DELETABLE: Final = tuple(status for status in PUBLIC_STATUSES if status != "running")
_ENDED: Final = tuple(status for status in PUBLIC_STATUSES if status in ENDS)
_MAX_WAITED_FOR: Final = 10_000
"""How many running jobs a cancel waits for; no machine runs more."""


class _Change(NamedTuple):
    """The verb and its past participle: ``retry``, ``retried``."""

    verb: str
    done: str
    is_json: bool


class _Tally:
    """How many jobs were changed so far."""

    def __init__(self) -> None:
        self.done = 0


def retry_matching(session: Session, selection: Selection, *, with_dependents: bool, as_json: bool) -> None:
    """Retry the failed jobs that match, and the jobs that were cancelled because of them.

    CommandError if some were refused because other jobs have their unique keys.
    """
    matches = Matches.of(session, selection, statuses=_RETRIABLE)
    refused = 0

    def work(tally: _Tally) -> None:
        nonlocal refused
        for batch in matches.batches():
            answers = session.admin.retry(_ids(batch), matches.still_matches, with_dependents=with_dependents)
            tally.done += sum(answers)
            refused += len(answers) - sum(answers)

    _run(work, matches, selection, _Change("retry", "retried", as_json))
    if refused:
        raise CommandError(f"{_jobs(refused)} not retried, because other jobs have the same unique keys.")


def cancel_matching(
    session: Session, selection: Selection, *, with_dependents: bool, timeout: float, as_json: bool
) -> None:
    """Cancel the jobs that match and wait for running ones. CommandError if a job still runs after that."""
    matches = Matches.of(session, selection, statuses=_CANCELLABLE, is_schedule=False)
    requested: list[str] = []
    ends: list[str] = []

    def work(tally: _Tally) -> None:
        for batch in matches.batches():
            answers = session.admin.cancel(_ids(batch), matches.still_matches, with_dependents=with_dependents)
            tally.done += sum(answer is CancelResult.CANCELLED for answer in answers.values())
            requested.extend(id for id, answer in answers.items() if answer is CancelResult.REQUESTED)
        deadline = time.monotonic() + timeout
        ends.extend(wait_for_stop(session, id, deadline) for id in requested[:_MAX_WAITED_FOR])
        tally.done += ends.count("cancelled")

    _run(work, matches, selection, _Change("cancel", "cancelled", as_json))
    still = ends.count("running") + len(requested) - len(ends)
    if still:
        raise CommandError(f"{_jobs(still)} still running, although cancellation is requested.")


def delete_matching(session: Session, selection: Selection, *, with_dependents: bool, as_json: bool) -> None:
    """Delete the jobs that match and do not run; without a status, only ended ones."""
    matches = Matches.of(session, selection, statuses=_DELETABLE, default=_ENDED, is_schedule=False)
    needed = 0

    def work(tally: _Tally) -> None:
        nonlocal needed
        for batch in matches.batches():
            deleted = session.admin.delete(_ids(batch), matches.still_matches, with_dependents=with_dependents)
            tally.done += deleted
            needed += max(0, len(batch) - deleted)

    _run(work, matches, selection, _Change("delete", "deleted", as_json))
    if needed:
        print_note(
            f"{_jobs(needed)} kept: other jobs need their results, or will if they are retried; or they changed."
        )


def _run(work: Callable[[_Tally], None], matches: Matches, selection: Selection, change: _Change) -> None:
    """Preview, confirm, change, and print the count, also if an error ends the work early."""
    count, first = matches.preview()
    if not count:
        explain_nothing(matches.session, matches.filters)
    if selection.is_dry:
        _show_dry(count, first, change)
        return
    if count and not selection.is_sure:
        for line in _preview_lines(count, first):
            print_note(line)
        confirm(f"{change.verb.capitalize()} {_jobs(count)}?", is_sure=False)
    tally = _Tally()
    try:
        if count:
            work(tally)
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted; {_jobs(tally.done)} {change.done} so far.") from None
    finally:
        if change.is_json:
            print_document({"matched": count, change.done: tally.done})
        else:
            print(f"{tally.done}\t{change.done}")


def _show_dry(count: int, first: Sequence[JobRecord], change: _Change) -> None:
    if change.is_json:
        listed = [
            {"id": job.id, "status": public_status(job.status, job.is_dead), "task_name": job.task, "error": job.error}
            for job in first
        ]
        print_document({f"would_be_{change.done}": count, "first": listed})
        return
    for line in _preview_lines(count, first):
        print_line(line)
    print(f"{count}\twould be {change.done}")


def _preview_lines(count: int, first: Sequence[JobRecord]) -> list[str]:
    lines = [
        "  ".join(filter(None, (job.id, public_status(job.status, job.is_dead), job.task, job.error))) for job in first
    ]
    return [*lines, f"… and {count - len(first)} more"] if count > len(first) else lines


def _ids(batch: Sequence[JobRecord]) -> list[str]:
    return [job.id for job in batch]


def _jobs(count: int) -> str:
    return f"{count} job{'s' * (count != 1)}"
