"""Measure this checkout against its rivals' newest releases, and say honestly how it went.

Each program in `programs/` runs in turns (ours, theirs, ours, theirs, ...), each time alone in an empty folder: the
same file under both interpreters where both products have the same interface, else the same work written for each. The
table holds medians; the ratio is the ratio of the medians.

    make bench                                      # everything; writes bench/RESULTS.md and its summary in README.md
    python bench/run.py --peer PYTHON --only push   # experiments named so; printed only
    python bench/run.py --peer PYTHON --quick       # tiny counts: does it run at all?
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from broker_plan import BROKER_EXPERIMENTS
from limit_plan import LIMIT_EXPERIMENTS
from machine import describe_interpreter, describe_machine, describe_postgres, describe_redis
from plan import EXPERIMENTS, NO_RIVAL, Experiment, Metric, Rival
from postgres_databases import is_installed as has_postgres
from postgres_databases import new_database, running_postgres
from postgres_plan import POSTGRES_EXPERIMENTS
from queue_plan import QUEUE_EXPERIMENTS
from redis_server import is_installed, running_redis
from table import Row, to_markdown, to_summary, with_summary

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
RESULTS = HERE / "RESULTS.md"
README = HERE.parent / "README.md"
FILLER = "fill_schedule.py"
SLOWEST = 600  # seconds after which a program is given up

Numbers = dict[str, float]


class ProgramFailedError(Exception):
    """A measured program did not print its numbers; the message holds the end of what it did print."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The interpreters, a folder on a real disk, and how much to do."""

    ours: str
    peer: str
    broker: str | None
    """The interpreter of the rivals that need Redis; None: they are not run."""
    postgres_peer: str | None
    """The interpreter of the rivals that need PostgreSQL; None: they are not run."""
    postgres: str | None
    """The URL of a server; None: what needs one is not run."""
    folder: Path
    pairs: int
    is_quick: bool
    filled: dict[tuple[str, str], Path] = field(default_factory=dict)

    def measure(self, experiment: Experiment) -> list[Row]:
        """Run the rounds of one experiment and turn every metric into a row for each rival."""
        if experiment.on_postgres and self.postgres is None:
            return []
        ours: list[Numbers] = []
        theirs: list[list[Numbers]] = [[] for _ in experiment.rivals]
        product = None if experiment.mode is None else experiment.our_product
        for number in range(1, self.pairs + 1):
            print(f"{experiment.name}: round {number} of {self.pairs}", file=sys.stderr, flush=True)
            ours.append(self._run(experiment, self.ours, experiment.ours, product))
            for rival, numbers in zip(experiment.rivals, theirs, strict=True):
                if rival.name != NO_RIVAL:
                    numbers.extend(self._run_rival(experiment, rival))
        return [
            _row(metric, rival, ours, numbers)
            for metric in experiment.metrics
            for rival, numbers in zip(experiment.rivals, theirs, strict=True)
        ]

    def _run_rival(self, experiment: Experiment, rival: Rival) -> list[Numbers]:
        """One run of a rival; none if it has no Redis, or fails: that is no reason to lose all other rows."""
        try:
            if experiment.on_postgres:
                peer = self.postgres_peer
                return [] if peer is None else [self._run(experiment, peer, rival.settings, rival.product)]
            if not rival.needs_redis:
                return [self._run(experiment, self.peer, rival.settings, rival.product)]
            if self.broker is None or not is_installed():
                return []
            with running_redis() as socket:
                variables = {"BENCH_REDIS": socket}
                return [self._run(experiment, self.broker, rival.settings, rival.product, variables)]
        except ProgramFailedError as failure:
            print(f"{rival.name}: {failure}", file=sys.stderr)
            return []

    def _run(
        self,
        experiment: Experiment,
        python: str,
        storage: str,
        product: str | None,
        variables: Mapping[str, str] | None = None,
    ) -> Numbers:
        count = experiment.quick_count if self.is_quick else experiment.count
        work = [] if product is None or experiment.mode is None else [product, experiment.mode]
        with tempfile.TemporaryDirectory(dir=self.folder) as run_folder, ExitStack() as stack:
            if experiment.on_postgres and self.postgres is not None:
                variables = {"BENCH_POSTGRES": stack.enter_context(new_database(self.postgres))}
            if experiment.scheduled:
                shutil.copytree(self._filled(experiment, python, storage), run_folder, dirs_exist_ok=True)
            arguments = [*work, str(count)]
            output = run_program(experiment.program, arguments, python, storage, Path(run_folder), variables)
        numbers: Numbers = json.loads(output.splitlines()[-1])
        return numbers

    def _filled(self, experiment: Experiment, python: str, storage: str) -> Path:
        """A folder with a database of future jobs, made once for each side by its own release."""
        key = (python, storage)
        if key not in self.filled:
            count = experiment.quick_scheduled if self.is_quick else experiment.scheduled
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            run_program(FILLER, [str(count)], python, storage, folder)
            self.filled[key] = folder
        return self.filled[key]


