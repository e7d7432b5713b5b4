"""Jobs whose task an app does not have: story B3."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobify import Jobify
from jobify.model.records import JobQuery
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, job
from support import durable, eventually, opened, run, soon


def _fill(directory: Path) -> None:
    with opened(durable(directory)) as storage:
        storage.insert(
            [job("a", task="gone"), job("b", task="gone", due_at=NOW * 2), job("c", task="work", due_at=NOW * 2)]
        )
        storage.insert([job("d", task="odd")])


class SlowToCount(SQLiteStorage):
    """Counts until it is allowed to end, or is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, synchronous="normal")
        self.counts = threading.Event()
        self.may_end = threading.Event()
        self.was_counting_at_close = False

    def count(self, query: JobQuery) -> Mapping[tuple[str, str, str], int]:
        self.counts.set()
        assert self.may_end.wait(20)
        return super().count(query)

    def close(self) -> None:
        self.was_counting_at_close = self.counts.is_set() and not self.may_end.is_set()
        super().close()
        self.may_end.set()


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "this app does not have" in record.getMessage()]


@pytest.mark.promise("b3", "x20")
def test_jobs_of_unknown_tasks_are_kept_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _fill(tmp_path)
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work")
    async def work() -> None: ...

    async def main() -> None:
        async with app:
            await eventually(lambda: len(_warnings(caplog)) == 2)
            await (await work.push())
            assert [record.status for record in app.configs.storage.get(("a", "b", "d"))] == ["scheduled"] * 3

    with caplog.at_level(logging.WARNING, "jobify.engine"):
        for _ in range(2):  # each start says so, once
            run(main())
            gone, odd = _warnings(caplog)
            assert "2 unfinished jobs of task 'gone'" in gone
            assert "1 unfinished jobs of task 'odd'" in odd
            caplog.clear()


@pytest.mark.usefixtures("sqlite_file")
async def test_neither_start_nor_stop_waits_for_the_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _fill(tmp_path)
    storage = SlowToCount(tmp_path / "jobs.db")
    app = Jobify(storage=storage)

    @app.task(name="work")
    async def work() -> int:
        return 1

    await soon(app.startup())
    assert await soon(asyncio.to_thread(storage.counts.wait, 20))
    await soon((await work.push()).wait())
    await soon(app.shutdown())
    assert storage.was_counting_at_close
    assert _warnings(caplog) == []
