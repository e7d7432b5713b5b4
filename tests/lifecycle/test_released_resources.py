"""What an app leaves behind when it has stopped: no thread, no descriptor, no child process."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from refused_tasks import add

from jobify import Jobify, RunMode
from jobify.exceptions import ApplicationStateError
from jobify.storage.base import Storage
from jobify.storage.memory import MemoryStorage
from probes import connection_of, waiters_of
from support import PATIENCE, durable, eventually, run

pytestmark = pytest.mark.promise("f37")

DESCRIPTORS = Path("/proc/self/fd")


def descriptors() -> set[str]:
    """What this process has open, by the names that the system gives them."""
    found = set()
    for entry in os.listdir(DESCRIPTORS):
        with suppress(OSError):  # the one that lists the folder
            found.add(f"{entry} {(DESCRIPTORS / entry).readlink()}")
    return found


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test of this module leaves a thread or a descriptor."""
    gc.collect()
    files, running = (descriptors() if DESCRIPTORS.exists() else set()), threads()
    yield
    assert threads() <= running
    if DESCRIPTORS.exists():
        assert descriptors() <= files


def build(storage: Storage | bool) -> tuple[Jobify, Any]:
    app = Jobify(storage=storage)  # type: ignore[arg-type]

    @app.task(name="double")
    async def double(x: int) -> int:
        return 2 * x

    return app, double


async def use(app: Jobify, task: Any, n: int) -> None:
    async with app:
        pushed = await task.push(n)
        delayed = await task.adelay(n)
        assert await delayed.aresult(timeout=PATIENCE) == 2 * n
        assert await pushed == 2 * n
        assert (await app.astats())["complete"] >= 1


def test_fifty_apps_of_one_process_leave_nothing(tmp_path: Path) -> None:
    running = threads()
    for n in range(50):
        (tmp_path / str(n)).mkdir()
        run(use(*build(durable(tmp_path / str(n))), n))
        assert threads() <= running
        if DESCRIPTORS.exists():
            assert not [name for name in descriptors() if str(tmp_path) in name]


async def test_nothing_is_left_when_the_block_is_left(tmp_path: Path) -> None:
    app, double = build(durable(tmp_path))
    running = threads()
    for n in range(3):
        await use(app, double, n)
        assert threads() <= running
        assert not any(str(tmp_path) in name for name in (descriptors() if DESCRIPTORS.exists() else ()))


@pytest.mark.parametrize("storage", [False, MemoryStorage()], ids=["in_memory", "memory_storage"])
async def test_apps_in_memory_leave_nothing(storage: Storage | bool) -> None:
    running = threads()
    await use(*build(storage), 1)
    assert threads() <= running


def test_a_client_leaves_nothing_when_it_is_closed(tmp_path: Path) -> None:
    running = threads()
    for n in range(30):
        app, double = build(durable(tmp_path))
        job = double.delay(n)
        with suppress(TimeoutError):
            job.result(timeout=0.01)
        assert app.stats()["pending"] == n + 1
        app.close()
        assert threads() <= running


async def test_an_async_client_leaves_nothing_when_it_is_closed(tmp_path: Path) -> None:
    running = threads()
    app, double = build(durable(tmp_path))
    job = await double.adelay(1)
    with suppress(TimeoutError):
        await job.aresult(timeout=0.01)
    assert job.id in {found.id for found in await app.ajobs()}
    app.close()
    assert threads() <= running


async def test_closing_a_client_makes_the_calls_that_it_was_given(tmp_path: Path) -> None:
    app, double = build(durable(tmp_path))
    calls = [asyncio.ensure_future(double.adelay(n)) for n in range(20)]
    await asyncio.sleep(0)
    app.close()
    await asyncio.gather(*calls)
    assert app.stats()["pending"] == 20
    app.close()


async def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    @asynccontextmanager
    async def broken(app: Jobify) -> AsyncIterator[None]:
        await app.aenqueue("double", (1,))
        raise RuntimeError("no start")
        yield

    app = Jobify(storage=durable(tmp_path), lifespan=broken)
    running = threads()
    with pytest.raises(RuntimeError, match="no start"):
        await app.startup()
    assert threads() <= running


