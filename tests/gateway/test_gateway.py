"""The gateway of a storage that blocks: which calls are made without the thread, which together, and their results."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobify import Job
from jobify.exceptions import ApplicationStateError, StorageUnavailableError
from jobify.gateway import nonblocking
from jobify.gateway.notification import STATE_CHANGED, Audience
from jobify.gateway.threaded import ThreadedGateway
from jobify.model.records import Claimed, ClaimRequest, NewJob, Settled, Settlement, TaskSlots
from jobify.model.status import ClaimScope
from jobify.storage import SQLiteStorage
from jobify.testing.rows import NOW, PROFILE, end, job, line, one, running
from jobify.types import Microseconds
from support import eventually, run, soon

pytestmark = pytest.mark.usefixtures("sqlite_file")

HERE = "event loop"
THERE = "jobify-storage"


class Watched(SQLiteStorage):
    """Notes who inserts and settles how much; can fail, or be slow, on the event loop's thread."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory / "jobs.db", **{"synchronous": "normal", **options})
        self.calls: list[tuple[str, int]] = []
        self.before_call: Callable[[str], None] = lambda where: None

    def insert(self, jobs: Sequence[NewJob]) -> list[bool]:
        self._note(len(jobs))
        return super().insert(jobs)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        self._note(len(settlements))
        return super().settle(settlements)

    def _note(self, count: int) -> None:
        where = _here()
        self.calls.append((where, count))
        self.before_call(where)


