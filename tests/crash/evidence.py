"""What killed processes left behind, and what it proves.

The sources do not know of each other: the journal is written by the tasks, the acknowledgements by whoever pushed, the
kills by whoever killed, the history by the storage, and the audit tables by triggers in the database. All times are
microseconds of one machine's clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .databases import CrashDatabase

__all__ = ("Report", "examine")

SECOND = 1_000_000
LONGEST_RECOVERY = 2.0
"""Seconds that a crash may cost while another process lives, on a machine that has nothing else to do."""


class Execution(NamedTuple):
    """One start of a function, and what was heard of it."""

    key: str
    pid: int
    worker: int
    started_at: int
    last_sign_at: int
    is_finished: bool


class Life(NamedTuple):
    """A worker process, from the moment it was ready."""

    up_at: int
    killed_at: float


class Lost(NamedTuple):
    """A line of the history: an attempt whose process died."""

    job_id: str
    attempt: int
    due_at: int
    started_at: int
    owner: int


class Recovery(NamedTuple):
    """How long it took until a lost attempt was begun again, without the time in which no process lived."""

    seconds: float
    has_survivor: bool
    """One process lived all the time from the kill on."""
    is_suspect: bool
    """Two processes or more had died under the job: it may wait to run apart from others."""


class Row(NamedTuple):
    """A job at the end."""

    status: str
    attempt: int
    started_at: int
    result: bytes | None


class Report(NamedTuple):
    """The figures, and a sentence for everything that is not as it must be."""

    figures: dict[str, object]
    violations: list[str]

    def __str__(self) -> str:
        lines = [f"{name:<40}{value}" for name, value in self.figures.items()]
        return "\n".join([*lines, *(f"VIOLATION {text}" for text in self.violations[:50])])


class Evidence:
    """Everything in one directory, read."""

    def __init__(self, directory: Path, database: CrashDatabase) -> None:
        self.refused = {key for key, _ in _lines(directory / "refused", 2)}
        acks = list(_lines(directory / "acks", 3))
        self.acks = {key: int(number) for key, number, _ in acks}
        self.acks_begun_at = {key: int(at) for key, _, at in acks}
        self.complaints = (directory / "complaints").read_text().splitlines()
        self.restores = [(int(backup_at), int(at)) for backup_at, at in _lines(directory / "restores", 2)]
        self.set_back_at = [int(at) for (at,) in _lines(directory / "set_back", 1)]
        self.kills = {int(pid): int(at) for pid, at, _, _ in _lines(directory / "kills", 4)}
        self.parents = [(child, parent) for child, parent in _lines(directory / "parents", 2)]
        self.up_at: dict[int, int] = {}
        self.executions: dict[str, list[Execution]] = defaultdict(list)
        self._read_journal(directory / "journal")
        self._read_database(database)

    def _read_journal(self, path: Path) -> None:
        open_: dict[tuple[str, str], Execution] = {}
        for event, key, pid, worker, at in _lines(path, 5):
            if event == "up" and key == "worker":
                self.up_at[int(pid)] = int(at)
            elif event == "started":
                if (key, pid) in open_:
                    self.executions[key].append(open_.pop((key, pid)))
                open_[key, pid] = Execution(key, int(pid), int(worker), int(at), int(at), False)
            elif (key, pid) in open_:
                is_finished = event == "finished"
                open_[key, pid] = open_[key, pid]._replace(last_sign_at=int(at), is_finished=is_finished)
        for execution in open_.values():
            self.executions[execution.key].append(execution)
        for some in self.executions.values():
            some.sort(key=lambda execution: execution.started_at)

    def _read_database(self, database: CrashDatabase) -> None:
        jobs = database.rows("SELECT id, status, attempt, started_at, result FROM jobs WHERE rule IS NULL")
        self.rows = {id: Row(*rest) for id, *rest in jobs}
        lost = database.rows(
            "SELECT job_id, attempt, due_at, coalesce(started_at, 0), owner FROM attempts "
            "WHERE outcome = 'lost' AND error NOT LIKE 'ProcessDiedError%'"
        )
        self.lost = [Lost(*line) for line in lost]
        orphaned = "SELECT job_id FROM attempts WHERE outcome = 'lost' AND error LIKE 'ProcessDiedError%'"
        self.child_deaths = Counter(id for (id,) in database.rows(orphaned))
        self.ends = Counter(id for (id,) in database.rows("SELECT job_id FROM audit_ends"))
        self.pids: dict[int, int] = dict(database.rows("SELECT id, pid FROM audit_owners"))
        self.runs: list[tuple[int, str]] = database.rows(
            "SELECT due_at, trim(outcome || ' ' || coalesce(error, '')) FROM attempts "
            "WHERE outcome <> 'lost' AND job_id LIKE 'tick%' ORDER BY due_at"
        )
        self.damage = database.damage()

    @property
    def lives(self) -> list[Life]:
        return [Life(at, self.kills.get(pid, float("inf"))) for pid, at in self.up_at.items()]


def _lines(path: Path, words: int) -> Iterator[list[str]]:
    """The whole lines of a file; its writer may have been killed in the middle of the last one."""
    return (line for line in map(str.split, path.read_text().splitlines()) if len(line) == words)


def examine(
    directory: Path,
    database: CrashDatabase,
    *,
    is_undisturbed: bool = True,
    is_file_the_same: bool = True,
    is_always_connected: bool = True,
    longest_recovery: float = LONGEST_RECOVERY,
) -> Report:
    """The figures and violations of one run. Disturbed by more than kills, a restart and a due time of the cron may
    take longer. What a restored backup does not know is not missed, and runs again. Where the file is moved away
    and back, a call that was refused meanwhile may be in it, and what a process left when it noticed is not counted.
    Where a process can lose its server, others may take its jobs while it lives: then a job may run twice at once, but
    the outcome of one claim alone is accepted."""
    evidence = Evidence(directory, database)
    recoveries = sorted(_recoveries(evidence)) if is_undisturbed else []
    late = sum(recovery.seconds > longest_recovery and not recovery.is_suspect for recovery in recoveries)
    history = (
        *_accepted_twice(evidence),
        *(_uncounted(evidence) if is_file_the_same and is_always_connected else ()),
        *(_overlapping(evidence) if is_always_connected else ()),
        *_out_of_order(evidence),
        *_torn_batches(evidence),
        *_wrong_ticks(evidence, is_undisturbed=is_undisturbed),
    )
    violations = [
        *evidence.complaints,
        *_lost_or_wrong(evidence),
        *(() if evidence.restores else history),
        *(_refused_and_stored(evidence) if is_file_the_same else ()),
        *([f"{late} jobs were restarted later than {longest_recovery:g} s after a kill"] if late else []),
        *([evidence.damage] if evidence.damage else []),
    ]
    return Report(_figures(evidence, recoveries), violations)


def _figures(evidence: Evidence, recoveries: Sequence[Recovery]) -> dict[str, object]:
    runs = [due_at for due_at, _ in evidence.runs]
    survived = [recovery.seconds for recovery in recoveries if recovery.has_survivor]
    others = [recovery.seconds for recovery in recoveries if not recovery.has_survivor]
    return {
        "kills": len(evidence.kills),
        "acknowledged jobs": len(evidence.acks),
        "refused calls": len(evidence.refused),
        "jobs that ran": sum(bool(some) for some in evidence.executions.values()),
        "condemned": sum(row.status == "failed" and _fate(key) != "failed" for key, row in evidence.rows.items()),
        "run twice at once": 0 if evidence.restores else sum(1 for _ in _overlapping(evidence)),
        "stored jobs": len(evidence.rows),
        "jobs that waited for another": len({child for child, _ in evidence.parents}),
        "lost attempts in the history": len(evidence.lost),
        "children killed in mid-job": sum(evidence.child_deaths.values()),
        "repeated executions": sum(max(len(some) - 1, 0) for some in evidence.executions.values()),
        "most attempts of one job": max((row.attempt for row in evidence.rows.values()), default=0),
        "restarts by a survivor": len(survived),
        "... p50 / p99 / max (s)": _quantiles(survived),
        "restarts when all were dead": len(others),
        "... p50 / p99 / max after a start (s)": _quantiles(others),
        "cron runs": len(runs),
        "cron runs, same due time": len(runs) - len(set(runs)),
        "cron due times missed": len(_gaps(evidence.runs)),
    }


def _quantiles(ordered: Sequence[float]) -> str:
    if not ordered:
        return "-"
    return " / ".join(f"{ordered[min(len(ordered) - 1, int(len(ordered) * part))]:.2f}" for part in (0.5, 0.99, 1))


# -- what must hold ----------------------------------------------------------------------------------------------------


def _lost_or_wrong(evidence: Evidence) -> Iterator[str]:
    """What was acknowledged exists; whatever exists has ended as its key says, with the right result."""
    for key in evidence.acks.keys() - evidence.rows.keys():
        begun_at = evidence.acks_begun_at[key]
        if not any(backup_at - SECOND <= begun_at <= at for backup_at, at in evidence.restores):
            yield f"{key} was acknowledged and is not in the database"
    for key, row in evidence.rows.items():
        if row.status != _fate(key):
            yield f"{key} is {row.status}"
        elif row.status != "success":
            if row.status == "cancelled" and evidence.executions[key]:
                yield f"{key} was begun, although what it waited for has failed"
        elif key in evidence.acks and row.result != b"%d" % evidence.acks[key] ** 2:
            yield f"{key} has the result {row.result!r}"
        elif not any(execution.is_finished for execution in evidence.executions[key]):
            yield f"{key} has succeeded and never finished"


def _accepted_twice(evidence: Evidence) -> Iterator[str]:
    """The outcome of one claim was applied, and of no other."""
    for key in evidence.rows:
        if evidence.ends[key] != 1 and not (_fate(key) == "cancelled" and not evidence.ends[key]):
            yield f"{key} ended {evidence.ends[key]} times"


def _uncounted(evidence: Evidence) -> Iterator[str]:
    """Every attempt but the last is a lost one in the history, and there are no more executions than attempts."""
    lost = Counter(line.job_id for line in evidence.lost)
    for key, row in evidence.rows.items():
        counted = lost[key] + evidence.child_deaths[key] + (_fate(key) != "cancelled")
        if row.attempt != counted:
            yield f"{key}: {row.attempt} attempts, and {counted} by the history"
        if len(evidence.executions[key]) > row.attempt:
            yield f"{key}: {len(evidence.executions[key])} executions in {row.attempt} attempts"
    for line in evidence.lost:
        if evidence.pids[line.owner] not in evidence.kills:
            yield f"{line.job_id} was taken from a process that was never killed"


def _overlapping(evidence: Evidence) -> Iterator[str]:
    """A second execution begins when the first one's process has been killed, and nothing is heard of the first one
    from then on."""
    for key, executions in evidence.executions.items():
        for first, second in pairwise(executions):
            if key.startswith("tick@") and _is_repeated(evidence, first, second):
                continue
            ends = [evidence.kills[pid] for pid in (first.worker, first.pid) if pid in evidence.kills]
            killed_at = min(ends, default=None)
            if killed_at is None or killed_at > second.started_at:
                yield f"{key} was begun again while its first process lived"
            elif first.last_sign_at >= second.started_at:
                yield f"{key} ran twice at the same time for {first.last_sign_at - second.started_at} µs"


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    """A job that waited for another begins after that one has finished."""
    for child, parent in evidence.parents:
        begun = [execution.started_at for execution in evidence.executions[child]]
        finished = [each.last_sign_at for each in evidence.executions[parent] if each.is_finished]
        if begun and (not finished or min(begun) < min(finished)):
            yield f"{child} was begun before {parent} had finished"


def _torn_batches(evidence: Evidence) -> Iterator[str]:
    """Of jobs that were enqueued in one transaction all are there, or none."""
    for name, count in Counter(key.rsplit("-", 2)[0] for key in evidence.rows if key.startswith("batch")).items():
        meant = next(int(key.rsplit("-", 1)[1]) for key in evidence.rows if key.startswith(f"{name}-"))
        if count != meant:
            yield f"{count} of the {meant} jobs of {name} are there"


def _fate(key: str) -> str:
    """How a job must end, by its key."""
    return {"doomed": "failed", "orphan": "cancelled"}.get(key.partition("-")[0], "success")


def _refused_and_stored(evidence: Evidence) -> Iterator[str]:
    """A call that raised has changed nothing."""
    for key in evidence.refused & evidence.rows.keys():
        yield f"{key} was refused and is in the database"


def _wrong_ticks(evidence: Evidence, *, is_undisturbed: bool) -> Iterator[str]:
    """A run for every due time, and one only, unless the clock was set back in between."""
    for due_at, count in Counter(due_at for due_at, _ in evidence.runs).items():
        executions = pairwise(evidence.executions[f"tick@{due_at}"])
        repeated = sum(_is_repeated(evidence, first, second) for first, second in executions)
        if count > 1 + repeated:
            yield f"the cron's run of {due_at} was accepted {count} times"
    for due_at, outcome in evidence.runs if is_undisturbed else ():
        if outcome != "succeeded":
            yield f"the cron's run of {due_at}: {outcome}"
    for due_at in _gaps(evidence.runs) if is_undisturbed else ():
        yield f"the cron did not run for the time after {due_at}"


def _is_repeated(evidence: Evidence, first: Execution, second: Execution) -> bool:
    """Whether a due time has come twice: the clock was set back after the first run began (how-it-works/time.md)."""
    return any(first.started_at - SECOND <= at <= second.started_at for at in evidence.set_back_at)


def _gaps(runs: Sequence[tuple[int, str]]) -> list[int]:
    times = sorted({due_at for due_at, _ in runs})
    return [one for one, following in pairwise(times) if following - one != SECOND]


# -- how long it took --------------------------------------------------------------------------------------------------


def _recoveries(evidence: Evidence) -> Iterator[Recovery]:
    lost: dict[str, list[Lost]] = defaultdict(list)
    for line in evidence.lost:
        lost[f"tick@{line.due_at}" if line.job_id.startswith("tick") else line.job_id].append(line)
    for key, lines in lost.items():
        lines.sort(key=lambda line: line.attempt)
        for number, (line, following) in enumerate(zip(lines, [*lines[1:], None], strict=True), start=1):
            killed_at = evidence.kills.get(evidence.pids[line.owner])
            begun_at = None if killed_at is None else _begun_again(evidence, key, killed_at, following)
            if killed_at is not None and begun_at is not None:
                yield _recovery(evidence.lives, killed_at, begun_at, is_suspect=number > 1)


def _begun_again(evidence: Evidence, key: str, killed_at: int, following: Lost | None) -> int | None:
    """When the function was entered again; or when the job was claimed again, if that process was killed in between."""
    starts = [execution.started_at for execution in evidence.executions[key] if execution.started_at > killed_at]
    claims = [following.started_at] if following is not None and following.started_at > killed_at else []
    return min([*starts, *claims], default=None)


def _recovery(lives: Sequence[Life], killed_at: int, begun_at: int, *, is_suspect: bool) -> Recovery:
    alive_since = min((life.up_at for life in lives if life.up_at <= begun_at <= life.killed_at), default=begun_at)
    return Recovery((begun_at - max(killed_at, alive_since)) / SECOND, alive_since <= killed_at, is_suspect)
