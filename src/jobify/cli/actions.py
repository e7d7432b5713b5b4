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
from jobify.cli.output import Answer, print_document, remark
from jobify.model.public_status import public_status
from jobify.model.records import CancelResult
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.cli.session import Desk

__all__ = ("cancel", "complain", "confirm", "confirm_deletion", "delete", "purge", "retry", "stop_of")


def confirm(question: str, is_sure: bool) -> None:
    """Ask whoever sits there; CommandError where nobody does, or the answer is no."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandError("Nobody is here to be asked. Add --yes to do it.", ExitCode.USAGE)
    import typer

    if not typer.confirm(question):
        raise CommandError("Nothing was done.")


def confirm_deletion(desk: Desk, texts: Sequence[str], is_sure: bool) -> None:
    """:func:`confirm`, with the ids that were found: the beginning of one may have been typed."""
    ids = _find(desk, texts).ids
    if not ids or is_sure:
        return
    which = ids[0] if len(ids) == 1 else f"{len(ids)} jobs"
    confirm(f"Delete {which}, with results and history?", is_sure)


def cancel(desk: Desk, texts: Sequence[str], tell: Answer, *, patience: float, with_dependents: bool) -> None:
    """Cancel, and wait for what runs. CommandError if one could not be cancelled."""
    found = _find(desk, texts)
    answers = desk.orders.cancel(found.ids, with_dependents=with_dependents)
    deadline = time.monotonic() + patience
    problems = [*found.problems]
    for id, answer in answers.items():
        if answer is CancelResult.MISSING:
            problems.append(_missing(id))
            continue
        word = stop_of(desk, id, deadline) if answer is CancelResult.REQUESTED else "cancelled"
        if word == "running":
            problems.append(f"{id}: {_still_running(desk, id)}")
        elif answer is CancelResult.ENDED or word != "cancelled":
            if not with_dependents:
                problems.append(f"{id}: it had already ended")
        else:
            tell(id, "cancelled")
    complain(problems, ExitCode.NOT_FOUND if CancelResult.MISSING in answers.values() else found.code)


def stop_of(desk: Desk, id: str, deadline: float) -> str:
    """The status of a job that is told to stop: when it has ended, or at the deadline."""
    job = desk.app.get_job(id)
    patience = deadline - time.monotonic()
    if patience > 0:
        with suppress(TimeoutError):
            job.wait(patience)
    return job.status


def _still_running(desk: Desk, id: str) -> str:
    note = desk.app.get_job(id).note
    asked = "it is told to stop"
    return f"{asked}: {note}" if note.startswith("its worker") else f"{asked}, and still runs"


def retry(desk: Desk, texts: Sequence[str], tell: Answer, *, with_dependents: bool) -> None:
    """Put jobs back. CommandError if one cannot be."""
    found = _find(desk, texts)
    problems = [*found.problems]
    for id in found.ids:
        if desk.handles.retry(id, with_dependents):
            tell(id, "pending")
        else:
            problems.append(f"{id}: {_refusal(desk, id)}")
    complain(problems, found.code)


def _refusal(desk: Desk, id: str) -> str:
    """Why a job was not put back."""
    reason = desk.handles.reason(id) or ""
    if reason.startswith("dependency "):
        return f"it was cancelled because of another job ({reason}); retry that one, and this one comes back with it"
    record = desk.handles.record(id)
    word = public_status(record.status, record.is_dead)
    if word in ("failed", "dead"):
        return "another job with its unique key has not ended"
    return f"it is {word}; only a failed or dead job can be retried"


def delete(desk: Desk, texts: Sequence[str], tell: Answer, *, with_dependents: bool) -> None:
    """Delete jobs. CommandError if one runs, or there is none."""
    found = _find(desk, texts)
    problems = [*found.problems]
    desk.orders.delete(found.ids, with_dependents=with_dependents)
    left = set(_find(desk, found.ids).ids)
    for id in found.ids:
        if id in left:
            problems.append(f"{id}: {_obstacle(desk, id)}")
        else:
            tell(id, "deleted")
    complain(problems, found.code)


def _obstacle(desk: Desk, id: str) -> str:
    """Why a job was not deleted."""
    if desk.app.get_job(id).status == "running":
        return "it is running; cancel it first"
    return "another job needs its result, or will if it is tried again; delete that one, too (--with-dependents)"


def purge(desk: Desk, filters: Filters, *, is_dry: bool, is_sure: bool, as_json: bool) -> None:
    """Delete what has ended and matches; without filters, what retention no longer keeps."""
    asked = None if filters == Filters() else filters.read(desk.app)
    total = sum(desk.board.purgeable().values()) if asked is None else desk.board.count_ended(asked)
    if not is_dry and total:
        confirm(f"Delete {total} ended jobs, with results and history?", is_sure)
        matching = total
        total = desk.orders.purge_due() if asked is None else desk.orders.purge(asked)
        if total < matching:
            remark(f"{matching - total} are kept: other jobs need their results, or will if they are tried again.")
    what = "would be deleted" if is_dry else "deleted"
    if as_json:
        print_document({what.replace(" ", "_"): total})
    else:
        print(f"{total}\t{what}")


def _find(desk: Desk, texts: Sequence[str]) -> Found:
    return find_all(texts, partial(job_id, desk), lambda _: "there is no such job")


def _missing(id: str) -> str:
    return f"{id}: there is no such job"


def complain(problems: Sequence[str], code: ExitCode = ExitCode.FAILED) -> None:
    """Say what could not be done, at the end of what could; CommandError if there is anything to say."""
    for problem in problems[:-1]:
        remark(problem)
    if problems:
        raise CommandError(problems[-1], code)
