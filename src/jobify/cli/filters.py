"""From what was typed to what an app is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jobify.cli.errors import CommandError
from jobify.worker.exit_codes import ExitCode

if TYPE_CHECKING:
    from datetime import datetime

    from jobify.app.application import Jobify
    from jobify.cli.session import Session
    from jobify.client import arguments

__all__ = ("Filters", "explain_nothing", "metadata_pairs")


class Filters(NamedTuple):
    """The filters of a command, as typed; None does not filter."""

    status: Sequence[str] | None = None
    task: Sequence[str] | None = None
    queue: Sequence[str] | None = None
    since: str | None = None
    until: str | None = None
    metadata: Sequence[str] | None = None

    def read(self, app: Jobify) -> arguments.Filters:
        """What to ask for. CommandError (usage) for what cannot be read."""
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
    """Nothing matches: say on standard error which task or queue of the filters no job has, as a misspelt one."""
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


def metadata_pairs(texts: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """``key=value``; a value that is JSON (3, true, null, "3") means that, any other text means itself.

    >>> metadata_pairs(["user=ada", "tries=3", 'code="3"'])
    (('user', 'ada'), ('tries', 3), ('code', '3'))
    """
    return tuple(_pairs(texts))


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise CommandError(f"--metadata {text!r} is no pair. Write key=value.", ExitCode.USAGE)
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        yield key, value if isinstance(read, dict | list) else read
