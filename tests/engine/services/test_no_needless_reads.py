"""Reads that the engine does not make, because they could find nothing new."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.engine.execution.dispatcher import Dispatcher
from jobify.engine.services.remote_watcher import RemoteJobWatcher
from jobify.model.records import Claimed, ClaimRequest
from jobify.storage import SQLiteStorage
from jobify.types import Microseconds
from probes import backends_of, dispatchers_of, events_of
from support import durable, soon


class Counting(SQLiteStorage):
    """Counts claims."""

    claims = 0

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        self.claims += 1
        return super().claim(request, now=now)


async def test_future_jobs_cause_no_claims(tmp_path: Path) -> None:
    """The dispatcher sleeps until the first of them is due, also if others are stored during its claim."""
    storage = Counting(tmp_path / "jobs.db", synchronous="normal")
    app = Jobify(storage=storage)

    @app.task(name="later")
    async def later() -> None: ...

    async with app:
        for number in range(300):
            await soon(later.schedule().delay(3600 - number))
        assert storage.claims < 30
        ran = await soon(later.schedule().delay(0.01))
        await soon(ran)  # and it is not late for what is due before all of them


async def test_waiting_for_a_job_that_runs_here_wakes_no_watcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher reads how jobs end elsewhere."""
    wakes: list[RemoteJobWatcher] = []
    monkeypatch.setattr(RemoteJobWatcher, "watch_now", lambda self, job: wakes.append(self))
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="now")
    async def now() -> int:
        for _ in range(5):  # so that it runs when its caller begins to wait
            await asyncio.sleep(0)
        return 1

    async with app:
        for _ in range(300):
            job = await soon(now.push())
            assert await soon(job) == 1
    assert len(wakes) < 30


async def test_a_change_of_the_database_has_nothing_claimed_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process can have changed what is in memory."""
    woken: list[Dispatcher] = []
    wake = Dispatcher.wake
    monkeypatch.setattr(Dispatcher, "wake", lambda self: (woken.append(self), wake(self)))
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="task")
    async def task() -> None: ...

    async with app:
        on_disk, in_memory = backends_of(app)
        woken.clear()
        events_of(app).local_change(on_disk)
        assert woken == [dispatchers_of(app)[on_disk]]
        woken.clear()
        events_of(app).storage_changed()  # it is not known which
        assert woken == [dispatchers_of(app)[on_disk], dispatchers_of(app)[in_memory]]
