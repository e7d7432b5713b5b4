"""Which indexes hold all that a query of jobs asks for."""

from __future__ import annotations

from enum import Enum, auto

from jobify.model.records import JobQuery
from jobify.model.status import ACTIVE, TERMINAL, JobStatus

__all__ = ("IndexScope", "index_scope")

_RUNNING = frozenset({JobStatus.RUNNING.value})
_ENDED = frozenset(status.value for status in TERMINAL)
_LIVE = frozenset(ACTIVE)
_UNSUCCESSFUL = _ENDED - {JobStatus.SUCCESS.value}


class IndexScope(Enum):
    """Jobs that have an index of their own."""

    ANY = auto()
    LIVE = auto()
    """They have not ended: a million others lie between them."""
    RUNNING = auto()
    """A million waiting ones lie between them."""
    UNSUCCESSFUL = auto()
    """They have ended, and a million successes lie between them."""


def index_scope(query: JobQuery) -> IndexScope:
    """The smallest crowd in which everything is that the query asks for. (Schedules have an index beside these.)"""
    statuses = frozenset(query.statuses or ())
    if query.owner is not None:
        return IndexScope.RUNNING
    if not statuses or query.is_schedule is True:
        return IndexScope.ANY
    if statuses <= _LIVE:
        return IndexScope.RUNNING if statuses == _RUNNING else IndexScope.LIVE
    return IndexScope.UNSUCCESSFUL if statuses <= _UNSUCCESSFUL else IndexScope.ANY
