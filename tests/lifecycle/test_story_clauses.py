"""Clauses of the stories that no other file is about."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify, JobStatus, SmartRetry
from jobify.middleware import QueueMiddleware
from jobify.storage import SQLiteStorage
from support import durable, eventually, opened, soon

FAR = datetime.now(UTC) + timedelta(days=30)


@pytest.mark.promise("b28")
async def test_after_more_cancels_than_workers_jobs_run_and_the_shutdown_is_clean(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = durable(tmp_path)
    app = Jobify(storage=storage, middleware=[QueueMiddleware(workers=2)])
    loop_errors: list[Any] = []

    @app.task(name="hang")
    async def hang() -> None:
        await asyncio.Event().wait()

    @app.task(name="work")
    async def work(number: int) -> int:
        return number

    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    async with app:
        for _ in range(5):
            running = [await hang.push() for _ in range(2)]
            await eventually(lambda running=running: all(job.status is JobStatus.RUNNING for job in running))
            queued = [await hang.push() for _ in range(2)]
            await asyncio.gather(*(job.cancel() for job in (*running, *queued)))
            assert {job.status for job in (*running, *queued)} == {JobStatus.CANCELLED}
        jobs = [await work.push(number) for number in range(10)]
        assert await soon(asyncio.gather(*jobs)) == list(range(10))
        assert {job.status for job in jobs} == {JobStatus.SUCCESS}
        left = [await hang.push() for _ in range(5)]
    assert {job.status for job in left} == {JobStatus.CANCELLED}
    assert loop_errors == []
    assert caplog.records == []
    with opened(durable(tmp_path)) as other:
        assert other.owners() == [], "the storage is closed, and nobody is taken for a worker"


class Counting(SQLiteStorage):
    """Counts the rows that it gives to the engine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "jobs.db", synchronous="normal")
        self.given: Counter[str] = Counter()

    def get(self, ids: Any) -> Any:
        return self._counted("get", super().get(ids))

    def find(self, query: Any) -> Any:
        return self._counted("find", super().find(query))

    def claim(self, *args: Any, **options: Any) -> Any:
        claimed = super().claim(*args, **options)
        self.given["claim"] += len(claimed.claims)
        return claimed

    def _counted(self, name: str, rows: Any) -> Any:
        self.given[name] += len(rows)
        return rows


@pytest.mark.promise("b49")
async def test_a_start_reads_none_of_the_jobs_that_wait(tmp_path: Path) -> None:
    storage = Counting(tmp_path)

    for count in (2000, 0):
        app = Jobify(storage=storage)

        @app.task(name="later")
        async def later(number: int) -> None: ...

        @app.task(name="now")
        async def now() -> str:
            return "ran"

        async with app:
            await asyncio.gather(*(later.schedule(number).at(FAR) for number in range(count)))
            storage.given.clear()
            if not count:
                assert await soon(await now.push()) == "ran"
                job = await now.schedule().delay(0.01)
                assert await soon(job) == "ran"
    assert storage.given["claim"] == 1
    assert storage.given["find"] == 0
    assert storage.given["get"] <= 1


@pytest.mark.promise("b33")
@pytest.mark.parametrize("column", ["payload", "due_at", "status", "task", "attempt"])
@pytest.mark.parametrize("value", [None, "text"])
@pytest.mark.usefixtures("sqlite_file")
async def test_a_value_of_a_wrong_type_does_not_get_into_the_file(tmp_path: Path, column: str, value: Any) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        await work.schedule().at(FAR)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        if value is not None and column in ("status", "task"):
            connection.execute(f"UPDATE jobs SET {column} = ?", (value,))  # a text, and what it says is looked at
        else:
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(f"UPDATE jobs SET {column} = ?", (value,))


@pytest.mark.promise("x4")
async def test_a_job_that_runs_once_and_is_out_of_retries_has_failed(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="fail", retry=SmartRetry(2, initial_delay=0))
    async def fail() -> None:
        raise ValueError("always")

    async with app:
        for job in (await fail.push(), await fail.schedule().delay(0)):
            await soon(job.wait())
            assert job.status is JobStatus.FAILED
            assert app.configs.storage.get([job.id])[0].attempt == 3


@pytest.mark.promise("x12")
async def test_a_cron_is_done_only_when_no_run_can_follow(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="tick")
    async def tick(job: Job[Any] | None = None) -> str:
        return "ticked"

    async with app:
        job = await tick.schedule().cron("* * * * * * *", job_id="tick")
        await soon(job.wait())
        assert not job.is_done()
        assert job.result() == "ticked"
        await job.cancel()
        assert job.is_done()


@pytest.mark.promise("rule-16")
@pytest.mark.usefixtures("sqlite_file")
def test_the_constructor_of_the_sqlite_storage() -> None:
    parameters = inspect.signature(SQLiteStorage).parameters
    assert list(parameters)[:2] == ["database", "timeout"]
    assert (parameters["database"].default, parameters["timeout"].default) == ("jobify.db", 20.0)
    assert parameters["timeout"].kind is inspect.Parameter.KEYWORD_ONLY
