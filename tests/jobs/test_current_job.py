"""``current_job`` in jobs that run: what they see of themselves, and what becomes of what they report."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import current_tasks as tasks
import pytest

from jobify import INJECT, Cron, Job, JobContext, Jobify, JobStatus, RunMode, SmartRetry, current_job
from jobify.engine.execution import completer
from jobify.exceptions import JobTimeoutError, StorageUnavailableError, TaskCancelledError
from jobify.gateway import reports
from jobify.middleware import BaseMiddleware, CallNext
from jobify.model.records import MessageKind, MessageRecord, OwnerProfile, OwnerRole, Report, Settled, Settlement
from jobify.storage import SQLiteStorage
from jobify.storage.memory import MemoryStorage
from probes import codec_of, engine_of
from support import durable, eventually, opened, soon

MODES = {
    RunMode.MAIN: (tasks.describe_on_loop, tasks.talk_on_loop, tasks.publish_object_on_loop),
    RunMode.THREAD: (tasks.describe, tasks.talk, tasks.publish_object),
    RunMode.PROCESS: (tasks.describe, tasks.talk, tasks.publish_object),
}
modes = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)


@pytest.fixture(params=["sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> SQLiteStorage | MemoryStorage:
    return durable(tmp_path) if request.param == "sqlite" else MemoryStorage()


def messages(app: Jobify, job_id: str) -> list[MessageRecord]:
    """What the storage has of a job."""
    return app.configs.storage.messages(job_id, after=0, limit=10_000)


def values(app: Jobify, job_id: str) -> list[Any]:
    kept = [message.data for message in messages(app, job_id) if message.kind == MessageKind.VALUE]
    return [codec_of(app).decode_result(data) if isinstance(data, bytes) else data for data in kept]


def progress(app: Jobify, job_id: str) -> float | None:
    (record,) = app.configs.storage.get((job_id,))
    return record.progress


# -- what a job sees of itself -----------------------------------------------------------------------------------------


@pytest.mark.slow
@modes
async def test_a_job_sees_itself(storage: Any, mode: RunMode) -> None:
    app = Jobify(storage=storage)
    task = app.task(MODES[mode][0], name="describe", run_mode=mode, metadata={"tenant": "acme"})

    async with app:
        job = await task.push()
        assert await soon(job) == [job.id, "describe", "default", 1, 0, {"tenant": "acme"}]


async def test_a_later_attempt_has_its_own_number(storage: Any) -> None:
    app = Jobify(storage=storage)
    seen: list[tuple[int, int]] = []

    @app.task(name="flaky", retry=SmartRetry(retries=2, initial_delay=0))
    def flaky() -> None:
        seen.append((current_job.attempt, current_job.retry_count))
        if len(seen) < 3:
            raise ValueError

    async with app:
        await soon(await flaky.push())
    assert seen == [(1, 0), (2, 1), (3, 2)]


async def test_a_job_that_pushes_jobs_stays_itself_and_so_do_they(storage: Any) -> None:
    app = Jobify(storage=storage)

    @app.task(name="inner", retry=SmartRetry(retries=1, initial_delay=0))
    async def inner() -> str:
        if current_job.attempt == 1:
            raise ValueError
        return current_job.id

    @app.task(name="plain")
    def plain() -> str:
        return current_job.id

    @app.task(name="outer")
    async def outer() -> tuple[list[str], list[str]]:
        jobs: list[Job[str]] = [await inner.push(), await plain.push(), await inner.schedule().delay(0)]
        return [await job for job in jobs] + [current_job.id], [job.id for job in jobs]

    async with app:
        job = await outer.push()
        seen, pushed = await soon(job)
        assert seen == [*pushed, job.id]


async def test_nothing_of_it_is_left_in_the_context_of_whoever_pushed() -> None:
    app = Jobify(storage=False)
    seen: list[str] = []

    @app.task(name="note")
    async def note() -> None:
        seen.append(current_job.id)

    async with app:
        job = await note.push()
        context = job.context
        await soon(job)
        assert seen == [job.id]
        assert repr(current_job) == "<current_job (none)>"
        assert context is not None
        assert context.run(repr, current_job) == "<current_job (none)>"


async def test_middleware_and_exception_handlers_are_part_of_the_job(storage: Any) -> None:
    seen: list[str] = []

    class Watch(BaseMiddleware):
        async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
            current_job.publish("before")
            try:
                return await call_next(context)
            finally:
                seen.append(current_job.id)
                current_job.publish("after")

    def recover(error: Exception, context: JobContext) -> str:
        current_job.publish("recovered")
        return current_job.id

    app = Jobify(storage=storage, middleware=[Watch()], exception_handlers={ValueError: recover})

    @app.task(name="fail")
    def fail() -> str:
        current_job.publish("failing")
        raise ValueError

    async with app:
        job = await fail.push()
        assert await soon(job) == job.id
        assert seen == [job.id]
        assert values(app, job.id) == ["before", "failing", "recovered", "after"]


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@modes
async def test_all_that_is_published_is_there_in_order_when_the_job_is_complete(storage: Any, mode: RunMode) -> None:
    app = Jobify(storage=storage)
    task = app.task(MODES[mode][1], name="talk", run_mode=mode)

    async with app:
        job = await task.push(200)
        assert await soon(job) == 200
        assert values(app, job.id) == [{"number": number} for number in range(200)]
        kept = messages(app, job.id)
        assert [message.number for message in kept] == list(range(1, 202))
        assert (kept[-1].kind, kept[-1].data, kept[-1].level) == (MessageKind.LOG, "all said", "warning")
        assert {message.attempt for message in kept} == {1}
        assert progress(app, job.id) == 100.0


@modes
async def test_what_the_serializer_does_not_know_is_refused_where_it_is_published(
    tmp_path: Path, mode: RunMode
) -> None:
    app = Jobify(storage=durable(tmp_path))
    task = app.task(MODES[mode][2], name="publish", run_mode=mode)

    async with app:
        job = await task.push()
        assert await soon(job) in ("PayloadError", "RefusedValueError")
        assert messages(app, job.id) == []


async def test_without_a_database_any_object_can_be_published() -> None:
    app = Jobify(storage=MemoryStorage())
    thing = object()

    @app.task(name="publish")
    async def publish() -> None:
        current_job.publish(thing)

    async with app:
        job = await publish.push()
        await soon(job)
        assert values(app, job.id) == [thing]


async def test_numbers_go_on_over_attempts(storage: Any) -> None:
    app = Jobify(storage=storage)

    @app.task(name="flaky", retry=SmartRetry(retries=2, initial_delay=0))
    async def flaky() -> None:
        current_job.publish(current_job.attempt)
        if current_job.attempt < 3:
            raise ValueError

    async with app:
        job = await flaky.push()
        await soon(job)
        assert [(m.number, m.attempt) for m in messages(app, job.id)] == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.slow
async def test_the_runs_of_a_schedule_report_under_its_id(storage: Any) -> None:
    app = Jobify(storage=storage)
    runs: list[tuple[str, int]] = []

    @app.task(name="tick", cron=Cron("* * * * * * *", max_runs=2))
    async def tick() -> None:
        runs.append((current_job.id, current_job.attempt))
        current_job.publish(len(runs))

    async with app:
        await eventually(lambda: len(runs) == 2)
        await soon(app.wait_all())
        assert {job_id for job_id, _ in runs} == {"tick__jobify_cron_definition"}
        assert [attempt for _, attempt in runs] == [1, 1]
        assert values(app, "tick__jobify_cron_definition") == [1, 2]


class Witness(SQLiteStorage):
    """Notes the order of what is written, and takes reports only when it is allowed to."""

    def __init__(self, path: Path, *, is_away: bool = False) -> None:
        super().__init__(path / "jobs.db", synchronous="normal")
        self.is_away = is_away
        self.refusals = 0
        self.written: list[str] = []

    def report(self, reports: Sequence[Report]) -> list[bool]:
        if self.is_away:
            self.refusals += 1
            raise StorageUnavailableError("The disk is full.")
        self.written += ["report"] * len(reports)
        return super().report(reports)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        self.written += ["settle"] * len(settlements)
        return super().settle(settlements)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(reports, "_LONGEST_PAUSE", 0.005)
    monkeypatch.setattr(completer, "_PATIENCE", 0.05)
    monkeypatch.setattr(completer, "_RECHECK", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_the_outcome_follows_the_reports_however_long_the_database_is_away(tmp_path: Path) -> None:
    storage = Witness(tmp_path, is_away=True)
    app = Jobify(storage=storage)

    @app.task(name="talk")
    async def talk() -> None:
        current_job.publish("a")
        current_job.publish("b")

    async with app:
        job = await talk.push()
        await eventually(lambda: storage.refusals > 3)
        assert not job.is_done()
        storage.is_away = False
        await soon(job)
        assert values(app, job.id) == ["a", "b"]
    assert storage.written == ["report", "report", "settle"]


@pytest.mark.usefixtures("impatient")
async def test_a_shutdown_gives_up_on_reports_that_nobody_takes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Witness(tmp_path, is_away=True)
    app = Jobify(storage=storage)

    @app.task(name="talk")
    async def talk() -> None:
        current_job.publish("a")

    async with app:
        job = await talk.push()
        await eventually(lambda: storage.refusals)
    assert job.status is JobStatus.CANCELLED
    assert "What it has reported is not stored yet" in caplog.text


async def test_what_outlives_the_attempt_reports_nothing_more(storage: Any) -> None:
    app = Jobify(storage=storage)
    go_on = asyncio.Event()
    strays: list[asyncio.Task[None]] = []

    async def stray() -> None:
        await go_on.wait()
        current_job.publish("too late")
        current_job.update_progress(50)
        current_job.check_cancelled()

    @app.task(name="leave")
    async def leave(is_talking: bool) -> None:
        if is_talking:
            current_job.publish("in time")
        strays.append(asyncio.create_task(stray()))

    async with app:
        jobs = [await leave.push(False), await leave.push(True)]
        for job in jobs:
            await soon(job)
        go_on.set()
        await soon(asyncio.gather(*strays))
        assert values(app, jobs[0].id) == []
        assert values(app, jobs[1].id) == ["in time"]


async def test_a_job_that_was_taken_from_this_process_reports_in_vain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Jobify(storage=durable(tmp_path))
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.task(name="talk")
    async def talk() -> None:
        current_job.publish("in time")
        begun.set()
        await go_on.wait()
        current_job.publish("in vain")

    async with app:
        job = await talk.push()
        await soon(begun.wait())
        await eventually(lambda: values(app, job.id) == ["in time"])
        with closing(sqlite3.connect(tmp_path / "jobs.db", timeout=20)) as other, other:
            other.execute("UPDATE jobs SET fence = fence + 1")
        go_on.set()
        await eventually(lambda: "its outcome is refused" in caplog.text)
        assert values(app, job.id) == ["in time"]


async def test_whoever_waits_in_another_process_hears_of_a_report_while_the_job_runs(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    done = asyncio.Event()

    @app.task(name="talk")
    async def talk() -> None:
        while not done.is_set():
            current_job.update_progress(50)
            await asyncio.sleep(0)

    async with app:
        client = durable(tmp_path)
        client.open()
        with closing(client):
            client.register(OwnerProfile(OwnerRole.CLIENT, None, (), 0), now=0)
            notifier = client.notifier
            assert notifier is not None
            job = await talk.push()
            await eventually(notifier.drain)
            assert progress(app, job.id) == 50
            done.set()
            await soon(job)


# -- being told to stop ------------------------------------------------------------------------------------------------


class Loop:
    """A thread task that asks, again and again, whether it is to stop."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, check: Callable[[], None]) -> None:
        self.has_begun.set()
        try:
            while True:
                check()
        except BaseException as error:
            self.error = error
            raise


