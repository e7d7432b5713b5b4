"""Jobs that start before their insert is flushed: what is made when, and what is told after the flush."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobify import Job, Jobify
from jobify.exceptions import StorageUnavailableError
from jobify.gateway import nonblocking
from jobify.gateway.threaded import ThreadedGateway
from jobify.model.records import NewJob, Settled, Settlement
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, PROFILE, end, one, running
from probes import database_of
from support import eventually, soon

pytestmark = pytest.mark.usefixtures("sqlite_file")

HERE, THERE = "event loop", "jobify-storage"


class Flushing(SQLiteStorage):
    """Notes what is written and flushed where; a flush waits until it is let go on, and may fail."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "jobs.db")
        self.calls: list[tuple[str, str]] = []
        self.may_flush = threading.Event()
        self.may_flush.set()
        self.error: Exception | None = None

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        self._note("insert")
        return super().insert(jobs)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        self._note("settle")
        return super().settle(settlements)

    @property
    def unflushed_writes(self) -> Any:
        return Blocks(self, super().unflushed_writes)

    def flush(self) -> None:
        self._note("flush")
        assert self.may_flush.wait(20)
        if self.error is not None:
            raise self.error

    def _note(self, what: str) -> None:
        thread = threading.current_thread()
        self.calls.append((what, HERE if thread is threading.main_thread() else thread.name))


class Blocks:
    """Blocks of unflushed writes, flushed as the storage says."""

    def __init__(self, storage: Flushing, blocks: Any) -> None:
        self._storage = storage
        self._blocks = blocks

    def __enter__(self) -> None:
        self._blocks.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._blocks.__exit__(*error)

    def flush(self) -> None:
        self._storage.flush()
        self._blocks.flush()


class Insertion:
    """A job, when it may start, and the answer."""

    def __init__(self, new: NewJob) -> None:
        self.payload = new.payload
        self.job: Job[Any] = Job(job_id=new.id, exec_at=new.due_at)
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._new = new

    def row(self) -> NewJob:
        return self._new

    def values(self) -> tuple[Any, ...]:
        return tuple(self._new)

    def on_committed(self) -> None:
        self.started.set_result(None)

    def __call__(self, answer: Any) -> None:
        self.answered.set_result(answer)


class Calls:
    """Makes calls of a gateway."""

    def __init__(self, gate: ThreadedGateway, owner: int) -> None:
        self.gate = gate
        self.owner = owner

    def insert(self, id: str) -> Insertion:
        insertion = Insertion(running(id, self.owner))
        self.gate.insert(insertion, deferrable=True)
        return insertion

    def settle(self, id: str) -> asyncio.Future[Any]:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.gate.settle(end(self.owner, running(id, self.owner)), answered.set_result, audience=None)
        return answered


