"""One program, started in different ways, on one database: story B4."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

APP = """
    import asyncio
    import json
    import sys

    from jobify import Jobify, JobRouter, RunMode

    app = Jobify()
    router = JobRouter(prefix="mail")


    @app.task
    async def job(number: int) -> int:
        return number


    @app.task(cron="0 0 1 1 *")
    async def yearly() -> None: ...


    @app.task(run_mode=RunMode.PROCESS)
    def heavy(number: int) -> int:
        return number


    @router.task
    async def send() -> None: ...


    app.include_router(router)


    async def main(command: str) -> None:
        async with app:
            if command == "fill":
                for task in (job, heavy):
                    await task.schedule(1).delay(3600, job_id=f"{task.func.__name__}")
                await send.schedule().delay(3600, job_id="send")
            print(json.dumps(sorted((job.id, job.status) for job in app.get_active_jobs())))
            if command == "run":
                jobs = [await task.schedule(7).push(job_id=task.func.__name__, replace=True) for task in (job, heavy)]
                print(json.dumps(await asyncio.gather(*jobs)))
        print(json.dumps(sorted(route.name for route in app.routes)))


    if __name__ == "__main__":
        asyncio.run(main(sys.argv[1]))
"""

IMPORTING = """
    import asyncio
    import sys

    from {module} import main

    if __name__ == "__main__":
        asyncio.run(main(sys.argv[1]))
"""


def start(directory: Path, *command: str) -> list[Any]:
    """The lines that a run of the program prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=directory, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "does not have" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


WAYS = {
    "as a module of a package": (("-m", "pkg.app"), "pkg.app"),
    "as a module": (("-m", "app"), "app"),
    "as a script": (("app.py",), "app"),
}


@pytest.mark.promise("b4")
@pytest.mark.parametrize("is_run_first", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_task_has_one_name_whether_its_module_is_run_or_imported(
    tmp_path: Path, way: str, is_run_first: bool
) -> None:
    run, module = WAYS[way]
    (tmp_path / "pkg").mkdir()
    for path in ("pkg/app.py", "app.py"):
        (tmp_path / path).write_text(textwrap.dedent(APP))
    (tmp_path / "main.py").write_text(textwrap.dedent(IMPORTING.format(module=module)))
    ways = [run, ("main.py",)]
    first, second = ways if is_run_first else ways[::-1]

    names = sorted([f"{module}:job", f"{module}:yearly", f"{module}:heavy", f"mail:{module}:send"])
    waiting = [["heavy", "scheduled"], ["job", "scheduled"], ["send", "scheduled"]]
    cron = [f"{module}:yearly__jobify_cron_definition", "scheduled"]
    assert start(tmp_path, *first, "fill") == [sorted([*waiting, cron]), names]
    assert start(tmp_path, *second, "run") == [sorted([*waiting, cron]), [7, 7], names]
    assert start(tmp_path, *first, "look") == [sorted([waiting[2], cron]), names]


def test_a_program_from_standard_input_may_use_functions_of_modules_in_children(tmp_path: Path) -> None:
    """Its name, "<stdin>", is no file that a child could import; nor does a child need it."""
    (tmp_path / "work.py").write_text("def double(number):\n    return 2 * number\n")
    program = """
        import asyncio
        import work
        from jobify import Jobify, RunMode

        app = Jobify(storage=False)
        double = app.task(work.double, run_mode=RunMode.PROCESS)

        async def main() -> None:
            async with app:
                print(await (await double.push(21)))

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-"], input=textwrap.dedent(program), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "42\n", done.stderr
