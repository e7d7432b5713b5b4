"""Kill workers whose tasks have limits, then prove from what they wrote down that no limit was exceeded, or idle.

By hand::

    python -m tests.crash.limit_trace --workers 8 --jobs 100000 --kills 30 --seed 1
    python -m tests.crash.limit_trace --database postgresql://user@host/empty

Several workers (:mod:`tests.crash.limit_victim`) share one database, and are killed with SIGKILL at random moments.
Each body appends its begin and its end to a file. Afterwards:

- At no moment have more bodies run than a limit allows; what a killed process had open lasted until its kill.
- No window of the rate holds more starts than it allows, by ``started_at`` of the rows.
- No limit was idle while jobs waited for it: with room, and no start, longer than a second (longer after a kill).
- Each job has ended; nothing is held, and no line has entries. On a server, no transactions waited for each other.

The exit code is 1 if anything of that is not so. The seed repeats the choices, not the moments.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .databases import CrashDatabase, FileDatabase, ServerDatabase, database_of
from .killing import Victim, until

SECOND = 1_000_000
KEYS = 20
TASKS = ("shared", "keyed", "both", "thread", "rated")


class Body(NamedTuple):
    """One execution. What was killed ends with its process."""

    task: str
    key: int
    number: int
    begin: int
    end: int


class Gate(NamedTuple):
    """A limit for one key, with what has run under it. ``waiting``: bodies that wait for nothing but this gate."""

    name: str
    maximum: int
    bodies: list[Body]
    waiting: list[Body]


# -- the trace ---------------------------------------------------------------------------------------------------------


def read_bodies(directory: Path) -> list[Body]:
    """What ran, and when."""
    kills = dict(_kills(directory))
    begun: dict[tuple[str, str, str], tuple[str, int, int]] = {}
    bodies: list[Body] = []
    for line in (directory / "trace").read_text().splitlines():
        event, task, key, number, pid, at = line.split()
        if event == "begin":
            begun[task, number, pid] = (pid, int(key), int(at))
        else:
            _, _, begin = begun.pop((task, number, pid))
            bodies.append(Body(task, int(key), int(number), begin, int(at)))
    for (task, number, _), (pid, key_number, begin) in begun.items():
        bodies.append(Body(task, key_number, int(number), begin, max(kills[int(pid)], begin)))
    return sorted(bodies, key=lambda body: body.begin)


def _kills(directory: Path) -> Iterator[tuple[int, int]]:
    """Process and moment of each kill."""
    for line in (directory / "kills").read_text().splitlines():
        pid, killed_at, _, _ = map(int, line.split())
        yield pid, killed_at


def gates_of(bodies: list[Body]) -> list[Gate]:
    from .limit_victim import KEYED, SHARED

    of_task: dict[str, list[Body]] = defaultdict(list)
    for body in bodies:
        of_task[body.task].append(body)
    gates = [Gate("shared", SHARED, of_task["shared"] + of_task["both"], of_task["shared"])]
    for key in range(KEYS):
        alone = [body for task in ("keyed", "thread") for body in of_task[task] if body.key == key]
        gates.append(Gate(f"keyed {key}", KEYED, alone + [b for b in of_task["both"] if b.key == key], alone))
    return gates


def most_at_once(bodies: Iterable[Body]) -> int:
    """An end and a begin at the same microsecond are in this order."""
    steps = sorted([(body.begin, 1) for body in bodies] + [(body.end, -1) for body in bodies])
    most = running = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def idle_times(gate: Gate, since: int) -> Iterator[tuple[int, int]]:
    """The stretches (from, to) with room and without a start, while a job waited that waits for nothing else. All
    jobs are enqueued before ``since``, so one waits until the last of ``waiting`` has begun."""
    last = max((body.begin for body in gate.waiting), default=since)
    steps = sorted([(body.begin, 1) for body in gate.bodies] + [(body.end, -1) for body in gate.bodies])
    running, idle_from = 0, since
    for at, step in steps:
        if at > last:
            return
        if step > 0 and running < gate.maximum and at > idle_from:
            yield idle_from, at
        running += step
        if step > 0 or running == gate.maximum - 1:
            idle_from = max(at, since)


def most_in_a_window(starts: Iterable[int], per: int) -> int:
    """The most starts in a half-open window."""
    ordered, first, most = sorted(starts), 0, 0
    for number, at in enumerate(ordered):
        while ordered[first] <= at - per:
            first += 1
        most = max(most, number - first + 1)
    return most


# -- the verdict -------------------------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """Seconds that a limit may be idle."""

    usual: float
    after_kill: float


def examine(directory: Path, database: CrashDatabase, *, jobs: int, since: int, bounds: Bounds) -> list[str]:
    """The report, line by line; what must not be begins with VIOLATION."""
    from .limit_victim import BURST, PER, RATE

    bodies, kills = read_bodies(directory), [at for _, at in _kills(directory)]
    report = [f"{len(bodies)} executions of {jobs} jobs in {len(kills)} kills"]
    longest = {False: 0.0, True: 0.0}
    for gate in gates_of(bodies):
        most = most_at_once(gate.bodies)
        if most > gate.maximum:
            report.append(f"VIOLATION {gate.name}: {most} at once, and {gate.maximum} are allowed")
        if gate.name == "shared":
            report.append(f"shared: at most {most} at once")
        for start, end in idle_times(gate, since):
            is_disturbed = any(start - 5 * SECOND <= kill <= end for kill in kills)
            longest[is_disturbed] = max(longest[is_disturbed], (end - start) / SECOND)
            if (end - start) / SECOND > (bounds.after_kill if is_disturbed else bounds.usual):
                report.append(f"VIOLATION {gate.name}: idle for {(end - start) / SECOND:.2f} s while jobs waited")
    report.append(f"longest idle: {longest[False]:.2f} s, {longest[True]:.2f} s about a kill")
    starts = [at for _, at in database.rows(_STARTS)]
    most = most_in_a_window(starts, PER * SECOND)
    report.append(f"rate: at most {most} starts in {PER} s, {RATE + BURST} are allowed")
    if most > RATE + BURST:
        report.append(f"VIOLATION rate: {most} starts in {PER} s")
    report += _gaps(starts, kills, bounds)
    statuses = dict(database.rows("SELECT status, count(*) FROM jobs GROUP BY status"))
    report.append(f"statuses: {statuses}")
    if statuses != {"success": jobs}:
        report.append("VIOLATION not all jobs have succeeded")
    for name, query in _LEFT.items():
        ((count,),) = database.rows(query)
        if count:
            report.append(f"VIOLATION {count} {name}")
    if isinstance(database, ServerDatabase):
        ((deadlocks,),) = database.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        report.append(f"{'VIOLATION ' if deadlocks else ''}{deadlocks} deadlocks")
    begun = Counter((body.task, body.number) for body in bodies)
    report.append(f"{sum(count > 1 for count in begun.values())} jobs ran more than once")
    return report


def _gaps(starts: list[int], kills: list[int], bounds: Bounds) -> Iterator[str]:
    """The rate is idle between two starts; all jobs were there before the first."""
    ordered, longest = sorted(starts), 0.0
    for before, after in pairwise(ordered):
        gap = (after - before) / SECOND
        is_disturbed = any(before - 5 * SECOND <= kill <= after for kill in kills)
        longest = max(longest, gap)
        if gap > (bounds.after_kill if is_disturbed else bounds.usual):
            yield f"VIOLATION rate: no start for {gap:.2f} s while jobs waited"
    yield f"rate: longest time without a start {longest:.2f} s"


_STARTS = """
    SELECT id, started_at FROM jobs WHERE task = 'rated'
    UNION SELECT job_id, started_at FROM attempts WHERE job_id IN (SELECT id FROM jobs WHERE task = 'rated')
