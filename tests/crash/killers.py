"""Jobs that kill their process, among many that do not: only the killers are condemned, in a bounded number of deaths.

The processes are four workers under a supervisor. The journal tells which job began in which process, and so how many
processes the killers took down.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from .databases import CrashDatabase
from .evidence import Report
from .killing import ROOT, until

__all__ = ("find_the_killers",)

PROCESSES = 4
LIMIT = 240.0
"""Seconds after which it is given up."""


def find_the_killers(directory: Path, database: CrashDatabase, killers: int, innocents: int) -> Report:
    """Enqueue them all, then start the workers; the report when every job has ended."""
    environment = {
        **os.environ,
        "KILLING_DIRECTORY": str(directory),
        "KILLING_DATABASE": database.url,
        "KILLING_MAX_CRASHES": "3",
    }
    for name in ("journal", "acks", "log"):
        (directory / name).touch()
    enqueue = [sys.executable, "-m", "tests.crash.victim", "killers", str(killers), str(innocents)]
    subprocess.run(enqueue, cwd=ROOT, env=environment, check=True)
    work = [sys.executable, "-m", "jobify", "worker", "tests.crash.victim:app", "--processes", str(PROCESSES)]
    begun = time.monotonic()
    with open(directory / "log", "a") as log:
        supervisor = subprocess.Popen(work, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: not _counts(database, "status IN ('scheduled', 'running')"), within=LIMIT)
    except TimeoutError:
        print("It never came to rest.")
    finally:
        took = time.monotonic() - begun
        supervisor.terminate()
        supervisor.wait(timeout=60)
    return _report(directory, database, killers, innocents, took)


def _counts(database: CrashDatabase, condition: str = "TRUE") -> Counter[tuple[str, str]]:
    """Jobs by kind and status."""
    rows = database.rows(f"SELECT id, status FROM jobs WHERE rule IS NULL AND {condition}")
    return Counter((id.partition("-")[0], status) for id, status in rows)


def _report(directory: Path, database: CrashDatabase, killers: int, innocents: int, took: float) -> Report:
    counts = _counts(database)
    lines = [line.split() for line in (directory / "journal").read_text().splitlines()]
    deaths = sum(line[0] == "started" and line[1].startswith("killer") for line in lines)
    expected = Counter({("killer", "failed"): killers, ("innocent", "success"): innocents})
    violations = [] if counts == expected else [f"the jobs have ended so: {dict(counts)}"]
    figures = {
        "killers / innocents / processes": f"{killers} / {innocents} / {PROCESSES}",
        "condemned": counts["killer", "failed"] + counts["innocent", "failed"],
        "... of them innocent": counts["innocent", "failed"],
        "attempts of the killers": deaths,
        "seconds until all had ended": f"{took:.1f}",
        "lines of log": len((directory / "log").read_text().splitlines()),
    }
    return Report(figures, violations)
