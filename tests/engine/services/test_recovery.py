"""What the log says of a job that lost its process."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from jobify import JobFailure, Jobify
from jobify.engine.services.recovery import Recovery
from jobify.model.records import Recovered
from jobify.testing.rows import NOW, PROFILE, claim, job
from probes import service_of
from support import durable, eventually, opened, run

pytestmark = pytest.mark.both_storages


def _die_holding(directory: Path, *ids: str) -> None:
    """Die with these jobs, unless they are there and to be claimed: then with those."""
    with opened(durable(directory)) as storage:
        dead = storage.register(PROFILE, now=NOW)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        storage.insert([job(id) for id in ids])
        claim(storage, dead)
        if "unwanted" in ids:
            storage.cancel(["unwanted"], reason="stop", now=NOW, delete_at=None)
            storage.replace(job("replaced"))


def _said(directory: Path, caplog: pytest.LogCaptureFixture, count: int) -> list[tuple[int, str]]:
    """What an app says that takes over."""
    app = Jobify(storage=durable(directory))

    def said() -> list[tuple[int, str]]:
        return [
            (found.levelno, found.getMessage())
            for found in caplog.records
            if "died and held" in found.getMessage() or found.getMessage().startswith("Job ")
        ]

    async def main() -> None:
        async with app:
            await eventually(lambda: len(said()) == count)

    with caplog.at_level(logging.INFO, "jobify"):
        run(main())
    return said()


@pytest.mark.promise("f2")
def test_a_death_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _die_holding(tmp_path, "again", "unwanted", "replaced", *(f"{number}" for number in range(50)))
    death, unwanted = _said(tmp_path, caplog, 2)
    text = f"Process {os.getpid()} on {socket.gethostname()} died and held 53 jobs (53 had begun): "
    assert death == (logging.WARNING, text + "again (task), unwanted (task), replaced (task) and 50 more.")
    assert unwanted == (logging.INFO, "Job unwanted (task) was cancelled; its process has died.")


@pytest.mark.promise("f2")
def test_a_job_that_is_condemned_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        _die_holding(tmp_path, "deadly")
    death, deadly = _said(tmp_path, caplog, 2)
    assert death[1].endswith("died and held 1 job (1 had begun): deadly (task).")
    assert deadly == (logging.ERROR, "Job deadly (task) took 3 processes down and failed.")


@pytest.mark.promise("f6")
async def test_a_doubted_last_crash_is_not_reported_as_a_retry(tmp_path: Path) -> None:
    """A verdict follows within seconds: the job ends, or it runs again. Until then neither is known."""
    app = Jobify(storage=durable(tmp_path), max_crashes=3)
    reported: list[JobFailure] = []
    app.on_retry(reported.append)

    async with app:
        recovery = service_of(app, Recovery)
        with opened(durable(tmp_path)) as storage:
            storage.insert([job("a", due_at=2 * NOW)])
            (row,) = storage.get(["a"])
        recovered = Recovered("a", "task", "scheduled", None, attempt=3)
        recovery._report(recovered, row._replace(crashes=3))
        assert reported == []
        recovery._report(recovered, row._replace(crashes=2))
        assert [failure.attempt for failure in reported] == [3]


async def test_it_checks_more_often_as_soon_as_there_are_others(tmp_path: Path) -> None:
    with opened(durable(tmp_path)) as other:
        app = Jobify(storage=durable(tmp_path))

        async with app:
            recovery = service_of(app, Recovery)
            await recovery.step()
            assert recovery._interval == 1.0
            owner = other.register(PROFILE, now=NOW)
            await recovery.step()
            assert recovery._interval == (1.0 if other.poll_interval else 0.5)  # where each check is a query, it is not
            other.deregister(owner)
            await recovery.step()
            assert recovery._interval == 1.0
