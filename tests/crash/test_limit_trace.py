"""Short runs of ``tests.crash.limit_trace``; the long one is made by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 200.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE + 60)]


def _traced(directory: Path, *options: str) -> str:
    """How long a limit is idle depends on what else the machine does, and only the long run judges it strictly."""
    how = ["--workers", "3", "--kills", "5", "--idle", "20", "--idle-after-kill", "30", "--directory", str(directory)]
    command = [sys.executable, "-m", "tests.crash.limit_trace", *how, *options]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{(directory / 'log').read_text()[-5000:]}"
    return done.stdout


def test_limits_hold_however_often_workers_are_killed(tmp_path: Path) -> None:
    assert "executions of 1500 jobs" in _traced(tmp_path, "--jobs", "1500")


def test_limits_hold_on_a_server_however_often_workers_are_killed(tmp_path: Path, empty_postgres: str) -> None:
    assert "executions of 800 jobs" in _traced(tmp_path, "--jobs", "800", "--database", empty_postgres)
