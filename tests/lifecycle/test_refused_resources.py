"""The system refuses a process or a thread for a while: jobs wait, none fails, none loses an attempt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from refused_tasks import add

from jobify import Cron, Jobify, RunMode
from jobify.runners import childprocess, pool
from support import durable, eventually, soon

MANY = 200


class Weather:
    """Has the system refuse what is asked for, as long as :attr:`is_bad`."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self.error = error
        self.is_bad = False
        self.refusals = 0

    def put_before(self, function: Callable[..., Any], *, only: str = "") -> Callable[..., Any]:
        """``function``, refused in bad weather (for threads: only those whose names begin so)."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            if self.is_bad and (not only or args[0].name.startswith(only)):
                self.refusals += 1
                raise self.error()
            return function(*args, **kwargs)

        return guarded


def build(directory: Path, **options: Any) -> tuple[Jobify, dict[RunMode, Any]]:
    app = Jobify(storage=durable(directory), **options)

    @app.task(name="thread", run_mode=RunMode.THREAD)
    def in_thread(a: int, b: int) -> int:
        return a + b

    @app.task(name="main")
    async def in_loop(a: int, b: int) -> int:
        return a + b

    process = app.task(name="process", run_mode=RunMode.PROCESS)(add)
    return app, {RunMode.THREAD: in_thread, RunMode.MAIN: in_loop, RunMode.PROCESS: process}


@contextmanager
def refused(monkeypatch: pytest.MonkeyPatch, mode: RunMode, error: Callable[[], Exception]) -> Iterator[Weather]:
    weather = Weather(error)
    with monkeypatch.context() as patched:
        if mode is RunMode.PROCESS:
            patched.setattr(childprocess, "_launch", weather.put_before(childprocess._launch))
        else:
            patched.setattr(threading.Thread, "start", weather.put_before(threading.Thread.start, only="jobify_"))
        yield weather


REFUSALS = {
    "EMFILE": lambda: OSError(24, "Too many open files"),
    "EAGAIN": lambda: BlockingIOError(11, "Resource temporarily unavailable"),
    "ENOMEM": lambda: OSError(12, "Cannot allocate memory"),
    "MemoryError": MemoryError,
    "RuntimeError": lambda: RuntimeError("can't start new thread"),
}


@pytest.mark.promise("f5", "f45")
@pytest.mark.parametrize(
    ("mode", "word"),
    [(RunMode.PROCESS, word) for word in REFUSALS]
    + [(RunMode.THREAD, word) for word in ("RuntimeError", "MemoryError")],
)
async def test_waiting_jobs_are_not_failed_by_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: RunMode, word: str
) -> None:
    caplog.set_level(logging.INFO, "jobify.engine")

    app, tasks = build(tmp_path)
    with refused(monkeypatch, mode, REFUSALS[word]) as weather:
        weather.is_bad = True
        async with app:
            handles = [await tasks[mode].adelay(number, 1) for number in range(MANY)]
            pushed = await tasks[mode].push(5, 5)
            await eventually(lambda: weather.refusals >= 4)
            assert await soon(await tasks[RunMode.MAIN].push(1, 2)) == 3  # nobody else feels it
            counts = await app.astats()
            assert (counts["failed"], counts["dead"]) == (0, 0)
            lines = [record.getMessage() for record in caplog.records]
            assert len([line for line in lines if "cannot begin, and wait" in line]) == 1, lines
            weather.is_bad = False
            assert await soon(pushed) == 10
            for number, handle in enumerate(handles):
                assert await handle.aresult(timeout=20) == number + 1
            assert max([handle.attempt for handle in handles]) == 1
            assert "Jobs that could not begin do so again after" in caplog.text


@pytest.mark.promise("f5")
async def test_the_line_names_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, tasks = build(tmp_path)
    with refused(monkeypatch, RunMode.PROCESS, REFUSALS["EMFILE"]) as weather:
        weather.is_bad = True
        async with app:
            handle = await tasks[RunMode.PROCESS].adelay(1, 1)
            await eventually(lambda: weather.refusals)
            await eventually(lambda: "RLIMIT_NOFILE" in str(handle.error))
            weather.is_bad = False
            assert await handle.aresult(timeout=20) == 2
    assert "Jobs that run in a process cannot begin, and wait: The system started no child process" in caplog.text


@pytest.mark.promise("f5")
async def test_what_middleware_makes_of_a_refusal_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception handler of the user's would end the job with a value, although nothing ran."""

    app, tasks = build(tmp_path, exception_handlers={Exception: lambda *_: "handled"})
    with refused(monkeypatch, RunMode.THREAD, REFUSALS["RuntimeError"]) as weather:
        weather.is_bad = True
        async with app:
            job = await tasks[RunMode.THREAD].push(1, 1)
            await eventually(lambda: weather.refusals >= 2)
            weather.is_bad = False
            assert await soon(job) == 2


