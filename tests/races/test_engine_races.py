"""Several apps in processes of their own, on one new file, all starting at the same moment."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from jobify.model.records import JobQuery
from support import Program, durable, opened

PUSHERS = 8
JOBS = 500

CODE = """
    import asyncio, json, os, sys
    from jobify import Jobify
    from jobify.storage import SQLiteStorage

    app = Jobify(storage=SQLiteStorage("jobs.db", synchronous="normal"))
    number = int(sys.argv[1])
    ran = []

    @app.task(name="double")
    async def double(number: int) -> int:
        ran.append(number)
        return 2 * number

    @app.task(name="pid")
    def pid() -> int:
        return os.getpid()

    async def main() -> None:
        print("ready", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.001)
        async with app:
            numbers = range(number * 1000, number * 1000 + int(sys.argv[2]))
            # Every second one waits for a moment, and then for whoever is first: mostly another process.
            pushes = [double.schedule(n).delay(0.2) if n % 2 else double.push(n) for n in numbers]
            handles = await asyncio.gather(*pushes)
            results = await asyncio.gather(*handles)
            assert results == [2 * n for n in numbers]
            assert all(handle.status == "success" for handle in handles)
            where = await asyncio.gather(*[await pid.schedule().delay(0.1) for _ in range(20)])
            await app.wait_all()  # also for the others: they need somebody who answers
        print(json.dumps([os.getpid(), ran, where]), flush=True)

    asyncio.run(main())
"""


def test_eight_apps_on_a_new_file(tmp_path: Path) -> None:
    """B1: no "database is locked", each job runs once, and every handle learns how its job ended."""
    programs = [Program(tmp_path, CODE, str(number), str(JOBS), name=f"app{number}.py") for number in range(PUSHERS)]
    with ExitStack() as stack:
        for program in programs:
            stack.callback(program.process.kill)
            program.until("ready")
        (tmp_path / "go").touch()
        ends = [program.process.communicate(timeout=100) for program in programs]
    assert [err for _, err in ends] == [""] * PUSHERS, ends
    answers = [json.loads(out) for out, _ in ends]
    ran = Counter(number for _, some, _ in answers for number in some)
    assert ran == Counter(number * 1000 + index for number in range(PUSHERS) for index in range(JOBS))
    assert {pid for _, _, where in answers for pid in where} <= {pid for pid, _, _ in answers}
    with opened(durable(tmp_path)) as storage:
        assert {key[0]: count for key, count in storage.count(JobQuery(statuses=("success",))).items()} == {
            "double": PUSHERS * JOBS,
            "pid": PUSHERS * 20,
        }
        assert sum(storage.count(JobQuery()).values()) == PUSHERS * (JOBS + 20)
        assert storage.owners() == []
