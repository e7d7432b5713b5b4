"""A database that somebody else has locked: stories B12, B25, B26 and B45.

Whoever calls is told or waits; nothing ends, nothing is forgotten, and all goes on when the lock is gone.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobify import Cron, Jobify, JobStatus
from jobify.exceptions import StorageUnavailableError
from jobify.runtime.failure_log import FailureLog
from jobify.testing.clock import FakeClock
from support import durable, eventually, nudge, soon

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the write lock of the database, as another program may."""
    with closing(sqlite3.connect(directory / "jobs.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


class Shop:
    """An app that loses its patience with a locked database soon, and a task that ends when it is told to."""

    def __init__(self, directory: Path, cron: Cron | None = None) -> None:
        self.clock = FakeClock(NOON)
        self.app = Jobify(storage=durable(directory, timeout=0.02), clock=self.clock)
        self.runs: list[str] = []
        self.gate = asyncio.Event()
        self.task: Any = self.app.task(self.work, name="work", cron=cron)

    async def work(self, word: str = "tick") -> str:
        self.runs.append(word)
        await self.gate.wait()
        return word

    async def minute(self) -> None:
        """Let a minute pass."""
        self.clock.advance(60)
        nudge(self.app)


REFUSALS: list[str] = []
"""What was said to the log: it writes one line a minute of it."""


@pytest.fixture(autouse=True)
def _listen(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = FailureLog.failed

    def listening(self: FailureLog, source: Hashable, message: str, *args: Any, **options: Any) -> None:
        REFUSALS.append(message)
        failed(self, source, message, *args, **options)

    REFUSALS.clear()
    monkeypatch.setattr(FailureLog, "failed", listening)


def refusals() -> int:
    return sum("is not stored yet" in message for message in REFUSALS)


@pytest.mark.promise("b25")
@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_cron_goes_on_after_its_database_was_locked_while_it_was_planned_anew(
    tmp_path: Path, is_declared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobify.engine"):
        rule = Cron("* * * * *")
        shop = Shop(tmp_path, rule if is_declared else None)
        async with shop.app:
            if not is_declared:
                await shop.task.schedule().cron(rule, job_id="cron")
            (job,) = shop.app.get_active_jobs()
            await shop.minute()
            await eventually(lambda: len(shop.runs) == 1)
            with locked(tmp_path):
                shop.gate.set()
                await eventually(lambda: refusals() >= 3)
                assert job.status is JobStatus.RUNNING, "a run that is not stored has not ended"
            await eventually(lambda: job.cron_context.run_count == 1)
            for count in (2, 3):
                await shop.minute()
                await eventually(lambda count=count: len(shop.runs) == count)
                await eventually(lambda count=count: job.cron_context.run_count == count)
            assert not job.is_done()
            await job.cancel()
            await soon(shop.app.wait_all())


@pytest.mark.promise("b25")
async def test_a_cron_that_becomes_due_while_the_database_is_locked_runs_after_that(tmp_path: Path) -> None:
    shop = Shop(tmp_path, Cron("* * * * *"))
    shop.gate.set()
    async with shop.app:
        with locked(tmp_path):
            await shop.minute()
            with pytest.raises(StorageUnavailableError):
                await soon(shop.task.push("refused"))
            assert shop.runs == []
        await eventually(lambda: shop.runs == ["tick"])
        await shop.minute()
        await eventually(lambda: shop.runs == ["tick", "tick"])


@pytest.mark.promise("b26")
async def test_a_job_that_ends_while_the_database_is_locked_ends_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobify.engine"):
        shop = Shop(tmp_path)
        async with shop.app:
            job = await shop.task.push("once")
            await eventually(lambda: shop.runs)
            with locked(tmp_path):
                shop.gate.set()
                await eventually(lambda: refusals() >= 3)
                assert not job.is_done()
                assert shop.app.find_job(job.id) is not None
            assert await soon(job) == "once"
            await soon(shop.app.wait_all())
            assert shop.app.get_active_jobs() == []
        again = Shop(tmp_path)
        again.gate.set()
        async with again.app:
            await soon(again.app.wait_all())
            (record,) = again.app.configs.storage.get([job.id])
            assert (record.status, record.attempt) == ("success", 1)
        assert again.runs == []


@pytest.mark.promise("b26")
async def test_a_shutdown_waits_for_an_outcome_that_cannot_be_written_yet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobify.engine"):
        shop = Shop(tmp_path)
        await shop.app.startup()
        job = await shop.task.push("once")
        await eventually(lambda: shop.runs)
        with locked(tmp_path):
            shop.gate.set()
            await eventually(lambda: refusals() >= 1)
            stopping = asyncio.ensure_future(shop.app.shutdown())
            await eventually(lambda: refusals() >= 3)
            assert not stopping.done()
        await soon(stopping)
        assert job.result() == "once"


@pytest.mark.promise("b12")
async def test_a_replace_that_a_locked_database_refuses_leaves_the_old_job_alone(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.gate.set()
    async with shop.app:
        job = await shop.task.schedule("old").delay(60, job_id="it")
        with locked(tmp_path):
            with pytest.raises(StorageUnavailableError):
                await soon(shop.task.schedule("new").delay(30, job_id="it", replace=True))
            with pytest.raises(StorageUnavailableError):
                await soon(shop.task.schedule("new").cron("* * * * *", job_id="it", replace=True))
        assert (job.status, job.is_cron()) == (JobStatus.SCHEDULED, False)
        assert job.exec_at == NOON + timedelta(seconds=60)
        await shop.minute()
        assert await soon(job) == "old"
        await soon(shop.app.wait_all())


@pytest.mark.promise("b45")
async def test_a_start_on_a_locked_database_leaves_the_event_loop_free(tmp_path: Path) -> None:
    """Only this loop can let go of the lock: were it frozen, the start would run out of patience and fail."""

    first = Shop(tmp_path)
    async with first.app:
        pass
    app = Jobify(storage=durable(tmp_path, is_new=True, timeout=60))
    with locked(tmp_path):
        starting = asyncio.ensure_future(app.startup())
        for _ in range(300):
            await asyncio.sleep(0.001)
        assert not starting.done()
    await soon(starting)
    await app.shutdown()


@pytest.mark.promise("b45")
async def test_a_start_that_runs_out_of_patience_says_so_and_can_be_tried_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    async with shop.app:
        pass
    with locked(tmp_path), pytest.raises(StorageUnavailableError):
        await soon(shop.app.startup())
    shop.gate.set()
    async with shop.app:
        assert await soon(await shop.task.push("now")) == "now"