@pytest.mark.promise("f5")
async def test_a_schedule_and_a_cancel_during_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app, tasks = build(tmp_path)
    with refused(monkeypatch, RunMode.THREAD, REFUSALS["RuntimeError"]) as weather:
        weather.is_bad = True
        async with app:
            job = await tasks[RunMode.THREAD].schedule(1, 1).cron(Cron("* * * * * * *", max_runs=1), job_id="c")
            other = await tasks[RunMode.THREAD].push(1, 1)
            await eventually(lambda: weather.refusals >= 3)
            await soon(other.cancel())
            weather.is_bad = False
            await soon(job.wait())
            assert job.cron_context is not None
            assert (job.cron_context.run_count, job.cron_context.failure_count) == (1, 0)
            assert other.status == "cancelled"


@pytest.mark.promise("f5")
async def test_jobs_in_memory_wait_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Jobify(storage=False)

    @app.task(run_mode=RunMode.THREAD)
    def double(value: int) -> int:
        return 2 * value

    with refused(monkeypatch, RunMode.THREAD, REFUSALS["RuntimeError"]) as weather:
        weather.is_bad = True
        async with app:
            jobs = [await double.push(number) for number in range(20)]
            await eventually(lambda: weather.refusals >= 3)
            weather.is_bad = False
            assert [await soon(job) for job in jobs] == [2 * number for number in range(20)]


@pytest.mark.promise("f45")
async def test_a_child_that_is_killed_while_it_starts_fails_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, killed = childprocess._launch, []

    def kill_at_once(*descriptors: int) -> Any:
        process = launch(*descriptors)
        if len(killed) < 4:
            process.kill()
            killed.append(process.pid)
        return process

    app, tasks = build(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(childprocess, "_launch", kill_at_once)
        async with app:
            handles = [await tasks[RunMode.PROCESS].adelay(number, 1) for number in range(10)]
            assert [await handle.aresult(timeout=40) for handle in handles] == list(range(1, 11))
            assert len(killed) == 4
            assert max([handle.attempt for handle in handles]) == 1


@pytest.mark.promise("f45")
async def test_where_no_child_can_ever_start_jobs_fail_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of deaths without a single start is no weather any more."""
    monkeypatch.setattr(pool, "FATAL_TIME", 0.1)
    monkeypatch.setattr(childprocess, "_BOOT", "raise SystemExit(9)")

    app, tasks = build(tmp_path)
    async with app:
        handle = await tasks[RunMode.PROCESS].adelay(1, 1)
        await eventually(lambda: handle.status == "failed", within=60)
        assert str(handle.error).startswith("ProcessStartError: A child process ended before it was ready")


@pytest.mark.promise("f45")
async def test_other_processes_take_what_cannot_begin_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended lane claims nothing: the storage has the jobs for everybody."""

    app, tasks = build(tmp_path)
    with refused(monkeypatch, RunMode.THREAD, REFUSALS["RuntimeError"]) as weather:
        weather.is_bad = True
        async with app:
            handles = [await tasks[RunMode.THREAD].adelay(number, 1) for number in range(MANY)]
            await eventually(lambda: weather.refusals >= 2)
            await eventually(lambda: app.stats()["running"] == 0)
            assert app.stats()["pending"] == MANY
            weather.is_bad = False
            for handle in handles:
                await handle.aresult(timeout=20)
