"""What is left of an app when its ``async with`` is over: no thread and no descriptor."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, RunMode
from probes import waiters_of
from support import durable, eventually, run

pytestmark = pytest.mark.promise("f37")


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("jobify")}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.fixture(autouse=True)
def before() -> Iterator[set[threading.Thread]]:
    """The threads that other tests have left. The same ones are there afterwards, and no more descriptors."""
    found, count = threads(), descriptors()
    yield found
    assert threads() <= found
    assert descriptors() <= count


def double(x: int) -> int:
    return 2 * x


async def use(app: Jobify, task: Any) -> None:
    """Everything that opens something."""
    assert await (await task.push(1)) == 2
    assert await (await task.adelay(2)).aresult(timeout=20) == 4
    assert await asyncio.to_thread(lambda: task.delay(3).result(timeout=20)) == 6
    await app.astats()


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_an_app_that_was_left_has_left_nothing(tmp_path: Path, kind: str, before: set[threading.Thread]) -> None:
    app = Jobify(storage=False if kind == "memory" else durable(tmp_path))
    task = app.task(double, name="double")

    for _ in range(3):
        async with app:
            await use(app, task)
        assert threads() <= before


def test_many_apps_one_after_the_other(tmp_path: Path) -> None:
    async def one(directory: Path) -> None:
        directory.mkdir()
        app = Jobify(storage=durable(directory))
        task = app.task(double, name="double")
        async with app:
            await use(app, task)

    for number in range(30):
        run(one(tmp_path / str(number)))


async def test_children_are_gone(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    task: Any = app.task(double, name="double", run_mode=RunMode.PROCESS)

    async with app:
        assert await (await task.push(1)) == 2


@pytest.mark.parametrize("where", ["lifespan", "body"])
async def test_an_error_leaves_nothing_either(tmp_path: Path, where: str) -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(app: Any) -> Any:
        await task.adelay(1)
        if where == "lifespan":
            raise LookupError
        yield

    app = Jobify(storage=durable(tmp_path), lifespan=lifespan)
    task: Any = app.task(double, name="double")

    with pytest.raises(LookupError):
        async with app:
            await use(app, task)
            raise LookupError


async def test_a_client_that_is_closed_has_left_nothing(tmp_path: Path, before: set[threading.Thread]) -> None:
    app = Jobify(storage=durable(tmp_path))
    task: Any = app.task(double, name="double")

    await task.adelay(1)
    with pytest.raises(TimeoutError):
        await (await task.adelay(2)).aresult(timeout=0.01)
    app.close()
    await eventually(lambda: threads() <= before)


async def test_what_still_waits_goes_on_when_the_app_stops(tmp_path: Path, before: set[threading.Thread]) -> None:
    """Another process may run the job: a shutdown of this app does not end the wait."""
    app, other = Jobify(storage=durable(tmp_path)), Jobify(storage=durable(tmp_path))
    app.task(double, name="other")
    task: Any = other.task(double, name="double")

    async with app:
        job = app.enqueue("double", (4,))
        waiting = asyncio.ensure_future(job.aresult(timeout=20))
        await eventually(lambda: waiters_of(app))
    async with other:
        assert await waiting == 8
    app.close()
    await eventually(lambda: threads() <= before)
    assert task
