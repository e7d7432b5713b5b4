"""A shutdown that does not wait for its threads: no job runs twice at once, and none is punished for it."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.storage.memory import MemoryStorage
from jobify.testing.rows import NOW, PROFILE, running
from support import a_while, address, durable, eventually, opened, run, until

pytestmark = pytest.mark.promise("f44")


class Work:
    """A task in a thread that goes on until it may end, and knows how often it ran, and how often at once."""

    def __init__(self, app: Jobify) -> None:
        self.may_end = threading.Event()
        self.running = self.most = self.runs = 0
        self.lock = threading.Lock()
        self.task = app.task(name="work")(self._work())

    def _work(self) -> object:
        def work() -> str:
            with self.lock:
                self.runs += 1
                self.running += 1
                self.most = max(self.most, self.running)
            self.may_end.wait(60)
            with self.lock:
                self.running -= 1
            return "done"

        return work


async def stop_at_once(app: Jobify) -> None:
    """Cancel a shutdown twice, as Ctrl-C does."""
    stopping = asyncio.ensure_future(app.shutdown(grace=60))
    for _ in range(2):
        await asyncio.sleep(0.05)
        stopping.cancel()
    with suppress(asyncio.CancelledError):
        await stopping


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    """What another process sees."""
    with opened(durable(tmp_path)) as storage:
        yield storage


def test_a_thread_that_outlives_its_app_keeps_its_job(tmp_path: Path, storage: SQLiteStorage) -> None:
    app = Jobify(storage=durable(tmp_path))
    work = Work(app)

    async def main() -> None:
        await app.startup()
        await work.task.schedule().push(job_id="one")
        await eventually(lambda: work.running)
        await stop_at_once(app)
        for _ in range(20):
            assert storage.recover(now=2**60, max_crashes=1, delete_at=None) == []
            await asyncio.sleep(0.1)
        (row,) = storage.get(["one"])
        assert (row.status, row.attempt) == ("running", 1)
        work.may_end.set()
        await eventually(lambda: storage.recover(now=2**60, max_crashes=1, delete_at=None))

    run(main())
    (row,) = storage.get(["one"])
    assert (row.status, row.attempt, row.crashes) == ("scheduled", 0, 0)
    assert [line.outcome for line in storage.attempts("one")] == ["released"]
    assert storage.owners() == []


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_an_app_that_starts_again_waits_for_the_thread_of_its_earlier_life(tmp_path: Path, kind: str) -> None:
    app = Jobify(storage=durable(tmp_path) if kind == "sqlite" else MemoryStorage(), max_crashes=1)
    work = Work(app)

    await app.startup()
    await work.task.schedule().push(job_id="one")
    await eventually(lambda: work.running)
    await stop_at_once(app)
    await app.startup()
    await a_while(2.5)
    assert (work.runs, work.running) == (1, 1)
    work.may_end.set()
    await eventually(lambda: app.configs.storage.get(["one"])[0].status == "success")
    (row,) = app.configs.storage.get(["one"])
    assert (row.attempt, row.crashes) == (1, 0)
    await app.shutdown()
    assert work.most == 1


async def test_a_coroutine_that_refuses_to_end_keeps_its_job(tmp_path: Path, storage: SQLiteStorage) -> None:
    app = Jobify(storage=durable(tmp_path))
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    @app.task(name="stubborn")
    async def stubborn() -> None:
        has_begun.set()
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()

    await app.startup()
    await stubborn.schedule().push(job_id="one")
    await has_begun.wait()
    await stop_at_once(app)
    assert storage.recover(now=2**60, max_crashes=1, delete_at=None) == []
    may_end.set()
    await eventually(lambda: storage.recover(now=2**60, max_crashes=1, delete_at=None))
    (row,) = storage.get(["one"])
    assert (row.status, row.attempt, row.crashes) == ("scheduled", 0, 0)


async def test_what_has_not_begun_is_given_back_at_once(tmp_path: Path, storage: SQLiteStorage) -> None:
    app = Jobify(storage=durable(tmp_path), threadpool_executor=ThreadPoolExecutor(1))
    work = Work(app)

    await app.startup()
    for name in ("one", "two", "three"):
        await work.task.schedule().push(job_id=name)
    await eventually(lambda: work.running)
    await stop_at_once(app)
    rows = {row.id: (row.status, row.attempt, row.crashes) for row in storage.get(["one", "two", "three"])}
    assert rows == {
        "one": ("running", 1, 0),
        "two": ("scheduled", 0, 0),
        "three": ("scheduled", 0, 0),
    }
    work.may_end.set()


async def test_an_outcome_that_comes_after_the_end_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Jobify(storage=durable(tmp_path))
    work = Work(app)

    await app.startup()
    job = await work.task.push()
    await eventually(lambda: work.running)
    await stop_at_once(app)
    work.may_end.set()
    await eventually(job.is_done)
    assert job.exception is not None
    said = [
        record.getMessage() for record in caplog.records if "ended after its app had stopped" in record.getMessage()
    ]
    assert len(said) == 1
    assert not any("trying again" in record.getMessage() for record in caplog.records)


def test_a_loop_that_was_closed_under_a_thread_does_not_free_its_job(tmp_path: Path, storage: SQLiteStorage) -> None:
    """The app was not shut down at all, and starts again in another event loop."""
    app = Jobify(storage=durable(tmp_path))
    work = Work(app)

    async def first() -> None:
        await app.startup()
        await work.task.schedule().push(job_id="one")
        await eventually(lambda: work.running)

    async def second() -> None:
        await app.startup()
        await a_while(1.5)
        assert work.runs == 1
        work.may_end.set()
        await eventually(lambda: storage.get(["one"])[0].status == "success")
        await app.shutdown()

    run(first())
    run(second())
    assert work.most == 1
    assert storage.get(["one"])[0].crashes == 0


PROGRAM = """
    import asyncio, logging, sys, time
    from pathlib import Path
    from jobify import Jobify

    class Slow(logging.Handler):
        def emit(self, record):
            time.sleep(0.5)

    if "slow" in sys.argv:
        logging.getLogger("jobify").addHandler(Slow())
    app = Jobify(storage=PLACE)
    notes = Path("notes")

    @app.task(name="work")
    def work():
        with notes.open("a") as file:
            file.write(f"+{time.monotonic()}\\n")
        time.sleep(4)
        with notes.open("a") as file:
            file.write(f"-{time.monotonic()}\\n")

    async def main():
        async with app:
            if "push" in sys.argv:
                await work.push()
            print("ready", flush=True)
            await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.mark.parametrize("handler", ["quick", "slow"])
