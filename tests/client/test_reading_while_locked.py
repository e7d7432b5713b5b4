"""Reads wait for no writer: neither for another process that has the file locked, nor for a write of this process that
waits for that (story F47)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.storage import SQLiteStorage
from jobify.storage.memory import MemoryStorage
from probes import shared_of
from support import PATIENCE, a_while, run, soon

pytestmark = [pytest.mark.promise("f47"), pytest.mark.usefixtures("sqlite_file")]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The file, while another connection writes to it."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("COMMIT")
        other.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def app(path: Path) -> Iterator[Jobify]:
    app = Jobify(storage=SQLiteStorage(path, timeout=10 * PATIENCE))

    @app.task(name="task")
    async def task(number: int) -> int:
        return number

    yield app
    app.close()


def reads(app: Jobify, job_id: str) -> list[Callable[[], Any]]:
    """Every way to ask about jobs."""
    job = app.get_job(job_id)
    looks: list[Callable[[], Any]] = [
        *[lambda name=name: getattr(job, name) for name in JOB_FIELDS],
        lambda: app.get_job(job_id),
        lambda: app.jobs(),
        lambda: app.stats(),
        lambda: app.dead_letters(),
        lambda: app.queues(),
        lambda: app.workers(),
        lambda: app.unserved(),
        lambda: app.schedules(),
        lambda: app.retention.preview(),
        lambda: list(job.stream()),
        job.result,
        job.wait,
        job.to_dict,
        job.logs,
        job.refresh,
    ]
    return looks


JOB_FIELDS = (
    "status",
    "progress",
    "error",
    "errors",
    "reason",
    "dependencies",
    "dependents",
    "task_name",
    "queue_name",
    "metadata",
    "attempt",
    "created_at",
    "started_at",
    "finished_at",
    "eta",
)


def ended_job(app: Jobify) -> str:
    """The id of a job that has run."""

    async def main() -> str:
        async with app:
            job = app.enqueue("task", args=(1,))
            assert await job.aresult() == 1
            return job.id

    return run(main())


@contextmanager
def a_write_that_waits(app: Jobify, path: Path) -> Iterator[None]:
    """The file is locked in this block, and a thread of the app waits for it all the time."""
    with locked(path):
        waiting = threading.Thread(target=app.enqueue, args=("task",), kwargs={"args": (2,)})
        waiting.start()
        shared = shared_of(app)
        assert shared is not None
        while shared.lock.acquire(blocking=False):  # until the write has it
            shared.lock.release()
        yield
        assert waiting.is_alive()
    waiting.join(PATIENCE)


def test_reads_go_on_while_a_write_waits(app: Jobify, path: Path) -> None:
    job_id = ended_job(app)
    app.stats()
    with a_write_that_waits(app, path):
        for read in reads(app, job_id):
            read()
    assert app.stats()["pending"] == 1


def test_so_do_those_of_async_callers(app: Jobify, path: Path) -> None:
    job_id = ended_job(app)
    job = app.get_job(job_id)

    async def main() -> None:
        with locked(path):
            writing = asyncio.ensure_future(app.aenqueue("task", args=(2,)))
            await a_while(0.05)
            for read in (
                app.aget_job(job_id),
                app.ajobs(),
                app.astats(),
                app.adead_letters(),
                app.aqueues(),
                app.aworkers(),
                app.aunserved(),
                app.aschedules(),
                app.retention.apreview(),
                job.aresult(),
                job.await_end(),
            ):
                await soon(read)
            async for _ in job.astream():
                pass
            assert not writing.done()
        await soon(writing)

    run(main())


def test_and_those_of_an_app_that_runs(app: Jobify, path: Path) -> None:
    job_id = ended_job(app)

    async def main() -> None:
        async with app:
            with locked(path):
                writing = asyncio.ensure_future(app.aenqueue("task", args=(2,)))
                await a_while(0.05)
                for read in reads(app, job_id):
                    await soon(asyncio.to_thread(read))
                assert app.find_job("unknown") is None
                app.get_active_jobs()
                assert not writing.done()
            await soon(writing)

    run(main())


def test_a_first_read_needs_no_writer_either(app: Jobify, path: Path) -> None:
    """Another app opens the file, and another user opens a storage object that is in use."""
    job_id = ended_job(app)
    app.stats()
    with a_write_that_waits(app, path):
        for storage in (app.configs.storage, SQLiteStorage(path, timeout=10 * PATIENCE)):
            other = Jobify(storage=storage)
            try:
                assert other.get_job(job_id).status == "complete"
            finally:
                if storage is not app.configs.storage:
                    other.close()


async def test_what_is_held_back_in_memory_is_seen() -> None:
    app = Jobify(storage=MemoryStorage())

    @app.task(name="task")
    async def task(number: int) -> int:
        return number

    async with app:
        job = await task.push(1)
        await soon(job)
        assert app.get_job(job.id).result() == 1
        assert app.stats()["complete"] == 1
    app.close()


def test_a_storage_is_opened_and_closed_by_many_threads(path: Path) -> None:
    """Users come and go while others read: no user is left with a storage that is closed."""
    storage = SQLiteStorage(path)
    apps = [Jobify(storage=storage) for _ in range(4)]
    for app in apps:
        app.task(_nothing, name="task")
    job_id = apps[0].enqueue("task").id
    problems: list[BaseException] = []

    def work(app: Jobify) -> None:
        try:
            for _ in range(50):
                assert app.get_job(job_id).status == "pending"
                app.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert problems == []


def _nothing() -> None:
    """A task."""
