"""What the tests of deaths begin with: claims by scope, the end of a process, jobs that died together."""

from __future__ import annotations

from jobify.model.records import Claimed, ClaimRequest, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.storage.suspicion import Death
from jobify.testing.rows import NOW, PROFILE, job
from jobify.types import Microseconds

__all__ = ("ask", "die", "ids_of", "suspects")


def ask(
    storage: Storage,
    owner: int,
    scope: ClaimScope,
    *,
    limit: int = 5000,
    tasks: tuple[str, ...] = ("task",),
    queues: tuple[str, ...] | None = None,
    now: Microseconds = NOW,
) -> Claimed:
    return storage.claim(ClaimRequest(owner, (TaskSlots(tasks, limit),), queues, scope=scope), now=now)


def ids_of(claimed: Claimed) -> list[str]:
    return [claim.id for claim in claimed.claims]


def die(storage: Storage, *, now: Microseconds = NOW, max_crashes: int = 3) -> tuple[int, Death]:
    """End the storage as the death of its process would; an owner in the process after it, and the death."""
    deaths: list[Death] = []
    storage.close()
    storage.open()
    owner = storage.register(PROFILE, now=now)
    storage.recover(now=now, max_crashes=max_crashes, delete_at=None, on_death=deaths.append)
    (death,) = deaths
    return owner, death


def suspects(storage: Storage, ids: list[str], *, deaths: int = 2, max_crashes: int = 3) -> int:
    """Have these jobs die together; an owner after that."""
    storage.insert([job(id) for id in ids])
    owner = storage.register(PROFILE, now=NOW)
    for _ in range(deaths):
        assert set(ids) <= {found.id for found in ask(storage, owner, ClaimScope.ORDINARY).claims}
        owner, _ = die(storage, max_crashes=max_crashes)
    return owner
