"""Whom something concerns that this process has written: those who are told when it is committed.

Nobody is told of what is nobody's business. An end is for whoever enqueued the job, if that is another process, and
for clients; the bell knows whether there are any, and a worker that drains jobs nobody waits for sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ("JOB_ENDED", "NEW_WORK", "PROGRESS", "STATE_CHANGED", "Audience", "merge")


class Audience(NamedTuple):
    """Whom to tell."""

    workers: bool = False
    clients: bool = False
    owners: tuple[int, ...] = ()

    @classmethod
    def of_end(cls, origin: int | None, *, here: int) -> Audience:
        """A job has ended that ``origin`` had enqueued, or a run of a schedule, in the process ``here``."""
        return JOB_ENDED if origin is None or origin == here else cls(clients=True, owners=(origin,))


NEW_WORK: Final = Audience(workers=True)
"""There is work that anybody may take."""
JOB_ENDED: Final = Audience(clients=True)
"""A job of this process's own has ended, or one that a client enqueued."""
PROGRESS: Final = Audience(clients=True)
"""A running job has said something."""
STATE_CHANGED: Final = Audience(workers=True, clients=True)
"""Something was cancelled, replaced or paused; or what ended has moved other jobs."""


def merge(news: Iterable[Audience]) -> Audience:
    """Everybody who is concerned by any of it."""
    workers = clients = False
    owners: set[int] = set()
    for each in set(news):
        workers, clients = workers or each.workers, clients or each.clients
        owners.update(each.owners)
    return Audience(workers, clients, tuple(owners))
