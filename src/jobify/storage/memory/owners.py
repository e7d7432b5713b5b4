"""Owners: who they are, and what becomes of the jobs of those that left or died."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from jobify.model.records import JobRecord, OwnerProfile, OwnerRecord, OwnerRole, Recovered
from jobify.model.status import JobStatus
from jobify.storage.memory import transitions
from jobify.storage.memory.dependencies import Dependencies
from jobify.storage.memory.rows import SCHEDULED, Row, runs_apart
from jobify.storage.memory.table import Table
from jobify.storage.suspicion import RESTLESS, Company, Death, HeldCrash, HeldVerdict, Suspicion, judge_held, judged
from jobify.types import Microseconds

__all__ = (
    "close",
    "deregister",
    "end_held",
    "heartbeat",
    "leave",
    "recover_dead",
    "register",
    "release",
    "release_departed",
)

_DEATHS: Final = 1000
"""How many are remembered."""


def register(table: Table, id: int, profile: OwnerProfile, now: Microseconds) -> None:
    """One owner more."""
    owner = OwnerRecord(id, socket.gethostname(), os.getpid(), now, now, profile, True)
    _keep(table, (*_all(table), owner))


def heartbeat(table: Table, id: int, now: Microseconds) -> None:
    """It was seen."""
    _keep(table, (owner._replace(seen_at=now) if owner.id == id else owner for owner in _all(table)))


def close(table: Table) -> None:
    """Mark every owner dead, except those that leave and whose threads still run."""
    leaving = table.side.leaving
    _keep(table, (owner._replace(is_alive=owner.is_alive and owner.id in leaving) for owner in _all(table)))


def leave(table: Table, id: int) -> None:
    """An owner leaves, and keeps what it holds."""
    if id in table.side.owners:
        table.side = table.side._replace(leaving=table.side.leaving | {id})


def release(table: Table, id: int) -> None:
    """An owner that has left holds its jobs no more."""
    _keep(table, (owner._replace(is_alive=owner.is_alive and owner.id != id) for owner in _all(table)))


def deregister(table: Table, jobs: Dependencies, id: int) -> None:
    """Remove an owner; what it holds is released."""
    has_left = id in table.side.leaving
    for row in table.held_by(id):
        jobs.upsert(transitions.released(transitions.uncounted(row) if has_left else row))
    _keep(table, (owner for owner in _all(table) if owner.id != id))


def recover_dead(
    table: Table, jobs: Dependencies, *, now: Microseconds, max_crashes: int, delete_at: Microseconds | None
) -> list[Death]:
    """Only the living stay, and what the others held is released, or has crashed too often. Nothing here outlives a
    process, so beginnings are not recorded: all that an owner held counts as begun."""
    dead = [owner for owner in _all(table) if not owner.is_alive and owner.id not in table.side.leaving]
    processes = [list(owners) for _, owners in groupby(sorted(dead, key=_process_of), key=_process_of)]
    processes = [owners for owners in processes if _is_of_interest(table, owners)]
    found = [_found(table, owners, now) for owners in processes]
    unexplained = _unexplained(table)
    for number, death in enumerate(found):
        company = Company.of(death.id, death.begun, unexplained, now)
        after = []
        for job in death.jobs:
            row = table.find(job.id)
            assert row is not None
            row = _recovered(row, company, now=now, max_crashes=max_crashes, delete_at=delete_at)
            jobs.upsert(row)
            after.append(job._replace(status=row.record.status))
        found[number] = death._replace(jobs=tuple(after))
    _keep(table, (owner for owner in _all(table) if owner.is_alive))
    if found:
        table.forget_suspicions()
    return found


def end_held(
    table: Table, jobs: Dependencies, *, now: Microseconds, max_crashes: int, delete_at: Microseconds | None
) -> list[Recovered]:
    """End those that are held if their last crash stands, or have them tried again; those that have ended."""
    unexplained, died_at = _unexplained(table), {death.id: death.at for death in table.side.deaths}
    ended = []
    for row, suspicion in [(row, row.suspicion) for row in table.suspects()]:
        if suspicion is None or not _is_held(row, suspicion):
            continue
        job = row.record
        crash = HeldCrash(job.crashes, died_at.get(suspicion.death), suspicion.seen)
        verdict = judge_held(crash, unexplained, max_crashes=max_crashes, now=now)
        if verdict is HeldVerdict.DISPROVED:
            jobs.upsert(transitions.tried_again(row, crashes=max(job.crashes - 1, 0)))
        elif verdict is HeldVerdict.SPARED:
            jobs.upsert(transitions.tried_again(row, crashes=job.crashes))
        elif verdict is HeldVerdict.CONDEMNED:
            jobs.upsert(transitions.quarantined(row, now=now, delete_at=delete_at))
            ended.append(Recovered(job.id, job.task, JobStatus.FAILED.value, job.origin))
    return ended


def recent_deaths(table: Table, now: Microseconds) -> list[Microseconds]:
    """See :meth:`jobify.storage.ownership.OwnerPort.recent_deaths`."""
    return [at for at in _unexplained(table).values() if abs(at - now) <= RESTLESS]


def _is_held(row: Row, suspicion: Suspicion) -> bool:
    """Whether the job waits for its verdict. With another attempt than the one that was lost, it is another run."""
    is_current = suspicion.is_held and suspicion.attempt == row.record.attempt
    return is_current and row.record.status == SCHEDULED and runs_apart(row)


def _unexplained(table: Table) -> dict[int, Microseconds]:
    """The deaths that no trial explains, with their times."""
    return {death.id: death.at for death in table.side.deaths if not death.is_trial}


def release_departed(table: Table, jobs: Dependencies, *, now: Microseconds) -> list[Recovered]:
    """What owners held that had left and have let go is released: neither an attempt nor a crash counts."""
    recovered = []
    for owner in [owner for owner in _all(table) if not owner.is_alive and owner.id in table.side.leaving]:
        for row in table.held_by(owner.id):
            after = transitions.released(transitions.released_uncounted(row, now))
            jobs.upsert(after)
            job = row.record
            recovered.append(Recovered(job.id, job.task, after.record.status, job.origin, is_crash=False))
        _keep(table, (other for other in _all(table) if other.id != owner.id))
    return recovered


def _is_of_interest(table: Table, owners: Iterable[OwnerRecord]) -> bool:
    """The end of a process that only waits for jobs is ordinary, and no death."""
    return any(owner.profile.role is OwnerRole.WORKER or table.held_by(owner.id) for owner in owners)


def _lost(job: JobRecord) -> Recovered:
    return Recovered(job.id, job.task, job.status, job.origin, attempt=job.attempt)


def _found(table: Table, owners: Iterable[OwnerRecord], now: Microseconds) -> Death:
    """Write down the death of a process that was these owners."""
    held = sorted((row for owner in owners for row in table.held_by(owner.id)), key=lambda row: row.seq)
    process = next(iter(owners))
    death = Death(
        id=table.side.deaths[-1].id + 1 if table.side.deaths else 1,
        at=now,
        host=process.host,
        pid=process.pid,
        begun=len(held),
        is_trial=bool(held) and all(runs_apart(row) for row in held),
        jobs=tuple(_lost(row.record) for row in held),
    )
    deaths = (*table.side.deaths, death._replace(jobs=()))[-_DEATHS:]
    table.side = table.side._replace(deaths=deaths)
    return death


def _recovered(
    row: Row, company: Company, *, now: Microseconds, max_crashes: int, delete_at: Microseconds | None
) -> Row:
    job = row.record
    verdict = judged(company, row.suspicion, attempt=job.attempt, crashes=job.crashes, max_crashes=max_crashes)
    row = transitions.lost(row, verdict, now)
    if row.successor is not None or row.cancel is not None:
        return transitions.released(row)
    if verdict.is_condemned:
        return transitions.quarantined(row, now=now, delete_at=delete_at)
    return transitions.released(transitions.suspected(row, verdict.suspicion))


def _process_of(owner: OwnerRecord) -> tuple[str, int]:
    return owner.host, owner.pid


def _all(table: Table) -> Iterable[OwnerRecord]:
    return table.side.owners.values()


def _keep(table: Table, owners: Iterable[OwnerRecord]) -> None:
    kept, side = {owner.id: owner for owner in owners}, table.side
    held = {claim: gates for claim, gates in side.kept_limits.items() if claim[1] in kept}
    table.side = side._replace(owners=kept, leaving=side.leaving & kept.keys(), kept_limits=held)
