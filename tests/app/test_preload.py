"""What a start needs is imported when an app is made, unless the app is made for a client."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import output

FOR_STARTS = ("jobify.engine.engine", "jobify.storage.memory", "jobify.runners.thread")


@pytest.mark.slow
def test_a_start_imports_nothing_that_an_app_could_have_imported(tmp_path: Path) -> None:
    program = f"""
import sys
from jobify import Jobify
app = Jobify()
print(*(name for name in {FOR_STARTS} if name not in sys.modules))
"""
    assert output("-c", program, cwd=tmp_path) == "\n"


@pytest.mark.slow
def test_an_app_for_a_client_leaves_it_out_and_may_start_nevertheless(tmp_path: Path) -> None:
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
    assert output("-c", program, cwd=tmp_path) == "\n3\n"
