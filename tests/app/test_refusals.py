"""What can never work is refused where it is written, in a sentence that names it and says what to do."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobify import Jobify, JobRouter
from jobify.exceptions import ConfigurationError, PayloadError
from jobify.middleware import BaseMiddleware, BaseOuterMiddleware
from jobify.model.clock import SystemClock
from jobify.serializers import JSONSerializer
from jobify.storage import SQLiteStorage
from jobify.typeadapter import PydanticConverter
from support import durable


class Log(BaseMiddleware):
    async def __call__(self, call_next: Any, context: Any) -> Any:
        return await call_next(context)


class OuterLog(BaseOuterMiddleware):
    async def __call__(self, call_next: Any, context: Any) -> Any:
        return await call_next(context)


class Metrics:
    async def startup(self, app: Any) -> None: ...

    async def shutdown(self) -> None: ...


class StaticSerializer:
    @staticmethod
    def dumpb(data: Any) -> bytes:
        return json.dumps(data).encode()

    @staticmethod
    def loadb(data: bytes) -> Any:
        return json.loads(data)


WRONG: list[tuple[str, Any, str]] = [
    ("clock", 5, "it must be an object with now"),
    ("clock", SystemClock, "it must be an object with now"),
    ("uuid_generator", UUID(int=0), "it must be a function"),
    ("uuid_generator", "uuid4", "it must be a function"),
    ("threadpool_executor", 4, "it must be a ThreadPoolExecutor"),
    ("threadpool_executor", ThreadPoolExecutor, "it must be a ThreadPoolExecutor"),
    ("processpool_executor", 4, "it must be a ProcessPoolExecutor"),
    ("processpool_executor", ProcessPoolExecutor, "it must be a ProcessPoolExecutor"),
    ("middleware", Log(), r"such as middleware=\[Log\(\)\]"),
    ("middleware", "log", "it must be a list of middleware"),
    ("middleware", {}, "it must be a list of middleware"),
    ("middleware", [Log], r"Did you mean Log\(\)\?"),
    ("middleware", [5], "5 is no middleware"),
    ("outer_middleware", OuterLog(), "such as outer_middleware="),
    ("outer_middleware", [OuterLog], r"Did you mean OuterLog\(\)\?"),
    ("plugins", Metrics(), "it must be a list of plugins"),
    ("plugins", None, "it must be a list of plugins"),
    ("plugins", "metrics", "it must be a list of plugins"),
    ("plugins", [Metrics], r"Did you mean Metrics\(\)\?"),
    ("plugins", [5], "5 is no plugin"),
    ("cron_factory", "* * * * *", "it must be a function"),
    ("loop_factory", 5, "it must be a function"),
    ("serializer", "json", "cannot be the serializer"),
    ("serializer", JSONSerializer, r"Did you mean JSONSerializer\(\)\?"),
    ("dumper", PydanticConverter, r"Did you mean PydanticConverter\(\)\?"),
    ("dumper", 5, "cannot be the dumper"),
    ("loader", PydanticConverter, r"Did you mean PydanticConverter\(\)\?"),
    ("loader", 5, "cannot be the loader"),
    ("storage", True, "it must be a Storage, or False"),
    ("storage", SQLiteStorage, "it must be a Storage, or False"),
    ("tz", "UTC", "it must be a ZoneInfo"),
    ("state", [1], "it must be a State"),
    ("lifespan", 5, "gives an async context manager"),
    ("exception_handlers", [1], "must map exception types to functions"),
    ("exception_handlers", {int: 1}, "an exception type and a function"),
    ("concurrency", 0, "a whole number of at least 1"),
    ("concurrency", 1.5, "a whole number of at least 1"),
    ("max_crashes", True, "a whole number of at least 1"),
    ("grace", float("nan"), "it must be 0 or more, in seconds"),
    ("result_ttl", "day", "it must be a number of seconds"),
    ("route_class", dict, "it must be a subclass of RootRoute"),
    ("route_class", 5, "it must be a subclass of RootRoute"),
]


@pytest.mark.parametrize(("option", "value", "says"), WRONG)
def test_options_of_the_wrong_kind(option: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Jobify(**{option: value})


def test_pools_of_the_other_kind() -> None:
    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        with pytest.raises(ConfigurationError, match="it must be a ThreadPoolExecutor"):
            Jobify(threadpool_executor=processes)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="it must be a ProcessPoolExecutor"):
            Jobify(processpool_executor=threads)  # type: ignore[arg-type]
        Jobify(threadpool_executor=threads, processpool_executor=processes)


def test_a_class_whose_methods_are_static_is_a_serializer() -> None:
    assert Jobify(serializer=StaticSerializer).configs.serializer is StaticSerializer  # type: ignore[comparison-overlap]


def test_a_router_checks_as_an_app_does() -> None:
    with pytest.raises(ConfigurationError, match="such as middleware="):
        JobRouter(middleware=Log())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="it must be a subclass"):
        JobRouter(route_class=int)  # type: ignore[arg-type]


async def test_a_serializer_that_gives_no_bytes_stores_nothing(tmp_path: Path) -> None:
    class Text:
        def dumpb(self, data: Any) -> Any:
            return json.dumps(data)

        def loadb(self, data: bytes) -> Any:
            return json.loads(data)

    app = Jobify(storage=durable(tmp_path), serializer=Text())

    @app.task(name="work")
    async def work(number: int) -> int:
        return number

    async with app:
        with pytest.raises(PayloadError, match=r"Text\.dumpb\(\) gave .* it must give bytes"):
            await work.schedule(1).delay(60)
        assert app.get_active_jobs() == []


UNFIT = pytest.mark.parametrize("text", ["half \ud800", "nul \0", "\udfff"])


@UNFIT
def test_texts_that_no_database_can_hold_are_no_names(text: str) -> None:
    app = Jobify(storage=False)
    with pytest.raises(ConfigurationError, match=r"name of a task .* surrogates"):

        @app.task(name=text)
        async def work() -> None: ...

    with pytest.raises(ConfigurationError, match=r"prefix of a router .* surrogates"):
        JobRouter(prefix=text)


@UNFIT
@pytest.mark.parametrize("is_durable", [True, False])
async def test_texts_that_no_database_can_hold_are_no_ids(tmp_path: Path, text: str, is_durable: bool) -> None:
    app = Jobify(storage=durable(tmp_path) if is_durable else False)

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match=r"job_id .* surrogates"):
            await work.schedule().push(job_id=text)
        with pytest.raises(ConfigurationError, match=r"job_id .* surrogates"):
            await work.schedule().cron("* * * * *", job_id=text)
        assert app.find_job(text) is None
        assert app.get_active_jobs() == []


@pytest.mark.parametrize("made", [None, "", "half \ud800"])
async def test_what_a_generator_makes_must_be_an_id(tmp_path: Path, made: Any) -> None:
    app = Jobify(storage=durable(tmp_path), uuid_generator=lambda: made)

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match=r"the uuid_generator .* made"):
            await work.push()


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, -0.5, "5", True, [5]])
async def test_timeouts_of_wait_all(timeout: Any) -> None:
    async with Jobify(storage=False) as app:
        with pytest.raises(ConfigurationError, match=r"timeout of wait_all\(\)"):
            await app.wait_all(timeout)
        await app.wait_all(0.5)


@pytest.mark.parametrize("job_id", [5, None, b"bytes", ""])
async def test_what_is_no_id_finds_no_job(tmp_path: Path, job_id: Any) -> None:
    async with Jobify(storage=durable(tmp_path)) as app:
        assert app.find_job(job_id) is None


@pytest.mark.parametrize("now", ["2030-01-01", 5, date(2030, 1, 1)])
async def test_a_delay_counts_from_a_datetime(now: Any) -> None:
    app = Jobify(storage=False)

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match=r"delay\(\) takes a datetime as now"):
            await work.schedule().delay(5, now=now)


async def test_a_schedule_without_an_id_is_told_how_to_get_one() -> None:
    app = Jobify(storage=False)

    @app.task(name="work")
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match=r"needs a job_id.*cron\('0 9 \* \* \*', job_id='nightly'\)"):
            await work.schedule().cron("0 9 * * *", job_id=None)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="job_id is ''"):
            await work.schedule().cron("0 9 * * *", job_id="")


async def test_a_zero_timeout_of_wait_all_looks_once() -> None:
    app = Jobify(storage=False)
    gate = asyncio.Event()

    @app.task(name="work")
    async def work() -> None:
        await gate.wait()

    async with app:
        job = await work.push()
        with pytest.raises(TimeoutError):
            await app.wait_all(0)
        gate.set()
        await job


@pytest.mark.promise("f46")
@pytest.mark.parametrize(
    ("storage", "path"),
    [
        ("jobs.db", "jobs.db"),
        (Path("jobs.db"), "jobs.db"),
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:////var/lib/my%20jobs.db", "/var/lib/my jobs.db"),
    ],
)
def test_a_storage_may_be_given_as_a_path_or_a_url(storage: Any, path: str) -> None:
    made = Jobify(storage=storage).configs.storage
    assert isinstance(made, SQLiteStorage)
    assert os.path.abspath(made.database) == os.path.abspath(path)


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("mysql://localhost/jobs", "scheme 'mysql'"),
        ("sqlite://jobs.db", "write sqlite:///jobs.db"),
        ("sqlite:///", "write sqlite:///jobs.db"),
        ("sqlite:///jobs.db?timeout=3", "arguments of SQLiteStorage"),
        ("memory", "storage=False"),
        (3, "the path of a database file"),
        ("~/jobs.db", r"no ~ and no URL is read. Write Path\(...\).expanduser"),
        (Path("~/jobs.db"), "no ~"),
        ("sqlite:jobs.db", "a URL is for Jobify"),
        ("file:jobs.db?mode=ro", "a URL is for Jobify"),
    ],
)
def test_what_is_no_storage_is_refused(storage: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Jobify(storage=storage)