@pytest.fixture
def storage(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.fixture(autouse=True)
def _no_call_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is: after a slow call non-blocking writes pause."""
    monkeypatch.setattr(nonblocking, "monotonic", lambda: 0.0)


def _here() -> str:
    thread = threading.current_thread()
    return HERE if thread is threading.main_thread() else thread.name


class _Request:
    """A job, and who wants the answer."""

    def __init__(self, new: NewJob, answer: Callable[[Any], None]) -> None:
        self.job: Job[Any] = Job(job_id=new.id, exec_at=new.due_at)
        self._new = new
        self._answer = answer

    def row(self) -> NewJob:
        return self._new

    def on_committed(self) -> None:
        raise AssertionError("no job starts before its insert is flushed")

    def __call__(self, answer: Any) -> None:
        self._answer(answer)


class Calls:
    """Asks a gate, and has the answers."""

    def __init__(self, gate: ThreadedGateway, owner: int) -> None:
        self.gate = gate
        self.owner = owner

    def insert(self, id: str, *, is_deferrable: bool = True, **fields: Any) -> asyncio.Future[Any]:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        new = running(id, self.owner, **fields) if "owner" not in fields else job(id, **fields)
        self.gate.insert(_Request(new, answered.set_result), deferrable=is_deferrable)
        return answered

    def settle(self, id: str, *, audience: Audience | None = None, **fields: Any) -> asyncio.Future[Any]:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        settlement = end(self.owner, running(id, self.owner), **fields)
        self.gate.settle(settlement, answered.set_result, audience=audience)
        return answered


def _with_calls(storage: Watched, story: Callable[[Calls], Coroutine[Any, Any, None]]) -> None:
    """Tell a story that begins with a storage that has been written, and a thread that rests."""

    async def main() -> None:
        gate = ThreadedGateway(storage)
        await gate.start()
        try:
            calls = Calls(gate, await gate.call(lambda: storage.register(PROFILE, now=NOW)))
            await _come_to_rest(calls)
            storage.calls.clear()
            await story(calls)
        finally:
            await gate.stop()

    run(main())


async def _come_to_rest(calls: Calls) -> None:
    """Until the last call was made without the thread, so that all earlier ones are done."""
    storage = calls.gate.storage
    assert isinstance(storage, Watched)
    number = 0
    while not storage.calls or storage.calls[-1] != (HERE, 1):
        await eventually(lambda: calls.gate._thread.wakeup.is_idle)
        assert await soon(calls.insert(f"warm-up {number}")) is True
        number += 1
        assert number < 10


# -- where calls are made ----------------------------------------------------------------------------------------------


def test_a_single_call_is_made_without_the_thread(storage: Watched) -> None:
    async def story(calls: Calls) -> None:
        assert await soon(calls.insert("a")) is True
        assert await soon(calls.settle("a")) is Settled.APPLIED
        assert storage.calls == [(HERE, 1), (HERE, 1)]
        assert one(storage, "a").status == "success"
        assert await soon(calls.settle("a")) is Settled.REFUSED

    _with_calls(storage, story)


async def test_with_flushes_calls_for_known_ids_are_made_by_the_thread(tmp_path: Path) -> None:
    storage = Watched(tmp_path, synchronous="full")

    gate = ThreadedGateway(storage)
    await gate.start()
    calls = Calls(gate, await gate.call(lambda: storage.register(PROFILE, now=NOW)))
    for number in range(20):
        assert await soon(calls.insert(f"{number}", is_deferrable=False)) is True
        assert await soon(calls.settle(f"{number}")) is Settled.APPLIED
    assert set(storage.calls) == {(THERE, 1)}
    await gate.stop()


def test_calls_of_one_turn_share_a_commit_in_the_thread(storage: Watched) -> None:
    async def story(calls: Calls) -> None:
        answers = [calls.insert(f"{number}") for number in range(500)]
        assert await soon(asyncio.gather(*answers)) == [True] * 500
        assert {where for where, _ in storage.calls} == {THERE}
        assert sum(count for _, count in storage.calls) == 500
        assert len(storage.calls) < 250

    _with_calls(storage, story)


def test_what_is_long_is_left_to_the_thread(storage: Watched) -> None:
    async def story(calls: Calls) -> None:
        assert await soon(calls.insert("a", payload=bytes(100_000))) is True
        assert await soon(calls.settle("a", result=bytes(100_000))) is Settled.APPLIED
        assert storage.calls == [(THERE, 1), (THERE, 1)]

    _with_calls(storage, story)


def test_a_history_is_left_to_the_thread(storage: Watched) -> None:
    async def story(calls: Calls) -> None:
        assert await soon(calls.insert("a")) is True
        assert await soon(calls.settle("a", history=(line("a"),))) is Settled.APPLIED
        assert storage.calls == [(HERE, 1), (THERE, 1)]
        assert storage.attempts("a") == [line("a")]

    _with_calls(storage, story)


# -- order -------------------------------------------------------------------------------------------------------------


def test_what_is_asked_after_an_insert_sees_it(storage: Watched) -> None:
    """Also in the same turn, and before the answer."""

    async def story(calls: Calls) -> None:
        for number in range(100):
            id = f"{number}"
            inserted = calls.insert(id)
            (found,) = await soon(calls.gate.call(lambda id=id: storage.get([id])))  # type: ignore[misc]
            assert found.id == id
            assert await soon(inserted) is True

    _with_calls(storage, story)


def test_a_stop_in_the_same_turn_answers_first(storage: Watched) -> None:
    async def story(calls: Calls) -> None:
        inserted = calls.insert("a")
        await soon(calls.gate.stop())
        assert await soon(inserted) is True
        assert isinstance(await soon(calls.insert("b")), ApplicationStateError)

    _with_calls(storage, story)
    storage.open()
    assert [found.id for found in storage.get(["a", "b"])] == ["a"]
    storage.close()


async def test_what_was_asked_last_is_stored_when_the_loop_is_gone(storage: Watched) -> None:
    gate = ThreadedGateway(storage)
    answers: list[Any] = []

    await gate.start()
    calls = Calls(gate, await gate.call(lambda: storage.register(PROFILE, now=NOW)))
    await _come_to_rest(calls)
    gate.insert(_Request(running("a", calls.owner), answers.append), deferrable=True)
    gate.abandon()
    storage.open()
    assert one(storage, "a").status == "running"
    storage.close()


# -- when it needs the thread ------------------------------------------------------------------------------------------


def test_a_locked_file_is_the_threads_affair(tmp_path: Path) -> None:
    storage = Watched(tmp_path)

    async def story(calls: Calls) -> None:
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        inserted = calls.insert("a")
        await eventually(lambda: (THERE, 1) in storage.calls)
        assert not inserted.done()  # and the loop turns
        other.execute("ROLLBACK")
        other.close()
        assert await soon(inserted) is True

    _with_calls(storage, story)


def test_a_file_that_stays_locked_is_an_error_as_ever(tmp_path: Path) -> None:
    storage = Watched(tmp_path, timeout=0.05)

    async def story(calls: Calls) -> None:
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert isinstance(await soon(calls.insert("a")), StorageUnavailableError)
        other.execute("ROLLBACK")
        other.close()
        assert await soon(calls.insert("a")) is True

    _with_calls(storage, story)


def test_an_error_of_a_nonblocking_write_decides_nothing(storage: Watched) -> None:
    def fail_here(where: str) -> None:
        if where == HERE:
            raise OSError("no")

    async def story(calls: Calls) -> None:
        storage.before_call = fail_here
        assert await soon(calls.insert("a")) is True
        assert storage.calls == [(HERE, 1), (THERE, 1)]

    _with_calls(storage, story)


def test_an_error_that_stays_is_the_answer(storage: Watched) -> None:
    error = StorageUnavailableError("full")

    def fail(where: str) -> None:
        raise error

    async def story(calls: Calls) -> None:
        storage.before_call = fail
        assert await soon(calls.insert("a")) is error
        storage.before_call = lambda where: None
        assert await soon(calls.insert("a")) is True

    _with_calls(storage, story)


def test_an_error_in_the_midst_of_it_leaves_the_lock_free(storage: Watched) -> None:
    class Broken:
        def __enter__(self) -> None: ...

        def __exit__(self, *error: object) -> None:
            raise ValueError("no")

    async def story(calls: Calls) -> None:
        real = storage._blocks.writes
        storage._blocks.writes = Broken()  # type: ignore[assignment]
        assert await soon(calls.settle("unknown")) is Settled.REFUSED
        storage._blocks.writes = real
        assert await soon(calls.insert("b")) is True

    _with_calls(storage, story)


def test_another_app_with_the_same_storage_is_not_waited_for(storage: Watched) -> None:
    """Its thread has the lock for as long as its transaction takes."""
    is_held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with storage.transaction():
            is_held.set()
            assert go_on.wait(20)

    async def story(calls: Calls) -> None:
        other = ThreadedGateway(storage)
        await other.start()
        holding = asyncio.ensure_future(other.call(hold))
        await eventually(is_held.is_set)
        inserted = calls.insert("a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not inserted.done()
        go_on.set()
        assert await soon(inserted) is True
        await soon(holding)
        await other.stop()
        assert await soon(calls.insert("b")) is True

    _with_calls(storage, story)


def test_after_a_call_that_took_long_the_thread_has_it_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that holds writers back, or threads that do not let go of the interpreter, must not hold up the loop."""
    storage = Watched(tmp_path)
    now = 1000.0
    monkeypatch.setattr(nonblocking, "monotonic", lambda: now)

    def pass_time(where: str) -> None:
        nonlocal now
        now += 0.5

    async def story(calls: Calls) -> None:
        nonlocal now
        storage.before_call = pass_time
        assert await soon(calls.insert("a")) is True
        storage.before_call = lambda where: None
        assert await soon(calls.insert("b")) is True
        assert storage.calls == [(HERE, 1), (THERE, 1)]
        now += 60
        await eventually(lambda: calls.gate._thread.wakeup.is_idle)
        assert await soon(calls.insert("c")) is True
        assert storage.calls[-1] == (HERE, 1)

    _with_calls(storage, story)


# -- notifications -----------------------------------------------------------------------------------------------------


def test_others_are_notified_after_the_commit_and_not_by_the_loop(tmp_path: Path) -> None:
    storage, other = Watched(tmp_path), SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")
    other.open()
    other.register(PROFILE, now=NOW)
    notifier = other.notifier
    assert notifier is not None

    async def story(calls: Calls) -> None:
        notifier.drain()
        assert await soon(calls.insert("a")) is True  # of this process: it concerns no other
        assert await soon(calls.settle("a")) is Settled.APPLIED
        assert not notifier.drain()
        assert await soon(calls.insert("b", owner=None)) is True
        assert one(other, "b").status == "scheduled"
        await eventually(notifier.drain)
        await eventually(lambda: calls.gate._thread.wakeup.is_idle)
        assert await soon(calls.insert("c")) is True
        assert await soon(calls.settle("c", audience=STATE_CHANGED)) is Settled.APPLIED
        await eventually(notifier.drain)

    _with_calls(storage, story)
    other.close()


def test_a_newcomer_is_notified(tmp_path: Path) -> None:
    """A single process notifies no other, until one comes."""
    storage = Watched(tmp_path)

    async def story(calls: Calls) -> None:
        assert await soon(calls.insert("a", owner=None)) is True
        other = SQLiteStorage(tmp_path / "jobs.db", synchronous="normal")
        await calls.gate.call(lambda: (other.open(), other.register(PROFILE, now=NOW)))
        assert storage.notifier is not None
        assert other.notifier is not None
        await eventually(storage.notifier.drain)
        assert await soon(calls.insert("b", owner=None)) is True
        await eventually(other.notifier.drain)
        other.close()

    _with_calls(storage, story)


def test_another_app_with_the_same_storage_is_notified(storage: Watched) -> None:
    received: list[str] = []

    async def story(calls: Calls) -> None:
        other = ThreadedGateway(storage)
        other.on_local_change = lambda: received.append("change")
        await other.start()
        received.clear()
        assert await soon(calls.insert("a", owner=None)) is True
        await eventually(lambda: received)
        await other.stop()

    _with_calls(storage, story)


# -- all of it at once -------------------------------------------------------------------------------------------------


def test_calls_alone_and_together_and_a_file_that_is_locked_now_and_then(tmp_path: Path) -> None:
    """Whoever makes them: each call has one answer, and the rows agree with it."""
    storage = Watched(tmp_path)
    is_over = threading.Event()

    def disturb() -> None:
        other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None, timeout=20)
        while not is_over.wait(0.001):
            with _immediate(other):
                other.execute("UPDATE owners SET pid = pid")
        other.close()

    async def story(calls: Calls) -> None:
        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            await soon(asyncio.gather(*(_live(calls, f"{number}", number % 4) for number in range(400))))
            for number in range(400, 800):
                await soon(_live(calls, f"{number}", number % 3))
        finally:
            is_over.set()
            disturbing.join()
        assert {where for where, _ in storage.calls} == {HERE, THERE}
        for start in range(0, 800, 400):
            found = storage.get([f"{number}" for number in range(start, start + 400)])
            assert [record.status for record in found] == ["success"] * 400

    _with_calls(storage, story)


