"""Threads and processes at their limits, one at a time: stories B20, B21, B30 and B31."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from jobify import INJECT, Cron, JobContext, Jobify, JobStatus, RunMode, SmartRetry
from jobify.exceptions import ConfigurationError, JobTimeoutError, ProcessDiedError
from support import PATIENCE, a_while, durable, eventually, run, soon

AT_ONCE = SmartRetry(2, initial_delay=0)


class Overlaps:
    """A plain function that counts how often it runs at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.peak = self.runs = 0
        self.gates = [threading.Event() for _ in range(10)]

    def __call__(self) -> str:
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
            gate = self.gates[self.runs]
            self.runs += 1
        gate.wait(60)
        with self.lock:
            self.running -= 1
        return "late"


@pytest.mark.promise("b20")
@pytest.mark.parametrize("storage", ["sqlite", "memory"])
async def test_a_thread_that_timed_out_is_not_joined_by_its_retry(
    tmp_path: Path, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = Overlaps()
    app = Jobify(storage=durable(tmp_path) if storage == "sqlite" else False)
    task = app.task(work, name="work", timeout=0.2, retry=AT_ONCE)

    async with app:
        job = await task.push()
        for attempt in range(3):
            await eventually(lambda attempt=attempt: work.runs == attempt + 1)
            await a_while(0.4)
            assert work.running == 1
            assert not job.is_done() or attempt == 2
            work.gates[attempt].set()
        await soon(job.wait())
        assert job.status is JobStatus.TIMEOUT
        assert isinstance(job.exception, JobTimeoutError)
        await soon(app.wait_all())
    assert (work.peak, work.runs) == (1, 3)
    assert "its thread is not" in caplog.text, "it is said so"


@pytest.mark.promise("b20")
async def test_runs_of_a_cron_do_not_overlap_a_thread_that_timed_out() -> None:
    work = Overlaps()
    app = Jobify(storage=False)
    task = app.task(work, name="work", timeout=0.03)

    async with app:
        await task.schedule().cron(Cron("* * * * * * *", max_runs=2), job_id="it")
        await eventually(lambda: work.runs == 1)
        await a_while(1.1)
        assert work.runs == 1
        work.gates[0].set()
        work.gates[1].set()
        await soon(app.wait_all())
    assert (work.peak, work.runs) == (1, 2)


@pytest.mark.promise("b20")
def test_a_cancelled_thread_keeps_its_slot_until_it_ends() -> None:
    work = Overlaps()
    with ThreadPoolExecutor(1) as pool:
        app = Jobify(storage=False, threadpool_executor=pool)
        task = app.task(work, name="work")

        async def main() -> None:
            async with app:
                first, second = await task.push(), await task.push()
                await eventually(lambda: work.runs == 1)
                await soon(first.cancel())
                assert first.status is JobStatus.CANCELLED
                await a_while(0.03)
                assert work.runs == 1
                assert second.status is JobStatus.SCHEDULED
                work.gates[0].set()
                work.gates[1].set()
                assert await soon(second) == "late"

        run(main())


# -- processes: they find these functions by name --------------------------------------------------------------------


def leave_traces(directory: str) -> str:
    """Write down that it runs, sleep, and write down that it has run."""
    begun = Path(directory) / f"begun-{os.getpid()}"
    begun.touch()
    time.sleep(60)
    (Path(directory) / "survived").touch()
    return "late"


def die(directory: str, times: int) -> int:
    """Take the process down, so many times."""
    deaths = len(list(Path(directory).glob("death-*")))
    if deaths < times:
        (Path(directory) / f"death-{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def nothing() -> int:
    return os.getpid()


def with_context(context: JobContext = INJECT) -> None:
    raise AssertionError("it never runs")


@pytest.mark.promise("b21")
@pytest.mark.parametrize("end", ["timeout", "cancel", "shutdown"])
async def test_a_process_that_is_to_stop_is_killed(tmp_path: Path, end: str) -> None:
    app = Jobify(storage=durable(tmp_path))
    task = app.task(leave_traces, run_mode=RunMode.PROCESS, timeout=2 if end == "timeout" else None)
    first = app.task(nothing, run_mode=RunMode.PROCESS)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async with app:
        await soon(await first.push())  # on a busy machine the start of a process may take longer than the timeout
        job = await task.push(str(tmp_path))
        await eventually(lambda: list(tmp_path.glob("begun-*")))
        (begun,) = tmp_path.glob("begun-*")
        pid = int(begun.name.partition("-")[2])
        ticking = asyncio.create_task(tick())
        if end == "cancel":
            await soon(job.cancel())
        if end == "timeout":
            await soon(job.wait())
        if end == "shutdown":
            await soon(app.shutdown())
        await eventually(lambda: not is_alive(pid))
        assert ticks > 10, "the event loop went on meanwhile"
        ticking.cancel()
    assert job.status is {"timeout": JobStatus.TIMEOUT}.get(end, JobStatus.CANCELLED)
    assert not (tmp_path / "survived").exists()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.promise("b21")
async def test_attempts_in_processes_do_not_overlap(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    retry = SmartRetry(1, initial_delay=0)

    async def attempts_that_began(timeout: float) -> int:
        folder = tmp_path / str(timeout)
        folder.mkdir()
        options: dict[str, Any] = {"name": f"after {timeout}", "timeout": timeout, "retry": retry}
        task = app.task(leave_traces, run_mode=RunMode.PROCESS, **options)
        async with app:
            job = await task.push(str(folder))
            while not job.is_done():
                pids = [int(path.name.partition("-")[2]) for path in folder.glob("begun-*")]
                assert sum(map(is_alive, pids)) <= 1
                await asyncio.sleep(0.005)
            assert job.status is JobStatus.TIMEOUT
        return len(list(folder.glob("begun-*")))

    for timeout in (1.5, 5.0):  # on a busy machine, a process may need longer than the first until it begins
        if await attempts_that_began(timeout) == 2:
            return
    assert await attempts_that_began(20.0) == 2


@pytest.mark.promise("b31")
async def test_a_worker_that_dies_costs_its_own_job_and_no_other(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path))
    poison = app.task(die, run_mode=RunMode.PROCESS)
    fine = app.task(nothing, run_mode=RunMode.PROCESS)

    async with app:
        assert await soon(await fine.push()) != os.getpid()
        once = await poison.push(str(tmp_path), 1)
        await soon(once.wait())
        assert once.status is JobStatus.SUCCESS, "it died once and was tried again"
        assert await soon(await fine.push()) != os.getpid()
        for path in tmp_path.glob("death-*"):
            path.unlink()
        always = await poison.push(str(tmp_path), 100)
        await soon(always.wait())
        assert always.status is JobStatus.FAILED
        assert isinstance(always.exception, ProcessDiedError)
        assert len(list(tmp_path.glob("death-*"))) == 3
        assert await soon(await fine.push()) != os.getpid()
    async with app:
        assert await soon(await fine.push()) != os.getpid()


@pytest.mark.promise("b31")
def test_the_users_own_pools_are_left_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        app = Jobify(storage=False, threadpool_executor=threads, processpool_executor=processes)
        thread = app.task(lambda: threading.get_ident(), name="thread")
        process = app.task(nothing, run_mode=RunMode.PROCESS)

        async def main() -> None:
            async with app:
                assert await soon(await thread.push()) != threading.get_ident()
                assert await soon(await process.push()) != os.getpid()

        for _ in range(2):
            run(main())
        assert threads.submit(lambda: 1).result() == 1
        assert processes.submit(nothing).result() != os.getpid()


@pytest.mark.promise("b31")
def test_what_cannot_be_injected_into_a_process_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="INJECT"):
        Jobify(storage=False).task(with_context, run_mode=RunMode.PROCESS)


# -- B30 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("b30")
async def test_jobs_in_threads_keep_nobody_waiting(tmp_path: Path) -> None:
    """Every thread of the pool (and of asyncio's) is taken; the database has its own."""
    app = Jobify(storage=durable(tmp_path))
    go_on = threading.Event()
    ticks = []

    @app.task
    def block() -> None:
        go_on.wait(60)

    @app.task
    async def quick() -> str:
        return "done"

    @app.task(cron=Cron("* * * * * * *"))
    async def tick() -> None:
        ticks.append(True)

    def take(pool: Any) -> None:
        for _ in range(100):
            pool(block.func)

    loop = asyncio.get_running_loop()
    async with app:
        take(lambda func: loop.run_in_executor(None, func))
        blocked = [await block.push() for _ in range(100)]
        jobs = await soon(asyncio.gather(*(quick.push() for _ in range(50))))
        assert await soon(asyncio.gather(*jobs)) == ["done"] * 50
        assert await soon(await quick.schedule().delay(0.01)) == "done"
        await eventually(lambda: len(ticks) >= 2)
        assert not any(job.is_done() for job in blocked)
        go_on.set()
        await soon(asyncio.gather(*blocked))


@pytest.mark.parametrize("make", [threading.Thread], ids=["a thread"])
async def test_pushes_from_other_threads(tmp_path: Path, make: Callable[..., threading.Thread]) -> None:
    app = Jobify(storage=durable(tmp_path))
    results: list[Any] = []

    @app.task
    async def double(number: int) -> int:
        return 2 * number

    async def _await(job: Any) -> Any:
        return await job

    loop = asyncio.get_running_loop()

    def push() -> None:
        job = asyncio.run_coroutine_threadsafe(double.push(4), loop).result(60)
        results.append(asyncio.run_coroutine_threadsafe(_await(job), loop).result(60))

    async with app:
        thread = make(target=push)
        thread.start()
        await eventually(lambda: results)
        thread.join()
    assert results == [8]


@pytest.mark.promise("t3")
async def test_a_timeout_is_marked_when_it_comes_and_what_comes_late_is_refused(tmp_path: Path) -> None:
    begun, gate, over = threading.Event(), threading.Event(), threading.Event()
    interrupted: list[str] = []
    app = Jobify(storage=durable(tmp_path))

    @app.task(name="in_thread", timeout=0.03)
    def in_thread() -> str:
        begun.set()
        gate.wait(PATIENCE)
        over.set()
        return "late"

    @app.task(name="on_loop", timeout=0.03)
    async def on_loop() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            interrupted.append("on_loop")
            raise

    async with app:
        thread, loop = await in_thread.push(), await on_loop.push()
        await soon(asyncio.gather(thread.wait(), loop.wait()))
        assert begun.is_set()
        assert not over.is_set(), "the thread goes on, and its job has ended all the same"
        assert [thread.status, loop.status, interrupted] == [JobStatus.TIMEOUT, JobStatus.TIMEOUT, ["on_loop"]]
        gate.set()
        await eventually(over.is_set)
        await soon(app.wait_all())
        assert thread.status is JobStatus.TIMEOUT
        stored = await app.aget_job(thread.id)
        assert (stored.status, str(stored.error).partition(":")[0]) == ("failed", "JobTimeoutError")
