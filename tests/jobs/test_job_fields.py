"""The fields of a job on what its task logs with loggers of its own, in every run mode."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify import JobFields, Jobify, RunMode
from support import durable

pytestmark = pytest.mark.promise("f9")

log = logging.getLogger("shop.fields")


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def fields(self, message: str) -> tuple[Any, ...]:
        (record,) = [one for one in self.records if one.getMessage() == message]
        return tuple(getattr(record, name) for name in ("job_id", "task", "queue", "attempt"))


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    handler.addFilter(JobFields())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


async def says_on_loop() -> None:
    log.info("says")
    await asyncio.create_task(says_deeper())


async def says_deeper() -> None:
    log.info("deeper")


def says() -> None:
    log.info("says")
    log.info("deeper")


@pytest.mark.parametrize("mode", [RunMode.MAIN, RunMode.THREAD, RunMode.PROCESS])
async def test_records_of_a_tasks_own_loggers_have_the_fields_of_its_job(
    tmp_path: Path, kept: Kept, mode: RunMode
) -> None:
    app = Jobify(storage=durable(tmp_path))
    task = app.task(says_on_loop if mode is RunMode.MAIN else says, name="speak", queue="stage", run_mode=mode)

    async with app:
        log.info("outside")
        job: Any = await task.push()
        await job
        job_id = str(job.id)
    assert kept.fields("says") == (job_id, "speak", "stage", 1)
    assert kept.fields("deeper") == (job_id, "speak", "stage", 1)
    assert kept.fields("outside") == (None, None, None, None)


async def test_two_jobs_at_once_are_told_apart(kept: Kept) -> None:
    app = Jobify(storage=False)
    gate = threading.Barrier(2, timeout=10)

    @app.task(name="meet")
    def meet(name: str) -> None:
        gate.wait()
        log.info(name)

    async with app:
        jobs = [await meet.push("one"), await meet.push("two")]
        for job in jobs:
            await job
        ids = [job.id for job in jobs]
    assert [kept.fields("one")[0], kept.fields("two")[0]] == ids


def test_a_record_keeps_its_own_fields_and_a_format_may_name_them() -> None:
    record = logging.makeLogRecord({"msg": "hello", "job_id": "a", "task": "pack"})
    assert JobFields(default="-").filter(record)
    form = logging.Formatter("%(job_id)s %(task)s %(queue)s %(attempt)s %(message)s")
    assert form.format(record) == "a pack - - hello"
