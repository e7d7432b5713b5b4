"""Jobs of threads that are claimed a little ahead: fewer round trips, and nothing waits that could run elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobify import INJECT, Jobify, JobStatus
from jobify.engine.execution import direct_calls, prefetch
from jobify.engine.execution.prefetch import Prefetch
from jobify.engine.execution.slots import SlotPool
from jobify.exceptions import JobTimeoutError, PayloadError
from jobify.jobs.context import JobContext
from jobify.jobs.current_job import current_job
from jobify.middleware.base import BaseMiddleware, CallNext
from jobify.model.limit_gates import LimitState
from jobify.model.state import State
from jobify.model.task_options import RunMode
from jobify.storage import SQLiteStorage
from probes import attempts_of, engine_of, record_of, slots_of
from support import Program, durable, eventually, soon

pytestmark = pytest.mark.usefixtures("sqlite_file")
"""PostgreSQL cannot say which jobs had begun in a process that has died, so none is claimed ahead there."""

MANY = 30


class PassOn(BaseMiddleware):
    """Middleware, which runs in a task of its own."""

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        return await call_next(context)


class Shop:
    """An app with one thread, a short task, and one that holds the thread until it is let go."""

    def __init__(self, directory: Path, middleware: Sequence[BaseMiddleware] = (), **options: Any) -> None:
        self.app = Jobify(storage=durable(directory), middleware=middleware)
        self.app.configs.limits = replace(self.app.configs.limits, threads=1)
        self.let_go = threading.Event()
        self.holding = threading.Event()
        self.ran: list[int] = []
        self.short = self.app.task(self._short, name="short", **options)
        self.hold = self.app.task(self._hold, name="hold")

    def _short(self, number: int) -> int:
        self.ran.append(number)
        return number

    def _hold(self) -> None:
        self.holding.set()
        assert self.let_go.wait(60)

    async def learn(self) -> None:
        """Run some jobs, so that the duration of the short task is known."""
        for number in range(MANY // 2):
            await (await self.short.push(-number))

    async def wait_behind(self) -> list[Any]:
        """Jobs that were claimed ahead, and wait for the thread that another job holds."""
        await self.learn()
        self.ran.clear()
        await self.hold.push()
        await asyncio.to_thread(self.holding.wait, 60)
        jobs = [await self.short.push(number) for number in range(MANY)]
        await eventually(lambda: len(attempts_of(self.app).running) > MANY // 2)
        return jobs


@pytest.fixture(params=["plain", "in a task"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Its jobs wait in the runner, or in the backlog."""
    shop = Shop(tmp_path, [] if request.param == "plain" else [PassOn()])
    yield shop
    shop.let_go.set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was claimed ahead is not returned within the test."""
    monkeypatch.setattr(prefetch, "HORIZON", 60.0)


@pytest.mark.usefixtures("patient")
async def test_jobs_claimed_ahead_run_once_and_in_order(shop: Shop) -> None:
    async with shop.app:
        jobs = await shop.wait_behind()
        assert {job.status for job in jobs} == {JobStatus.SCHEDULED}
        assert shop.ran == []
        shop.let_go.set()
        assert [await soon(job) for job in jobs] == shop.ran == list(range(MANY))
        await eventually(lambda: slots_of(shop.app)[RunMode.THREAD].is_idle)


async def test_jobs_behind_one_that_takes_long_are_returned_to_other_processes(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path)
    async with shop.app:
        await shop.learn()
        await shop.hold.push()
        await asyncio.to_thread(shop.holding.wait, 60)
        jobs = [await shop.short.push(number) for number in range(MANY)]
        async with other.app:
            assert [await soon(job) for job in jobs] == list(range(MANY))
        assert sorted(other.ran) == list(range(MANY))
        assert all(record_of(shop.app, job.id).attempt == 1 for job in jobs)
        shop.let_go.set()


@pytest.mark.usefixtures("patient")
async def test_a_shutdown_returns_what_has_not_begun(shop: Shop) -> None:
    async with shop.app:
        jobs = await shop.wait_behind()
        stopping = asyncio.create_task(shop.app.shutdown())
        await eventually(lambda: len(attempts_of(shop.app).running) == 1)
        shop.let_go.set()
        await soon(stopping)
    assert shop.ran == []
    for job in jobs:
        record = record_of(shop.app, job.id)
        assert (record.status, record.attempt, record.owner) == ("scheduled", 0, None)


@pytest.mark.usefixtures("patient")
async def test_a_cancel_before_the_begin_means_that_it_never_begins(shop: Shop) -> None:
    async with shop.app:
        jobs = await shop.wait_behind()
        await soon(jobs[3].cancel())
        assert jobs[3].status is JobStatus.CANCELLED
        shop.let_go.set()
        await soon(jobs[-1])
        assert shop.ran == [number for number in range(MANY) if number != 3]


@pytest.mark.usefixtures("patient")
async def test_a_timeout_counts_from_the_begin(tmp_path: Path) -> None:
    shop = Shop(tmp_path, timeout=60)
    async with shop.app:
        jobs = await shop.wait_behind()
        direct = engine_of(shop.app)._executor._direct
        waiting = list(direct.not_begun())
        for attempt in waiting:
            direct._on_time(attempt)  # as if so much time had passed
            assert attempt.deadline is None
        shop.let_go.set()
        assert [await soon(job) for job in jobs] == list(range(MANY))
        assert waiting
        assert all(attempt.deadline is not None for attempt in waiting)


@pytest.mark.usefixtures("patient")
async def test_jobs_wait_in_order_whether_or_not_they_need_a_task(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    @shop.app.task(name="asks")
    def asks(number: int, state: State = INJECT) -> None:
        shop.ran.append(number)

    async with shop.app:
        await shop.learn()
        for number in range(MANY // 2):
            await (await asks.push(number))
        shop.ran.clear()
        await shop.hold.push()
        await asyncio.to_thread(shop.holding.wait, 60)
        jobs = [await (asks if number % 3 == 1 else shop.short).push(number) for number in range(MANY)]
        await eventually(lambda: len(attempts_of(shop.app).running) > MANY // 2)
        shop.let_go.set()
        for job in jobs:
            await soon(job)
        assert shop.ran == list(range(MANY))


async def test_the_death_of_the_process_is_not_the_fault_of_what_has_not_begun(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
        import asyncio, time
        from dataclasses import replace
        from jobify import Jobify
        from jobify.engine.execution import direct_calls, prefetch
        from jobify.storage import SQLiteStorage

        prefetch.HORIZON = 60.0
        app = Jobify(storage=SQLiteStorage("jobs.db"))
        app.configs.limits = replace(app.configs.limits, threads=1)

        @app.task(name="short")
        def short(number: int) -> int:
            return number

        @app.task(name="hold")
        def hold() -> None:
            print("holding", flush=True)
            time.sleep(60)

        async def main():
            async with app:
                for number in range(15):
                    await (await short.push(number))
                await hold.push()
                for number in range(20):
                    await short.push(number)
                while len(app._engine._attempts.running) < 12:
                    await asyncio.sleep(0.001)
                print("ahead", flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
        """,
    )
    program.until("holding")
    program.until("ahead")
    program.kill()
    shop = Shop(tmp_path)
    shop.let_go.set()
    async with shop.app:
        await soon(shop.app.wait_all())
        rows = [record for record in _rows(shop.app) if record.attempt > 1]
        assert [(record.task, record.crashes) for record in rows] == [("hold", 1)]