@pytest.fixture(autouse=True)
def _no_call_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is: after a slow call non-blocking writes pause."""
    monkeypatch.setattr(nonblocking, "monotonic", lambda: 0.0)


@pytest.fixture
def storage(tmp_path: Path) -> Flushing:
    return Flushing(tmp_path)


@asynccontextmanager
async def calls_of(storage: Flushing) -> AsyncIterator[Calls]:
    """The calls of a gateway that is at rest, after a job that started early."""
    gate = ThreadedGateway(storage)
    await gate.start()
    try:
        calls = Calls(gate, await gate.call(lambda: storage.register(PROFILE, now=NOW)))
        for number in range(10):
            await eventually(lambda: _is_idle(gate))
            insertion = calls.insert(f"warm-up {number}")
            assert await soon(insertion.answered) is True
            if insertion.started.done():
                break
        await eventually(lambda: _is_idle(gate))
        storage.calls.clear()
        yield calls
    finally:
        storage.may_flush.set()
        await gate.stop()


def _is_idle(gate: ThreadedGateway) -> bool:
    return gate._thread is not None and gate._thread.is_resting


async def test_one_flush_covers_the_insert_and_the_end(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        insertion = calls.insert("a")
        await soon(insertion.started)
        settled = calls.settle("a")
        assert await soon(insertion.answered) is True
        assert await soon(settled) is Settled.APPLIED
        assert storage.calls == [("insert", HERE), ("settle", HERE), ("flush", THERE)]
        assert one(storage, "a").status == "success"


async def test_nothing_is_told_before_the_flush(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        storage.may_flush.clear()
        insertion = calls.insert("a")
        await soon(insertion.started)
        settled = calls.settle("a")
        await eventually(lambda: ("flush", THERE) in storage.calls)
        assert one(storage, "a").status == "success"
        assert not insertion.answered.done()
        assert not settled.done()
        storage.may_flush.set()
        assert (await soon(insertion.answered), await soon(settled)) == (True, Settled.APPLIED)


async def test_a_job_that_takes_longer_is_flushed_without_its_end(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        insertion = calls.insert("a")
        assert await soon(insertion.answered) is True
        assert storage.calls == [("insert", HERE), ("flush", THERE)]
        assert await soon(calls.settle("a")) is Settled.APPLIED
        assert storage.calls[2:] == [("settle", THERE)]


async def test_an_end_during_the_flush_is_written_by_the_thread(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        storage.may_flush.clear()
        insertion = calls.insert("a")
        await eventually(lambda: ("flush", THERE) in storage.calls)
        settled = calls.settle("a")
        storage.may_flush.set()
        assert (await soon(insertion.answered), await soon(settled)) == (True, Settled.APPLIED)
        assert storage.calls == [("insert", HERE), ("flush", THERE), ("settle", THERE)]


async def test_whoever_pushes_learns_that_the_flush_failed(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        storage.error = StorageUnavailableError("the disk is gone")
        insertion = calls.insert("a")
        await soon(insertion.started)
        settled = calls.settle("a")
        assert await soon(insertion.answered) is storage.error
        assert await soon(settled) is storage.error
        storage.error = None
        assert await soon(calls.settle("a")) is Settled.REFUSED  # it is written already


async def test_an_id_in_use_starts_nothing(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        assert await soon(calls.insert("a").answered) is True
        await eventually(lambda: _is_idle(calls.gate))
        again = calls.insert("a")
        assert await soon(again.answered) is False
        assert not again.started.done()


async def test_a_stop_flushes_what_has_started(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        insertion = calls.insert("a")
        await soon(insertion.started)
    assert insertion.answered.result() is True
    assert ("flush", THERE) in storage.calls


async def test_jobs_of_one_turn_wait_for_their_commit(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        insertions = [calls.insert(f"{number}") for number in range(3)]
        assert [await soon(insertion.answered) for insertion in insertions] == [True] * 3
        assert not any(insertion.started.done() for insertion in insertions)
        assert {where for _, where in storage.calls} == {THERE}


async def test_later_commits_are_flushed_by_themselves(storage: Flushing) -> None:
    async with calls_of(storage) as calls:
        insertion = calls.insert("a")
        await soon(insertion.started)
        assert database_of(storage).row("PRAGMA synchronous") == (2,)
        assert await soon(insertion.answered) is True


async def test_an_app_returns_from_a_push_after_the_flush(storage: Flushing) -> None:
    app = Jobify(storage=storage)
    ran: list[int] = []

    @app.task(name="task")
    async def task(number: int) -> int:
        ran.append(number)
        return number

    async with app:
        for (
            number
        ) in count():  # until one starts early: on a busy machine the first may find the storage's thread at work
            storage.may_flush.clear()
            pushed = asyncio.ensure_future(task.push(number))
            await eventually(lambda: storage.calls[-1:] == [("flush", THERE)] or pushed.done())
            if not pushed.done():
                break
        assert ran[-1] == number
        storage.may_flush.set()
        job = await soon(pushed)
        assert await soon(_result_of(job)) == number


async def _result_of(job: Job[int]) -> int:
    await job
    return job.result()
