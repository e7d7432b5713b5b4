"""Which jobs a command selects: by filters, or by ids or filters (``jobify jobs retry``, ``cancel``, ``delete``).

Jobs that match are changed in batches, each in one short transaction, so that workers are not blocked for long. The
transaction checks each job again: one that has started, ended or changed since the filters found it is not changed.
Jobs come once, in order of id; jobs that are created after the start of the command are not included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, NamedTuple, ParamSpec

import typer

from jobify.cli.errors import CommandError
from jobify.cli.options import Queue, Since, Source, Status, Task, Until, Yes
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from datetime import datetime

    from jobify.app.application import Jobify
    from jobify.cli.session import Session
    from jobify.client import arguments
    from jobify.model.records import JobRecord

__all__ = ("Filters", "Matches", "Selection", "explain_nothing", "metadata_pairs", "with_selection")

P = ParamSpec("P")

_BATCH: Final = 500
_PREVIEW: Final = 5
"""How many jobs a preview lists."""

_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "ids": (
        Annotated[
            list[str] | None,
            typer.Argument(metavar="ID", help="Ids of jobs, or the beginnings of ids.", show_default=False),
        ],
        None,
    ),
    "status": (Status, None),
    "task": (Task, None),
    "queue": (Queue, None),
    "since": (Since, None),
    "until": (Until, None),
    "error": (
        Annotated[
            str | None,
            typer.Option("--error", metavar="TEXT", help="Only with this text in the error; case does not matter."),
        ],
        None,
    ),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Only print which jobs match the filters.")], False),
    "yes": (Yes, False),
}


class Selection(NamedTuple):
    """The ids or filters of a command."""

    ids: Sequence[str]
    filters: Filters
    error: str | None
    is_dry: bool
    is_sure: bool

    @property
    def is_by_filter(self) -> bool:
        """Whether filters select the jobs. CommandError (usage) for neither ids nor filters, and for both."""
        has_filters = self.filters != Filters() or self.error is not None
        if bool(self.ids) == has_filters:
            message = "Give ids or filters, not both." if self.ids else "Give ids, or filters such as --status."
            raise CommandError(message, ExitCode.USAGE)
        return has_filters


class Matches(NamedTuple):
    """The jobs that match filters, read page by page, so that any number of them needs the memory of one page."""

    session: Session
    filters: arguments.Filters
    error: str | None

    @classmethod
    def of(
        cls,
        session: Session,
        selection: Selection,
        *,
        statuses: Sequence[str],
        default: Sequence[str] | None = None,
        is_schedule: bool | None = None,
    ) -> Matches:
        """The jobs that match now. Without a status filter they have one of ``default``, which is all of ``statuses``.

        CommandError (usage) for a status filter that is not among ``statuses``.
        """
        from jobify.model.clock import to_datetime

        filters = selection.filters.read(session.app)
        wrong = [status for status in filters.statuses or () if status not in statuses]
        if wrong:
            raise CommandError(f"--status {wrong[0]}: choose from {', '.join(statuses)}.", ExitCode.USAGE)
        filters = filters._replace(statuses=filters.statuses or default or statuses, is_schedule=is_schedule)
        if filters.created_before is None:
            filters = filters._replace(created_before=to_datetime(session.app.now() + 1))
        return cls(session, filters, selection.error)

    def batches(self) -> Iterator[list[JobRecord]]:
        """The jobs that match, in batches."""
        after = None
        while page := self.session.queries.find(self.filters, limit=_BATCH, after=after, is_newest_first=False):
            after = page[-1].id
            if found := [job for job in page if self._has_error(job)]:
                yield found

    def still_matches(self, job: JobRecord) -> bool:
        """Whether a job that has matched before still matches."""
        from jobify.model.public_status import public_status

        return public_status(job.status, job.is_dead) in (self.filters.statuses or ()) and self._has_error(job)

    def preview(self) -> tuple[int, list[JobRecord]]:
        """How many jobs match, and the first of them."""
        if self.error is None:
            first = self.session.queries.find(self.filters, limit=_PREVIEW, is_newest_first=False)
            return sum(self.session.queries.counts(self.filters).values()), first
        count, first = 0, []
        for batch in self.batches():
            count += len(batch)
            first += batch[: _PREVIEW - len(first)]
        return count, first

    def _has_error(self, job: JobRecord) -> bool:
        return self.error is None or self.error.casefold() in (job.error or "").casefold()


def with_selection(command: Callable[Concatenate[Source, Selection, P], None]) -> Callable[..., None]:
    """Give a command ids and filters; it is called with a :class:`Selection` as its second argument."""
    first, _, *others = signature(command, eval_str=True).parameters.values()
    added = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]

    @wraps(command)
    def run(source: Source, **given: Any) -> None:
        ids, status, task, queue, since, until, error, is_dry, is_sure = (given.pop(name) for name in _OPTIONS)
        selection = Selection(ids or (), Filters(status, task, queue, since, until), error, is_dry, is_sure)
        function: Callable[..., None] = command
        function(source, selection, **given)

    call: Any = run
    parameters = [first, *added, *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in others)]
    call.__signature__ = signature(command).replace(parameters=parameters, return_annotation=None)
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


# -- filters -----------------------------------------------------------------------------------------------------------


class Filters(NamedTuple):
    """The filters of a command, as texts; None does not filter."""

    status: Sequence[str] | None = None
    task: Sequence[str] | None = None
    queue: Sequence[str] | None = None
    since: str | None = None
    until: str | None = None
    metadata: Sequence[str] | None = None

    def read(self, app: Jobify) -> arguments.Filters:
        """The filters as values. CommandError (usage) for a text that is not valid."""
        from jobify.client import arguments

        return arguments.Filters(
            statuses=self.status or None,
            tasks=self.task or None,
            queues=self.queue or None,
            created_after=_moment(self.since, app),
            created_before=_moment(self.until, app),
            metadata=metadata_pairs(self.metadata or ()),
        )


def explain_nothing(session: Session, filters: arguments.Filters) -> None:
    """Print which task or queue of the filters no job has, because it may be misspelt."""
    from jobify.cli.output import print_note
    from jobify.client import arguments
    from jobify.model.public_status import counts_by_name
    from jobify.model.task_options import DEFAULT_QUEUE
    from jobify.runtime.errortools import closest

    if not (filters.tasks or filters.queues):
        return
    counts, routes = session.queries.counts(arguments.Filters()), [route for _, route in session.app.walk()]
    tasks = {*counts_by_name(counts, "task"), *(route.name for route in routes)}
    queues = {*counts_by_name(counts, "queue"), *(route.options.get("queue", DEFAULT_QUEUE) for route in routes)}
    for what, names, known in (("task", filters.tasks, tasks), ("queue", filters.queues, queues)):
        for name in names or ():
            if name not in known:
                near = closest(name, known)
                print_note(f"No job has the {what} {name!r}." + (f" Did you mean {near!r}?" if near else ""))


def _moment(text: str | None, app: Jobify) -> datetime | None:
    from jobify.cli.time_format import moment
    from jobify.model.clock import to_datetime

    return None if text is None else to_datetime(moment(text, now=app.now(), zone=app.zone))


def metadata_pairs(texts: Sequence[str], option: str = "--metadata") -> tuple[tuple[str, Any], ...]:
    """Read ``key=value`` texts. A value that is JSON (3, true, null, "3") means that; any other text means itself.

    >>> metadata_pairs(["user=ada", "tries=3", 'code="3"'])
    (('user', 'ada'), ('tries', 3), ('code', '3'))
    """
    return tuple(_pairs(texts, option))


def _pairs(texts: Sequence[str], option: str) -> Iterator[tuple[str, Any]]:
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise CommandError(f"{option} {text!r} is not a pair. Write key=value.", ExitCode.USAGE)
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        yield key, value if isinstance(read, dict | list) else read
