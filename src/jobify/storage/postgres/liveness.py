"""Which owners live.

An owner lives while its lock is held (see :mod:`~.session`), or, behind a pooler, until its lease has run out by the
clock of the server. A free lock alone proves no death: a connection that was cut is opened again, and its owner takes
the lock back. So an owner whose lock is free is dead if

- it has said so: a storage that is closed writes it into the row; or
- its process has ended, as far as that can be seen from here (the same machine and container); or
- its lock is still free :data:`PATIENCE` seconds later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from typing import Final, Protocol

from jobify.storage import process

__all__ = ("CLOSED", "PATIENCE", "Liveness", "has_ended")

PATIENCE: Final = 1.0
"""Seconds."""
CLOSED: Final = "closed"
"""In the place of an owner's process: it has let go of its lock by itself."""


class Owner(Protocol):
    """The row of an owner."""

    @property
    def id(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def process(self) -> str | None: ...
    @property
    def has_lease(self) -> bool: ...
    @property
    def is_alive(self) -> bool: ...


def has_ended(owner: Owner) -> bool:
    """Whether it is proved that an owner will not come back whose lock is free now."""
    if owner.has_lease or owner.process == CLOSED:
        return True
    return owner.process is not None and process.is_running(owner.pid, owner.process) is False


class Liveness:
    """Remembers since when locks have been free."""

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._free_since: dict[int, float] = {}

    def is_dead(self, owner: Owner) -> bool:
        """Whether the death of an owner is proved."""
        if owner.is_alive:
            self._free_since.pop(owner.id, None)
            return False
        if has_ended(owner):
            return True
        now = self._elapsed()
        return now - self._free_since.setdefault(owner.id, now) >= PATIENCE

    def forget_all_but(self, owners: Set[int]) -> None:
        """Forget the owners that are gone."""
        for owner in self._free_since.keys() - owners:
            del self._free_since[owner]
