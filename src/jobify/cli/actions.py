"""What commands change, one answer per job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from jobify.cli.errors import CommandError
from jobify.cli.filters import Filters
from jobify.cli.lookup import Found, find_all, job_id
from jobify.cli.output import PrintResult, print_document, print_note
from jobify.model.public_status import public_status
from jobify.model.records import CancelResult
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.cli.session import Session

__all__ = ("cancel", "confirm", "confirm_deletion", "delete", "purge", "report_problems", "retry", "wait_for_stop")


def confirm(question: str, is_sure: bool) -> None:
    """Ask whoever sits there; CommandError where nobody does, or the answer is no."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandError("Nobody is here to be asked. Add --yes to do it.", ExitCode.USAGE)
    import typer

    if not typer.confirm(question):
        raise CommandError("Nothing was done.")


def confirm_deletion(session: Session, texts: Sequence[str], is_sure: bool) -> None:
    """:func:`confirm`, with the ids that were found: the beginning of one may have been typed."""
    ids = _find(session, texts).ids
    if not ids or is_sure:
        return
    which = ids[0] if len(ids) == 1 else f"{len(ids)} jobs"
    confirm(f"Delete {which}, with results and history?", is_sure)


def cancel(
    session: Session, texts: Sequence[str], tell: PrintResult, *, patience: float, with_dependents: bool
) -> None:
    """Cancel, and wait for what runs. CommandError if one could not be cancelled."""
    found = _find(session, texts)
    answers = session.admin.cancel(found.ids, with_dependents=with_dependents)
    deadline = time.monotonic() + patience
    problems = [*found.problems]
    for id, answer in answers.items():
        if answer is CancelResult.MISSING:
            problems.append(_missing(id))
            continue
        word = wait_for_stop(session, id, deadline) if answer is CancelResult.REQUESTED else "cancelled"
        if word == "running":
            problems.append(f"{id}: {_why_still_running(session, id)}")
        elif answer is CancelResult.ENDED or word != "cancelled":
            if not with_dependents:
                problems.append(f"{id}: it had already ended")
        else:
            tell(id, "cancelled")
    report_problems(problems, ExitCode.NOT_FOUND if CancelResult.MISSING in answers.values() else found.code)


def wait_for_stop(session: Session, id: str, deadline: float) -> str:
    """The status of a job that is told to stop: when it has ended, or at the deadline."""
    job = session.app.get_job(id)
    patience = deadline - time.monotonic()
    if patience > 0:
        with suppress(TimeoutError):
            job.wait(patience)
    return job.status


def _why_still_running(session: Session, id: str) -> str:
    note = session.app.get_job(id).note
    asked = "it is told to stop"
    return f"{asked}: {note}" if note.startswith("its worker") else f"{asked}, and still runs"


def retry(session: Session, texts: Sequence[str], tell: PrintResult, *, with_dependents: bool) -> None:
    """Put jobs back. CommandError if one cannot be."""
    found = _find(session, texts)
    problems = [*found.problems]
    for id in found.ids:
        if session.operations.retry(id, with_dependents):
            tell(id, "pending")
        else:
            problems.append(f"{id}: {_why_not_retried(session, id)}")
    report_problems(problems, found.code)


def _why_not_retried(session: Session, id: str) -> str:
    """Why a job was not put back."""
    reason = session.operations.reason(id) or ""
    if reason.startswith("dependency "):
        return f"it was cancelled because of another job ({reason}); retry that one, and this one comes back with it"
    record = session.operations.record(id)
    word = public_status(record.status, record.is_dead)
    if word in ("failed", "dead"):
        return "another job with its unique key has not ended"
    return f"it is {word}; only a failed or dead job can be retried"


def delete(session: Session, texts: Sequence[str], tell: PrintResult, *, with_dependents: bool) -> None:
    """Delete jobs. CommandError if one runs, or there is none."""
    found = _find(session, texts)
    problems = [*found.problems]
    session.admin.delete(found.ids, with_dependents=with_dependents)
    left = set(_find(session, found.ids).ids)
    for id in found.ids:
        if id in left:
            problems.append(f"{id}: {_why_not_deleted(session, id)}")
        else:
            tell(id, "deleted")
    report_problems(problems, found.code)


def _why_not_deleted(session: Session, id: str) -> str:
    """Why a job was not deleted."""
    if session.app.get_job(id).status == "running":
        return "it is running; cancel it first"
    return "another job needs its result, or will if it is tried again; delete that one, too (--with-dependents)"


def purge(session: Session, filters: Filters, *, is_dry: bool, is_sure: bool, as_json: bool) -> None:
    """Delete what has ended and matches; without filters, what retention no longer keeps."""
    asked = None if filters == Filters() else filters.read(session.app)
    total = sum(session.queries.purgeable().values()) if asked is None else session.queries.count_ended(asked)
    if not is_dry and total:
        confirm(f"Delete {total} ended jobs, with results and history?", is_sure)
        matching = total
        total = session.admin.purge_due() if asked is None else session.admin.purge(asked)
        if total < matching:
            print_note(f"{matching - total} are kept: other jobs need their results, or will if they are tried again.")
    what = "would be deleted" if is_dry else "deleted"
    if as_json:
        print_document({what.replace(" ", "_"): total})
    else:
        print(f"{total}\t{what}")


def _find(session: Session, texts: Sequence[str]) -> Found:
    return find_all(texts, partial(job_id, session), lambda _: "there is no such job")


def _missing(id: str) -> str:
    return f"{id}: there is no such job"


def report_problems(problems: Sequence[str], code: ExitCode = ExitCode.FAILED) -> None:
    """Say what could not be done, at the end of what could; CommandError if there is anything to say."""
    for problem in problems[:-1]:
        print_note(problem)
    if problems:
        raise CommandError(problems[-1], code)
