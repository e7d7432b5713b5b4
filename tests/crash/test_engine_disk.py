"""An app whose disk is full: the kernel refuses to make any of its files longer, until it has room again."""

from __future__ import annotations

from pathlib import Path

from jobify.model.records import JobQuery
from probes import database_of
from support import Program, durable, opened

PREAMBLE = """
    import asyncio, json, resource, sys, threading, time
    from jobify import Cron, Jobify
    from jobify.exceptions import StorageUnavailableError
    from jobify.storage import SQLiteStorage

    app = Jobify(storage=SQLiteStorage("jobs.db", synchronous="normal"))
    ran, ticks, open_ = [], [], threading.Event()

    def fill_up():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def make_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    async def eventually(condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def refused(pushing):
        try:
            async with asyncio.timeout(20):
                await pushing
        except StorageUnavailableError:
            return True
        return False
"""

OUTAGE = """
    @app.task(name="waits_on_loop")
    async def waits_on_loop() -> str:
        ran.append("loop began")
        while not open_.is_set():
            await asyncio.sleep(0.005)
        ran.append("loop")
        return "loop"

    @app.task(name="waits_in_thread")
    def waits_in_thread() -> str:
        ran.append("thread began")
        open_.wait(20)
        ran.append("thread")
        return "thread"

    @app.task(name="remember")
    async def remember(number: int) -> int:
        ran.append(number)
        return number

    @app.task(name="tick", cron="* * * * * * *")
    async def tick() -> None:
        ticks.append(time.time())

    async def main() -> None:
        async with app:
            running = [await waits_on_loop.push(), await waits_in_thread.push()]
            later = [await remember.schedule(number).delay(0.3) for number in range(50)]
            await eventually(lambda: {"loop began", "thread began"} <= set(ran))
            fill_up()
            # One by one, and many at once: every caller is told.
            assert await refused(remember.push(100))
            assert all(await asyncio.gather(*[refused(remember.push(101)) for _ in range(50)]))
            assert await refused(remember.schedule(102).delay(5))
            assert await refused(remember.schedule(103).cron("* * * * * * *", job_id="cron", replace=True))
            assert await refused(later[0].cancel())
            # What runs goes on, to its end; that is kept until it can be written.
            open_.set()
            await eventually(lambda: {"loop", "thread"} <= set(ran))
            # What becomes due meanwhile waits, and so does the cron.
            await eventually(lambda: time.time() * 1e6 > later[-1].due_at + 500_000)
            assert not any(job.is_done() for job in running + later)
            make_room()
            async with asyncio.timeout(20):
                assert await asyncio.gather(*running) == ["loop", "thread"]
                assert sorted(await asyncio.gather(*later)) == list(range(50))
                assert await (await remember.push(104)) == 104
            before = len(ticks)
            await eventually(lambda: len(ticks) >= before + 2)
        ran.remove("loop began"), ran.remove("thread began")
        print(json.dumps(sorted(map(str, ran))))

    asyncio.run(main())
"""

START = """
    @app.task(name="remember")
    async def remember(number: int) -> int:
        return number

    async def main() -> None:
        fill_up()
        assert await refused(app.startup())
        assert await refused(app.startup())
        make_room()
        async with app:
            assert await (await remember.push(1)) == 1

    asyncio.run(main())
"""


def test_a_full_disk_delays_and_loses_nothing(tmp_path: Path) -> None:
    """B25, B26: callers get the error, jobs finish, and everything goes on when there is room again."""
    out = Program(tmp_path, PREAMBLE + OUTAGE).finish()
    assert sorted(out.strip()[2:-2].split('", "')) == sorted([*map(str, range(50)), "104", "loop", "thread"])
    with opened(durable(tmp_path, is_new=True)) as storage:
        records = storage.find(JobQuery(limit=1000, is_schedule=False))
        assert {record.status for record in records} == {"success"}
        assert len(records) == 53
        assert {record.attempt for record in records} == {1}
        assert database_of(storage).row("PRAGMA integrity_check") == ("ok",)


def test_a_start_on_a_full_disk_fails_and_can_be_tried_again(tmp_path: Path) -> None:
    """B38."""
    Program(tmp_path, PREAMBLE + START).finish()