async def _live(calls: Calls, id: str, pauses: int) -> None:
    assert await calls.insert(id) is True
    for _ in range(pauses):
        await asyncio.sleep(0)
    assert await calls.settle(id) is Settled.APPLIED


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


# -- large values ------------------------------------------------------------------------------------------------------


@pytest.mark.promise("f57")
def test_what_is_small_is_written_before_what_is_large(storage: Watched) -> None:
    """Large values are written one at a time, each in a transaction of its own."""
    large = bytes(100_000)
    ends: list[str] = []

    def keep(id: str) -> Callable[[asyncio.Future[Any]], None]:
        return lambda _: ends.append(id)

    async def story(calls: Calls) -> None:
        asked: list[asyncio.Future[Any]] = []
        for id, fields in (("a", {"payload": large}), ("b", {"payload": large}), ("c", {}), ("d", {})):
            asked.append(calls.insert(id, **fields))
            asked[-1].add_done_callback(keep(id))
        assert await soon(asyncio.gather(*asked)) == [True] * 4
        assert sorted(ends[:2]) == ["c", "d"]
        assert storage.calls == [(THERE, 2), (THERE, 1), (THERE, 1)]
        storage.calls.clear()
        settled = [
            calls.settle("a", result=large),
            calls.settle("b"),
            calls.settle("c", result=large),
            calls.settle("d"),
        ]
        assert await soon(asyncio.gather(*settled)) == [Settled.APPLIED] * 4
        assert storage.calls == [(THERE, 2), (THERE, 1), (THERE, 1)]

    _with_calls(storage, story)


