"""An app whose database is deleted or replaced while it runs."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobify import Cron, Jobify, JobStatus
from jobify.exceptions import StorageCorruptError, StorageReplacedError
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from support import opened

pytestmark = pytest.mark.usefixtures("sqlite_file")

ENDS = ("", "-wal", "-shm")
LIMIT = 60.0
"""Seconds after which a test that waits has failed."""


def _delete_all(path: Path) -> None:
    for end in ENDS:
        path.with_name(path.name + end).unlink()


def _restore(path: Path) -> None:
    _delete_all(path)
    shutil.copyfile(path.with_name("backup.db"), path)


def _move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def _truncate(path: Path) -> None:
    path.open("wb").close()


def _backup(path: Path) -> None:
    storage = SQLiteStorage(path.with_name("backup.db"))
    storage.open()
    storage.close()


ATTACKS: list[Callable[[Path], None]] = [_delete_all, _restore, _move, _truncate]


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.promise("f42", "f43")
@pytest.mark.parametrize("synchronous", ["full", "normal"])
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_app_stops_work_and_says_so(
    tmp_path: Path, attack: Callable[[Path], None], synchronous: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "jobs.db"
    _backup(path)
    app = Jobify(storage=SQLiteStorage(path, synchronous=synchronous))  # type: ignore[arg-type]
    ticks: list[int] = []
    gate = asyncio.Event()

    @app.task(name="tick", cron=Cron("* * * * * * *"))
    async def tick() -> None:
        ticks.append(1)

    @app.task(name="hold")
    async def hold() -> str:
        await gate.wait()
        return "held"

    @app.task(name="quick")
    async def quick() -> str:
        return "done"

    async with app:
        assert await (await quick.push()) == "done"
        await _until(lambda: ticks)
        running, waiting = await hold.push(), await quick.schedule().delay(3600)
        await _until(lambda: running.status == JobStatus.RUNNING)
        attack(path)
        await _until(lambda: "was deleted or replaced" in caplog.text)
        count = len(ticks)
        with pytest.raises(StorageReplacedError):
            await quick.push()
        with pytest.raises(StorageReplacedError):
            quick.delay()
        with pytest.raises(StorageReplacedError):
            await quick.schedule().delay(3600)
        gate.set()
        for job in (running, waiting):
            async with asyncio.timeout(LIMIT):
                await job.wait()
            assert job.status == JobStatus.CANCELLED
            assert isinstance(job.exception, StorageReplacedError)
        with pytest.raises(StorageReplacedError):
            await app.wait_all(timeout=LIMIT)
        assert len(ticks) <= count + 1  # one may have been claimed before
        async with asyncio.timeout(LIMIT):
            await app.shutdown(grace=LIMIT)
    app.close()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors[0].getMessage().count("was deleted or replaced") == 1
    assert sum("No more jobs are claimed" in record.getMessage() for record in errors) == 1
    assert "failed and goes on" not in caplog.text
    assert not caplog.records[-1].exc_info


@pytest.mark.promise("f43")
def test_a_waiting_client_is_told(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    app = Jobify(storage=SQLiteStorage(path))

    @app.task(name="later")
    def later() -> None: ...

    job = later.delay()
    assert job.status == "pending"
    _delete_all(path)
    with pytest.raises(StorageReplacedError):
        job.result(timeout=LIMIT)
    with pytest.raises(StorageReplacedError):
        later.delay()
    with pytest.raises(StorageReplacedError):
        _ = job.status
    app.close()
    assert not path.exists()
    later.delay()  # close() lets go of the old file, and the next call opens what is there
    app.close()
    assert path.exists()


@pytest.mark.promise("f43")
async def test_an_app_that_is_started_again_uses_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    _backup(path)
    app = Jobify(storage=SQLiteStorage(path))

    @app.task(name="quick")
    async def quick() -> str:
        return "done"

    for _ in range(3):
        async with app:
            assert await (await quick.push()) == "done"
            _restore(path)
            with pytest.raises(StorageReplacedError):
                await quick.push()
    with opened(SQLiteStorage(path)) as storage:
        assert storage.find(JobQuery()) == []


@pytest.mark.promise("f42")
@pytest.mark.parametrize("content", [None, b""])
def test_a_log_without_its_database_is_kept(tmp_path: Path, content: bytes | None) -> None:
    """SQLite would delete it, with all that was committed last."""
    path = tmp_path / "jobs.db"
    (tmp_path / "jobs.db-wal").write_bytes(b"committed")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageCorruptError, match="its log"):
        SQLiteStorage(path).open()
    assert (tmp_path / "jobs.db-wal").read_bytes() == b"committed"
