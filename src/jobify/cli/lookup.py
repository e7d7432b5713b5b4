"""From what was typed to an id: the beginning of an id, or the task of a schedule, is enough where it is unique."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.cli.errors import CommandError
from jobify.client.arguments import Filters
from jobify.exceptions import JobNotFoundError
from jobify.model.ids import is_storable
from jobify.model.public_status import public_status
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.model.records import JobRecord

__all__ = ("AmbiguousError", "Found", "find_all", "job_id", "schedule_id")

_MAX_CANDIDATES: Final = 5
"""Candidates that an error lists."""


class AmbiguousError(CommandError):
    """What was typed stands for several jobs."""

    def __init__(self, text: str, candidates: Sequence[JobRecord], what: str) -> None:
        named = [
            f"{job.id} ({public_status(job.status, job.is_dead)}, {job.task})" for job in candidates[:_MAX_CANDIDATES]
        ]
        rest = ", and others" if len(candidates) > _MAX_CANDIDATES else ""
        super().__init__(f"{text!r} {what}: {', '.join(named)}{rest}.", ExitCode.USAGE)


class Found(NamedTuple):
    """The ids of what was typed, each once, and what there is to say about the rest."""

    ids: list[str]
    problems: list[str]
    code: ExitCode
    """How the command ends because of the problems: not found before ambiguous."""


def find_all(texts: Sequence[str], find: Callable[[str], str], missing: Callable[[str], str]) -> Found:
    """The ids that ``find`` finds; one that is not there, or not unique, does not keep the others from being done."""
    ids, problems, code = {}, [], ExitCode.FAILED
    for text in dict.fromkeys(texts):
        try:
            ids[find(text)] = True
        except AmbiguousError as error:
            problems.append(str(error))
            code = max(code, ExitCode.USAGE)
        except JobNotFoundError:
            problems.append(f"{text}: {missing(text)}")
            code = ExitCode.NOT_FOUND
    return Found(list(ids), problems, code)


def job_id(session: Session, text: str) -> str:
    """The id of the job with this id, or of the only one whose id begins so. JobNotFoundError if there is none,
    AmbiguousError if there are several."""
    try:
        return session.app.get_job(text).id
    except JobNotFoundError:
        return _only(text, _beginning_with(session, text, Filters()), "is the beginning of several ids")


def schedule_id(session: Session, text: str) -> str:
    """The id of the schedule with this id, of the only one of this task, or of the only one whose id begins so."""
    try:
        return session.app.get_job(text).id
    except JobNotFoundError:
        schedules = Filters(is_schedule=True)
        if text and is_storable(text):
            of_task = session.queries.find(
                schedules._replace(tasks=(text,)), limit=_MAX_CANDIDATES + 1, is_newest_first=False
            )
            if of_task:
                return _only(text, of_task, "is the task of several schedules")
        return _only(text, _beginning_with(session, text, schedules), "is the beginning of several ids")


def _only(text: str, candidates: Sequence[JobRecord], what: str) -> str:
    if not candidates:
        raise JobNotFoundError(text)
    if len(candidates) > 1:
        raise AmbiguousError(text, candidates, what)
    return candidates[0].id


def _beginning_with(session: Session, text: str, filters: Filters) -> list[JobRecord]:
    """At most one more than are shown. Ids are read in order, and what begins with a text comes right after it."""
    if not text or not is_storable(text):
        return []
    following = session.queries.find(filters, limit=_MAX_CANDIDATES + 1, after=text, is_newest_first=False)
    return list(islice(takewhile(lambda job: job.id.startswith(text), following), _MAX_CANDIDATES + 1))