"""
_LEFT = {
    "gates are held": "SELECT count(*) FROM limit_gates WHERE active <> 0",
    "claims hold limits": "SELECT count(*) FROM limit_holders",
    "jobs are in a line": "SELECT count(*) FROM limit_waiters",
}


# -- the run -----------------------------------------------------------------------------------------------------------


def enqueue(jobs: int, choices: random.Random) -> None:
    """Store all jobs, before any worker runs. The rate gets what takes it half a minute, the others the rest."""
    from .limit_victim import PER, RATE, app

    rated = min(jobs // 5, 30 * RATE // PER)
    tasks = ["rated"] * rated + [TASKS[number % 4] for number in range(jobs - rated)]
    choices.shuffle(tasks)
    for start in range(0, jobs, 500):
        calls: dict[str, list[list[int]]] = defaultdict(list)
        for number, task in enumerate(tasks[start : start + 500], start):
            calls[task].append([choices.randrange(KEYS), number])
        for task, its in calls.items():
            app.enqueue_many(task, its)


def run(directory: Path, database: CrashDatabase, *, workers: int, jobs: int, kills: int, seed: int) -> int:
    """Run it; the moment since which jobs wait and workers are there."""
    environment = {**os.environ, "KILLING_DIRECTORY": str(directory), "KILLING_DATABASE": database.url}
    os.environ.update(environment)
    for name in ("trace", "kills", "log"):
        (directory / name).touch()
    database.prepare()
    choices = random.Random(seed)
    enqueue(jobs, choices)
    command = ("jobify", "worker", "tests.crash.limit_victim:app", "--grace", "10", "--log-level", "warning")
    victims = [Victim(directory, environment, *command) for _ in range(workers)]
    try:
        until(lambda: (directory / "trace").stat().st_size)
        since = time.time_ns() // 1000
        for _ in range(kills):
            time.sleep(choices.uniform(0.1, 1.5))
            if not _unfinished(database):
                break
            victim = choices.choice(victims)
            victim.kill()
            time.sleep(choices.uniform(0, 0.3))
            victim.start()
        until(lambda: not _unfinished(database), within=60 + jobs / 100)
        for victim in victims:
            victim.process.terminate()
        for victim in victims:
            victim.process.wait(timeout=60)
        return since
    finally:
        for victim in victims:
            victim.process.kill()
            victim.process.wait()


def _unfinished(database: CrashDatabase) -> bool:
    return bool(database.rows("SELECT 1 FROM jobs WHERE status IN ('scheduled', 'running') LIMIT 1"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill workers and prove that limits were kept, and used.")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--database", metavar="URL", help="an empty one (default: a file in the directory)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--idle", type=float, help="seconds that a limit may be idle (default: 1)", default=1.0)
    parser.add_argument("--idle-after-kill", type=float, help="the same about a kill (default: 2; on a server 3.5)")
    parser.add_argument("--directory", type=Path, help="keep the files here; it must be empty")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the processes
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        directory: Path = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        database = database_of(options.database) if options.database else FileDatabase(directory / "jobs.db")
        after_kill = options.idle_after_kill or (3.5 if isinstance(database, ServerDatabase) else 2.0)
        since = run(
            directory, database, workers=options.workers, jobs=options.jobs, kills=options.kills, seed=options.seed
        )
        bounds = Bounds(options.idle, after_kill)
        report = examine(directory, database, jobs=options.jobs, since=since, bounds=bounds)
    print("\n".join(report))
    return int(any(line.startswith("VIOLATION") for line in report))


if __name__ == "__main__":
    sys.exit(main())
