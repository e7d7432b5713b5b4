"""What the pages show, runs, and prints what they say. So does every doctest."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, Example, examples

SOURCE = ROOT / "src"
JOB_LOG = ("Job ", "A run of schedule ", "Schedule ", "Traceback (", "    ")
EXAMPLES = list(examples())
DOCTESTED = [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


def place(example: Example) -> str:
    return example.code.place


@pytest.mark.parametrize("example", EXAMPLES, ids=place)
def test_an_example_is_python(example: Example) -> None:
    compile(example.code.text, example.code.place, "exec")


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.runs], ids=place)
def test_an_example_runs_and_prints_what_it_says(example: Example, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(example.code.text, encoding="utf-8")
    command = [sys.executable, "-W", "error", program.name]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, _without_job_log(done.stderr)) == (0, "")
    assert done.stdout == example.output


def _without_job_log(text: str) -> str:
    """What a program says on its standard error, but for what the log says there of jobs that fail."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(JOB_LOG))


@pytest.mark.parametrize("path", DOCTESTED, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_doctest_holds(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = path.relative_to(SOURCE).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.FAIL_FAST)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    for test in found:
        runner.run(test, out=report.append)
    assert found
    assert "".join(report) == ""
