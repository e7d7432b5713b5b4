"""Which jobs ``jobify jobs retry``, ``cancel`` and ``delete`` are about: some ids, or all that match filters.

Jobs that match are changed in batches, each in one short transaction, so that workers go on meanwhile. A batch looks at
its jobs again inside of that transaction: one that has begun, ended or was changed since the filters found it is left
alone. Each job is met once, in order of id, and jobs that are made after the beginning are not met at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, NamedTuple, ParamSpec

import typer

from jobify.cli.errors import CommandError
from jobify.cli.filters import Filters
from jobify.cli.options import Queue, Since, Source, Status, Task, Until, Yes
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from jobify.cli.session import Session
    from jobify.client import arguments
    from jobify.model.records import JobRecord

__all__ = ("Matches", "Selection", "with_selection")

P = ParamSpec("P")

_BATCH: Final = 500
_PREVIEW: Final = 5
"""Jobs that a preview names."""

_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "ids": (
        Annotated[
            list[str] | None,
            typer.Argument(metavar="ID", help="Ids of jobs, or how they begin.", show_default=False),
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
            typer.Option("--error", metavar="TEXT", help="Only with this text in the error, in capitals or not."),
        ],
        None,
    ),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Only say which jobs match the filters.")], False),
    "yes": (Yes, False),
}


class Selection(NamedTuple):
    """What was typed: ids or filters."""

    ids: Sequence[str]
    filters: Filters
    error: str | None
    is_dry: bool
    is_sure: bool

    @property
    def is_by_filter(self) -> bool:
        """Whether filters choose. CommandError (usage) if nothing does, or both do."""
        has_filters = self.filters != Filters() or self.error is not None
        if bool(self.ids) == has_filters:
            complaint = "Give ids or filters, not both." if self.ids else "Give ids, or filters such as --status."
            raise CommandError(complaint, ExitCode.USAGE)
        return has_filters


class Matches(NamedTuple):
    """The jobs of a choice by filters, found page by page: any number of them takes no more memory than a page."""

    session: Session
    filters: arguments.Filters
    error: str | None

    @classmethod
    def of(
        cls,
        session: Session,
        choice: Selection,
        *,
        words: Sequence[str],
        default: Sequence[str] | None = None,
        is_schedule: bool | None = None,
    ) -> Matches:
        """Those that there are by now. CommandError (usage) if they are to have another status than one of ``words``;
        ``default`` (all of them) is what holds if none is asked for."""
        from jobify.model.clock import to_datetime

        filters = choice.filters.read(session.app)
        wrong = [word for word in filters.statuses or () if word not in words]
        if wrong:
            raise CommandError(f"--status {wrong[0]}: choose from {', '.join(words)}.", ExitCode.USAGE)
        filters = filters._replace(statuses=filters.statuses or default or words, is_schedule=is_schedule)
        if filters.created_before is None:
            filters = filters._replace(created_before=to_datetime(session.app.now() + 1))
        return cls(session, filters, choice.error)

    def batches(self) -> Iterator[list[JobRecord]]:
        """The jobs that match, in batches."""
        after = None
        while page := self.session.queries.find(self.filters, limit=_BATCH, after=after, is_newest_first=False):
            after = page[-1].id
            if found := [job for job in page if self._has_error(job)]:
                yield found

    def still_matches(self, job: JobRecord) -> bool:
        """Whether a job that has matched still does."""
        from jobify.model.public_status import public_status

        return public_status(job.status, job.is_dead) in (self.filters.statuses or ()) and self._has_error(job)

    def preview(self) -> tuple[int, list[JobRecord]]:
        """How many there are, and the first of them."""
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
    """Give a command ids and filters; it is called with a :class:`Choice` as its second argument."""
    first, _, *others = signature(command, eval_str=True).parameters.values()
    added = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]

    @wraps(command)
    def run(source: Source, **given: Any) -> None:
        ids, status, task, queue, since, until, error, is_dry, is_sure = (given.pop(name) for name in _OPTIONS)
        choice = Selection(ids or (), Filters(status, task, queue, since, until), error, is_dry, is_sure)
        function: Callable[..., None] = command
        function(source, choice, **given)

    call: Any = run
    parameters = [first, *added, *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in others)]
    call.__signature__ = signature(command).replace(parameters=parameters, return_annotation=None)
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