async def test_an_exception_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    app, double = build(durable(tmp_path))
    running = threads()
    with pytest.raises(ZeroDivisionError):
        async with app:
            await double.adelay(1)
            raise ZeroDivisionError
    assert threads() <= running


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_exit_leaves_nothing(tmp_path: Path, cancels: int) -> None:
    async def use_it(app: Jobify, task: Any, is_leaving: asyncio.Event) -> None:
        async with app:
            job = await task.adelay(1)
            await job.aresult(timeout=PATIENCE)
            is_leaving.set()

    app, double = build(durable(tmp_path))
    running, is_leaving = threads(), asyncio.Event()
    using = asyncio.ensure_future(use_it(app, double, is_leaving))
    await is_leaving.wait()
    for _ in range(cancels):
        using.cancel()
        await asyncio.sleep(0)
    with suppress(asyncio.CancelledError):
        await using
    assert threads() <= running


def test_the_end_of_the_loop_during_the_exit_leaves_nothing(tmp_path: Path) -> None:
    """``asyncio.run`` cancels what still runs when its coroutine has ended."""
    app, double = build(durable(tmp_path))
    running = threads()

    async def main() -> None:
        begun = asyncio.Event()

        async def serve() -> None:
            async with app:
                await (await double.adelay(1)).aresult(timeout=PATIENCE)
                begun.set()
                await asyncio.Event().wait()

        serving = asyncio.ensure_future(serve())
        await begun.wait()
        assert not serving.done()

    run(main())
    assert threads() <= running


async def test_tasks_in_threads_leave_nothing(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="work", run_mode=RunMode.THREAD)
    def work(n: int) -> int:
        return n + 1

    running = threads()
    async with app:
        jobs = await asyncio.gather(*[work.adelay(n) for n in range(20)])
        assert [await job.aresult(timeout=PATIENCE) for job in jobs] == list(range(1, 21))
    assert threads() <= running


def test_tasks_in_processes_leave_nothing(tmp_path: Path) -> None:
    async def main(number: int) -> None:
        (tmp_path / str(number)).mkdir()
        app = Jobify(storage=durable(tmp_path / str(number)))
        work = app.task(name="work", run_mode=RunMode.PROCESS)(add)
        running = threads()
        async with app:
            assert await (await work.adelay(1, 2)).aresult(timeout=2 * PATIENCE) == 3
        await eventually(lambda: threads() <= running)  # the threads that see children end

    run(main(1))
    run(main(2))


def test_apps_in_several_threads_leave_nothing(tmp_path: Path) -> None:
    def one(n: int) -> None:
        (tmp_path / str(n)).mkdir()
        run(use(*build(durable(tmp_path / str(n))), n))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))


async def test_callers_that_wait_go_on_and_leave_nothing(tmp_path: Path) -> None:
    """An app stops while a thread waits for a job, which another app runs."""
    app = Jobify(storage=durable(tmp_path))
    other, _ = build(durable(tmp_path))
    running = threads()
    job = app.enqueue("double", (4,))
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(job.result(timeout=PATIENCE)))

    async with app:
        waiting.start()
        await eventually(lambda: waiters_of(app))
    async with other:
        await eventually(lambda: not waiting.is_alive())
    await eventually(lambda: threads() <= running and not connection_of(app).is_open)
    assert answers == [8]
    app.close()


async def test_a_cancelled_caller_that_waited_longer_than_the_app_leaves_nothing(tmp_path: Path) -> None:
    app, _ = build(durable(tmp_path))
    running = threads()
    async with app:
        job = await app.aenqueue("double", (1,), delay=3600)
        waiting = asyncio.ensure_future(job.aresult(timeout=None))
        await eventually(lambda: waiters_of(app))
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    await eventually(lambda: threads() <= running and not connection_of(app).is_open)


async def test_what_is_used_after_the_block_is_closed_by_close(tmp_path: Path) -> None:
    app, double = build(durable(tmp_path))
    running = threads()
    async with app:
        job = await double.adelay(5)
        await job.aresult(timeout=PATIENCE)
    assert await job.aresult() == 10
    assert job.status == "complete"
    app.close()
    assert threads() <= running


async def test_an_app_that_waits_is_told_of_close_but_not_of_the_end_of_the_block(tmp_path: Path) -> None:
    app, _ = build(durable(tmp_path))
    job = app.enqueue("double", (4,), delay=3600)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            job.result(timeout=PATIENCE)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)

    async with app:
        waiting.start()
        await eventually(lambda: waiters_of(app))
    assert not errors
    app.close()
    waiting.join(PATIENCE)
    assert [type(error) for error in errors] == [ApplicationStateError]