def test_two_interrupts_do_not_make_two_runs_overlap(tmp_path: Path, handler: str) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM).replace("PLACE", repr(address(tmp_path))))
    storage = durable(tmp_path)
    notes = tmp_path / "notes"
    command = [sys.executable, "program.py", handler]
    first = subprocess.Popen([*command, "push"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    second = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for program in (first, second):
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
        until(lambda: notes.exists() and notes.read_text())
        first.send_signal(signal.SIGINT)
        time.sleep(0.3)
        first.send_signal(signal.SIGINT)
        storage.open()
        until(lambda: [row.status for row in storage.get(_ids(storage))] == ["success"])
        (row,) = storage.get(_ids(storage))
        assert row.crashes == 0
    finally:
        storage.close()
        for program in (first, second):
            program.kill()
            program.communicate()
    running = most = 0
    for line in notes.read_text().splitlines():
        running += 1 if line.startswith("+") else -1
        most = max(most, running)
    assert most == 1


def _ids(storage: SQLiteStorage) -> list[str]:
    return [row.id for row in storage.find(JobQuery())]


@pytest.mark.usefixtures("sqlite_file")
def test_a_mark_that_cannot_be_written_frees_nothing(
    storage: SQLiteStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(SQLiteStorage(tmp_path / "jobs.db", timeout=0)) as leaving:
        owner = leaving.register(PROFILE, now=NOW)
        leaving.insert([running("one", owner)])
        with storage.transaction(), caplog.at_level(logging.WARNING):
            release = leaving.leave(owner)
        assert "crash" in caplog.text
    assert storage.recover(now=NOW, max_crashes=3, delete_at=None) == []
    release()
    assert [job.is_crash for job in storage.recover(now=NOW, max_crashes=3, delete_at=None)] == [True]
