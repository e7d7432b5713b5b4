"""Rows for tests of a storage, and short words for what an engine does. Needs no test framework, so that programs which
tests start may import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jobify.exceptions import StorageUnavailableError
from jobify.model.records import (
    AttemptRecord,
    BatchRule,
    Claim,
    Claimed,
    ClaimRequest,
    JobRecord,
    MessageKind,
    NewJob,
    OwnerProfile,
    OwnerRole,
    Report,
    Settlement,
    TaskSlots,
)
from jobify.model.status import ClaimScope
from jobify.storage.base import Storage
from jobify.storage.suspicion import Death
from jobify.types import Microseconds

__all__ = (
    "NASTY_BYTES",
    "NASTY_TEXTS",
    "NOW",
    "PROFILE",
    "SECOND",
    "after",
    "again",
    "ask",
    "claim",
    "claim_once",
    "claimed",
    "claimed_without_waiting",
    "die",
    "end",
    "ids_of",
    "job",
    "line",
    "made_without_waiting",
    "one",
    "report",
    "running",
    "statuses",
    "suspects",
)


NOW: Microseconds = 1_700_000_000_000_000
SECOND: Microseconds = 1_000_000

PROFILE = OwnerProfile(OwnerRole.WORKER, None, (), 10)

NASTY_BYTES = (
    b"",
    b"\0",
    b"\xff\xfe\0\x80",
    bytes(range(256)),
    '{"text": "ünï\\u0000cødé ✓"}'.encode(),
    b"\\\"'" * 1000,
)
NASTY_TEXTS = ("ünï cødé ✓ 🦜", "a\0b", "quote ' and \" and \\", "new\nline\ttab", "%s {braces} ?", " ", "0")


def job(id: str, **fields: Any) -> NewJob:
    """A waiting job that is due."""
    due_at = fields.get("due_at", NOW)
    usual = NewJob(
        id=id,
        task="task",
        queue="default",
        priority=0,
        status="scheduled",
        ready=due_at <= NOW,
        due_at=due_at,
        created_at=NOW,
        payload=b'{"args": []}',
    )
    return usual._replace(**fields)


def after(id: str, *parents: str, **fields: Any) -> NewJob:
    """A job that is due, and waits for its parents."""
    return job(id, parents=parents, **fields)


def running(id: str, owner: int, **fields: Any) -> NewJob:
    """A job that is inserted already claimed."""
    usual = {"status": "running", "owner": owner, "fence": 1, "attempt": 1, "started_at": NOW, "origin": owner}
    return job(id, **{**usual, **fields})


def claim_once(
    storage: Storage,
    owner: int,
    *,
    limit: int = 100,
    tasks: Sequence[str] = ("task",),
    queues: tuple[str, ...] | None = None,
    now: Microseconds = NOW,
) -> Claimed:
    """Claim from one lane."""
    return storage.claim(ClaimRequest(owner, (TaskSlots(tuple(tasks), limit),), queues), now=now)


def claim(storage: Storage, owner: int, **how: Any) -> list[Claim]:
    """Claim from one lane, until there is no more."""
    claims: list[Claim] = []
    while True:
        found = claim_once(storage, owner, **how)
        claims += found.claims
        if not found.has_more or "limit" in how:
            return claims


def claimed(storage: Storage, owner: int, id: str, **fields: Any) -> Claim:
    """Insert a job and claim it."""
    assert storage.insert([job(id, **fields)]) == [True]
    (found,) = claim(storage, owner, tasks=(fields.get("task", "task"),))
    return found


def made_without_waiting(storage: Storage, write: Callable[[], object]) -> bool:
    """Whether ``write`` could be made without waiting; if not, nothing was changed."""
    block = storage.nonblocking
    if block is None:
        return False
    try:
        with block:
            write()
    except StorageUnavailableError:
        return False
    return True


def claimed_without_waiting(storage: Storage, owner: int, batch: BatchRule | None = None) -> list[str] | None:
    """The jobs of a claim that was made without waiting; None: it was refused."""
    block = storage.nonblocking_claims
    if block is None:
        return None
    request = ClaimRequest(owner, (TaskSlots(("task",), 100, batch),), None, scope=ClaimScope.ORDINARY)
    try:
        with block:
            return [found.id for found in storage.claim(request, now=NOW).claims]
    except StorageUnavailableError:
        return None


def end(owner: int, claim: Claim | NewJob, **fields: Any) -> Settlement:
    """A settlement of a claim: a plain success."""
    usual = Settlement(
        status="success",
        ready=False,
        due_at=claim.due_at,
        offset_at=None,
        attempt=claim.attempt,
        run_count=0,
        failure_count=0,
        result=b"null",
        error=None,
        finished_at=NOW + SECOND,
        delete_at=NOW + 60 * SECOND,
        is_dead=False,
        is_lost=False,
        id=claim.id,
        owner=owner,
        fence=claim.fence,
    )
    return usual._replace(**fields)


def again(owner: int, claim: Claim | NewJob, **fields: Any) -> Settlement:
    """A settlement to waiting: a retry in ten seconds."""
    usual = {
        "status": "scheduled",
        "due_at": NOW + 10 * SECOND,
        "result": None,
        "error": "ValueError: no",
        "finished_at": None,
        "delete_at": None,
    }
    return end(owner, claim, **{**usual, **fields})


def report(owner: int, claim: Claim | NewJob, data: Any = b"1", kind: MessageKind = MessageKind.VALUE) -> Report:
    """Something that a running job has to say: a value, if nothing else."""
    return Report(claim.id, owner, claim.fence, kind, NOW + 1, data)


def line(id: str, **fields: Any) -> AttemptRecord:
    """A line of history."""
    usual = AttemptRecord(
        job_id=id,
        attempt=1,
        due_at=NOW,
        outcome="failed",
        error="ValueError: no",
        traceback="Traceback …",
        started_at=NOW,
        finished_at=NOW + SECOND,
        owner=1,
    )
    return usual._replace(**fields)


def one(storage: Storage, id: str) -> JobRecord:
    """The job with this id."""
    (record,) = storage.get((id,))
    return record


def statuses(storage: Storage, ids: Sequence[str]) -> list[str]:
    """How these jobs stand; one that is gone is "missing"."""
    found = {record.id: record.status for record in storage.get(ids)}
    return [found.get(id, "missing") for id in ids]


# -- dying -------------------------------------------------------------------------------------------------------------
# What the tests of deaths begin with: claims by scope, the end of a process, jobs that died together.


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
