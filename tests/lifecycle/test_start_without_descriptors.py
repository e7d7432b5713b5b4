"""A start while the process has no descriptor left: an error that names the limit, and nothing that stays open."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import Program

CODE = """
import asyncio, os, resource, threading
from jobify import Jobify
from jobify.storage import SQLiteStorage

app = Jobify(storage=SQLiteStorage("jobs.db"))

@app.task(name="echo")
async def echo(value):
    return value

async def main():
    async with app:
        await (await echo.push(1))
    threads = threading.active_count()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, hard))
    taken = []

    def take():
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                return

    take()
    refused = []
    for left in range(40):
        try:
            async with asyncio.timeout(30):
                await app.startup()
        except Exception as error:
            refused.append(f"{type(error).__name__}: {error}")
            assert threading.active_count() == threads
            before = len(taken)
            take()
            assert len(taken) - before == left, (left, len(taken) - before, error)
            for _ in range(left + 1):
                os.close(taken.pop())
        else:
            async with asyncio.timeout(30):
                assert await (await echo.push(2)) == 2
                await app.shutdown()
            break
    print(len(refused) > 2, all("RLIMIT_NOFILE" in error or "Errno 24" in error for error in refused))
    print(*refused, sep="\\n")

asyncio.run(main())
"""


@pytest.mark.promise("f5")
@pytest.mark.usefixtures("sqlite_file")
def test_a_start_without_descriptors_leaves_nothing_behind(tmp_path: Path) -> None:
    said = Program(tmp_path, CODE).finish().splitlines()
    assert said[0] == "True True", said
