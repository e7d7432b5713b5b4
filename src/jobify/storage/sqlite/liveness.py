"""Which owners live: the lock file first, then the process, then the heartbeat.

1. The owner's own lock file (``locks``). Unlocked, it proves the death of the owner; locked, its life, unless its
   process is known to be gone (another program may hold a lock on the file).
2. Without that file, the process: its id and the time of its start (``process``). That is decisive for a process of the
   same boot and the same pid namespace, and needs no patience.
3. For a process that cannot be seen from here (another container on the same volume, a system without ``/proc``), or a
   row that was copied with its database, the heartbeat: an owner that has lost its lock file, and beats no more for
   :data:`SILENCE` seconds in which this process has looked at it regularly, is dead. A missing lock file alone is
   never a proof, because a living owner makes it again at its next look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from typing import Final, NamedTuple, Protocol

from jobify.storage import process
from jobify.storage.base import HEARTBEAT
from jobify.storage.sqlite.locks import LockState, OwnerLocks, file_identity
from jobify.types import Microseconds

__all__ = ("SILENCE", "Liveness")

SILENCE: Final = 3 * HEARTBEAT
"""Seconds."""
_LONGEST_STEP: Final = 2.0
"""Seconds of silence that one look adds at most: this process may have been stopped itself meanwhile."""

_READ_AGAIN: Final = 2.0
"""Seconds between two thorough checks of the process of an owner whose lock is held."""


class Owner(Protocol):
    """The row of an owner whose liveness is checked."""

    @property
    def id(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def seen_at(self) -> Microseconds: ...
    @property
    def lock(self) -> str: ...
    @property
    def process(self) -> str | None: ...


class _Evidence(NamedTuple):
    """What an owner writes into its row, so that others can tell whether it lives."""

    identity: str
    lock_file: str
    database: str

    @classmethod
    def read(cls, text: str | None) -> _Evidence | None:
        words = (text or "").split(" ")
        return cls(*words) if len(words) == len(cls._fields) else None


class _Watched(NamedTuple):
    """An owner of which nothing but its heartbeat is known."""

    seen_at: Microseconds
    looked_at: float
    silence: float


class Liveness:
    """Checks whether owners live. May be called on any thread."""

    def __init__(self, locks: OwnerLocks, database: str, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._locks = locks
        self._database = database
        self._elapsed = elapsed
        self._watched: dict[int, _Watched] = {}
        self._read_again_at: dict[int, float] = {}

    def evidence(self, lock: str) -> str:
        """What to write into the row of an owner of this process that holds ``lock``."""
        return " ".join((process.current() or "-", self._locks.file_of(lock), file_identity(self._database) or "-"))

    def is_alive(self, owner: Owner) -> bool:
        """Whether the process that owns this row lives. If that cannot be found out, it does."""
        evidence = _Evidence.read(owner.process)
        state = self._locks.state(owner.lock, None if evidence is None else evidence.lock_file)
        if state is LockState.FREE:
            return False
        if state is LockState.HELD:
            return evidence is None or self._runs_with_lock(owner, evidence)
        runs = None if evidence is None else self._runs(owner, evidence)
        return self._beats(owner) if runs is None else runs

    def forget_all_but(self, owners: Set[int]) -> None:
        """Forget the owners that are gone."""
        for kept in (self._watched, self._read_again_at):
            for owner in kept.keys() - owners:
                kept.pop(owner, None)

    def _runs_with_lock(self, owner: Owner, evidence: _Evidence) -> bool:
        now = self._elapsed()
        is_quick = now < self._read_again_at.get(owner.id, now)
        if not is_quick:
            self._read_again_at[owner.id] = now + _READ_AGAIN
        return process.is_running(owner.pid, evidence.identity, is_quick=is_quick) is not False

    def _runs(self, owner: Owner, evidence: _Evidence) -> bool | None:
        if evidence.database != file_identity(self._database):  # the row was copied: its process serves another file
            return None
        return process.is_running(owner.pid, evidence.identity)

    def _beats(self, owner: Owner) -> bool:
        now, before = self._elapsed(), self._watched.get(owner.id)
        if before is None or before.seen_at != owner.seen_at:
            self._watched[owner.id] = _Watched(owner.seen_at, now, 0.0)
            return True
        silence = before.silence + min(now - before.looked_at, _LONGEST_STEP)
        self._watched[owner.id] = _Watched(owner.seen_at, now, silence)
        return silence < SILENCE
