"""Whether others have committed: without reading a table.

The server numbers transactions that change something. A snapshot says which of them have ended, whenever they began; so
a transaction that was open for long counts when it commits. Two looks say how many have ended in between. Those of this
process are known, and taken off. Another database of the server has its share in the number: then the answer is yes by
mistake, which costs a look at the jobs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from jobify.storage.postgres.clock import ServerClock
from jobify.storage.postgres.database import Database
from jobify.storage.postgres.session import Session

__all__ = ("FRESH", "Changes")

FRESH: Final = 3.5
"""Seconds for which a look that was made for another purpose is good enough: a little longer than between two."""


class _Look(NamedTuple):
    """What was found."""

    ended: int
    """How many transactions had ended."""
    own: int
    """How many of them were made here, at least."""


class Changes:
    """Compares looks. Called by one thread at a time."""

    def __init__(self, database: Database, session: Session, clock: ServerClock) -> None:
        self._database = database
        self._session = session
        self._clock = clock
        self._last = _Look(0, 0)
        self._newest: _Look | None = None
        """The last look that was made for another purpose."""
        self._noted_at = 0.0

    def look(self) -> None:
        """Begin: what is committed from now on is a change.

        The first answer takes as long as to connect, and says little of the server's clock; so there are a few more.
        """
        for _ in range(4):
            self._last = self._look()

    def note(self, snapshot: str) -> None:
        """A snapshot that was just taken anyway, so that there need not be another one for a while."""
        self._newest, self._noted_at = self._of(snapshot), self._clock.monotonic()

    def were_made(self) -> bool:
        """Whether others have committed since the last call."""
        if self._newest is not None and self._clock.monotonic() - self._noted_at > FRESH:
            self._newest = None
        before, self._last = self._last, self._newest or self._look()
        return self._last.ended - before.ended > self._last.own - before.own

    def _look(self) -> _Look:
        with self._clock.measuring() as show:
            ((snapshot, now),) = self._database.read("snapshot")
            show(now)
        return self._of(snapshot)

    def _of(self, snapshot: str) -> _Look:
        _, newest, running = snapshot.split(":")
        ended = int(newest) - (running.count(",") + 1 if running else 0)
        return _Look(ended, self._database.own_commits + self._session.own_commits)
