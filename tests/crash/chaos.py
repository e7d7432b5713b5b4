"""Everything that can happen to processes, files, clocks and the system at random moments; then the proof of what held.

By hand::

    python -m tests.crash.chaos                                   # all scenarios, with what `make chaos` does
    python -m tests.crash.chaos --postgres                        # the same on a server of PostgreSQL of its own
    python -m tests.crash.chaos --only disk --times 5 --seed 17   # one of them, again
    python -m tests.crash.chaos --only kills --database postgresql://user@host/empty

Each scenario runs the processes of :mod:`tests.crash.killing` in a folder of its own and does one kind of harm to them,
so many times. :mod:`tests.crash.evidence` then counts what was acknowledged, refused, run, run twice and condemned. The
seed repeats the choices, not the moments. The exit code is 1 if anything is not as it must be.

=============  ====================================================================================================
``kills``      SIGKILL to one process, to all, to one that starts, to a producer, to a child
``faults``     kills, SIGSTOP, a locked database, refused descriptors; deleted lock files, or ended connections
``disk``       no free block on the file system of the database, and kills
``moved``      the files of the database are moved away under the processes, and back
``restored``   a backup is restored over the file that the processes use
``clock``      the wall clock of all processes jumps by seconds, an hour, five years, and back
``killers``    jobs that kill their process among a thousand that do not
``restarts``   the server of the database is restarted, and crashes
``network``    the network between a worker and its server is cut: once, because that takes a worker of its own
=============  ====================================================================================================

A file has all but the last two; a server has kills, faults, killers, and those two if it is the program's own.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.postgres_server import PostgresServer, TestDatabases

from . import faults
from .databases import CrashDatabase, FileDatabase, ServerDatabase, database_of
from .evidence import Report, examine
from .killers import find_the_killers
from .killing import Arena, kill_at_random, until
from .network import cut_the_network

__all__ = ("main",)

DISK_SIZE = 48
"""Megabytes of the file system that becomes full."""
LONGEST_RETURN = 5.0
"""Seconds after which a worker consumes again when its server is there again."""


class Place(NamedTuple):
    """Where a scenario takes place."""

    directory: Path
    database: CrashDatabase
    server: PostgresServer | None = None
    """The server of the database, if it is the program's own."""
    longest_return: float = LONGEST_RETURN


class Scenario(NamedTuple):
    """What to do, how often by default, and how many jobs are enqueued meanwhile."""

    run: Callable[[Place, int, int], Report]
    times: int
    jobs: int


def _kills(place: Place, times: int, jobs: int) -> Report:
    kill_at_random(place.directory, place.database, kills=times, jobs=jobs, workers=2, producers=2, pace=0.8)
    return examine(place.directory, place.database)


def _harm(place: Place, harms: Sequence[faults.Fault], jobs: int, **options: object) -> Report:
    """Do one harm after the other while jobs are enqueued and run."""
    rate = jobs / (len(harms) * 2.5)
    arena = Arena(
        place.directory,
        database=place.database,
        workers=2,
        producers=2,
        rate=rate,
        **options,  # type: ignore[arg-type]  # of Arena
    )
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
    return examine(
        place.directory,
        place.database,
        is_undisturbed=False,
        is_file_the_same=is_same,
        is_always_connected=isinstance(place.database, FileDatabase),
    )


def _faults(place: Place, times: int, jobs: int) -> Report:
    return _harm(place, random.choices(list(faults.faults_of(place.database).values()), k=times), jobs)


def _disk(place: Place, times: int, jobs: int) -> Report:
    disk = place.directory / "disk"
    with faults.small_disk(disk, DISK_SIZE) as is_possible:
        if not is_possible:
            return Report({"not possible here": "a file system of its own takes root"}, [])
        harms = [
            random.choice((faults.disk_is_full, faults.disk_is_full, faults.process_is_killed)) for _ in range(times)
        ]
        return _harm(place._replace(database=FileDatabase(disk / "jobs.db")), harms, jobs)


def _moved(place: Place, times: int, jobs: int) -> Report:
    return _harm(place, [faults.file_is_moved_away] * times, jobs)


def _restored(place: Place, times: int, jobs: int) -> Report:
    return _harm(place, [faults.file_is_replaced] * times, jobs)


def _clock(place: Place, times: int, jobs: int) -> Report:
    (place.directory / "clock").write_bytes(bytes(8))
    harms = [
        random.choice((faults.clock_is_wrong, faults.clock_is_wrong, faults.process_is_killed)) for _ in range(times)
    ]
    return _harm(place, harms, jobs, environment={"KILLING_CLOCK": str(place.directory / "clock")})


