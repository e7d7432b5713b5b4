"""``jobify jobs retry``, ``cancel`` and ``delete`` for all jobs that match filters: a preview, a question, the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.cli.actions import confirm, wait_for_stop
from jobify.cli.choice import Matches, Selection
from jobify.cli.errors import CommandError
from jobify.cli.filters import explain_nothing
from jobify.cli.output import print_document, print_line, print_note
from jobify.model.public_status import ENDS, PUBLIC_STATUSES, public_status
from jobify.model.records import CancelResult

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.model.records import JobRecord

__all__ = ("cancel_matching", "delete_matching", "retry_matching")

_RETRIABLE: Final = ("failed", "dead")
_CANCELLABLE: Final = ("pending", "running")
_DELETABLE: Final = tuple(word for word in PUBLIC_STATUSES if word != "running")
_ENDED: Final = tuple(word for word in PUBLIC_STATUSES if word in ENDS)
_MAX_WAITED_FOR: Final = 10_000
"""Running jobs that are waited for; no machine runs more."""


class _Change(NamedTuple):
    """What is to become of the jobs: ``retry``, ``retried``."""

    verb: str
    done: str
    is_json: bool


class _Tally:
    """How many jobs were changed so far."""

    def __init__(self) -> None:
        self.done = 0


def retry_matching(session: Session, choice: Selection, *, with_dependents: bool, as_json: bool) -> None:
    """Put back all that failed and matches, and what was cancelled because of it. CommandError if other jobs have the
    unique keys of some."""
    matches = Matches.of(session, choice, words=_RETRIABLE)
    refused = 0

    def work(tally: _Tally) -> None:
        nonlocal refused
        for batch in matches.batches():
            answers = session.admin.retry(_ids(batch), matches.still_matches, with_dependents=with_dependents)
            tally.done += sum(answers)
            refused += len(answers) - sum(answers)

    _run(work, matches, choice, _Change("retry", "retried", as_json))
    if refused:
        raise CommandError(f"{_jobs(refused)} not retried, because other jobs have the same unique keys.")


def cancel_matching(
    session: Session, choice: Selection, *, with_dependents: bool, patience: float, as_json: bool
) -> None:
    """Cancel all that matches, and wait for what runs. CommandError if a job still runs then."""
    matches = Matches.of(session, choice, words=_CANCELLABLE, is_schedule=False)
    told: list[str] = []
    ends: list[str] = []

    def work(tally: _Tally) -> None:
        for batch in matches.batches():
            answers = session.admin.cancel(_ids(batch), matches.still_matches, with_dependents=with_dependents)
            tally.done += sum(answer is CancelResult.CANCELLED for answer in answers.values())
            told.extend(id for id, answer in answers.items() if answer is CancelResult.REQUESTED)
        deadline = time.monotonic() + patience
        ends.extend(wait_for_stop(session, id, deadline) for id in told[:_MAX_WAITED_FOR])
        tally.done += ends.count("cancelled")

    _run(work, matches, choice, _Change("cancel", "cancelled", as_json))
    still = ends.count("running") + len(told) - len(ends)
    if still:
        raise CommandError(f"{_jobs(still)} told to stop, but still running.")


def delete_matching(session: Session, choice: Selection, *, with_dependents: bool, as_json: bool) -> None:
    """Delete all that matches and does not run; without a status, only what has ended."""
    matches = Matches.of(session, choice, words=_DELETABLE, default=_ENDED, is_schedule=False)

    needed = 0

    def work(tally: _Tally) -> None:
        nonlocal needed
        for batch in matches.batches():
            deleted = session.admin.delete(_ids(batch), matches.still_matches, with_dependents=with_dependents)
            tally.done += deleted
            needed += max(0, len(batch) - deleted)

    _run(work, matches, choice, _Change("delete", "deleted", as_json))
    if needed:
        print_note(
            f"{_jobs(needed)} kept: other jobs need their results, or will if they are tried again; or they changed."
        )


def _run(work: Callable[[_Tally], None], matches: Matches, choice: Selection, order: _Change) -> None:
    """Show what matches, ask, work, and say how much was done, also if that is not all."""
    count, first = matches.preview()
    if not count:
        explain_nothing(matches.session, matches.filters)
    if choice.is_dry:
        _show_dry(count, first, order)
        return
    if count and not choice.is_sure:
        for line in _preview_lines(count, first):
            print_note(line)
        confirm(f"{order.verb.capitalize()} {_jobs(count)}?", is_sure=False)
    tally = _Tally()
    try:
        if count:
            work(tally)
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted; {_jobs(tally.done)} {order.done} so far.") from None
    finally:
        if order.is_json:
            print_document({"matched": count, order.done: tally.done})
        else:
            print(f"{tally.done}\t{order.done}")


def _show_dry(count: int, first: Sequence[JobRecord], order: _Change) -> None:
    if order.is_json:
        listed = [
            {"id": job.id, "status": public_status(job.status, job.is_dead), "task_name": job.task, "error": job.error}
            for job in first
        ]
        print_document({f"would_be_{order.done}": count, "first": listed})
        return
    for line in _preview_lines(count, first):
        print_line(line)
    print(f"{count}\twould be {order.done}")


def _preview_lines(count: int, first: Sequence[JobRecord]) -> list[str]:
    lines = [
        "  ".join(filter(None, (job.id, public_status(job.status, job.is_dead), job.task, job.error))) for job in first
    ]
    return [*lines, f"… and {count - len(first)} more"] if count > len(first) else lines


def _ids(batch: Sequence[JobRecord]) -> list[str]:
    return [job.id for job in batch]


def _jobs(count: int) -> str:
    return f"{count} job{'s' * (count != 1)}"