def has_free_slots(app: Jobify) -> bool:
    engine = engine_of(app)
    assert engine is not None
    return engine._pools[RunMode.THREAD].free == engine._runners[RunMode.THREAD].slots


async def _cancel(app: Jobify, job: Job[Any]) -> None:
    await job.cancel()


async def _wait(app: Jobify, job: Job[Any]) -> None:
    await job.wait()


@pytest.mark.parametrize(
    ("stop", "timeout", "status"),
    [(_cancel, 3600, JobStatus.CANCELLED), (_wait, 0.05, JobStatus.TIMEOUT)],
    ids=["cancel", "timeout"],
)
async def test_a_thread_that_asks_ends_soon_and_frees_its_slot(
    storage: Any, stop: Callable[[Jobify, Job[Any]], Awaitable[None]], timeout: float, status: JobStatus
) -> None:
    app = Jobify(storage=storage)
    loop = Loop()

    @app.task(name="loop", timeout=timeout)
    def work() -> None:
        loop(current_job.check_cancelled)

    async with app:
        job = await work.push()
        await eventually(loop.has_begun.is_set)
        await soon(stop(app, job))
        assert job.status is status
        await eventually(lambda: loop.error is not None)
        await eventually(lambda: has_free_slots(app))
    assert type(loop.error).__name__ == "TaskCancelledError"


