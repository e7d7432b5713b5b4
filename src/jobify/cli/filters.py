"""From what was typed to what a storage is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jobify.cli.errors import CommandError
from jobify.exits import ExitCode

if TYPE_CHECKING:
    from jobify.cli.desk import Desk
    from jobify.records import JobQuery

__all__ = ("Filters", "metadata_pairs")


class Filters(NamedTuple):
    """The filters of a command, as typed; None does not filter."""

    status: Sequence[str] | None = None
    task: Sequence[str] | None = None
    queue: Sequence[str] | None = None
    since: str | None = None
    until: str | None = None
    metadata: Sequence[str] | None = None

    def query(self, desk: Desk, **paging: Any) -> JobQuery:
        """What to ask for. CommandError (usage) for what cannot be read."""
        from jobify.cli.moments import moment
        from jobify.records import JobQuery
        from jobify.words import rows_of

        rows = [rows_of(word) for word in self.status or ()]
        kinds = {one.is_dead for one in rows}
        if len(kinds) > 1 and kinds != {True, False}:
            self._refuse_mixture(kinds)
        now = desk.now()
        return JobQuery(
            statuses=tuple(dict.fromkeys(status for one in rows for status in one.statuses)) or None,
            is_dead=kinds.pop() if len(kinds) == 1 else None,
            tasks=tuple(self.task) if self.task else None,
            queues=tuple(self.queue) if self.queue else None,
            created_after=None if self.since is None else moment(self.since, now=now, zone=desk.zone),
            created_before=None if self.until is None else moment(self.until, now=now, zone=desk.zone),
            metadata=metadata_pairs(self.metadata or ()),
            **paging,
        )

    @staticmethod
    def _refuse_mixture(kinds: set[bool | None]) -> None:
        word = "failed" if False in kinds else "dead"
        raise CommandError(
            f"--status {word} goes alone, or with --status {'dead' if word == 'failed' else 'failed'}: ask twice.",
            ExitCode.USAGE,
        )


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
