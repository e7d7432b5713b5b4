"""Errors in the thread of a storage: what waits gets them, and the thread goes on, or the app stops."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify
from jobify.exceptions import StorageEndedError, StorageUnavailableError
from jobify.gateway import threads
from jobify.gateway.batching import Batch, BatchQueue
from jobify.gateway.claim_thread import ClaimThread
from jobify.gateway.threaded import ThreadedGateway
from jobify.storage import SQLiteStorage
from probes import database_of
from support import durable, echoing, eventually, soon

pytestmark = pytest.mark.promise("f54")

STEPS = [
    (BatchQueue, "take"),
    (Batch, "fill"),
    (Batch, "execute"),
    (ThreadedGateway, "_serve"),
    (ThreadedGateway, "_serve_small"),
    (ThreadedGateway, "_notify"),
    (ThreadedGateway, "_deliver"),
    (SQLiteStorage, "insert"),
    (SQLiteStorage, "settle"),
    (SQLiteStorage, "claim"),
    (SQLiteStorage, "transaction"),
    (SQLiteStorage, "get"),
]


class Fault:
    """Has a method raise instead of its next calls, if they are made in the thread of this name."""

    def __init__(self, error: BaseException, thread: str = "jobify-storage") -> None:
        self.error = error
        self.thread = thread
        self.count = 0

    def put_into(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def raising(*args: Any, **kwargs: Any) -> Any:
            if self.count and threading.current_thread().name == self.thread:
                self.count -= 1
                raise self.error
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, raising)


def storage_threads() -> set[threading.Thread]:
    """Those that run; other tests may have closed an event loop under one of them."""
    return {thread for thread in threading.enumerate() if thread.name in ("jobify-storage", "jobify-claims")}


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize(
    "error", [MemoryError("injected"), SystemExit("injected")], ids=lambda error: type(error).__name__
)
async def test_an_error_in_the_storages_thread_is_answered_and_the_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException
) -> None:
    fault = Fault(error)
    fault.put_into(monkeypatch, owner, name)

    async def push(task: Any, number: int) -> None:
        try:
            job = await task.push(number)
        except (StorageUnavailableError, type(error)):
            return
        assert await job == number

    app, echo = echoing(tmp_path)
    before = storage_threads()
    await app.startup()
    for round in range(3):
        fault.count = 2
        await soon(asyncio.gather(*(push(echo, number) for number in range(10))))
        fault.count = 0
        assert await soon(await echo.push(round)) == round
    await eventually(lambda: not app.get_active_jobs())
    fault.count = 1
    with suppress(StorageUnavailableError, MemoryError):
        await soon(app.shutdown())
    assert storage_threads() <= before
    assert not database_of(app.configs.storage).is_open


async def test_a_thread_that_cannot_go_on_stops_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_LONGEST_PAUSE", 0.01)
    fault = Fault(MemoryError("injected"))
    fault.put_into(monkeypatch, ThreadedGateway, "_serve")

    app, echo = echoing(tmp_path)
    before = storage_threads()
    await app.startup()
    fault.count = 10**9
    with pytest.raises(StorageEndedError, match="Start the app again"):
        await soon(echo.push(1))
    with pytest.raises(StorageEndedError):
        await soon(echo.push(2))
    await soon(app.shutdown())
    assert storage_threads() <= before
    fault.count = 0
    async with app:
        assert await soon(await echo.push(3)) == 3
    fatal = [record for record in caplog.records if record.levelno == logging.ERROR and record.name == "jobify.engine"]
    assert len(fatal) == 1
    assert "injected" in fatal[0].getMessage()


async def test_a_running_job_ends_although_the_thread_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_LONGEST_PAUSE", 0.01)
    fault = Fault(MemoryError("injected"))
    fault.put_into(monkeypatch, ThreadedGateway, "_serve")
    app = Jobify(storage=durable(tmp_path))
    go = asyncio.Event()

    @app.task(name="waits")
    async def waits() -> None:
        await go.wait()

    await app.startup()
    job = await waits.push()
    await eventually(lambda: job.status == "running")
    fault.count = 10**9
    go.set()
    await soon(job.wait())
    assert isinstance(job.exception, StorageEndedError)
    await soon(app.shutdown())


async def test_a_storage_whose_thread_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "jobify-storage":
            raise RuntimeError("can't start new thread")
        start(thread)

    app, echo = echoing(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Exception, match="RLIMIT_NPROC"):
            await soon(app.startup())
    async with app:
        assert await soon(await echo.push(3)) == 3


# -- a thread of its own for claims ------------------------------------------------------------------------------------


def build_with_claims_first(directory: Path) -> tuple[Jobify, Any]:
    app, echo = echoing(directory)
    app.configs.storage.claims_first = True
    return app, echo


@pytest.mark.parametrize(
    "step", [(BatchQueue, "take"), (Batch, "fill"), (ClaimThread, "_serve"), (ClaimThread, "_deliver")]
)
async def test_an_error_in_the_thread_of_the_claims_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
) -> None:
    fault = Fault(MemoryError("injected"), "jobify-claims")
    fault.put_into(monkeypatch, *step)
    app, echo = build_with_claims_first(tmp_path)
    before = storage_threads()
    async with app:
        fault.count = 2
        jobs = [await echo.schedule(number).delay(0.01) for number in range(3)]
        for number, job in enumerate(jobs):
            assert await soon(job) == number
    assert storage_threads() <= before


async def test_a_thread_of_claims_that_cannot_go_on_stops_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_LONGEST_PAUSE", 0.01)
    fault = Fault(MemoryError("injected"), "jobify-claims")
    fault.put_into(monkeypatch, ClaimThread, "_serve")
    app, echo = build_with_claims_first(tmp_path)
    before = storage_threads()
    await app.startup()
    fault.count = 10**9
    job = await echo.schedule(1).delay(0.01)
    await soon(job.wait())
    assert isinstance(job.exception, StorageEndedError)
    await soon(app.shutdown())
    assert storage_threads() <= before
    fault.count = 0
    async with app:
        assert await soon(await echo.push(3)) == 3
