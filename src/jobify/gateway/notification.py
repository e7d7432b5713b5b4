"""Which processes to notify after a commit.

Only processes that a change concerns are notified. The end of a job concerns the process that enqueued it, if that is
another one, and clients. The notifier knows whether there are any: a worker whose jobs have no waiters sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ("JOB_ENDED", "NEW_WORK", "PROGRESS", "STATE_CHANGED", "Audience", "merge")


class Audience(NamedTuple):
    """Which processes to notify."""

    workers: bool = False
    clients: bool = False
    owners: tuple[int, ...] = ()

    @classmethod
    def of_end(cls, origin: int | None, *, here: int) -> Audience:
        """For the end of a job that ``origin`` enqueued, or of a run of a schedule, in the process ``here``."""
        return JOB_ENDED if origin is None or origin == here else cls(clients=True, owners=(origin,))


NEW_WORK: Final = Audience(workers=True)
"""There is work that any worker may claim."""
JOB_ENDED: Final = Audience(clients=True)
"""A job that this process or a client enqueued has ended."""
PROGRESS: Final = Audience(clients=True)
"""A running job has reported something."""
STATE_CHANGED: Final = Audience(workers=True, clients=True)
"""Something was cancelled, replaced or paused, or the end of a job has changed others."""


def merge(audiences: Iterable[Audience]) -> Audience:
    """All processes that any of these has."""
    workers = clients = False
    owners: set[int] = set()
    for each in set(audiences):
        workers, clients = workers or each.workers, clients or each.clients
        owners.update(each.owners)
    return Audience(workers, clients, tuple(owners))
