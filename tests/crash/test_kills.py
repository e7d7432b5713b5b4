"""Short runs of ``tests.crash.killing`` and ``tests.crash.chaos``; the long ones are ``make chaos``.

They decide what is right, not how fast it is: how long a recovery takes depends on what else the machine does, and
only the long run judges it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds after which a run that does not end has failed."""

pytestmark = pytest.mark.timeout(PATIENCE + 60)


def _killing(directory: Path, *options: str) -> str:
    return _run("tests.crash.killing", directory, "--longest-recovery", str(PATIENCE), *options)


def _chaos(directory: Path, *options: str) -> str:
    return _run("tests.crash.chaos", directory, *options)


def _run(program: str, directory: Path, *options: str) -> str:
    command = [sys.executable, "-m", program, "--directory", str(directory), *options]
    environment = {**os.environ, "KILLING_SYNCHRONOUS": "normal"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{_log(directory)[-5000:]}"
    return done.stdout


def _log(directory: Path) -> str:
    return "".join(path.read_text() for path in directory.rglob("log"))


def test_no_job_is_lost_or_run_twice_however_often_processes_die(tmp_path: Path) -> None:
    """B19, B26: a job ends once, and runs again only when the process that ran it is dead."""
    report = _killing(tmp_path, "--kills", "8", "--jobs", "200", "--pace", "0.4")
    assert "VIOLATION" not in report


def test_no_job_is_lost_on_a_server_however_often_processes_die(tmp_path: Path, postgres_url: str) -> None:
    """The same over PostgreSQL: the lock of a killed process is free at once, and what it held runs again."""
    how = ("--kills", "6", "--jobs", "100", "--pace", "0.4", "--producers", "2")
    report = _killing(tmp_path, "--database", postgres_url, *how)
    assert "VIOLATION" not in report


def test_a_cron_runs_once_per_due_time_however_many_processes_there_are(tmp_path: Path) -> None:
    """B1: also while some of them are killed."""
    report = _killing(tmp_path, "--kills", "6", "--jobs", "0", "--workers", "4", "--pace", "0.5")
    assert "VIOLATION" not in report


def test_no_job_is_lost_whatever_else_happens_to_the_processes(tmp_path: Path) -> None:
    """Stops, locks, refused descriptors and deleted lock files."""
    report = _chaos(tmp_path, "--only", "faults", "--times", "6", "--jobs", "100")
    assert "VIOLATION" not in report


def test_no_job_is_lost_whatever_happens_to_connections(tmp_path: Path, postgres_url: str) -> None:
    """Stops, locked tables, refused descriptors and ended connections."""
    report = _chaos(tmp_path, "--database", postgres_url, "--only", "faults", "--times", "3", "--jobs", "60")
    assert "VIOLATION" not in report


def test_no_job_is_lost_when_the_server_restarts_under_load(tmp_path: Path) -> None:
    """And workers consume again by themselves."""
    how = ("--times", "3", "--jobs", "60", "--longest-return", str(PATIENCE))
    report = _chaos(tmp_path, "--postgres", "--only", "restarts", *how)
    assert "VIOLATION" not in report


def test_no_job_is_lost_when_the_network_of_a_worker_is_cut(tmp_path: Path) -> None:
    """Packets are lost, and nobody is told: others take its jobs, its late outcome is refused, and it goes on."""
    how = ("--longest-cut", str(PATIENCE), "--longest-return", str(PATIENCE))
    assert "VIOLATION" not in _run("tests.crash.network", tmp_path, *how)
