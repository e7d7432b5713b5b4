"""Noticing the commits of connections that say nothing of them.

A notification inside of the user's transaction would be the simple way, but the server lets transactions that notify
commit one at a time, which costs all who enqueue most of their throughput. So a thread of this process looks whether a
job is visible, and notifies after it is.

**Pace.** The first look is after a millisecond or two, and each next one when half of the age has passed again: a
transaction of 10 ms is noticed 5 ms after its commit at worst. After some seconds it is left to the workers, which look
once a second. So a transaction costs at most 20 looks, and one look is for all transactions that are due: together at
most 200 a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Final

from jobify.runtime.logs import get_logger
from jobify.transactions.port import Stored

__all__ = ("CommitWatch", "notify_after_commit", "notify_when_visible")

log = get_logger("jobify.client")

_FIRST: Final = 0.0015
"""Seconds until the first look."""
_GROWTH: Final = 1.5
"""The age at the next look, in terms of the present one."""
_PATIENCE: Final = 3.0
"""Seconds for which to look: then the next look would be later than a worker's own."""
_SPACING: Final = 0.005
"""Seconds between two looks, at least."""
_LINGER: Final = 1.0
"""Seconds that the thread waits for more."""


class _Watched:
    """A job that is not visible yet."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.since = time.monotonic()
        self.look_at = self.since + _FIRST

    def postpone(self, now: float) -> bool:
        """Set the time of the next look; False: there is none."""
        age = max(now - self.since, _FIRST)
        self.look_at = self.since + age * _GROWTH
        return age < _PATIENCE


class CommitWatch:
    """Looks for the jobs of open transactions, in a thread that lives while there are some."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Condition()
        self._arrived: deque[_Watched] = deque()
        self._thread: threading.Thread | None = None

    def add(self, stored: Stored) -> None:
        """Notify when this job is visible. Returns at once."""
        if self._pid != os.getpid():  # a fork has no such thread, and perhaps a guard that is held
            self.__init__()  # type: ignore[misc]  # as if it were made here
        with self._guard:
            self._arrived.append(_Watched(stored))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobify-commits", daemon=True)
                self._thread.start()
            self._guard.notify()

    def _run(self) -> None:
        watched: list[_Watched] = []
        while self._has_more(watched):
            now = time.monotonic()
            due = [one for one in watched if one.look_at <= now]
            seen = _look(due)
            watched = [one for one in watched if one not in seen and (one.look_at > now or one.postpone(now))]
            time.sleep(_SPACING)

    def _has_more(self, watched: list[_Watched]) -> bool:
        """Wait until there is something to look for; False: the thread is to end."""
        with self._guard:
            now = time.monotonic()
            until = min((one.look_at for one in watched), default=now + _LINGER)
            if not self._arrived:
                self._guard.wait(max(until - now, 0))
            while self._arrived:
                watched.append(self._arrived.popleft())
            if not watched:
                self._thread = None
            return bool(watched)


def _look(due: list[_Watched]) -> set[_Watched]:
    """Look for these jobs, and notify; which ones need not be looked for any more."""
    done: set[_Watched] = set()
    for find in {one.stored.find: None for one in due}:
        its = [one for one in due if one.stored.find == find]
        try:
            found = find([one.stored.job_id for one in its])
        except Exception as error:  # closed, or not available: workers look by themselves
            log.debug("It cannot be seen whether a transaction was committed: %s", error)
            done.update(its)
            continue
        visible = [one for one in its if one.stored.job_id in found]
        for notify in {one.stored.notify: None for one in visible}:
            notify()
        done.update(visible)
    return done


_watch: Final = CommitWatch()


def notify_after_commit(stored: Stored, *, is_in_transaction: bool) -> None:
    """Notify the workers now, or when others see this job. Returns at once."""
    notify_when_visible(stored) if is_in_transaction else stored.notify()


def notify_when_visible(stored: Stored) -> None:
    """Notify the workers when others see this job. Returns at once."""
    _watch.add(stored)
