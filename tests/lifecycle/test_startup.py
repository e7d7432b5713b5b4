"""Starting, failing to start, and starting again: stories B35, B36 and B38."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobify import INJECT, Cron, Job, JobContext, Jobify, JobRouter, JobStatus, State
from jobify.exceptions import ApplicationStateError, StorageUnavailableError
from jobify.storage import SQLiteStorage
from support import durable, eventually, opened, run, soon


@pytest.mark.promise("b35")
def test_one_app_in_several_event_loops(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True))

    @app.task
    async def double(number: int) -> int:
        return 2 * number

    @app.task
    def triple(number: int) -> int:
        return 3 * number

    async def life(number: int) -> tuple[int, int]:
        async with app:
            return await (await double.push(number)), await (await triple.push(number))

    assert [run(life(number)) for number in range(3)] == [(0, 0), (2, 3), (4, 6)]


@pytest.mark.promise("b35")
@pytest.mark.parametrize("is_durable", [True, False])
def test_a_loop_that_was_closed_without_a_shutdown(tmp_path: Path, is_durable: bool) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True) if is_durable else False)
    runs = []

    @app.task(name="work")
    async def work() -> None:
        runs.append("begun")
        if len(runs) == 1:
            await asyncio.Event().wait()

    async def abandon() -> None:
        await app.startup()
        await work.push()
        await eventually(lambda: runs)

    async def start_again() -> None:
        await soon(app.wait_all())  # nothing of that life is left to wait for
        async with app:
            await app.wait_all(20)
            await (await work.push()).wait()

    run(abandon())
    gc.collect()
    run(start_again())
    assert len(runs) == (3 if is_durable else 2), "what ran in the first loop was given back, and runs again"


async def test_a_call_from_another_event_loop_is_refused(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True))

    @app.task
    async def work() -> None: ...

    async def elsewhere(job: Job[None]) -> None:
        for call in (work.push, app.startup, app.shutdown, app.wait_all, job.wait, job.cancel):
            with pytest.raises(ApplicationStateError, match=r"another event loop.*run_coroutine_threadsafe\("):
                await soon(call())

    async with app:
        job = await work.schedule().delay(60)
        await asyncio.to_thread(asyncio.run, elsewhere(job))
        await (await work.push())


@pytest.mark.promise("b36")
def test_lives_one_after_the_other(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True))
    router = JobRouter(prefix="r")

    @router.task(cron=Cron("0 0 1 1 *"))
    async def yearly() -> None: ...

    @app.task
    async def work() -> str:
        return "done"

    app.include_router(router)

    async def main() -> None:
        for _ in range(3):
            async with app:
                (cron,) = app.get_active_jobs()
                assert cron.is_cron()
                assert cron.status is JobStatus.SCHEDULED
                assert await (await work.push()) == "done"
                assert app.configs.storage.get([cron.id])[0].status == "scheduled"

    run(main())
    run(main())


@pytest.mark.promise("b36")
async def test_lives_in_memory() -> None:
    app = Jobify(storage=False)
    entered = []

    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[dict[str, Any]]:
        entered.append(app)
        yield {"number": len(entered)}

    app.lifespan = lifespan

    @app.task(cron="0 0 1 1 *")
    async def yearly() -> None: ...

    @app.task
    async def number(state: State = INJECT) -> Any:
        return state.number

    for life in (1, 2, 3):
        async with app:
            assert len(app.get_active_jobs()) == 1
            assert await (await number.push()) == life


class Part:
    """A plugin, and the lifespan of a router, that fail when they are told to."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.failing = ""

    def reach(self, point: str) -> None:
        if self.failing == point:
            raise ValueError(point)
        self.notes.append(point)

    async def startup(self, app: Any) -> None:
        self.reach("plugin up")

    async def shutdown(self) -> None:
        self.reach("plugin down")

    @asynccontextmanager
    async def app(self, _: object) -> AsyncIterator[None]:
        self.reach("app up")
        yield
        self.reach("app down")

    @asynccontextmanager
    async def router(self, _: object) -> AsyncIterator[None]:
        self.reach("router up")
        yield
        self.reach("router down")


