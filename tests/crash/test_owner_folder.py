"""The folder of lock files is deleted under living processes, as a cleaner does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage

PROGRAM = """
    import asyncio, os, random, sys, time
    from jobify import Jobify

    app = Jobify(storage="jobs.db")

    def note(sign, number):
        descriptor = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{sign} {number}\\n".encode())
        os.close(descriptor)

    @app.task(name="thread")
    def thread(number: int) -> None:
        note("+", number)
        time.sleep(random.random())
        note("-", number)

    @app.task(name="loop")
    async def loop(number: int) -> None:
        note("+", number)
        await asyncio.sleep(random.random())
        note("-", number)

    async def main():
        async with app:
            print("ready", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    if sys.argv[1:]:
        for number in range(int(sys.argv[1])):
            (thread if number % 2 else loop).delay(number)
    else:
        asyncio.run(main())
"""


@pytest.mark.promise("f3")
def test_the_folder_is_deleted_under_living_processes(tmp_path: Path) -> None:
    """No job runs twice, and all of them end."""
    lines = PROGRAM.replace("\n    ", "\n").strip()
    (tmp_path / "program.py").write_text(lines + "\n")
    command = [sys.executable, "program.py"]
    processes = [
        subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    storage = SQLiteStorage(tmp_path / "jobs.db")
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        subprocess.run([*command, "90"], cwd=tmp_path, check=True)
        storage.open()
        deadline = time.monotonic() + 60
        while {row.status for row in storage.find(JobQuery())} != {"success"}:
            assert time.monotonic() < deadline
            shutil.rmtree(tmp_path / "jobs.db-owners", ignore_errors=True)
            time.sleep(0.1)
        assert sum(owner.is_alive for owner in storage.owners()) == 3
    finally:
        storage.close()
        for process in processes:
            process.communicate(b"\n")
    begun = [line for line in (tmp_path / "notes").read_text().splitlines() if line.startswith("+")]
    assert sorted(begun) == sorted(f"+ {number}" for number in range(90))
