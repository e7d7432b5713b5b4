"""A disk that is full: one line of log, however much fails, and one when it is over."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, current_job
from jobify.exceptions import StorageUnavailableError
from jobify.storage import SQLiteStorage
from support import durable, eventually, soon


@pytest.mark.promise("f52")
@pytest.mark.usefixtures("sqlite_file")
async def test_a_full_disk_is_one_line_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True))
    is_full, failures = False, 0

    def guard(name: str) -> None:
        original = getattr(SQLiteStorage, name)

        def guarded(*args: Any, **kwargs: Any) -> Any:
            nonlocal failures
            if is_full:
                failures += 1
                raise StorageUnavailableError("The database is not available: the disk is full.")
            return original(*args, **kwargs)

        monkeypatch.setattr(SQLiteStorage, name, guarded)

    for name in (
        "insert",
        "settle",
        "claim",
        "report",
        "heartbeat",
        "recover",
        "purge",
        "expire",
        "transaction",
    ):
        if hasattr(SQLiteStorage, name):
            guard(name)
    go = asyncio.Event()

    @app.task(name="works")
    async def works(number: int) -> int:
        await go.wait()
        current_job.log("half of it")
        return number

    async with app:
        jobs = [await works.push(number) for number in range(20)]
        await eventually(lambda: all(job.status == "running" for job in jobs))
        caplog.clear()
        is_full = True
        go.set()
        await eventually(lambda: failures > 15)
        with pytest.raises(StorageUnavailableError):
            await works.push(1)
        lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == 1, [record.getMessage() for record in lines]
        is_full = False
        assert [await soon(job) for job in jobs] == list(range(20))
        await eventually(lambda: "The storage works again after" in caplog.text)
        lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == 2, [record.getMessage() for record in lines]
