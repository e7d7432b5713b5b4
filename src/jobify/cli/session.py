"""The session of a command: an app that does not run here, its client, and how to find jobs in it.

Opening a session registers no owner and starts no job. A change notifies the processes that it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from jobify.cli.app_loader import app_without_code, exists, is_postgres, load_app_or_advise
from jobify.cli.errors import CommandError
from jobify.cli.output import print_note
from jobify.client.arguments import Filters
from jobify.client.views import ClusterState
from jobify.exceptions import JobNotFoundError
from jobify.model.ids import is_storable
from jobify.model.public_status import public_status
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.app.application import Jobify
    from jobify.cli.options import Source
    from jobify.client.admin import Admin
    from jobify.client.job_operations import JobOperations
    from jobify.client.queries import Queries
    from jobify.model.records import JobRecord
    from jobify.storage.base import Storage

__all__ = ("AmbiguousError", "Found", "Session", "find_all", "job_id", "open_session", "schedule_id")


class Session(NamedTuple):
    """An app and the parts of its client. Tables show rows, so they need more than the public methods of the app."""

    app: Jobify
    queries: Queries
    admin: Admin
    operations: JobOperations
    database: str
    """Where the jobs are: an absolute path, or the storage's own description."""

    def cluster_state(self) -> ClusterState:
        """The processes with what they run, and the paused queues."""
        return ClusterState(self.app.workers(), self.queries.paused_queues(), self.app.now())


@contextmanager
def open_session(source: Source, *, may_be_missing: bool = False) -> Iterator[Session]:
    """Open an app, or a database without its app.

    CommandError if other processes cannot see its jobs, or if there is no database yet. If the database of an app
    ``may_be_missing`` (its folder may not), a note says so and the session has no jobs: reading creates no file.
    """
    from jobify.client.producer import client_of
    from jobify.storage.location import location_of

    app = app_without_code(source) if source.database else load_app_or_advise(source.app)
    storage = app.configs.storage
    if not storage.is_shared:
        raise CommandError(
            "This app keeps its jobs in its own memory (storage=False), where no other process can see them."
        )
    missing = _missing_database(storage)
    if missing is not None:
        if not (may_be_missing and missing.has_folder):
            raise CommandError(missing.message)
        print_note(missing.message)
        app.configs.storage = _empty_storage()
    client = client_of(app)
    try:
        yield Session(app, client.queries, client.admin, client.operations, location_of(storage))
    finally:
        app.close()


class _Missing(NamedTuple):
    """A database that is not there yet."""

    message: str
    has_folder: bool = True
    """Whether it is known where it will be."""


def _missing_database(storage: Storage) -> _Missing | None:
    """What to say if the file or the schema of a storage is not there. None: it is, or nothing is known of it."""
    if is_postgres(storage):
        if exists(storage):
            return None
        return _Missing(
            f"There is no schema {storage.schema!r} in {storage.database!r} yet. An app or a worker creates it, or: "
            "jobify db migrate."
        )
    path = getattr(storage, "database", None)
    if not isinstance(path, str | Path) or Path(path).exists():
        return None
    return _Missing(
        f"There is no database {str(path)!r} yet. An app or a worker creates it, or: jobify db migrate. (A relative "
        "path is looked up in the current folder.)",
        has_folder=Path(path).parent.is_dir(),
    )


def _empty_storage() -> Storage:
    from jobify.storage.memory import MemoryStorage

    return MemoryStorage()


# -- find a job by the beginning of its id, or a schedule by its task --------------------------------------------------

_MAX_CANDIDATES: Final = 5
"""How many candidates an error lists."""


class AmbiguousError(CommandError):
    """The text on the command line names several jobs."""

    def __init__(self, text: str, candidates: Sequence[JobRecord], what: str) -> None:
        named = [
            f"{job.id} ({public_status(job.status, job.is_dead)}, {job.task})" for job in candidates[:_MAX_CANDIDATES]
        ]
        rest = ", and others" if len(candidates) > _MAX_CANDIDATES else ""
        super().__init__(f"{text!r} {what}: {', '.join(named)}{rest}.", ExitCode.USAGE)


class Found(NamedTuple):
    """The ids that the texts on the command line name, each once, and an error for each of the others."""

    ids: list[str]
    problems: list[str]
    code: ExitCode
    """The exit code because of the problems: not found takes precedence over ambiguous."""


def find_all(texts: Sequence[str], find: Callable[[str], str], missing: Callable[[str], str]) -> Found:
    """The ids that ``find`` finds. A text that names none or several does not affect the others."""
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
    """The id of the only job whose id is, or begins with, ``text``.

    JobNotFoundError if there is none, AmbiguousError if there are several.
    """
    try:
        return session.app.get_job(text).id
    except JobNotFoundError:
        return _only(text, _beginning_with(session, text, Filters()), "is the beginning of several ids")


def schedule_id(session: Session, text: str) -> str:
    """The id of the only schedule whose id or task is ``text``, or whose id begins with it."""
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
    """Jobs whose ids begin with ``text``, at most one more than an error shows.

    Ids are read in order, and those that begin with a text follow right after it.
    """
    if not text or not is_storable(text):
        return []
    following = session.queries.find(filters, limit=_MAX_CANDIDATES + 1, after=text, is_newest_first=False)
    return list(islice(takewhile(lambda job: job.id.startswith(text), following), _MAX_CANDIDATES + 1))
