"""Checklist items 116-118: the examples of the published documentation, as written (see ``tests/data``)."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from jobify import Jobber, Jobify, JobStatus
from support import finished

DATA = Path(__file__).parent.parent / "data"


def blocks(document: str, kind: str) -> list[str]:
    return re.findall(rf"^```python {kind}\n(.*?)^```", (DATA / document).read_text(), re.DOTALL | re.MULTILINE)


def run_program(code: str, folder: Path) -> str:
    """The output of ``code`` as a program in ``folder``, the home of its database."""
    path = folder / "program.py"
    path.write_text(code)
    done = finished("-W", "error", path, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def run_snippet(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code that may use ``await`` at its top level; the names that it leaves."""
    compiled: CodeType = compile(code, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, names)
    if running is not None:
        await running
    return names


@pytest.mark.parametrize("document", ["job_handle.md", "jobber_handle.md", "task_options.md"])
def test_no_block_is_overlooked(document: str) -> None:
    count = (DATA / document).read_text().count("```python")
    assert count == len(blocks(document, "program")) + len(blocks(document, "snippet")) > 0


@pytest.mark.slow
@pytest.mark.promise("item-116")
def test_quick_example(tmp_path: Path) -> None:
    (program,) = blocks("job_handle.md", "program")
    first, second = run_program(program, tmp_path).splitlines()
    assert re.fullmatch(r"[0-9a-f-]{36} scheduled", first)
    assert second == "3"
    assert (tmp_path / "jobify.db").exists()


@pytest.mark.promise("item-116")
async def test_snippets_of_the_handle(capsys: pytest.CaptureFixture[str]) -> None:
    app = Jobify(storage=False)

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    async with app:
        for snippet in blocks("job_handle.md", "snippet"):
            names = {"asyncio": asyncio, "add": add, "job": await add.push(1, 2)}
            left = await run_snippet(snippet, names)
            for name, value in (("value", 3), ("result", 3), ("data", 3), ("results", [0, 2, 4])):
                assert left.get(name, value) == value
        cancelled = next(s for s in blocks("job_handle.md", "snippet") if "cancel" in s)
        assert (await run_snippet(cancelled, names))["job"].status is JobStatus.CANCELLED
    assert "job failed" not in capsys.readouterr().out


@pytest.mark.promise("item-116")
async def test_the_snippet_for_failures(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = (s for s in blocks("job_handle.md", "snippet") if "except" in s)

    app = Jobify(storage=False)

    @app.task
    def fail() -> None:
        raise ValueError("broken")

    async with app:
        await run_snippet(snippet, {"job": await fail.push()})
    assert re.match("job failed: .*broken", capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.promise("item-117")
def test_jobber(tmp_path: Path) -> None:
    (program,) = blocks("jobber_handle.md", "program")
    lines = run_program(program, tmp_path).splitlines()
    assert re.fullmatch(r"Job \S+ was scheduled\.", lines[0])
    assert re.fullmatch(r"Job \S+ finished with status: success", lines[1])
    assert lines[2] == "Result: 3"


@pytest.mark.promise("item-117")
async def test_snippets_of_the_jobber_handle(capsys: pytest.CaptureFixture[str]) -> None:
    app = Jobber(storage=False)

    @app.task
    def my_task(x: Any) -> Any:
        return 3

    async with app:
        for snippet in blocks("jobber_handle.md", "snippet"):
            names = {"my_task": my_task, "job": await my_task.push(1), "JobStatus": JobStatus}
            await run_snippet(snippet.replace("delay(5)", "delay(0.01)"), names)
    out = capsys.readouterr().out
    assert "Job finished!" in out
    assert "The task returned: 3" in out
    assert "has been cancelled." in out


RUN = """

import asyncio


async def main() -> None:
    async with app:
        (schedule,) = app.get_active_jobs()
        print(schedule.id, schedule.cron_expression, schedule.exec_at)
        print(await (await my_daily_report.push()))


if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.promise("item-118")
def test_all_options(tmp_path: Path) -> None:
    program = blocks("task_options.md", "program")[0]
    schedule, result = run_program(program + RUN, tmp_path).splitlines()
    assert schedule.startswith("my_daily_report__jobify_cron_definition * * * * * ")
    assert result == "None"


@pytest.mark.slow
@pytest.mark.promise("item-118")
def test_naive_start_date(tmp_path: Path) -> None:
    preamble = "from datetime import datetime\nfrom jobify import Jobify\napp = Jobify()\n"
    program = preamble + blocks("task_options.md", "program")[1] + RUN
    for _ in range(2):  # a start with a schedule that is stored already, too
        schedule, result = run_program(program, tmp_path).splitlines()
        assert schedule.startswith("program:my_daily_report__jobify_cron_definition 0 18 * * 1-5 ")
        assert result == "None"