def _killers(place: Place, times: int, jobs: int) -> Report:
    return find_the_killers(place.directory, place.database, times, jobs)


def _restarts(place: Place, times: int, jobs: int) -> Report:
    server = place.server
    assert server is not None
    return_times: list[float] = []

    def restart(arena: Arena) -> None:
        """The server stops, or crashes; a while later it is there again."""
        random.choice((server.stop, server.kill))()
        time.sleep(random.uniform(0.2, 2.0))
        server.start()
        return_times.append(_seconds_until_begun(arena))

    report = _harm(place, [restart] * times, jobs)
    late = sum(seconds > place.longest_return for seconds in return_times)
    return_times.sort()
    report.figures["restarts of the server"] = len(return_times)
    report.figures["... first job after it, p50 / max (s)"] = (
        f"{return_times[len(return_times) // 2]:.2f} / {return_times[-1]:.2f}"
    )
    if late:
        report.violations.append(f"{late} times no job began within {place.longest_return:g} s of the server's return")
    return report


def _network(place: Place, times: int, jobs: int) -> Report:
    return cut_the_network(place.directory)


def _seconds_until_begun(arena: Arena) -> float:
    """How long it takes from now on until a worker begins a job."""
    begun, journal = time.monotonic(), arena.directory / "journal"
    size = journal.stat().st_size
    until(lambda: b"started " in journal.read_bytes()[size:])
    return time.monotonic() - begun


_ANYWHERE = {
    "kills": Scenario(_kills, 200, 5000),
    "faults": Scenario(_faults, 60, 1500),
    "killers": Scenario(_killers, 3, 1000),
}
_OF_A_FILE = {
    "disk": Scenario(_disk, 10, 500),
    "moved": Scenario(_moved, 6, 300),
    "restored": Scenario(_restored, 6, 300),
    "clock": Scenario(_clock, 12, 500),
}
_OF_A_SERVER = {"restarts": Scenario(_restarts, 3, 500), "network": Scenario(_network, 1, 1)}
SCENARIOS = {**_ANYWHERE, **_OF_A_FILE, **_OF_A_SERVER}


def main() -> int:
    parser = argparse.ArgumentParser(description="Do harm at random and prove that no job was lost.")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this scenario; may be given several times")
    parser.add_argument("--times", type=int, help="how often the harm is done (default: as make chaos does it)")
    parser.add_argument("--jobs", type=int, help="jobs that are enqueued meanwhile, at least")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--directory", type=Path, help="keep the files here; it must be empty")
    parser.add_argument(
        "--longest-return",
        type=float,
        default=LONGEST_RETURN,
        metavar="SECONDS",
        help="a server after whose return no job begins for so long is a violation",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--postgres", action="store_true", help="on a server of PostgreSQL that this program starts")
    where.add_argument("--database", metavar="URL", help="an empty one, for one scenario (default: a file for each)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the processes
    print(f"seed {options.seed}", flush=True)
    if options.database and len(options.only or ()) != 1:
        parser.error("--database is for one scenario: say --only")
    with ExitStack() as stack:
        server = stack.enter_context(_own_server()) if options.postgres else None
        possible = _ANYWHERE | (_OF_A_SERVER if server else {} if options.database else _OF_A_FILE)
        names = options.only or list(possible)
        if unknown := set(names) - possible.keys():
            parser.error(f"not possible on this database: {', '.join(sorted(unknown))}")
        failed = [name for name in names if not _holds(name, options, server)]
    print(f"not as it must be: {', '.join(failed)}" if failed else "all is as it must be")
    return 1 if failed else 0


@contextmanager
def _own_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _database(options: argparse.Namespace, directory: Path, server: PostgresServer | None) -> CrashDatabase:
    """An empty one."""
    if server is not None:
        databases = TestDatabases(server.url())
        return ServerDatabase(databases.create())
    return database_of(options.database) if options.database else FileDatabase(directory / "jobs.db")


def _holds(name: str, options: argparse.Namespace, server: PostgresServer | None) -> bool:
    """Run a scenario and print its report; whether there was nothing wrong."""
    scenario = SCENARIOS[name]
    random.seed(f"{options.seed} {name}")
    with ExitStack() as stack:
        directory = Path(options.directory or stack.enter_context(tempfile.TemporaryDirectory())) / name
        directory.mkdir(parents=True)
        print(f"\n== {name}", flush=True)
        place = Place(directory, _database(options, directory, server), server, options.longest_return)
        report = scenario.run(place, options.times or scenario.times, options.jobs or scenario.jobs)
    print(report, flush=True)
    return not report.violations


if __name__ == "__main__":
    sys.exit(main())
