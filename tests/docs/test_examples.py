"""What the pages show, runs, and prints what they say. So does every doctest."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from documents import PAGES, ROOT, commands, examples, fenced

SOURCE = ROOT / "src"
JOB_LOG = ("Job ", "A run of schedule ", "Schedule ", "Traceback (", "    ")
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
EXAMPLES = list(examples())
DOCTESTED = [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


class Step(NamedTuple):
    """Something that a page lets happen: a file that is written, a program or a command that runs."""

    place: str
    order: dict[str, Any]
    output: str = ""

    def problem(self, result: dict[str, Any]) -> str | None:
        """What is not as the page says."""
        match self.order["kind"]:
            case "program":
                error = _without_job_log(result["error"])
                said = (result["code"], error, result["output"]) == (0, "", self.output)
                return None if said else f"exit code {result['code']}\n{result['error']}{result['output']}"
            case "command":
                said = re.match(self.order["pattern"], result["output"])
                said = said and (result["code"] == 0 or self.output.startswith("jobify: "))
                return None if said else f"exit code {result['code']}\n{result['output']}"
            case _:
                return None


def steps(page: Path, folder: Path) -> Iterator[Step]:
    """What a page lets happen, in order."""
    runs = {example.code.line: example for example in examples((page,)) if example.runs}
    shared = str(folder / "page")
    for block in fenced(page):
        where = shared if block.title else str(folder / f"line-{block.line}")
        name = block.title or "program.py"
        if block.title or block.line in runs:
            yield Step(block.place, {"kind": "file", "folder": where, "name": name, "text": block.text})
        if block.line in runs:
            yield Step(block.place, {"kind": "program", "folder": where, "name": name}, runs[block.line].output or "")
        if block.language == "console":
            for command in commands(block):
                pattern = _pattern(command.output)
                order = {"kind": "command", "folder": shared, "text": command.text, "pattern": pattern}
                yield Step(f"{block.place}: {command.text}", order, command.output)


def _pattern(output: str) -> str:
    """An expression for what a command prints. Of a command whose output is not shown, anything may come."""
    if not output:
        return ""
    lines = [r"(?:.*\n)*?" if line == "…" else _line(line) + r"[ ]*\n" for line in output.splitlines()]
    return "".join(lines) + r"\s*\Z"


def _line(line: str) -> str:
    """Ids differ in each run, and so does the width of the columns; what is between two columns is any blanks."""
    parts = re.split(f"(…|  +|{_ID})", line.rstrip())
    return "".join("[^\n]*?" if part == "…" else _blanks_or_id(part) or re.escape(part) for part in parts)


def _blanks_or_id(part: str) -> str:
    return "  +" if part.startswith("  ") else _ID if re.fullmatch(_ID, part) else ""


def has_steps(page: Path) -> bool:
    return next(steps(page, Path()), None) is not None


def _without_job_log(text: str) -> str:
    """What a program says on its standard error, but for what the log says there of jobs that fail."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(JOB_LOG))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.code.place)
def test_an_example_is_python(example: Any) -> None:
    compile(example.code.text, example.code.place, "exec")


@pytest.mark.parametrize("page", list(filter(has_steps, PAGES)), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_shows_what_happens(page: Path, tmp_path: Path) -> None:
    story = list(steps(page, tmp_path))
    command = [sys.executable, "-W", "error", str(Path(__file__).with_name("page_runner.py"))]
    orders = json.dumps([step.order for step in story])
    done = subprocess.run(command, input=orders, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for step, result in zip(story, results, strict=True):
        problem = step.problem(result)
        assert problem is None, f"{step.place} is said to print:\n{step.output}\nbut there is:\n{problem}"


def test_what_stands_for_any_text() -> None:
    assert re.match(_pattern("a … c\n…\nend\n"), "a b b c  \nmore\nmore\nend\n")
    assert not re.match(_pattern("a … c\n"), "a b\n")
    assert not re.match(_pattern("a\n"), "a\nb\n")
    assert re.match(_pattern(f"{'a' * 8}{'-bbbb' * 3}-{'c' * 12} …\n"), f"{'d' * 8}{'-eeee' * 3}-{'f' * 12} now\n")


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
