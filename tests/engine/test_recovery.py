"""What the log says of a job that lost its process."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.engine.recovery import Recovery
from jobify.testing.storage_contract.given import NOW, PROFILE, born, claim, job
from support import durable, eventually, run


def _leave_behind(directory: Path) -> None:
    """Die with four jobs; with one of them for the third time."""
    storage = durable(directory)
    for _ in range(3):
        storage.open()
        dead = storage.register(PROFILE, now=NOW)
        storage.recover(now=NOW, max_crashes=3, delete_at=None)
        storage.insert([job("deadly")])
        claim(storage, dead)
        storage.close()
    storage.open()
    storage.insert([born(id, dead) for id in ("again", "unwanted", "replaced")])
    storage.cancel(["unwanted"], reason="stop", now=NOW, delete_at=None)
    storage.put(job("replaced"))
    storage.close()


def test_the_log_says_what_became_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _leave_behind(tmp_path)
    app = Jobify(storage=durable(tmp_path))

    def said() -> dict[str, tuple[int, str]]:
        found = [record for record in caplog.records if record.getMessage().startswith("Job ")]
        return {record.getMessage().split()[1]: (record.levelno, record.getMessage()) for record in found}

    async def main() -> None:
        async with app:
            await eventually(lambda: len(said()) == 4)
            found = app.configs.storage.get(("again", "unwanted", "replaced", "deadly"))
        assert {record.id: record.status for record in found} == {
            "again": "scheduled",
            "unwanted": "cancelled",
            "replaced": "scheduled",
            "deadly": "failed",
        }

    with caplog.at_level(logging.WARNING, "jobify.engine"):
        run(main())
    assert said() == {
        "again": (logging.WARNING, "Job again (task) lost its process and runs again."),
        "unwanted": (logging.WARNING, "Job unwanted (task) lost its process. It was to be cancelled, and is."),
        "replaced": (logging.WARNING, "Job replaced (task) lost its process and runs again."),
        "deadly": (logging.ERROR, "Job deadly (task) took 3 processes down and failed."),
    }


def test_it_looks_more_often_as_soon_as_there_are_others(tmp_path: Path) -> None:
    other = durable(tmp_path)
    other.open()
    app = Jobify(storage=durable(tmp_path))

    async def main() -> None:
        async with app:
            assert app._engine is not None
            (recovery,) = (service for service in app._engine._services if isinstance(service, Recovery))
            await recovery.step()
            assert recovery._interval == 1.0
            owner = other.register(PROFILE, now=NOW)
            await recovery.step()
            assert recovery._interval == 0.5
            other.retire(owner)
            await recovery.step()
            assert recovery._interval == 1.0

    run(main())
    other.close()
