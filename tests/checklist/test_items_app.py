"""Checklist items 9-33: what the app takes and does."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobify import (
    INJECT,
    Job,
    JobContext,
    Jobify,
    JobifyConfiguration,
    JobRouter,
    JobStatus,
    OuterContext,
    RunMode,
    State,
)
from jobify.crontab import CronParser, create_crontab
from jobify.exceptions import ApplicationStateError
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware, CallNext, CallNextOuter
from jobify.router import RootRoute
from jobify.serializers import ExtendedJSONSerializer, JSONSerializer
from jobify.storage import SQLiteStorage, Storage
from jobify.storage.memory import MemoryStorage
from support import durable

PARAMETERS = [
    "tz", "state", "dumper", "loader", "storage", "lifespan", "serializer", "middleware", "outer_middleware",
    "cron_factory", "loop_factory", "exception_handlers", "threadpool_executor", "processpool_executor", "route_class",
    "plugins", "uuid_generator",
]  # fmt: skip


def test_all_parameters_are_keyword_only_and_optional() -> None:
    parameters = inspect.signature(Jobify).parameters
    assert list(parameters)[: len(PARAMETERS)] == PARAMETERS
    for parameter in parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


@pytest.mark.promise("item-9")
async def test_tz() -> None:
    assert Jobify(storage=False).configs.tz == ZoneInfo("UTC")

    app = Jobify(storage=False, tz=ZoneInfo("Asia/Tokyo"))

    @app.task
    async def noop() -> None: ...

    async with app:
        builder = noop.schedule()
        assert builder.now().tzinfo == ZoneInfo("Asia/Tokyo")
        job = await builder.at(datetime(2030, 1, 1, 9, 0))
        assert job.exec_at == datetime(2030, 1, 1, 0, 0, tzinfo=UTC)
        assert job.exec_at.tzinfo == ZoneInfo("Asia/Tokyo")


@pytest.mark.promise("item-10")
def test_state() -> None:
    state = State({"greeting": "hello"})
    app = Jobify(storage=False, state=state)
    assert app.state is state
    assert Jobify(storage=False).state == {}


class Upper:
    """One object that takes texts apart and puts them together in its own way."""

    def dump(self, data: Any, tp: Any = None) -> Any:
        return data.upper() if isinstance(data, str) else data

    def load(self, data: Any, tp: Any) -> Any:
        return data.lower() if isinstance(data, str) else data


def restored_argument(tmp_path: Path, value: Any, **options: Any) -> Any:
    """What a task is called with when its job was stored by one life of an app and run by the next."""
    seen = []

    async def life(delay: float, job_id: str | None) -> None:
        app = Jobify(storage=durable(tmp_path), **options)

        @app.task(name="see")
        async def see(value: str) -> None:
            seen.append(value)

        async with app:
            if job_id:
                await see.schedule(value).delay(delay, job_id=job_id)
            else:
                await app.wait_all(5)

    asyncio.run(life(0.05, "one"))
    asyncio.run(life(0, None))
    return seen[-1]


@pytest.mark.promise("item-11")
def test_dumper(tmp_path: Path) -> None:
    class Plain:
        def load(self, data: Any, tp: Any) -> Any:
            return data

    assert restored_argument(tmp_path, "abc", dumper=Upper(), loader=Plain()) == "ABC"


@pytest.mark.promise("item-12")
def test_loader(tmp_path: Path) -> None:
    assert restored_argument(tmp_path, "abc", dumper=Upper(), loader=Upper()) == "abc"


@pytest.mark.promise("item-13", "x8")
def test_storage_default_is_sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(Jobify().configs.storage, SQLiteStorage)
    assert isinstance(Jobify(storage=None).configs.storage, SQLiteStorage)
    assert isinstance(Jobify(storage=False).configs.storage, MemoryStorage)
    own = durable(tmp_path)
    assert Jobify(storage=own).configs.storage is own
    assert isinstance(own, Storage)


@pytest.mark.promise("item-13", "rule-16")
async def test_a_file_in_the_current_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    async def main(storage: Any) -> None:
        app = Jobify(**storage)

        @app.task
        async def noop() -> None: ...

        async with app:
            await (await noop.push())

    await main({"storage": False})
    assert list(tmp_path.iterdir()) == []
    await main({})
    assert (tmp_path / "jobify.db").exists()


@pytest.mark.promise("item-14")
async def test_lifespan() -> None:
    events = []

    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[dict[str, Any]]:
        events.append(("enter", app, app.configs.app_started))
        yield {"db": "pool"}
        events.append(("leave", app, app.configs.app_started))

    app = Jobify(storage=False, lifespan=lifespan)

    @app.task
    async def use(state: State = INJECT) -> str:
        return str(state.db)

    async with app:
        assert app.state["db"] == "pool"
        assert await (await use.push()) == "pool"
    assert [name for name, *_ in events] == ["enter", "leave"]
    assert all(found is app for _, found, _ in events)


@pytest.mark.promise("item-15")
def test_serializer(tmp_path: Path) -> None:
    class Recording(JSONSerializer):
        written: list[bytes] = []  # noqa: RUF012  shared on purpose

        def dumpb(self, data: Any) -> bytes:
            self.written.append(super().dumpb(data))
            return self.written[-1]

    assert restored_argument(tmp_path, "abc", serializer=Recording()) == "abc"
    assert any(b"abc" in written for written in Recording.written)
    assert isinstance(Jobify(storage=False).configs.serializer, ExtendedJSONSerializer)
    assert isinstance(Jobify(storage=False, dumper=Upper()).configs.serializer, JSONSerializer)
    assert isinstance(Jobify(storage=False, loader=Upper()).configs.serializer, JSONSerializer)


class Note(BaseMiddleware):
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def __call__(self, call_next: CallNext, context: JobContext) -> Any:
        self.log.append(f"{self.name} in")
        try:
            return await call_next(context)
        finally:
            self.log.append(f"{self.name} out")


class OuterNote(BaseOuterMiddleware):
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def __call__(self, call_next: CallNextOuter, context: OuterContext) -> Any:
        self.log.append(f"{self.name} in")
        try:
            return await call_next(context)
        finally:
            self.log.append(f"{self.name} out")


@pytest.mark.promise("item-16")
async def test_middleware() -> None:
    log: list[str] = []
    app = Jobify(storage=False, middleware=[Note(log, "a"), Note(log, "b")])
    app.add_middleware(Note(log, "c"))

    @app.task
    def work() -> None:
        log.append("work")

    async with app:
        await (await work.push())
    assert log == ["a in", "b in", "c in", "work", "c out", "b out", "a out"]


@pytest.mark.promise("item-17")
async def test_outer_middleware() -> None:
    log: list[str] = []
    app = Jobify(storage=False, outer_middleware=[OuterNote(log, "a"), OuterNote(log, "b")])
    app.add_outer_middleware(OuterNote(log, "c"))

    @app.task
    def work() -> None: ...

    async with app:
        await work.schedule().delay(300)
    assert log == ["a in", "b in", "c in", "c out", "b out", "a out"]


class EveryDay:
    def next_run(self, *, now: datetime) -> datetime:
        return now + timedelta(days=1)


@pytest.mark.promise("item-18")
async def test_cron_factory() -> None:
    asked = []

    def factory(expression: str) -> CronParser:
        asked.append(expression)
        return EveryDay()

    app = Jobify(storage=False, cron_factory=factory)

    @app.task
    async def noop() -> None: ...

    async with app:
        job = await noop.schedule().cron("each day", job_id="daily")
        assert timedelta(hours=23) < job.exec_at - noop.schedule().now() <= timedelta(days=1)
        assert job.cron_expression == "each day"
    assert "each day" in asked
    assert Jobify(storage=False).configs.cron_factory is create_crontab


@pytest.mark.promise("item-19")
def test_loop_factory() -> None:
    assert Jobify(storage=False).configs.getloop is asyncio.get_running_loop
    assert Jobify(storage=False, loop_factory=asyncio.get_event_loop).configs.getloop is asyncio.get_event_loop

    async def main() -> None:
        app = Jobify(storage=False)
        async with app:
            assert app.configs.getloop() is asyncio.get_running_loop()

    asyncio.run(main())
    asyncio.run(main())


@pytest.mark.promise("item-20")
async def test_exception_handlers() -> None:
    app = Jobify(storage=False, exception_handlers={ValueError: lambda exc, context: f"{exc} of {context.job.id}"})

    async def handle(exc: Exception, context: JobContext) -> str:
        return type(exc).__name__

    app.add_exception_handler(KeyError, handle)

    @app.task
    def fail(kind: str) -> str:
        raise {"value": ValueError, "key": KeyError}[kind]("x")

    async with app:
        assert await (await fail.schedule("value").push(job_id="7")) == "x of 7"
        assert await (await fail.push("key")) == "KeyError"


@pytest.mark.promise("item-21")
async def test_threadpool_executor() -> None:
    import threading

    async def main(pool: ThreadPoolExecutor) -> None:
        app = Jobify(storage=False, threadpool_executor=pool)

        @app.task
        def where() -> str:
            return threading.current_thread().name

        async with app:
            assert (await (await where.push())).startswith("mine")

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        await main(pool)
        assert pool.submit(lambda: 1).result() == 1, "a pool that was given is not shut down"


@pytest.mark.slow
@pytest.mark.promise("item-22")
async def test_processpool_executor() -> None:
    import multiprocessing

    from checklist_tasks import process_id

    async def main(pool: ProcessPoolExecutor) -> None:
        app = Jobify(storage=False, processpool_executor=pool)
        where = app.task(process_id, run_mode=RunMode.PROCESS)
        async with app:
            assert await (await where.push()) == pool.submit(process_id).result()

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        await main(pool)
        assert isinstance(pool.submit(process_id).result(), int), "a pool that was given is not shut down"


@pytest.mark.promise("item-23")
def test_route_class() -> None:
    class MyRoute(RootRoute[..., Any]):
        pass

    app = Jobify(storage=False, route_class=MyRoute)

    @app.task
    async def noop() -> None: ...

    assert type(noop) is MyRoute
    default = Jobify(storage=False).task(noop)
    assert type(default) is RootRoute


class Extension:
    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    async def startup(self, app: Any) -> None:
        self.log.append(f"{self.name} up")

    async def shutdown(self) -> None:
        self.log.append(f"{self.name} down")


@pytest.mark.promise("item-24")
async def test_plugins_in_order() -> None:
    log: list[str] = []
    names = [f"plugin {n}" for n in range(20)]
    app = Jobify(storage=False, plugins=[Extension(log, name) for name in names])

    async with app:
        assert log == [f"{name} up" for name in names]
        log.clear()
    assert log == [f"{name} down" for name in reversed(names)]


@pytest.mark.promise("item-25", "x15")
async def test_uuid_generator() -> None:
    async def ids(**options: Any) -> list[str]:
        app = Jobify(storage=False, **options)

        @app.task
        async def noop() -> None: ...

        async with app:
            return [(await noop.push()).id for _ in range(3)]

    fixed = uuid.UUID("12345678-1234-4234-8234-123456789abc")
    assert (await ids(uuid_generator=lambda: fixed))[0] == str(fixed)
    assert all(uuid.UUID(found).version == 4 for found in await ids(uuid_generator=uuid.uuid4))
    default = await ids()
    assert all(uuid.UUID(found).version == 7 for found in default)
    assert sorted(default) == default, "ordered by time"


@pytest.mark.promise("item-26")
def test_configs_and_plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugin = Extension([], "it")
    app = Jobify(storage=False, plugins=[plugin, plugin])
    assert isinstance(app.configs, JobifyConfiguration)
    assert app.configs.app is app
    assert app.configs.app_started is False
    assert plugin in app.plugins
    assert len(app.plugins) == 1


@pytest.mark.promise("item-26")
async def test_no_argument_persists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ran = []

    async def life(is_first: bool) -> None:
        app = Jobify()

        @app.task(name="keep")
        def keep(value: int) -> None:
            ran.append(value)

        async with app:
            if is_first:
                await keep.schedule(7).delay(0.05)
            else:
                await app.wait_all(5)

    await life(True)
    assert ran == []
    await life(False)
    assert ran == [7]


@pytest.mark.promise("item-27")
async def test_async_with() -> None:
    events = []

    class App(Jobify):
        async def startup(self) -> None:
            await super().startup()
            events.append("up")

        async def shutdown(self, *, grace: float | None = None) -> None:
            await super().shutdown(grace=grace)
            events.append("down")

    app = App(storage=False)
    async with app as entered:
        assert entered is app
    with pytest.raises(ZeroDivisionError):
        async with app:
            raise ZeroDivisionError
    await app.__aenter__()
    await app.__aexit__()
    await app.__aenter__()
    await app.__aexit__(None, None, None)
    assert events == ["up", "down"] * 4


@pytest.mark.promise("item-27")
async def test_raises_what_startup_raises() -> None:
    class Broken(Jobify):
        async def startup(self) -> None:
            raise LookupError("no way")

    with pytest.raises(LookupError, match="no way"):
        async with Broken(storage=False):
            pass


@pytest.mark.promise("item-28")
async def test_startup() -> None:
    entered = []

    @asynccontextmanager
    async def lifespan(router: JobRouter) -> AsyncIterator[None]:
        entered.append(router)
        yield

    app = Jobify(storage=False)
    outer, inner = JobRouter(lifespan=lifespan), JobRouter(lifespan=lifespan)
    outer.include_router(inner)
    app.include_router(outer)

    @app.task(cron="0 0 1 1 *")
    async def yearly() -> None: ...

    await app.startup()
    assert app.configs.app_started is True
    assert entered == [outer, inner]
    assert [job.cron_expression for job in app.get_active_jobs()] == ["0 0 1 1 *"]
    await app.shutdown()


@pytest.mark.promise("item-28", "x10")
async def test_startup_errors_are_runtime_errors() -> None:
    """A configuration that cannot start, and a router that fails to."""

    @asynccontextmanager
    async def failing(router: JobRouter) -> AsyncIterator[None]:
        raise OSError("no pool")
        yield

    app = Jobify(storage=False)
    app.include_router(JobRouter(lifespan=failing))
    with pytest.raises(OSError, match="no pool"):
        await app.startup()
    assert app.configs.app_started is False
    with pytest.raises(RuntimeError):
        app.require_started()
    app.add_plugin(Extension([], "still open"))
    assert issubclass(ApplicationStateError, RuntimeError)


@pytest.mark.promise("item-29")
async def test_shutdown() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Jobify) -> AsyncIterator[None]:
        yield
        log.append("lifespan left")

    app = Jobify(storage=False, lifespan=lifespan, plugins=[Extension(log, "plugin")])
    begun = asyncio.Event()

    @app.task
    async def long() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("job cleaned up")
            raise OSError("an error of a cancelled job interrupts nothing")

    await app.startup()
    future = await long.schedule().delay(300)
    running = await long.push()
    await begun.wait()
    log.clear()
    await app.shutdown()
    assert log == ["job cleaned up", "lifespan left", "plugin down"]
    assert app.configs.app_started is False
    assert future.status is JobStatus.CANCELLED
    assert running.status is JobStatus.CANCELLED
    assert app.get_active_jobs() == []
    await app.shutdown()


@pytest.mark.promise("item-30")
async def test_wait_all() -> None:
    app = Jobify(storage=False)
    release = asyncio.Event()
    ended = []

    @app.task
    async def work(n: int) -> None:
        await release.wait()
        ended.append(n)

    async with app:
        for n in range(3):
            await work.push(n)
        with pytest.raises(asyncio.TimeoutError):
            await app.wait_all(timeout=0.01)
        with pytest.raises(TimeoutError):
            await app.wait_all(0.01)
        release.set()
        await app.wait_all()
        assert sorted(ended) == [0, 1, 2]
        await app.wait_all(timeout=None)


@pytest.mark.promise("item-30")
@pytest.mark.parametrize("is_durable", [True, False])
async def test_with_nothing_to_wait_for_it_returns_at_once(tmp_path: Path, is_durable: bool) -> None:
    """Before the start, after the end, and whatever the timeout."""

    app = Jobify(storage=SQLiteStorage(tmp_path / "jobify.db") if is_durable else False)

    @app.task
    async def task() -> None: ...

    await app.wait_all()
    async with app:
        await app.wait_all(0)
        await (await task.push())
        await app.wait_all(0)
        job = await task.schedule().delay(60)
        with pytest.raises(TimeoutError):
            await app.wait_all(0)
        await job.cancel()
        await app.wait_all(0)
    await app.wait_all()


@pytest.mark.promise("item-30")
async def test_a_job_is_told_that_it_cannot_wait_for_all() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work() -> None:
        await app.wait_all()

    async with app:
        job = await work.push()
        await job.wait()
        assert isinstance(job.exception, ApplicationStateError)
        assert "wait for itself" in str(job.exception)


@pytest.mark.promise("item-31")
async def test_find_job_get_active_jobs_add_plugin() -> None:
    log: list[str] = []

    app = Jobify(storage=False)
    app.add_plugin(Extension(log, "plugin"))
    begun, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        begun.set()
        await release.wait()

    async with app:
        waiting = await work.schedule().delay(300, job_id="waiting")
        running = await work.schedule().push(job_id="running")
        await begun.wait()
        assert app.find_job("waiting") is waiting
        assert app.find_job("running") is running
        assert app.find_job("unknown") is None
        assert {job.id for job in app.get_active_jobs()} == {"waiting", "running"}
        release.set()
        await running.wait()
        await waiting.cancel()
        assert app.find_job("running") is None
        assert app.get_active_jobs() == []
    assert log == ["plugin up", "plugin down"]


@pytest.mark.promise("item-32")
async def test_task() -> None:
    app = Jobify(storage=False)

    @app.task
    def bare(x: int) -> int:
        return x + 1

    @app.task(name="named", retry=1)
    def with_options(x: int) -> int:
        return x + 2

    async with app:
        assert await (await bare.schedule(1).delay(0)) == 2
        assert await (await with_options.schedule(1).delay(0)) == 3
        assert with_options.name == "named"
        assert bare(5) == 6, "a decorated function stays callable"


@pytest.mark.promise("item-33")
async def test_each_way_of_scheduling_gives_a_job() -> None:
    app = Jobify(storage=False)

    @app.task
    async def work(x: int) -> int:
        return x

    async with app:
        jobs = [
            await work.push(1),
            await work.schedule(2).delay(0),
            await work.schedule(3).at(datetime.now(UTC)),
            await work.schedule(4).cron("* * * * *", job_id="cron"),
        ]
        assert all(type(job) is Job for job in jobs)
        assert await asyncio.gather(*jobs[:3]) == [1, 2, 3]