@pytest.mark.promise("f57")
def test_a_large_job_is_announced_once_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Watched(tmp_path)
    notified: list[list[str]] = []

    async def story(calls: Calls) -> None:
        monkeypatch.setattr(calls.gate, "_notify", lambda _: notified.append([one.id for one in storage.get(["a"])]))
        assert await soon(calls.insert("a", payload=bytes(100_000), owner=None, status="scheduled"))
        assert notified == [["a"]]

    _with_calls(storage, story)


@pytest.mark.promise("f57")
async def test_a_gate_that_stops_writes_what_was_asked_before(storage: Watched) -> None:
    gate = ThreadedGateway(storage)
    await gate.start()
    calls = Calls(gate, await gate.call(lambda: storage.register(PROFILE, now=NOW)))
    asked = [calls.insert(id, payload=bytes(100_000)) for id in "abc"]
    await gate.stop()
    assert await soon(asyncio.gather(*asked)) == [True] * 3


@pytest.mark.promise("f44")
async def test_what_was_asked_before_the_close_is_done_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come when the thread has already passed the line of the first: what it writes last is in the storage."""
    storage = Watched(tmp_path)
    done: list[str] = []

    gate = ThreadedGateway(storage)
    await gate.start()
    serve_small = gate._serve_small

    def serve_and_be_late() -> bool:
        is_full = serve_small()
        if not done:
            done.append("asked")
            gate._calls.put(lambda: done.append("called"), lambda answer: None)
            gate._closing.put(lambda: done.append("closed"), lambda answer: None)
        return is_full

    monkeypatch.setattr(gate, "_serve_small", serve_and_be_late)
    await gate.call(lambda: None)
    await eventually(lambda: len(done) == 3)
    await gate.stop()
    assert done == ["asked", "called", "closed"]


# -- claims ------------------------------------------------------------------------------------------------------------


class Claiming(Watched):
    """Notes who claims."""

    def claim(self, request: ClaimRequest, *, now: Microseconds) -> Claimed:
        where = _here()
        self.calls.append((where, 0))
        self.before_call(where)
        return super().claim(request, now=now)


def _claim(calls: Calls, clock: list[float], *, after: float) -> asyncio.Future[Claimed]:
    """Claim so many seconds after the last time."""
    clock[0] += after
    request = ClaimRequest(calls.owner, (TaskSlots(("task",), 5),), None, 0, ClaimScope.ORDINARY)
    return calls.gate.claim(request, now=lambda: NOW)


@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_the_first_claim_after_a_while_is_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    storage, clock = Claiming(tmp_path, synchronous=synchronous), [0.0]
    monkeypatch.setattr(nonblocking, "monotonic", lambda: clock[0])
    gate = ThreadedGateway(storage)
    await gate.start()
    calls = Calls(gate, await gate.call(lambda: storage.register(PROFILE, now=NOW)))
    numbers = count()

    async def claimed(after: float) -> list[str]:
        assert await gate.call(lambda: storage.insert([job(f"{next(numbers)}")])) == [True]
        await eventually(lambda: gate._thread is not None and gate._thread.wakeup.is_idle)
        storage.calls.clear()
        await soon(_claim(calls, clock, after=after))
        return [where for where, of_rows in storage.calls if not of_rows]

    assert await claimed(1.0) == [HERE]
    assert await claimed(0.001) == [THERE]
    assert await claimed(1.0) == [HERE]

    def fail_here(where: str) -> None:
        if where == HERE:
            raise OSError("no")

    storage.before_call = fail_here
    assert await claimed(1.0) == [HERE, THERE]
    storage.calls.clear()
    go_on = threading.Event()
    busy = asyncio.ensure_future(gate.call(lambda: go_on.wait(20)))
    await asyncio.sleep(0)
    claim = _claim(calls, clock, after=1.0)
    go_on.set()
    await soon(asyncio.gather(busy, claim))
    assert storage.calls == [(THERE, 0)]
    await gate.stop()


class ClaimsFirst(SQLiteStorage):
    """Settles only after a claim was answered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "jobs.db")
        self.claims_first = True
        self.is_answered = threading.Event()

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        assert self.is_answered.wait(30)
        return super().settle(settlements)


async def test_a_claim_that_is_not_flushed_does_not_wait_for_writes_that_are(tmp_path: Path) -> None:
    storage = ClaimsFirst(tmp_path)
    gate = ThreadedGateway(storage)
    await gate.start()
    owner = await gate.call(lambda: storage.register(PROFILE, now=NOW))
    await gate.call(lambda: storage.insert([running("runs", owner), job("waits")]))
    settled: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    request = ClaimRequest(owner, (TaskSlots(("task",), 10),), None, 0, ClaimScope.ORDINARY)
    (held,) = storage.get(["runs"])
    gate.settle(end(owner, held), settled.set_result, audience=None)
    claimed = await soon(gate.claim(request, now=lambda: NOW))
    assert [claim.id for claim in claimed.claims] == ["waits"]
    assert not settled.done()
    storage.is_answered.set()
    assert await soon(settled) is Settled.APPLIED
    await gate.stop()
