"""Kill processes at random moments, then prove from what they left behind that no job was lost or run twice.

By hand::

    python -m tests.crash.killing --kills 200 --jobs 5000 --seed 1
    python -m tests.crash.killing --database postgresql://user@host/empty --producers 2

Apps that push and run jobs (:mod:`tests.crash.victim`) share one database with a worker and its pool children and
with processes that only enqueue. This one kills them with SIGKILL: one, all, one that has only just been started, a
producer, a child; and starts them again. Afterwards :mod:`tests.crash.evidence` reads the files and the database, and
says what went wrong; the exit code is 1 if anything did. The seed repeats the choices, not the moments.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .databases import CrashDatabase, FileDatabase, database_of
from .evidence import LONGEST_RECOVERY, examine

ROOT = Path(__file__).parents[2]


class Victim:
    """One place for a process: killed and started again, any number of times."""

    def __init__(self, directory: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self._directory = directory
        self._environment = environment
        self._arguments = arguments
        self.is_worker = arguments[0] == "jobify"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", *self._arguments]
        with open(self._directory / "log", "a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a power cut does, and note the moment."""
        killed_at = time.time_ns() // 1000
        self.process.kill()
        code = self.process.wait()
        with open(self._directory / "kills", "a") as kills:
            kills.write(f"{self.process.pid} {killed_at} {time.time_ns() // 1000} {code}\n")


