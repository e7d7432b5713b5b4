"""What a start needs is imported when an app is made, unless the app is made for a client."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOR_STARTS = ("jobify.engine.engine", "jobify.storage.memory", "jobify.runners.thread")


def run_program(program: str, cwd: str) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.slow
def test_a_start_imports_nothing_that_an_app_could_have_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    program = f"""
import sys
from jobify import Jobify
app = Jobify()
print(*(name for name in {FOR_STARTS} if name not in sys.modules))
"""
    assert run_program(program, str(tmp_path_factory.mktemp("app"))) == "\n"


@pytest.mark.slow
def test_an_app_for_a_client_leaves_it_out_and_may_start_nevertheless(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    program = f"""
import asyncio, sys
from jobify import Jobify
from jobify.app.lifecycle import client_only
with client_only():
    app = Jobify()
print(*(name for name in {FOR_STARTS} if name in sys.modules))

@app.task
async def add(a: int, b: int) -> int:
    return a + b

async def main():
    async with app:
        print(await (await add.push(1, 2)))
asyncio.run(main())
"""
    assert run_program(program, str(tmp_path_factory.mktemp("app"))) == "\n3\n"