async def test_a_shutdown_stops_a_thread_that_asks_and_gives_the_job_back(tmp_path: Path) -> None:
    handled: list[Exception] = []

    def handle(error: Exception, context: JobContext) -> None:
        handled.append(error)

    app = Jobify(storage=durable(tmp_path), exception_handlers={Exception: handle})
    loop = Loop()

    @app.task(name="loop", retry=SmartRetry(retries=5))
    def work() -> None:
        loop(current_job.check_cancelled)

    async with app:
        job = await work.push()
        await eventually(loop.has_begun.is_set)
    job_id = job.id
    assert handled == []
    assert "shutdown" in str(loop.error)
    with opened(durable(tmp_path)) as storage:
        (record,) = storage.get((job_id,))
    assert (record.status, record.attempt) == (JobStatus.SCHEDULED, 0)


@pytest.mark.parametrize("question", ["check_timeout", "check_cancelled"])
async def test_code_that_blocks_the_event_loop_can_see_that_its_time_is_over(storage: Any, question: str) -> None:
    app = Jobify(storage=storage)
    handled: list[type[Exception]] = []

    async def handle(error: Exception, context: JobContext) -> None:
        handled.append(type(error))
        raise error

    @app.task(name="block", timeout=0.05, exception_handlers={Exception: handle})
    async def block() -> None:
        while True:
            getattr(current_job, question)()

    async with app:
        job = await block.push()
        await soon(job.wait())
        assert job.status is JobStatus.TIMEOUT
        assert isinstance(job.exception, JobTimeoutError)
    assert handled == [JobTimeoutError]


async def test_a_task_that_swallows_its_cancellation_can_still_ask(storage: Any) -> None:
    app = Jobify(storage=storage)
    begun = asyncio.Event()

    @app.task(name="stubborn")
    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            current_job.publish("still here")
        current_job.check_cancelled()
        current_job.publish("never")

    async with app:
        job = await stubborn.push()
        await soon(begun.wait())
        await soon(job.cancel())
        assert job.status is JobStatus.CANCELLED
        assert values(app, job.id) == ["still here"]


async def test_the_cancelled_job_of_another_is_an_error_like_any(storage: Any) -> None:
    """A handler must not miss the error of a job that this one waited for."""

    def handle(error: Exception, context: JobContext) -> str:
        return "handled"

    app = Jobify(storage=storage, exception_handlers={Exception: handle})

    @app.task(name="wait")
    async def wait(context: JobContext = INJECT) -> str:
        raise TaskCancelledError("another-job", "cancel")

    async with app:
        assert await soon(await wait.push()) == "handled"
