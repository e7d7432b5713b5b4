"""Everything that can happen to processes, files, clocks and the system at random moments; then the proof of what held.

By hand::

    python -m tests.crash.chaos                                   # all scenarios, with what `make chaos` does
    python -m tests.crash.chaos --only disk --times 5 --seed 17   # one of them, again

Each scenario runs the processes of :mod:`tests.crash.killing` in a folder of its own and does one kind of harm to them,
so many times. :mod:`tests.crash.evidence` then counts what was acknowledged, refused, run, run twice and condemned. The
seed repeats the choices, not the moments. The exit code is 1 if anything is not as it must be.

=============  ====================================================================================================
``kills``      SIGKILL to one process, to all, to one that starts, to the producer, to a child
``faults``     kills, SIGSTOP, a locked database, refused descriptors, deleted lock files
``disk``       no free block on the file system of the database, and kills
``moved``      the files of the database are moved away under the processes, and back
``restored``   a backup is restored over the file that the processes use
``clock``      the wall clock of all processes jumps by seconds, an hour, five years, and back
``killers``    jobs that kill their process among a thousand that do not
=============  ====================================================================================================
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from . import faults
from .evidence import Report, examine
from .killers import find_the_killers
from .killing import Arena, kill_at_random, until

__all__ = ("SCENARIOS", "main")

DISK_SIZE = 48
"""Megabytes of the file system that becomes full."""


class Scenario(NamedTuple):
    """What to do, how often by default, and how many jobs are enqueued meanwhile."""

    run: Callable[[Path, int, int], Report]
    times: int
    jobs: int


def _kills(directory: Path, times: int, jobs: int) -> Report:
    kill_at_random(directory, kills=times, jobs=jobs, workers=2, pace=0.8)
    return examine(directory, directory / "jobs.db")


def _harm(directory: Path, harms: Sequence[faults.Fault], jobs: int, **options: object) -> Report:
    """Do one harm after the other while jobs are enqueued and run."""
    arena = Arena(directory, workers=2, rate=jobs / (len(harms) * 2.5), **options)  # type: ignore[arg-type]  # of Arena
    try:
        for harm in harms:
            until(arena.is_up)
            time.sleep(random.uniform(0.1, 1.0))
            harm(arena)
        until(lambda: arena.acknowledged() >= jobs)
        arena.finish()
    except TimeoutError:
        arena.complain(f"It never came to rest: {arena.unfinished()} jobs are unfinished")
    finally:
        arena.end()
    is_same = faults.file_is_moved_away not in harms
    return examine(directory, arena.database, is_undisturbed=False, is_file_the_same=is_same)


def _faults(directory: Path, times: int, jobs: int) -> Report:
    return _harm(directory, random.choices(list(faults.FAULTS.values()), k=times), jobs)


def _disk(directory: Path, times: int, jobs: int) -> Report:
    with faults.small_disk(directory / "disk", DISK_SIZE) as is_possible:
        if not is_possible:
            return Report({"not possible here": "a file system of its own takes root"}, [])
        harms = [
            random.choice((faults.disk_is_full, faults.disk_is_full, faults.process_is_killed)) for _ in range(times)
        ]
        return _harm(directory, harms, jobs, database=directory / "disk" / "jobs.db")


def _moved(directory: Path, times: int, jobs: int) -> Report:
    return _harm(directory, [faults.file_is_moved_away] * times, jobs)


def _restored(directory: Path, times: int, jobs: int) -> Report:
    return _harm(directory, [faults.file_is_replaced] * times, jobs)


def _clock(directory: Path, times: int, jobs: int) -> Report:
    (directory / "clock").write_bytes(bytes(8))
    harms = [
        random.choice((faults.clock_is_wrong, faults.clock_is_wrong, faults.process_is_killed)) for _ in range(times)
    ]
    return _harm(directory, harms, jobs, environment={"KILLING_CLOCK": str(directory / "clock")})


SCENARIOS = {
    "kills": Scenario(_kills, 200, 5000),
    "faults": Scenario(_faults, 60, 1500),
    "disk": Scenario(_disk, 10, 500),
    "moved": Scenario(_moved, 6, 300),
    "restored": Scenario(_restored, 6, 300),
    "clock": Scenario(_clock, 12, 500),
    "killers": Scenario(find_the_killers, 3, 1000),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Do harm at random and prove that no job was lost.")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this scenario; may be given several times")
    parser.add_argument("--times", type=int, help="how often the harm is done (default: as make chaos does it)")
    parser.add_argument("--jobs", type=int, help="jobs that are enqueued meanwhile, at least")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--directory", type=Path, help="keep the files here; it must be empty")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    failed = [name for name in options.only or SCENARIOS if not _holds(name, options)]
    print(f"not as it must be: {', '.join(failed)}" if failed else "all is as it must be")
    return 1 if failed else 0


def _holds(name: str, options: argparse.Namespace) -> bool:
    """Run a scenario and print its report; whether there was nothing wrong."""
    scenario = SCENARIOS[name]
    random.seed(f"{options.seed} {name}")
    with ExitStack() as stack:
        directory = Path(options.directory or stack.enter_context(tempfile.TemporaryDirectory())) / name
        directory.mkdir(parents=True)
        print(f"\n== {name}", flush=True)
        report = scenario.run(directory, options.times or scenario.times, options.jobs or scenario.jobs)
    print(report, flush=True)
    return not report.violations


if __name__ == "__main__":
    sys.exit(main())
