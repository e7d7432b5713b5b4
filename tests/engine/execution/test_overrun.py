"""A thread that goes on after its attempt timed out: its job stays in this process's hands until it ends."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from jobify import Jobify, JobStatus, SmartRetry
from jobify.exceptions import StorageUnavailableError
from jobify.storage import Storage
from probes import engine_of
from support import durable, eventually, soon


async def test_its_job_has_one_handle_and_a_replacement_waits_for_it(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    go_on = threading.Event()
    runs: list[str] = []

    @app.task(name="slow", timeout=0.05, retry=SmartRetry(retries=1, initial_delay=0))
    def slow(word: str) -> str:
        runs.append(word)
        go_on.wait(20)
        return word

    async with app:
        job = await slow.schedule("old").push(job_id="it")
        engine = engine_of(app)
        assert engine is not None
        await eventually(lambda: engine._attempts.lingering)
        assert app.find_job("it") is job
        assert app.get_active_jobs() == [job]

        later = datetime.now(UTC) + timedelta(hours=1)
        replacement = await slow.schedule("new").at(later, job_id="it", replace=True)
        assert replacement is job
        assert job.exec_at == later
        assert runs == ["old"]

        go_on.set()
        await eventually(lambda: job.status is JobStatus.SCHEDULED)
        assert job.exec_at == later
        await soon(job.cancel())
        assert runs == ["old"]


class Slow:
    """An app with a task that goes on after its timeout, until it is let go."""

    def __init__(self, storage: Storage | Literal[False]) -> None:
        self.app = Jobify(storage=storage)
        self.let_go = threading.Event()
        self.at_once: list[int] = []
        self.task = self.app.task(self._work, name="slow", timeout=0.05, retry=SmartRetry(retries=1, initial_delay=0))
        self._running = 0

    def _work(self) -> str:
        self._running += 1
        self.at_once.append(self._running)
        self.let_go.wait(20)
        self._running -= 1
        return "late"


@pytest.fixture(params=["sqlite", "memory"])
def slow(request: pytest.FixtureRequest, tmp_path: Path) -> Slow:
    return Slow(durable(tmp_path) if request.param == "sqlite" else False)


@pytest.mark.promise("t3")
async def test_the_timeout_is_in_the_history_while_the_thread_goes_on(slow: Slow) -> None:
    async with slow.app:
        job = await slow.task.adelay()
        await eventually(lambda: job.errors)
        assert (job.status, slow.at_once) == ("running", [1])
        assert str(job.error).startswith("JobTimeoutError: ")
        slow.let_go.set()
        await soon(job.await_end())
        assert (job.status, job.attempt, [line["attempt"] for line in job.errors]) == ("complete", 2, [1])
    assert slow.at_once == [1, 1]


async def test_it_is_there_once_when_the_job_is_cancelled_then(slow: Slow) -> None:
    async with slow.app:
        job = await slow.task.adelay()
        await eventually(lambda: job.errors)
        assert await job.acancel(timeout=0) is False
        slow.let_go.set()
        await soon(job.await_end())
        assert (job.status, len(job.errors)) == ("cancelled", 1)
        assert str(job.error).startswith("JobTimeoutError: ")


async def test_it_is_noted_later_if_it_cannot_be_now(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    async with slow.app:
        tried = threading.Event()

        def fail(_: object) -> None:
            tried.set()
            raise StorageUnavailableError("full")

        storage = slow.app.configs.storage
        monkeypatch.setattr(storage, "add_history", fail)
        job = await slow.task.adelay()
        await eventually(tried.is_set)
        assert job.errors == []
        slow.let_go.set()
        await eventually(lambda: job.errors)
