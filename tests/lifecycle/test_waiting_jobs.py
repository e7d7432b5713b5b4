"""A job that waits for another job lends its slot, so that it never waits for a job that waits for its slot (F23)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import waiting_tasks

from jobify import Jobify, RunMode, current_job
from probes import runners_of, slots_of
from support import address, durable, eventually, run, soon

pytestmark = pytest.mark.promise("f23")

DEPTH = 100


@pytest.fixture(params=["sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return durable(tmp_path) if request.param == "sqlite" else False


def in_process(job: Any, app: Jobify) -> Any:
    """Wait for a handle of the client, and not for one of the engine."""
    return app.get_job(job.id)


async def _await(job: Any, app: Jobify) -> int:
    value: int = await job
    return value


async def _wait(job: Any, app: Jobify) -> int:
    await job.wait()
    value: int = job.result()
    return value


async def _aresult(job: Any, app: Jobify) -> int:
    value: int = await in_process(job, app).aresult(timeout=None)
    return value


async def _await_end(job: Any, app: Jobify) -> int:
    await in_process(job, app).await_end()
    value: int = in_process(job, app).result()
    return value


async def _astream(job: Any, app: Jobify) -> int:
    values: list[int] = [value async for value in in_process(job, app).astream(timeout=None)]
    return values[-1]


@pytest.mark.parametrize("wait", [_await, _wait, _aresult, _await_end, _astream], ids=lambda wait: wait.__name__)
@pytest.mark.no_cover  # others run the same lines, less often
async def test_a_hundred_parents_wait_with_one_slot(storage: Any, wait: Callable[..., Any]) -> None:
    app = Jobify(storage=storage, concurrency=1)

    @app.task
    async def nest(depth: int) -> int:
        below = await wait(await nest.schedule(depth - 1).delay(0.001), app) if depth else -1
        current_job.publish(below + 1)
        return int(below) + 1

    async with app:
        assert await soon(await nest.push(DEPTH)) == DEPTH
        await eventually(lambda: _lane(app, RunMode.MAIN).is_idle)
    app.close()


def _lane(app: Jobify, mode: RunMode) -> Any:
    return slots_of(app)[mode]


@pytest.mark.parametrize("is_given", [False, True], ids=["own pool", "given pool"])
@pytest.mark.parametrize("kind", ["result", "wait", "stream"])
def test_a_thread_that_waits_has_another_one_started(tmp_path: Path, kind: str, is_given: bool) -> None:
    with ThreadPoolExecutor(1) as given:
        app = Jobify(storage=durable(tmp_path), threadpool_executor=given if is_given else None)

        @app.task
        def nest(depth: int) -> int:
            below = -1
            if depth:
                job = nest.delay(depth - 1)
                if kind == "stream":
                    below = list(job.stream(timeout=None))[-1]
                else:
                    if kind == "wait":
                        job.wait()
                    below = job.result(timeout=None)
            current_job.publish(below + 1)
            return below + 1

        async def main() -> None:
            async with app:
                slots = _lane(app, RunMode.THREAD).capacity
                assert await soon(await nest.push(slots + 5)) == slots + 5
                await eventually(lambda: _lane(app, RunMode.THREAD).is_idle)
                runner = runners_of(app)[RunMode.THREAD]
                size = runner._executor._max_workers if hasattr(runner, "_executor") else runner._pool._size
                assert size == slots

        run(main())
        app.close()


async def test_a_child_process_that_waits_has_another_one_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAITING_DB", address(tmp_path))
    app = waiting_tasks.build()

    async with app:
        slots = _lane(app, RunMode.PROCESS).capacity
        job = await app.aenqueue("nest", args=(slots + 1,))
        assert await job.aresult(timeout=60) == slots + 1
        await eventually(lambda: _lane(app, RunMode.PROCESS).is_idle)
    app.close()


async def test_slots_are_right_after_waits_of_every_end(storage: Any) -> None:
    """Waits that are cancelled, time out, overlap, or outlive their job."""
    app = Jobify(storage=storage, concurrency=2)
    go_on = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    @app.task
    async def child() -> None:
        await go_on.wait()

    @app.task(timeout=0.05)
    async def times_out(job_id: str) -> None:
        await app.get_job(job_id).aresult(timeout=None)

    @app.task
    async def leaves_one(job_id: str) -> None:
        left.append(asyncio.create_task(app.get_job(job_id).await_end()))
        await asyncio.sleep(0.01)

    @app.task
    async def overlaps(job_id: str) -> None:
        job = app.get_job(job_id)
        await asyncio.gather(*[job.await_end() for _ in range(5)])

    async with app:
        waited = await child.push()
        ends = [await task.push(waited.id) for task in (times_out, leaves_one)]
        stays = await overlaps.push(waited.id)
        for job in ends:
            await soon(job.wait())
        await stays.cancel()
        go_on.set()
        await soon(waited.wait())
        await soon(asyncio.gather(*left))
        await soon(app.wait_all())
        await eventually(lambda: _lane(app, RunMode.MAIN).is_idle)
    app.close()


async def test_a_thread_that_waits_beyond_its_timeout_gives_its_slot_back_once(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    go_on = asyncio.Event()

    @app.task
    async def child() -> None:
        await go_on.wait()

    @app.task(timeout=0.05)
    def times_out(job_id: str) -> None:
        app.get_job(job_id).wait()

    async with app:
        waited = await child.push()
        job = await times_out.push(waited.id)
        await soon(job.wait())
        assert job.status.value == "timeout"
        go_on.set()
        await soon(waited.wait())
        await eventually(lambda: _lane(app, RunMode.THREAD).is_idle)
    app.close()