def _rows(app: Jobify) -> list[Any]:
    return [record_of(app, job.id) for job in app.jobs(limit=1000)]


async def test_a_plain_function_may_return_a_coroutine(tmp_path: Path) -> None:
    app, waits = Jobify(storage=durable(tmp_path)), asyncio.Event()

    async def later(number: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return number, current_job.id

    @app.task(name="sooner")
    def sooner(number: int) -> Any:
        return later(number)

    async def endlessly() -> None:
        waits.set()
        await asyncio.Event().wait()

    @app.task(name="never")
    def never() -> Any:
        return endlessly()

    async with app:
        job = await sooner.push(3)
        assert await soon(job) == (3, job.id)
        endless = await never.push()
        await soon(waits.wait())
        await soon(endless.cancel())
        assert endless.status is JobStatus.CANCELLED


@pytest.mark.parametrize("is_late", [False, True])
async def test_the_timeout_of_a_plain_function_ends_its_attempt(tmp_path: Path, is_late: bool) -> None:
    app, go_on = Jobify(storage=durable(tmp_path)), threading.Event()

    @app.task(name="work", timeout=0.02)
    def work() -> None:
        if is_late:
            go_on.wait(60)
        while True:
            current_job.check_cancelled()

    async with app:
        job = await work.push()
        await soon(job.wait())
        assert job.status is JobStatus.TIMEOUT
        assert isinstance(job.exception, JobTimeoutError)
        go_on.set()
        await eventually(lambda: slots_of(app)[RunMode.THREAD].is_idle)


async def test_the_timeout_holds_for_what_a_plain_function_returns(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work", timeout=0.02)
    def work() -> Any:
        return asyncio.Event().wait()

    async with app:
        job = await work.push()
        await soon(job.wait())
        assert job.status is JobStatus.TIMEOUT


async def test_a_call_that_cannot_be_read_goes_the_usual_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(attempt: object) -> Any:
        raise PayloadError("not this way")

    monkeypatch.setattr(direct_calls, "decode_arguments", fail)
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work")
    def work(number: int) -> int:
        return number

    async with app:
        job = await work.adelay(3)
        assert await soon(job.aresult()) == 3


# -- how many ----------------------------------------------------------------------------------------------------------


def _prefetch(capacity: int) -> tuple[Prefetch, SlotPool]:
    pool = SlotPool(RunMode.THREAD, capacity)
    nothing: Any = lambda *_: ()  # noqa: E731
    return Prefetch(pool, is_direct=nothing, begin=nothing, submitted=nothing, release=nothing), pool


@pytest.mark.parametrize(("seconds", "ahead"), [(0.001, 80), (0.009, 8), (0.019, 4), (0.021, 0), (60, 0), (1e-6, 256)])
async def test_as_many_as_the_slots_finish_within_the_horizon(seconds: float, ahead: int) -> None:
    measured, pool = _prefetch(4)
    assert pool.take_up_to(100) == 4
    pool.release(4)
    for _ in range(500):
        measured.observe("task", seconds)
    assert pool.ahead == ahead
    assert pool.take_up_to(1000) == 4 + ahead
    assert pool.take_up_to(1000) == 0


async def test_it_begins_with_few() -> None:
    measured, pool = _prefetch(4)
    seen = []
    for _ in range(5):
        measured.observe("task", 0.00001)
        seen.append(pool.ahead)
    assert seen == [2, 4, 6, 8, 10]


async def test_slots_for_jobs_ahead_are_not_taken_one_by_one() -> None:
    measured, pool = _prefetch(1)
    for _ in range(50):
        measured.observe("task", 0.0001)
    assert pool.take_up_to(1000) == 101
    pool.release(1)
    assert pool.take_up_to(1000) == 0
    pool.release(60)
    assert pool.take_up_to(1000) == 61


class _Claim:
    limits = LimitState.NONE

    def __init__(self, task: str) -> None:
        self.task = task


async def test_a_job_of_unknown_length_is_not_kept_ahead() -> None:
    measured, pool = _prefetch(2)
    for _ in range(20):
        measured.observe("short", 0.001)
        measured.observe("long", 5.0)
    claims: list[Any] = [_Claim(task) for task in ("long", "new", "short", "short", "long", "short")]
    assert measured.count_fitting(claims, 2) == 4
    assert pool.ahead == 0
    assert measured.count_fitting(claims[2:4], 0) == 2
    assert measured.count_fitting(claims[1:], 0) == 0


async def test_nothing_is_claimed_ahead_where_begins_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a dead process held counts as begun there."""
    monkeypatch.setattr(SQLiteStorage, "begun", lambda self, owner: None)
    shop = Shop(tmp_path)
    async with shop.app:
        await shop.learn()
        assert slots_of(shop.app)[RunMode.THREAD].ahead == 0
