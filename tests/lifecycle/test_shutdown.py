"""What a shutdown leaves behind: stories B22, B46, X3 and X14."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, JobRouter, JobStatus
from jobify.exceptions import ApplicationStateError, JobFailedError, JobNotCompletedError
from probes import is_draining
from support import durable, eventually, run, soon


class Notes(list[str]):
    """What happened, in order."""

    def lifespan(self, name: str) -> Any:
        @asynccontextmanager
        async def around(_: object) -> AsyncIterator[None]:
            self.append(f"{name} up")
            yield
            self.append(f"{name} down")

        return around


class NotingPlugin:
    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    async def startup(self, app: Any) -> None:
        self.notes.append("plugin up")

    async def shutdown(self) -> None:
        self.notes.append("plugin down")


@pytest.mark.promise("b22", "x14")
async def test_jobs_end_before_lifespans_and_lifespans_before_plugins() -> None:
    notes = Notes()
    app = Jobify(storage=False, lifespan=notes.lifespan("app"), plugins=[NotingPlugin(notes)])
    router = JobRouter(lifespan=notes.lifespan("router"))
    inner = JobRouter(lifespan=notes.lifespan("inner"))

    @inner.task(name="work")
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            notes.append("job cleaned up")

    router.include_router(inner)
    app.include_router(router)

    async with app:
        job = await work.push()
        await eventually(lambda: job.status is JobStatus.RUNNING)
        notes.append("end")
    assert notes == [
        "plugin up", "app up", "router up", "inner up", "end", "job cleaned up",
        "inner down", "router down", "app down", "plugin down",
    ]  # fmt: skip


@pytest.mark.promise("b22")
async def test_statuses_after_a_shutdown(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task
    async def work() -> None:
        await asyncio.Event().wait()

    async with app:
        running = await work.push()
        waiting = await work.schedule().delay(300)
        cron = await work.schedule().cron("0 0 * * *", job_id="nightly")
        await eventually(lambda: running.status is JobStatus.RUNNING)
        waiter = asyncio.ensure_future(waiting.wait())
    await soon(waiter)
    for job in (running, waiting, cron):
        assert job.status is JobStatus.CANCELLED
        assert job.is_done()
        await soon(job.wait())
        with pytest.raises(JobFailedError):
            await job
        with pytest.raises(JobNotCompletedError):
            job.result()
        with pytest.raises(ApplicationStateError):
            await job.cancel()


@pytest.mark.promise("b22")
def test_a_thread_is_waited_for_and_its_result_counts(tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()
    runs = []

    async def life() -> JobStatus | None:
        app = Jobify(storage=durable(tmp_path))

        @app.task(name="work")
        def work() -> str:
            started.set()
            go_on.wait(60)
            runs.append("run")
            return "done"

        async with app:
            if runs:
                return None
            job = await work.push()
            await asyncio.to_thread(started.wait, 60)
            asyncio.get_running_loop().call_later(0.05, go_on.set)
        assert job.result() == "done"
        return job.status

    assert run(life()) is JobStatus.SUCCESS
    run(life())
    assert runs == ["run"], "it ended before the shutdown did, so it must not run again"


@pytest.mark.promise("b22")
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_thread_is_outlasted_although_its_job_is_over(how: str) -> None:
    """It cannot be stopped, and still uses what the lifespan is about to close."""
    notes = Notes()
    started, go_on = threading.Event(), threading.Event()
    app = Jobify(storage=False, lifespan=notes.lifespan("app"))

    @app.task(timeout=0.01 if how == "timed out" else None)
    def work() -> None:
        started.set()
        go_on.wait(60)
        notes.append("thread over")

    async with app:
        job = await work.push()
        await asyncio.to_thread(started.wait, 60)
        if how == "cancelled":
            await job.cancel()
        await soon(job.wait())
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert notes == ["app up", "thread over", "app down"]


@pytest.mark.promise("b22")
async def test_a_long_wait_for_such_a_thread_is_not_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jobify.engine.engine._NUDGE", 0.01)
    begun, go_on = threading.Event(), threading.Event()
    app = Jobify(storage=False)

    @app.task
    def work() -> None:
        begun.set()
        go_on.wait(60)

    await app.startup()
    job = await work.push()
    await asyncio.to_thread(begun.wait, 60)
    await soon(job.cancel())
    stopping = asyncio.create_task(app.shutdown())
    await eventually(lambda: "waits for threads whose jobs are over: 1" in caplog.text)
    go_on.set()
    await soon(stopping)


@pytest.mark.promise("x3")
def test_a_job_that_was_interrupted_runs_at_the_next_start_without_a_lost_attempt(tmp_path: Path) -> None:
    begun: list[str] = []

    async def life(name: str) -> Jobify:
        app = Jobify(storage=durable(tmp_path))

        @app.task(name="work")
        async def work() -> None:
            begun.append(name)
            if name != "third":
                await asyncio.Event().wait()

        async with app:
            if name == "first":
                await work.schedule().push(job_id="it")
            await eventually(lambda: begun[-1:] == [name])
            (record,) = app.configs.storage.get(["it"])
            assert (record.attempt, record.crashes) == (1, 0), "a shutdown is no attempt, and no crash"
            if name == "third":
                await app.wait_all(20)
                assert app.configs.storage.get(["it"])[0].status == "success"
        return app

    for name in ("first", "second", "third"):
        run(life(name))
    assert begun == ["first", "second", "third"]


@pytest.mark.promise("x14")
async def test_a_grace_lets_jobs_finish() -> None:
    app = Jobify(storage=False, grace=60)

    @app.task
    async def work() -> str:
        await asyncio.sleep(0.02)
        return "done"

    async with app:
        job = await work.push()
        late = await work.schedule().delay(300)
    assert job.result() == "done"
    assert late.status is JobStatus.CANCELLED


@pytest.mark.promise("x14")
async def test_a_grace_can_be_given_to_the_shutdown() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work() -> str:
        await asyncio.sleep(0.02)
        return "done"

    await app.startup()
    job = await work.push()
    await app.shutdown(grace=60)
    assert job.result() == "done"


async def test_a_shutdown_that_is_cancelled_hurries_and_is_complete(tmp_path: Path) -> None:
    notes = Notes()
    app = Jobify(storage=durable(tmp_path), lifespan=notes.lifespan("app"))
    ended = []

    @app.task
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    await app.startup()
    job = await work.push()
    await eventually(lambda: job.status is JobStatus.RUNNING)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await app.shutdown(grace=300)
    assert ended == [True]
    assert notes == ["app up", "app down"]
    assert job.status is JobStatus.CANCELLED
    assert not app.configs.app_started
    async with app:
        assert app.find_job(job.id) is not None


@pytest.mark.parametrize("is_failing", [False, True])
async def test_who_hurries_a_shutdown_is_told_only_of_real_errors(
    is_failing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    down = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        down.set()
        try:
            await asyncio.Event().wait()
        finally:
            if is_failing:
                raise ValueError("it does not close")

    app = Jobify(storage=False, lifespan=lifespan)

    @app.task
    async def work() -> None:
        await asyncio.Event().wait()

    await app.startup()
    await work.push()
    stopping = asyncio.ensure_future(app.shutdown(grace=1000))
    await asyncio.sleep(0)
    stopping.cancel()
    await soon(down.wait())
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(stopping)
    said = [record.getMessage() for record in caplog.records]
    real = ["Another error while the app was stopping: ValueError('it does not close')"]
    assert said == (real if is_failing else [])


async def test_a_hurry_while_the_storage_is_let_go_of_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = durable(tmp_path)
    app = Jobify(storage=storage)
    retiring, may_go_on = threading.Event(), threading.Event()
    retire = storage.deregister

    def slow(owner: int) -> None:
        retiring.set()
        assert may_go_on.wait(20)
        retire(owner)

    @app.task(name="work")
    async def work() -> None:
        await asyncio.Event().wait()

    await app.startup()
    await work.schedule().push(job_id="one")
    monkeypatch.setattr(storage, "deregister", slow)
    stopping = asyncio.ensure_future(app.shutdown(grace=0))
    await eventually(retiring.is_set)
    stopping.cancel()
    await asyncio.sleep(0)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(stopping)
    assert [record.getMessage() for record in caplog.records] == []
    storage.open()
    assert storage.owners() == []
    (row,) = storage.get(["one"])
    assert (row.status, row.attempt, row.crashes) == ("scheduled", 0, 0)
    storage.close()


async def test_stopping_twice_and_at_once(tmp_path: Path) -> None:
    notes = Notes()
    app = Jobify(storage=durable(tmp_path), lifespan=notes.lifespan("app"))

    @app.task
    async def work() -> None:
        await asyncio.Event().wait()

    await app.shutdown()
    await app.startup()
    job = await work.push()
    first, second = asyncio.create_task(app.shutdown()), asyncio.create_task(app.shutdown())
    await asyncio.gather(first, second)
    assert job.is_done()
    await app.shutdown()
    assert notes == ["app up", "app down"]


async def test_the_second_of_two_shutdowns_waits_for_the_first() -> None:
    notes = Notes()
    app = Jobify(storage=False, lifespan=notes.lifespan("app"))

    @app.task
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)

    await app.startup()
    await work.push()
    first = asyncio.create_task(app.shutdown())
    await asyncio.sleep(0)
    await app.shutdown()
    assert notes[-1] == "app down"
    await first


async def test_a_job_cannot_shut_its_app_down() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work() -> None:
        await app.shutdown()

    async with app:
        job = await work.push()
        await soon(job.wait())
        assert isinstance(job.exception, ApplicationStateError)


def test_what_a_running_job_pushes_during_a_shutdown_runs_at_the_next_start(tmp_path: Path) -> None:
    runs = []

    async def life(push: bool) -> None:
        app = Jobify(storage=durable(tmp_path), grace=60 if push else 0)

        @app.task(name="parent")
        async def parent() -> None:
            started.set()
            await go_on.wait()
            assert (await child.push()).status is JobStatus.SCHEDULED

        @app.task(name="child")
        async def child() -> None:
            runs.append("child")

        async def go_on_when_it_stops() -> None:
            await eventually(lambda: is_draining(app))
            go_on.set()

        started, go_on = asyncio.Event(), asyncio.Event()
        async with app:
            if push:
                job = await parent.push()
                await started.wait()
                going_on = asyncio.ensure_future(go_on_when_it_stops())
            else:
                await app.wait_all(20)
        if push:
            await going_on
            assert job.status is JobStatus.SUCCESS
            assert runs == []

    run(life(True))
    run(life(False))
    assert runs == ["child"]


@pytest.mark.parametrize("ticks", range(12))
def test_pushes_under_way_at_a_shutdown_run_once_in_all(tmp_path: Path, ticks: int) -> None:
    runs: list[int] = []

    async def life(first: bool) -> None:
        app = Jobify(storage=durable(tmp_path))

        @app.task(name="work")
        async def work(number: int) -> None:
            await asyncio.sleep(0.001)
            runs.append(number)

        await app.startup()
        if first:
            pushes = [asyncio.create_task(work.push(number)) for number in range(20)]
            for _ in range(ticks):
                await asyncio.sleep(0)
            await app.shutdown()
            before = list(runs)
            jobs = await soon(asyncio.gather(*pushes, return_exceptions=True))
            assert runs == before, "nothing runs after the shutdown"
            for job in jobs:
                assert isinstance(job, ApplicationStateError) or job.is_done()
            refused.update(number for number, job in enumerate(jobs) if isinstance(job, Exception))
        else:
            await app.wait_all(20)
            await app.shutdown()

    refused: set[int] = set()
    run(life(True))
    run(life(False))
    assert sorted(runs) == [number for number in range(20) if number not in refused]


async def test_what_is_asked_after_the_shutdown_is_refused(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task
    async def work() -> None: ...

    async with app:
        late = work.schedule().delay(0, job_id="it", replace=True)
        job = await work.schedule().delay(300)
    with pytest.raises(ApplicationStateError):
        await soon(late)
    with pytest.raises(ApplicationStateError):
        await work.push()
    with pytest.raises(ApplicationStateError):
        await job.cancel()
    await soon(app.wait_all())
    assert app.find_job(job.id) is None
    assert app.get_active_jobs() == []


@pytest.mark.promise("b38")
async def test_an_error_in_one_part_does_not_keep_the_rest_from_stopping(tmp_path: Path) -> None:
    notes = Notes()
    app = Jobify(storage=durable(tmp_path), lifespan=notes.lifespan("app"))

    @asynccontextmanager
    async def failing(_: object) -> AsyncIterator[None]:
        yield
        raise ValueError("teardown")

    app.include_router(JobRouter(lifespan=failing))
    app.include_router(JobRouter(lifespan=notes.lifespan("second")))

    @app.task
    async def work() -> None:
        await asyncio.Event().wait()

    for _ in range(2):
        await app.startup()
        job = await work.push()
        with pytest.raises(ValueError, match="teardown"):
            await app.shutdown()
        assert job.status is JobStatus.CANCELLED
        assert not app.configs.app_started
        await app.shutdown()
    assert notes == ["app up", "second up", "second down", "app down"] * 2


async def test_wait_all_ends_with_the_app() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work() -> None:
        await asyncio.Event().wait()

    await app.startup()
    await work.push()
    waiting = asyncio.create_task(app.wait_all())
    await asyncio.sleep(0)
    await app.shutdown()
    await soon(waiting)
