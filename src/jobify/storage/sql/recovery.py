"""Take the jobs of owners that have left or died.

Which job is to blame is decided by :mod:`jobify.storage.suspicion`.
Called inside a transaction.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobify.model.records import Recovered
from jobify.model.status import JobStatus, Lost
from jobify.storage.begun import key_of
from jobify.storage.end_reasons import crash_limit_reached
from jobify.storage.sql.dependencies import propagate_end
from jobify.storage.sql.limit_gates import release_limits
from jobify.storage.sql.settlements import end_cancelled, replace_with_successors
from jobify.storage.sql.statements import Statements
from jobify.storage.suspicion import (
    RESTLESS,
    Company,
    Death,
    HeldCrash,
    HeldVerdict,
    Suspicion,
    Verdict,
    is_verdict_due,
    judge_held,
    judged,
)
from jobify.types import Microseconds

__all__ = (
    "CrashLimits",
    "DeadProcess",
    "end_held",
    "held_suspects",
    "recover_dead",
    "release_departed",
    "release_owners",
)


class DeadProcess(NamedTuple):
    """A process that has died, and the owners that it was."""

    host: str
    pid: int
    begun: Mapping[int, Sequence[int] | None]
    """The keys of the jobs that had begun, by owner; None: that is not known."""
    is_worker: bool
    """It claimed jobs. The end of a process that only waits for some is ordinary, and no death."""


class CrashLimits(NamedTuple):
    """What ``recover`` was given."""

    now: Microseconds
    max_crashes: int
    delete_at: Microseconds | None


class _HeldJob(NamedTuple):
    """A job that an owner holds."""

    seq: int
    id: str
    task: str
    origin: int | None
    owner: int
    attempt: int
    crashes: int
    has_successor: int
    has_cancel: int
    is_on_trial: int
    suspicion: Suspicion | None

    def recovered(self, *, is_condemned: bool, has_begun: bool = False) -> Recovered:
        """What becomes of it."""
        if self.has_successor:
            status = JobStatus.SCHEDULED
        elif self.has_cancel:
            status = JobStatus.CANCELLED
        else:
            status = JobStatus.FAILED if is_condemned else JobStatus.SCHEDULED
        return Recovered(self.id, self.task, status.value, self.origin, attempt=self.attempt if has_begun else 0)


class HeldSuspect(NamedTuple):
    """A job that waits for its verdict."""

    seq: int
    id: str
    task: str
    origin: int | None
    crash: HeldCrash

    def is_due(self, now: Microseconds) -> bool:
        """Whether it has waited long enough."""
        return self.crash.died_at is None or is_verdict_due(self.crash.died_at, now)


class _Death(NamedTuple):
    """The death of a process, once it is written down."""

    id: int
    size: int
    is_trial: bool
    begun: frozenset[int]
    """The seqs of those of its jobs that had begun."""


def release_owners(statements: Statements, owners: Sequence[int], *, is_uncounted: bool = False) -> list[Recovered]:
    """These owners leave, or have left: what they hold waits again; ``is_uncounted``: without a lost attempt."""
    held = _held(statements, owners)
    recovered = [job.recovered(is_condemned=False) for job in held]
    replace_with_successors(statements, [job.id for job in held if job.has_successor])
    cancelled = [job.id for job in recovered if job.status == JobStatus.CANCELLED]
    end_cancelled(statements, cancelled)
    propagate_end(statements, cancelled)
    if is_uncounted:
        statements.run_for("uncount_attempt", owners)
    _release(statements, owners)
    return recovered


def release_departed(statements: Statements, owners: Sequence[int], *, now: Microseconds) -> list[Recovered]:
    """Release what owners held that had left, and whose threads are at their end: neither an attempt nor a crash."""
    statements.run_for("record_released", owners, now)
    return [job._replace(is_crash=False) for job in release_owners(statements, owners, is_uncounted=True)]


def recover_dead(statements: Statements, processes: Sequence[DeadProcess], limits: CrashLimits) -> list[Death]:
    """Take what dead processes hold; their deaths."""
    owners = [owner for process in processes for owner in process.begun]
    held = _held(statements, owners)
    holders = {job.owner for job in held}
    processes = [process for process in processes if process.is_worker or holders & process.begun.keys()]
    deaths = [_write_death(statements, process, held, limits.now) for process in processes]
    verdicts = _verdicts(statements, held, deaths, limits)
    condemned = {seq for seq, verdict in verdicts.items() if verdict.is_condemned}
    recovered = {
        job.seq: job.recovered(is_condemned=job.seq in condemned, has_begun=job.seq in verdicts) for job in held
    }
    statements.run_for("record_lost", list(verdicts), Lost().reason, limits.now)
    statements.run_for("uncount_unbegun", [job.seq for job in held if job.seq not in verdicts])
    statements.run_for("count_crash", [job.seq for job in held if _has_crashed(job, verdicts)])
    replace_with_successors(statements, [job.id for job in held if job.has_successor])
    end_cancelled(statements, [job.id for job in recovered.values() if job.status == JobStatus.CANCELLED])
    for job in held:
        if recovered[job.seq].status == JobStatus.FAILED:
            _quarantine(statements, job.id, verdicts[job.seq].crashes, limits)
    propagate_end(statements, [job.id for job in recovered.values() if job.status != JobStatus.SCHEDULED])
    waiting = [job for job in held if recovered[job.seq].status == JobStatus.SCHEDULED and not job.has_successor]
    _suspect(statements, waiting, verdicts)
    _release(statements, owners)
    statements.run("delete_orphaned_suspects")
    return [
        _death_of(process, death, held, recovered, limits) for process, death in zip(processes, deaths, strict=True)
    ]


def _held(statements: Statements, owners: Sequence[int]) -> list[_HeldJob]:
    """In the order of insertion."""
    rows = statements.rows_for("held_by_owners", owners)
    return [_HeldJob._make([*row[:10], _suspicion_of(row[10:])]) for row in sorted(rows)]


def _suspicion_of(columns: Sequence[Any]) -> Suspicion | None:
    attempt, deaths, seen, company, is_apart, is_held = columns
    return None if attempt is None else Suspicion(attempt, deaths, tuple(seen), company, bool(is_apart), bool(is_held))


def _write_death(statements: Statements, process: DeadProcess, held: Iterable[_HeldJob], now: Microseconds) -> _Death:
    size = 0
    theirs: list[_HeldJob] = []
    begun: list[_HeldJob] = []
    for owner, keys in process.begun.items():
        its = [job for job in held if job.owner == owner]
        known = None if keys is None else frozenset(keys)
        its_begun = [job for job in its if known is None or key_of(job.id) in known]
        size += max(len(its_begun), 0 if keys is None else len(keys))
        theirs += its
        begun += its_begun
    is_trial = size == len(begun) > 0 and all(job.is_on_trial for job in begun)
    row = (now, process.host, process.pid, len(theirs), size, is_trial)
    death = statements.add("add_death", *row)
    statements.run("delete_old_deaths", death)
    return _Death(death, size, is_trial, frozenset(job.seq for job in begun))


def _verdicts(
    statements: Statements, held: Iterable[_HeldJob], deaths: Sequence[_Death], limits: CrashLimits
) -> dict[int, Verdict]:
    """The verdicts on those jobs that had begun, by seq."""
    unexplained = _unexplained(statements, limits.now, limits.now)
    jobs = {job.seq: job for job in held}
    return {
        seq: judged(
            Company.of(death.id, death.size, unexplained, limits.now),
            jobs[seq].suspicion,
            attempt=jobs[seq].attempt,
            crashes=jobs[seq].crashes,
            max_crashes=limits.max_crashes,
        )
        for death in deaths
        for seq in death.begun
    }


def _unexplained(statements: Statements, first: Microseconds, last: Microseconds) -> dict[int, Microseconds]:
    """The deaths around these times that no trial explains, with their times."""
    return dict(statements.rows("unexplained", first - RESTLESS, last + RESTLESS))


def end_held(statements: Statements, limits: CrashLimits) -> list[Recovered]:
    """End those that are held if their last crash stands, or have them tried again; those that have ended."""
    held = held_suspects(statements.rows("held_suspects"))
    died_at = [job.crash.died_at for job in held if job.crash.died_at is not None]
    unexplained = _unexplained(statements, min(died_at), max(died_at)) if died_at else {}
    by_verdict = defaultdict[HeldVerdict, list[HeldSuspect]](list)
    for job in held:
        by_verdict[judge_held(job.crash, unexplained, max_crashes=limits.max_crashes, now=limits.now)].append(job)
    disproved = [job.seq for job in by_verdict[HeldVerdict.DISPROVED]]
    condemned = by_verdict[HeldVerdict.CONDEMNED]
    statements.run_for("uncount_crash", disproved)
    statements.run_for("try_again", [*disproved, *(job.seq for job in by_verdict[HeldVerdict.SPARED])])
    for job in condemned:
        _quarantine(statements, job.id, job.crash.crashes, limits)
    propagate_end(statements, [job.id for job in condemned])
    return [Recovered(job.id, job.task, JobStatus.FAILED.value, job.origin) for job in condemned]


def held_suspects(found: Iterable[Sequence[Any]]) -> list[HeldSuspect]:
    """The jobs that wait for their verdict, as the statement of this name answers."""
    return [HeldSuspect._make((*columns[:4], HeldCrash._make(columns[4:]))) for columns in found]


def _quarantine(statements: Statements, id: str, crashes: int, limits: CrashLimits) -> None:
    statements.run("quarantine", crash_limit_reached(id, crashes), limits.now, limits.delete_at, id)


def _has_crashed(job: _HeldJob, verdicts: Mapping[int, Verdict]) -> bool:
    return job.seq in verdicts and verdicts[job.seq].crashes > job.crashes


def _suspect(statements: Statements, jobs: Sequence[_HeldJob], verdicts: Mapping[int, Verdict]) -> None:
    """Write down what is known of these from now on, and let those run apart of which that is too much."""
    suspects = [(job, verdicts[job.seq].suspicion) for job in jobs if job.seq in verdicts]
    rows = [
        (
            job.seq,
            known.attempt,
            known.deaths,
            json.dumps(known.seen),
            known.death,
            known.company,
            known.is_apart,
            known.is_held,
        )
        for job, known in suspects
    ]
    statements.run_rows("add_suspects", rows)
    statements.run_for("set_apart", [job.seq for job, known in suspects if known.is_apart and not job.is_on_trial])


def _release(statements: Statements, owners: Sequence[int]) -> None:
    statements.run_for("release", owners)
    release_limits(statements, owners)


def _death_of(
    process: DeadProcess,
    death: _Death,
    held: Iterable[_HeldJob],
    recovered: Mapping[int, Recovered],
    limits: CrashLimits,
) -> Death:
    jobs = tuple(recovered[job.seq] for job in held if job.owner in process.begun)
    return Death(death.id, limits.now, process.host, process.pid, death.size, death.is_trial, jobs)
