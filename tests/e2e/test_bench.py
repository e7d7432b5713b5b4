"""The measured programs run, and the driver pairs them. Nothing is said about their numbers here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("push_concurrent.py", {"push_per_second", "per_second"}),
        ("push_one_at_a_time.py", {"p50_ms", "p99_ms"}),
        ("delay_calls.py", {"concurrent_per_second", "sequential_per_second"}),
        ("timer_lateness.py", {"p50_ms", "p99_ms", "max_ms"}),
        ("command_time.py", {"help_ms", "list_ms"}),
        ("queue_work.py jobify single", {"per_second"}),
        ("queue_work.py jobify pickup", {"p50_ms", "p99_ms"}),
        ("queue_work.py jobify_thread drain", {"per_second"}),
        ("queue_work.py jobify_thread memory", {"memory_mb"}),
        ("queue_work.py jobify_process drain", {"per_second"}),
    ],
)
def test_a_program_prints_its_numbers(program: str, keys: set[str], tmp_path: Path) -> None:
    name, *arguments = program.split()
    command = [sys.executable, str(BENCH / "programs" / name), *arguments, "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == keys


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("queue_work.py jobify_postgres drain 20", {"per_second"}),
        ("queue_work.py jobify_postgres sustained 20", {"per_second"}),
        ("queue_work.py jobify_postgres queries 1", {"per_second"}),
        ("postgres_crowd.py jobify enqueue 2", {"per_second", "cost_percent"}),
    ],
)
def test_a_program_prints_its_numbers_of_postgres(
    program: str, keys: set[str], tmp_path: Path, postgres_url: str
) -> None:
    name, *arguments = program.split()
    done = subprocess.run(
        [sys.executable, str(BENCH / "programs" / name), *arguments],
        cwd=tmp_path,
        env={**os.environ, "BENCH_POSTGRES": postgres_url},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == keys


def test_the_driver_writes_a_table(tmp_path: Path) -> None:
    out = tmp_path / "RESULTS.md"
    command = [sys.executable, str(BENCH / "run.py"), "--quick", "--only", "start", "process", "workers-2"]
    done = subprocess.run(
        [*command, "--peer", sys.executable, "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| start with 200,000 scheduled jobs |" in out.read_text()
    assert "| 2 workers draining no-op jobs, PostgreSQL | – | – |" in out.read_text()
    assert "| one worker draining no-op jobs in child processes, NORMAL | – | – |" in out.read_text()