class Arena:
    """The processes, and the database that they share: ``workers`` apps that push and run jobs, a worker besides, and
    ``producers``."""

    def __init__(
        self,
        directory: Path,
        *,
        database: CrashDatabase,
        workers: int,
        rate: float,
        producers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.database = database
        self.environment = {
            **os.environ,
            "KILLING_DIRECTORY": str(directory),
            "KILLING_DATABASE": database.url,
            **(environment or {}),
        }
        database.prepare()
        for name in ("journal", "acks", "refused", "parents", "kills", "restores", "set_back", "complaints", "log"):
            (directory / name).touch()
        # Half of the jobs come from the apps that also run them.
        pushing = ("tests.crash.victim", "app", str(rate / 2 / workers))
        working = ("jobify", "worker", "tests.crash.victim:app", "--grace", "10", "--log-level", "warning")
        self.workers = [self._victim(*pushing) for _ in range(workers)] + [self._victim(*working)]
        enqueuing = ("tests.crash.victim", "producer", str(rate / 2 / producers))
        self.producers = [self._victim(*enqueuing) for _ in range(producers if rate else 0)]
        self.kills = 0

    def _victim(self, *arguments: str) -> Victim:
        return Victim(self.directory, self.environment, *arguments)

    @property
    def victims(self) -> list[Victim]:
        return [*self.workers, *self.producers]

    def kill_some(self) -> None:
        """Kill one worker, or all, or a producer; start it again after a while, and perhaps kill it while it starts.
        Or kill a child."""
        fate = random.random()
        if fate < 0.2 and self._kill_child():
            return
        if fate < 0.3 and self.producers:
            some = [random.choice(self.producers)]
        elif fate < 0.4:
            some = self.workers
        else:
            some = [random.choice(self.workers)]
        for victim in some:
            victim.kill()
        self.kills += len(some)
        # Mostly it is back at once, as a service manager does it; now and then the survivors are on their own.
        time.sleep(2.5 if random.random() < 0.15 else random.uniform(0, 0.3))
        for victim in some:
            victim.start()
        if random.random() < 0.15:
            time.sleep(random.uniform(0, 0.5))
            some[0].kill()
            some[0].start()
            self.kills += 1

    def _kill_child(self) -> bool:
        """Kill the child process that has begun a job last, if it still lives; whether it did."""
        lines = [line.split() for line in (self.directory / "journal").read_text().splitlines()[-200:]]
        alive = {str(victim.process.pid) for victim in self.workers}
        children = [(pid, worker) for *_, pid, worker, _ in lines if pid != worker and worker in alive]
        for pid, worker in reversed(children):
            try:
                parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
                if parent != worker:
                    continue
                killed_at = time.time_ns() // 1000
                os.kill(int(pid), signal.SIGKILL)
            except OSError:
                continue
            with open(self.directory / "kills", "a") as kills:
                kills.write(f"{pid} {killed_at} {time.time_ns() // 1000} -9\n")
            self.kills += 1
            return True
        return False

    def complain(self, sentence: str) -> None:
        """Write down something that is not as it must be, for the report."""
        with open(self.directory / "complaints", "a") as complaints:
            complaints.write(f"{sentence}\n")

    def stop_all(self, *, since: int) -> None:
        """Ask every process to end, as a service manager does; one that does not within half a minute is killed. One
        that has ended by itself did so after ``since``."""
        now = time.time_ns() // 1000
        ended_after = {victim: now if victim.process.poll() is None else since for victim in self.victims}
        for victim in self.victims:
            victim.process.terminate()
        for victim in self.victims:
            try:
                code = victim.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.complain(f"process {victim.process.pid} does not end when it is asked to")
                victim.kill()
                continue
            with open(self.directory / "kills", "a") as kills:
                kills.write(f"{victim.process.pid} {ended_after[victim]} {time.time_ns() // 1000} {code}\n")

    def start_all(self) -> None:
        for victim in self.victims:
            victim.start()

    def acknowledged(self) -> int:
        return (self.directory / "acks").read_bytes().count(b"\n")

    def unfinished(self) -> int:
        query = "SELECT count(*) FROM jobs WHERE status IN ('scheduled', 'running') AND rule IS NULL"
        ((count,),) = self.database.rows(query)
        return int(count)

    def finish(self) -> None:
        """Let everything settle, then let the processes leave."""
        (self.directory / "stop").touch()
        until(self._is_quiet)
        (self.directory / "end").touch()
        for victim in self.victims:
            if victim.is_worker:
                victim.process.terminate()
            if victim.process.wait(timeout=120) != 0:
                self.complain(f"process {victim.process.pid} ended with {victim.process.returncode}: see the log")

    def _is_quiet(self) -> bool:
        return self.is_up() and not self.unfinished()

    def is_up(self) -> bool:
        """Whether every process is at work; one that has ended by itself is started again, as a service manager does
        it."""
        for victim in self.victims:
            code = victim.process.poll()
            if code is not None:
                ended_at = time.time_ns() // 1000
                with open(self.directory / "kills", "a") as kills:
                    kills.write(f"{victim.process.pid} {ended_at} {ended_at} {code}\n")
                victim.start()
        journal = (self.directory / "journal").read_text()
        return all(f" {victim.process.pid} " in journal for victim in self.victims)

    def end(self) -> None:
        for victim in self.victims:
            victim.process.kill()
            victim.process.wait()


@contextmanager
def noise(count: int) -> Iterator[None]:
    """Processes that take all the processor time they can get."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def until(condition: Callable[[], object], *, within: float = 120.0) -> None:
    """Return when ``condition`` holds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError
        time.sleep(0.05)


def kill_at_random(
    directory: Path, database: CrashDatabase, *, kills: int, jobs: int, workers: int, producers: int, pace: float
) -> None:
    """Kill ``kills`` times, ``pace`` seconds apart on average, while at least ``jobs`` jobs are pushed.

    On a busy machine a process takes long to start. It is waited for, so that kills meet processes at work."""
    arena = Arena(directory, database=database, workers=workers, rate=jobs / (kills * pace), producers=producers)
    try:
        while arena.kills < kills:
            until(arena.is_up)
            time.sleep(random.uniform(0.1, 1.9) * pace)
            arena.kill_some()
        until(lambda: arena.acknowledged() >= jobs)
        arena.finish()
    except TimeoutError:
        pushed = arena.acknowledged()
        if pushed < jobs:
            arena.complain(f"It took too long: {pushed} of {jobs} jobs were pushed, after {arena.kills} kills")
        else:
            arena.complain(f"It never came to rest: {arena.unfinished()} jobs are unfinished")
    finally:
        arena.end()


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill processes at random and prove that no job was lost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=5000, help="at least; 0: only the cron")
    parser.add_argument("--workers", type=int, default=2, help="apps that push and run jobs, beside one worker")
    parser.add_argument("--producers", type=int, default=1)
    parser.add_argument("--database", metavar="URL", help="an empty one (default: a file in the directory)")
    parser.add_argument("--pace", type=float, default=0.8, help="seconds between two kills, on average")
    parser.add_argument("--noise", type=int, default=0, help="processes that do nothing but keep a processor busy")
    parser.add_argument(
        "--longest-recovery",
        type=float,
        default=LONGEST_RECOVERY,
        metavar="SECONDS",
        help="a job that is restarted later than so long after a kill is a violation",
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--directory", type=Path, help="keep the files here; it must be empty")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the processes
    print(f"seed {options.seed}", flush=True)
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        directory: Path = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        database = database_of(options.database) if options.database else FileDatabase(directory / "jobs.db")
        with noise(options.noise):
            kill_at_random(
                directory,
                database,
                kills=options.kills,
                jobs=options.jobs,
                workers=options.workers,
                producers=options.producers,
                pace=options.pace,
            )
        report = examine(directory, database, longest_recovery=options.longest_recovery)
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
