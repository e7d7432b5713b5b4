"""Children that have done enough are replaced, and no call is lost over it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import runner_tasks as tasks

from jobify import Jobify, RunMode
from jobify.exceptions import ConfigurationError
from jobify.runners import child
from jobify.runners.base import FunctionCall
from jobify.runners.childprocess import Renewal
from jobify.runners.function_address import process_address
from jobify.runners.process import ProcessRunner
from probes import pool_of
from support import durable, eventually, run

pytestmark = pytest.mark.promise("f27")

MEBIBYTE = 1024 * 1024


async def pids(renewal: Renewal, count: int, func: Any = tasks.pid, slots: int = 1) -> list[int]:
    """Which children serve so many calls, one after the other."""
    runner = ProcessRunner(slots=slots, renewal=renewal)
    await runner.start()
    try:
        return [await runner.run(FunctionCall(func)) for _ in range(count)]
    finally:
        await runner.stop()


def test_a_child_is_replaced_after_so_many_calls() -> None:
    found = run(pids(Renewal(max_calls=3), 9))
    assert [found.count(pid) for pid in dict.fromkeys(found)] == [3, 3, 3]


def test_a_child_that_has_become_too_large_is_replaced() -> None:
    size = 120 * MEBIBYTE
    assert len(set(run(pids(Renewal(max_memory=size), 3)))) == 1
    found = run(pids(Renewal(max_memory=size), 6, tasks.grow))
    assert len(set(found)) == 6


async def test_calls_that_wait_get_the_next_child() -> None:
    runner = ProcessRunner(slots=2, renewal=Renewal(max_calls=1))
    await runner.start()
    calls = [runner.run(FunctionCall(tasks.add, (number,))) for number in range(12)]
    assert await asyncio.gather(*calls) == list(range(1, 13))
    with pytest.raises(ValueError):
        await runner.run(FunctionCall(tasks.raise_, (ValueError("counts as well"),)))
    pool = pool_of(runner)
    await eventually(lambda: not pool._living())
    await runner.stop()


async def test_a_stop_waits_for_children_that_are_leaving() -> None:
    runner = ProcessRunner(slots=1, renewal=Renewal(max_calls=1))
    await runner.start()
    pid = await runner.run(FunctionCall(tasks.pid))
    await runner.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_looking_for_the_tasks_is_no_task() -> None:
    runner = ProcessRunner(slots=1, renewal=Renewal(max_calls=2))
    await runner.start()
    await runner.run(FunctionCall(child.check, ((process_address(tasks.pid),),)))
    assert len({await runner.run(FunctionCall(tasks.pid)) for _ in range(2)}) == 1
    await runner.stop()


async def test_an_app_renews_its_children(tmp_path: Path) -> None:
    app = Jobify(storage=durable(tmp_path), max_tasks_per_child=1, max_memory_per_child=4096 * MEBIBYTE)
    task = app.task(tasks.pid, name="pid", run_mode=RunMode.PROCESS)
    async with app:
        jobs = [await task.push() for _ in range(4)]
        assert len({await job for job in jobs}) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"max_tasks_per_child": 0},
        {"max_tasks_per_child": True},
        {"max_tasks_per_child": 1.5},
        {"max_memory_per_child": 512},
        {"max_memory_per_child": "512M"},
    ],
)
def test_limits_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name} is .* whole number of"):
        Jobify(storage=False, **options)


def test_an_executor_of_the_users_own_renews_itself() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match="decides itself"):
        Jobify(storage=False, processpool_executor=pool, max_tasks_per_child=5)


def test_memory_is_told_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", refuse)
    assert child.resident_memory() > MEBIBYTE
