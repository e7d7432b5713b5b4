"""`make demo` keeps its promise: a worker that is killed loses nothing, and the demo would notice if it did not."""

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


def test_the_demo_recovers_every_job(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(EXAMPLES / "demo.py"),
        str(folder),
        "--state",
        str(tmp_path / "state"),
        "--seconds",
        "1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert "each of the 7 files has one job" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert "Look at it: jobify jobs list --database" in done.stdout
    assert "Try next:" in done.stdout


def test_the_account_is_clean_when_all_went_well(demo: ModuleType) -> None:
    assert list(_story(demo).problems()) == []


def test_the_account_names_what_is_missing(demo: ModuleType) -> None:
    story = _story(demo)
    del story.jobs["/p/a.md"]
    assert list(story.problems()) == ["/p/a.md has no job"]


def test_the_account_names_what_did_not_end_and_what_was_lost_twice(demo: ModuleType) -> None:
    story = _story(demo)
    story.jobs["/p/a.md"] = demo.Record("prose", "pending", 3, ("lost", "lost"))
    assert list(story.problems()) == ["/p/a.md is pending", "/p/a.md was lost 2 times, but only one worker died"]


def test_the_account_names_a_life_that_did_not_end(demo: ModuleType) -> None:
    assert list(_story(demo, second=None).problems()) == ["the second worker ended with None"]


def test_the_table_adds_up(demo: ModuleType) -> None:
    jobs = _story(demo).jobs.values()
    assert demo.row_of("prose", "event loop", jobs) == ("prose", "event loop", 1, 1, 2, 0, 1)
    assert demo.row_of("announce", "event loop", jobs) == ("announce", "event loop", 1, 1, 3, 2, 0)


def _story(demo: ModuleType, second: int | None = 0) -> Any:
    """A crash that ended well: one file was lost and run again."""
    jobs = {
        "/p/a.md": demo.Record("prose", "complete", 2, ("lost",)),
        "announce": demo.Record("announce", "complete", 3, ("retry at", "retry at")),
    }
    return demo.Story(["/p/a.md"], KILLED, second, 2.0, 3, jobs)
