"""`make demo` keeps its promise: a killed indexer finishes, and the demo would notice if it did not."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
KILLED = -signal.SIGKILL
LARGE_SOURCE = "def f():\n    return 1\n\n" * 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few files for each of the three places where jobs run, and some that are not indexed."""
    root = tmp_path / "project"
    for name, text in {
        "README.md": "Some words",
        "notes/idea.txt": "more words",
        "setup.toml": "[project]",
        "small.py": "x = 1",
        "broken.py": "def (",
        "large.py": LARGE_SOURCE,
        "other.py": LARGE_SOURCE,
        "picture.png": "not text",
        ".hidden/secret.md": "not ours",
        "build/made.py": "not written by hand",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("demo")


def test_the_demo_recovers_every_file(folder: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "demo.py"), str(folder), "--pace", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert "all 7 files accounted for" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_the_indexer_alone_needs_no_crash(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "indexer.py"), str(folder)]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert "7 of 7 files pushed as new jobs" in first.stdout, first.stdout + first.stderr
    assert "0 of 7 files pushed as new jobs" in again.stdout, again.stdout + again.stderr


def test_the_account_is_clean_when_all_went_well(demo: ModuleType) -> None:
    assert list(_story(demo).problems()) == []


def test_the_account_names_what_is_missing(demo: ModuleType) -> None:
    story = _story(demo)
    del story.jobs["/p/a.md"]
    assert list(story.problems()) == ["a.md never finished"]


def test_the_account_names_what_was_pushed_twice(demo: ModuleType) -> None:
    story = _story(demo)
    story.jobs["/p/a.md"].pushes = 2
    assert list(story.problems()) == ["a.md was pushed 2 times"]


def test_the_account_names_a_life_that_did_not_end(demo: ModuleType) -> None:
    story = _story(demo, second=None)
    assert list(story.problems()) == ["the second life ended with None"]


def _story(demo: ModuleType, second: int | None = 0) -> Any:
    """A crash that ended well: one file finished before it, and the other jobs after it."""
    jobs = {
        "/p/a.md": demo.History("index_prose", pushes=1, starts=[(1, 1.0)], facts={}),
        demo.ANNOUNCE: demo.History("announce", starts=[(1, 1.0), (1, 2.0), (2, 6.0)], failures=2, facts={}),
        demo.REPORT: demo.History("report", starts=[(2, 6.0)], facts={}),
    }
    first = demo.Life(KILLED, ended_at=5.0, seconds=4.0)
    return demo.Story(["/p/a.md"], Path("/p"), first, demo.Life(second, ended_at=9.0, seconds=4.0), jobs)