def _row(metric: Metric, rival: Rival, ours: Sequence[Numbers], theirs: Sequence[Numbers]) -> Row:
    budget = rival.budgets.get(metric.key)
    return Row(metric, rival.name, budget, [each[metric.key] for each in ours], [each[metric.key] for each in theirs])


def run_program(
    program: str,
    arguments: Sequence[str],
    python: str,
    storage: str,
    folder: Path,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run one program to its end in `folder` and return what it printed."""
    command = [python, str(PROGRAMS / program), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**environment, "BENCH_STORAGE": storage, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=SLOWEST,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramFailedError(f"{program} took more than {SLOWEST} seconds") from error
    if done.returncode != 0:
        raise ProgramFailedError(f"{program} exited with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure this checkout against its rivals' newest releases.")
    parser.add_argument("--peer", required=True, metavar="PYTHON", help="interpreter that has the rivals installed")
    parser.add_argument("--broker", metavar="PYTHON", help="interpreter that has the rivals that need Redis")
    parser.add_argument("--postgres", metavar="PYTHON", help="interpreter that has the rivals that need PostgreSQL")
    parser.add_argument("--ours", default=sys.executable, metavar="PYTHON", help="interpreter that has this checkout")
    parser.add_argument("--pairs", type=int, default=5, help="how often each side runs each program")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="only experiments whose name contains one of these"
    )
    parser.add_argument("--quick", action="store_true", help="one pair with tiny counts; the numbers mean nothing")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table here as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    experiments = (*EXPERIMENTS, *QUEUE_EXPERIMENTS, *LIMIT_EXPERIMENTS, *BROKER_EXPERIMENTS, *POSTGRES_EXPERIMENTS)
    chosen = [experiment for experiment in experiments if any(word in experiment.name for word in options.only)]
    is_complete = not options.quick and options.only == [""]
    out: Path | None = options.out or (RESULTS if is_complete else None)
    pairs = 1 if options.quick else options.pairs
    build = HERE.parent / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix="bench-") as folder, ExitStack() as stack:
        # Absolute, but links unresolved: the interpreter of a virtual environment is a link that must stay one.
        ours, peer = os.path.abspath(options.ours), os.path.abspath(options.peer)
        broker = options.broker and os.path.abspath(options.broker)
        postgres_peer = options.postgres and os.path.abspath(options.postgres)
        needs_postgres = any(experiment.on_postgres for experiment in chosen)
        server = stack.enter_context(running_postgres()) if needs_postgres and has_postgres() else None
        bench = Bench(ours, peer, broker, postgres_peer, server, Path(folder), pairs, options.quick)
        rows = [row for experiment in chosen for row in bench.measure(experiment)]
        facts = [
            describe_machine(Path(folder)),
            f"ours: {describe_interpreter(ours)}",
            f"theirs: {describe_interpreter(peer)}",
            f"with a broker: {describe_interpreter(broker)}; {describe_redis()}"
            if broker
            else "no rivals with a broker",
            "no PostgreSQL" if server is None else describe_postgres(server, ours, postgres_peer),
            "a smoke run with tiny counts: these numbers mean nothing"
            if options.quick
            else f"{pairs} runs of each side, in turns; medians, with the lowest and the highest run in brackets",
        ]
    text = to_markdown(rows, facts)
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if out == RESULTS:
        README.write_text(with_summary(README.read_text(encoding="utf-8"), to_summary(text)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProgramFailedError as failure:
        sys.exit(str(failure))
