"""Fail if the work for each job has grown, in counts that are the same on every machine (see `counters.py`).

    make perf                                # compare with bench/perf/baseline.json
    make perf-baseline                       # write what is counted now into it
    python bench/perf/gate.py --only drain   # only scenarios whose name contains "drain"

Each scenario runs as a program of its own in an empty folder. Chance can only add, so a scenario that counts too much
is measured again, and the least counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from comparison import Growth, Numbers, baseline_for, grown, to_table

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
NAMES = ("delay", "bulk", "push-at-once", "push-one-at-a-time", "drain-async", "drain-thread")
ATTEMPTS = 4
"""How often a scenario is measured before what has grown is believed."""
RUNS_OF_BASELINE = 3
SLOWEST = 120  # seconds after which a scenario is given up
SECONDS = 15
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_ADVICE = """
The counts do not depend on the machine: the code does more for each job than it did. Find out what, for instance with
`git stash` and a second run. If the work is worth it, run `make perf-baseline`, commit bench/perf/baseline.json with
the change, and say in its message what the work is for."""


def count_once(name: str) -> Numbers:
    """Run one scenario as a program and return what it counted."""
    # What measures coverage would trace in place of the counters.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    with tempfile.TemporaryDirectory(prefix="perf-") as folder:
        done = subprocess.run(
            [sys.executable, str(HERE / "scenarios.py"), name],
            cwd=folder,
            env={**environment, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=SLOWEST,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(f"the scenario {name} exited with {done.returncode}:\n{done.stderr[-2000:]}")
    numbers: Numbers = json.loads(done.stdout.splitlines()[-1])
    return numbers


def count(name: str, before: Numbers) -> Numbers:
    """The counts of one scenario, measured again while one is too high; the least of each count."""
    numbers = count_once(name)
    for _ in range(ATTEMPTS - 1):
        if not grown(name, before, numbers):
            break
        again = count_once(name)
        numbers = {count: min(number, again[count]) for count, number in numbers.items()}
    return numbers


def count_for_baseline(name: str) -> Numbers:
    """The counts of one scenario, as they usually are: not the luckiest run."""
    runs = [count_once(name) for _ in range(RUNS_OF_BASELINE)]
    return {count: statistics.median(run[count] for run in runs) for count in runs[0]}


def compare(now: Mapping[str, Numbers], before: Mapping[str, Numbers]) -> list[Growth]:
    return [growth for name, numbers in now.items() for growth in grown(name, before.get(name, {}), numbers)]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare counts for each job with the committed ones.")
    parser.add_argument("--only", default="", metavar="NAME", help="only scenarios whose name contains this")
    parser.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE", help="the committed counts")
    parser.add_argument("--write", action="store_true", help="write the counts into that file; do not compare")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    names = [name for name in NAMES if options.only in name]
    baselines: dict[str, dict[str, Numbers]] = (
        json.loads(options.baseline.read_text()) if options.baseline.exists() else {}
    )
    before = baseline_for(PYTHON, baselines)
    print(f"Counting the work for each job on Python {PYTHON} (about {SECONDS} seconds) ...", flush=True)
    now = {name: count_for_baseline(name) if options.write else count(name, before.get(name, {})) for name in names}
    print(to_table(before, now))
    if options.write:
        baselines[PYTHON] = {**baselines.get(PYTHON, {}), **now}
        options.baseline.write_text(json.dumps(dict(sorted(baselines.items())), indent=2) + "\n")
        return 0
    if PYTHON not in baselines:
        print(
            f"\nThere is no baseline for Python {PYTHON}: opcodes were not compared. `make perf-baseline` writes one."
        )
    growths = compare(now, before)
    for growth in growths:
        print(growth, file=sys.stderr)
    if growths:
        print(_ADVICE, file=sys.stderr)
    elif any(grown(name, numbers, before[name]) for name, numbers in now.items() if name in before):
        print("\nSome counts have fallen. `make perf-baseline` keeps them from growing again unnoticed.")
    return 1 if growths else 0


if __name__ == "__main__":
    sys.exit(main())