@pytest.mark.promise("b38")
@pytest.mark.parametrize(
    ("point", "notes"),
    [
        ("plugin up", []),
        ("app up", ["plugin up", "plugin down"]),
        ("router up", ["plugin up", "app up", "app down", "plugin down"]),
    ],
)
async def test_a_start_that_fails_is_undone(tmp_path: Path, point: str, notes: list[str]) -> None:
    part = Part([])
    app = Jobify(storage=durable(tmp_path, is_new=True), plugins=[part], lifespan=part.app)
    app.include_router(JobRouter(lifespan=part.router))

    @app.task
    async def work() -> str:
        return "done"

    part.failing = point
    for start in (app.startup, app.__aenter__):
        part.notes.clear()
        with pytest.raises(ValueError, match=point):
            await start()
        assert part.notes == notes
        assert not app.configs.app_started
        await app.shutdown()
    with pytest.raises(ApplicationStateError):
        await work.push()
    with opened(durable(tmp_path, is_new=True)) as storage:
        assert storage.owners() == [], "the file is closed and nobody is taken for a worker"
    part.failing = ""
    async with app:
        assert await (await work.push()) == "done"


@pytest.mark.promise("b38")
@pytest.mark.parametrize("point", ["plugin down", "app down", "router down"])
async def test_a_stop_that_fails_stops_the_rest(tmp_path: Path, point: str) -> None:
    part = Part([])
    app = Jobify(storage=durable(tmp_path, is_new=True), plugins=[part], lifespan=part.app)
    app.include_router(JobRouter(lifespan=part.router))

    part.failing = point
    for _ in range(2):
        part.notes.clear()
        await app.startup()
        with pytest.raises(ValueError, match=point):
            await app.shutdown()
        ends = [note for note in ("router down", "app down", "plugin down") if note != point]
        assert part.notes == ["plugin up", "app up", "router up", *ends]
        assert not app.configs.app_started


@pytest.mark.promise("b38")
async def test_a_storage_that_cannot_be_opened(tmp_path: Path) -> None:
    app = Jobify(storage=SQLiteStorage(tmp_path / "missing" / "jobs.db"))

    @app.task
    async def work() -> str:
        return "done"

    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await app.startup()
    assert not app.configs.app_started
    (tmp_path / "missing").mkdir()
    async with app:
        assert await (await work.push()) == "done"


@pytest.mark.promise("b38")
async def test_a_start_that_is_cancelled_is_undone(tmp_path: Path) -> None:
    notes = []

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        notes.append("up")
        yield
        notes.append("down")

    @asynccontextmanager
    async def endless(_: object) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    app = Jobify(storage=durable(tmp_path, is_new=True), lifespan=lifespan)
    app.include_router(JobRouter(lifespan=endless))

    starting = asyncio.create_task(app.startup())
    await eventually(lambda: notes)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert notes == ["up", "down"]
    assert not app.configs.app_started


@pytest.mark.promise("b38")
@pytest.mark.parametrize("ticks", range(30))
async def test_a_start_can_be_cancelled_anywhere(tmp_path: Path, ticks: int) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True))

    @app.task(cron="0 0 1 1 *")
    async def yearly() -> str:
        return "done"

    starting = asyncio.create_task(app.startup())
    for _ in range(ticks):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    assert app.configs.app_started == (not starting.cancelled())
    await app.shutdown()
    async with app:
        assert await (await yearly.push()) == "done"


async def test_starting_twice_is_starting_once() -> None:
    entered = []

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        entered.append("up")
        await asyncio.sleep(0)
        yield

    app = Jobify(storage=False, lifespan=lifespan)

    await asyncio.gather(app.startup(), app.startup())
    await app.startup()
    assert entered == ["up"]
    assert app.configs.app_started
    await app.shutdown()


async def test_a_lifespan_may_push_and_wait(tmp_path: Path) -> None:
    results = []

    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[None]:
        results.append(await soon(await warm_up.push()))
        yield

    app = Jobify(storage=durable(tmp_path, is_new=True), lifespan=lifespan)

    @app.task
    async def warm_up() -> str:
        return "warm"

    async with app:
        assert results == ["warm"]


async def test_a_lifespan_may_stop_the_app_it_belongs_to() -> None:
    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[None]:
        yield
        await app.shutdown()

    app = Jobify(storage=False, lifespan=lifespan)

    async with app:
        pass


async def test_the_context_of_a_job_leads_to_the_app() -> None:
    app = Jobify(storage=False)

    @app.task
    async def look(context: JobContext = INJECT) -> bool:
        return context.app is app and context.jobify_config is app.configs

    async with app:
        assert await (await look.push())


def test_an_abandoned_life_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = Jobify(storage=durable(tmp_path, is_new=True))
    run(app.startup())
    with caplog.at_level(logging.WARNING, logger="jobify"):
        run(app.shutdown())
    assert "was not shut down before its event loop was closed" in caplog.text
    run(app.startup())
    run(app.shutdown())
