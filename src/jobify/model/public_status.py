"""The six public statuses, and the rows that they stand for.

``JobResult.status``, every filter and the commands use them. ``Job.status`` and the rows use ``JobStatus``;
``Job.public_status`` and ``JobResult.job_status`` translate. All statuses are in ``docs/reference/status.md``.

=============  ==================================================================================
``pending``    waits: for its time, a retry, another job, a free slot
``running``    an attempt is under way
``complete``   succeeded
``failed``     ended by an error, and was not to be tried again
``dead``       ended by an error, and its retries are used up; or a schedule that was stopped
``cancelled``  ended without having finished: by a user, its expiry, or the failure of a dependency
=============  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

from jobify.exceptions import ConfigurationError, did_you_mean
from jobify.model.records import CountKey
from jobify.model.status import FAILURES, JobStatus

__all__ = (
    "ENDS",
    "PUBLIC_STATUSES",
    "PublicStatus",
    "StatusFilter",
    "counts_by_name",
    "counts_by_status",
    "public_status",
    "status_filter",
)

PublicStatus: TypeAlias = Literal["pending", "running", "complete", "failed", "dead", "cancelled"]
"""The type of a public status."""

PUBLIC_STATUSES: Final[tuple[PublicStatus, ...]] = get_args(PublicStatus)
ENDS: Final[frozenset[PublicStatus]] = frozenset(PUBLIC_STATUSES[2:])
"""The statuses of ended jobs."""


class StatusFilter(NamedTuple):
    """The rows that have a public status. ``is_dead`` None means either."""

    statuses: tuple[str, ...]
    is_dead: bool | None = None


_FILTERS: Final[Mapping[PublicStatus, StatusFilter]] = {
    "pending": StatusFilter((JobStatus.PENDING.value, JobStatus.SCHEDULED.value)),
    "running": StatusFilter((JobStatus.RUNNING.value,)),
    "complete": StatusFilter((JobStatus.SUCCESS.value,)),
    "failed": StatusFilter(FAILURES, is_dead=False),
    "dead": StatusFilter(FAILURES, is_dead=True),
    "cancelled": StatusFilter((JobStatus.CANCELLED.value,)),
}
_PLAIN: Final[Mapping[str, PublicStatus]] = {
    status: word for word, rows in _FILTERS.items() if rows.is_dead is None for status in rows.statuses
}


def public_status(status: str, is_dead: bool) -> PublicStatus:
    """The public status of a row. A stored status that only a newer release knows reads ``running``.

    >>> public_status("success", False), public_status("timeout", False), public_status("timeout", True)
    ('complete', 'failed', 'dead')
    """
    word = _PLAIN.get(status)
    if word is not None:
        return word
    if status == JobStatus.PERMANENTLY_FAILED:
        return "dead"
    if status in FAILURES:
        return "dead" if is_dead else "failed"
    return "running"


def status_filter(words: Sequence[str]) -> StatusFilter:
    """The filter of a storage for these public statuses.

    ConfigurationError for an unknown status, and for what one query cannot select: ``failed`` without ``dead``, or
    ``dead`` without ``failed``, together with other statuses.

    >>> status_filter(["failed", "dead"]).is_dead is None, status_filter(["dead"]).is_dead
    (True, True)
    """
    rows = [_filter_of(word) for word in words]
    kinds = {one.is_dead for one in rows}
    if {True, False} <= kinds:
        kinds = {None}
    if len(kinds) > 1:
        word, other = ("failed", "dead") if False in kinds else ("dead", "failed")
        raise ConfigurationError(f"{word!r} can be combined with {other!r} only. Query the other statuses apart.")
    return StatusFilter(tuple(dict.fromkeys(status for one in rows for status in one.statuses)), kinds.pop())


def _filter_of(word: str) -> StatusFilter:
    try:
        return _FILTERS[cast("PublicStatus", word)]
    except (KeyError, TypeError):
        raise ConfigurationError(f"There is no status {word!r}. {_advice(str(word))}") from None


def _advice(text: str) -> str:
    """A suggestion for an unknown status."""
    meant = [word for word, rows in _FILTERS.items() if text in rows.statuses]
    if not meant:
        return did_you_mean(text, PUBLIC_STATUSES)
    return f"That is a value of Job.status; write {' or '.join(repr(word) for word in meant)}."


def counts_by_status(counts: Mapping[CountKey, int]) -> dict[str, int]:
    """The counts of a storage by public status, including zeros."""
    total: dict[str, int] = dict.fromkeys(PUBLIC_STATUSES, 0)
    for key, count in counts.items():
        total[public_status(key.status, key.is_dead)] += count
    return total


def counts_by_name(counts: Mapping[CountKey, int], by: Literal["queue", "task"]) -> dict[str, dict[str, int]]:
    """:func:`counts_by_status` for each queue, or each task, in order of name."""
    parts: dict[str, dict[CountKey, int]] = {}
    for key, count in counts.items():
        parts.setdefault(getattr(key, by), {})[key] = count
    return {name: counts_by_status(parts[name]) for name in sorted(parts)}
