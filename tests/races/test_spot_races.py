"""Processes that push one job at a time, each with two apps on one storage object: most writes are made on the spot."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from jobify.model.records import JobQuery
from support import Program, durable, opened

PUSHERS = 3
JOBS = 150

CODE = """
    import asyncio, json, os, sys
    from jobify import Jobify
    from jobify.storage import SQLiteStorage

    storage = SQLiteStorage("jobs.db", synchronous="normal")
    apps = [Jobify(storage=storage), Jobify(storage=storage)]
    number, jobs = int(sys.argv[1]), int(sys.argv[2])
    ran = []

    async def double(number: int) -> int:
        ran.append(number)
        return 2 * number

    tasks = [app.task(double, name="double") for app in apps]

    async def push(task, n):
        # Now and then two at once, or one that waits for whoever is first: mostly another app.
        if n % 7 == 0:
            handle, other = await asyncio.gather(task.push(n), task.push(n + 1))
            assert await other == 2 * n + 2
        elif n % 7 == 3:
            handle = await task.schedule(n).delay(0.01)
        else:
            handle = await task.push(n)
        assert await handle == 2 * n
        assert handle.status == "success"

    async def one_by_one(task, first):
        for n in range(first, first + 8 * jobs, 8):
            await push(task, n)

    async def main() -> None:
        print("ready", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.001)
        async with apps[0], apps[1]:
            async with asyncio.timeout(60):
                base = number * 1_000_000
                await asyncio.gather(one_by_one(tasks[0], base), one_by_one(tasks[1], base + 500_000))
                await apps[0].wait_all()
        print(json.dumps(ran), flush=True)

    asyncio.run(main())
"""


def test_one_job_at_a_time_in_three_processes(tmp_path: Path) -> None:
    """Each job runs once, each handle learns how it ended, and nobody waits for good."""
    programs = [Program(tmp_path, CODE, str(number), str(JOBS), name=f"app{number}.py") for number in range(PUSHERS)]
    with ExitStack() as stack:
        for program in programs:
            stack.callback(program.process.kill)
            program.until("ready")
        (tmp_path / "go").touch()
        ran = Counter(n for program in programs for n in json.loads(program.finish()))
    expected = [
        n + extra
        for number in range(PUSHERS)
        for base in (number * 1_000_000, number * 1_000_000 + 500_000)
        for n in range(base, base + 8 * JOBS, 8)
        for extra in ((0, 1) if n % 7 == 0 else (0,))
    ]
    assert ran == Counter(expected)
    with opened(durable(tmp_path)) as storage:
        assert storage.count(JobQuery()) == {("double", "default", "success", False): len(expected)}
