"""`make perf` notices work that has grown, and says what to do. The counts themselves are for `make perf`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import without_coverage

PERF = Path(__file__).parents[2] / "bench" / "perf"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BEFORE = {"opcodes": 1000.0, "statements": 1.0, "pages": 5.0, "commits": 0.004}


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of `bench/perf/` that compares; it is part of a program, not of a package."""
    monkeypatch.syspath_prepend(PERF)
    yield importlib.import_module("comparison")
    monkeypatch.delitem(sys.modules, "comparison")


@pytest.mark.parametrize("count", ["opcodes", "statements", "pages"])
def test_a_count_may_not_grow_by_more_than_three_percent(comparison: Any, count: str) -> None:
    (growth,) = comparison.grown("delay", BEFORE, {**BEFORE, count: BEFORE[count] * 1.04})
    assert (growth.scenario, growth.count) == ("delay", count)


def test_a_count_may_grow_by_less_and_fall(comparison: Any) -> None:
    assert comparison.grown("delay", BEFORE, {name: number * 1.03 for name, number in BEFORE.items()}) == []
    assert comparison.grown("delay", BEFORE, {name: number / 2 for name, number in BEFORE.items()}) == []


def test_a_few_more_commits_for_a_thousand_jobs_are_no_growth(comparison: Any) -> None:
    assert comparison.grown("drain", BEFORE, {**BEFORE, "commits": 0.012}) == []
    assert comparison.grown("drain", BEFORE, {**BEFORE, "commits": 0.02}) != []


def test_the_message_has_all_that_is_known(comparison: Any) -> None:
    (growth,) = comparison.grown("delay", BEFORE, {**BEFORE, "opcodes": 1100.0})
    assert str(growth) == "delay: opcodes for each job: 1000 in the baseline, now 1100 (+10.0%, allowed are +3%)"


def test_a_python_without_a_baseline_is_held_to_what_does_not_depend_on_it(comparison: Any) -> None:
    baselines = {"3.11": {"delay": BEFORE}}
    assert comparison.baseline_for("3.11", baselines) == {"delay": BEFORE}
    other = comparison.baseline_for("3.99", baselines)["delay"]
    assert other.keys() == {"statements", "pages", "commits"}
    assert comparison.grown("delay", other, {**BEFORE, "opcodes": 9999.0}) == []


def test_the_committed_baseline_has_every_scenario() -> None:
    baselines = json.loads((PERF / "baseline.json").read_text(encoding="utf-8"))
    assert "3.11" in baselines
    for scenarios in baselines.values():
        assert len(scenarios) == 6
        assert all(numbers.keys() == BEFORE.keys() for numbers in scenarios.values())


def run_gate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Compare `delay` with a baseline in ``folder``; a module `sitecustomize` there is part of each program."""
    return subprocess.run(
        [sys.executable, str(PERF / "gate.py"), "--only", "delay", "--baseline", "baseline.json", *options],
        cwd=folder,
        env={**without_coverage(), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


EXTRA = """
from jobify.storage import SQLiteStorage
insert = SQLiteStorage.insert
def insert_after_some_work(*arguments, **options):
    for _ in range(50):
        str(_)
    return insert(*arguments, **options)
SQLiteStorage.insert = insert_after_some_work
"""


def test_an_extra_call_for_each_job_fails(tmp_path: Path) -> None:
    written = run_gate(tmp_path, "--write")
    assert written.returncode == 0, written.stderr
    assert json.loads((tmp_path / "baseline.json").read_text())[PYTHON]["delay"].keys() == BEFORE.keys()
    same = run_gate(tmp_path)
    assert same.returncode == 0, same.stderr

    (tmp_path / "sitecustomize.py").write_text(EXTRA)
    more = run_gate(tmp_path)
    assert more.returncode == 1
    (line,) = [line for line in more.stderr.splitlines() if line.startswith("delay: ")]
    assert line.startswith("delay: opcodes for each job: ")
    assert "make perf-baseline" in more.stderr
