"""Calls in a process pool of the user's own, which is used as it is."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import runner_tasks as tasks

from jobify.exceptions import ApplicationStateError, PayloadError, ProcessDiedError, TaskExitError
from jobify.runners import child
from jobify.runners.base import FunctionCall
from jobify.runners.process import ExecutorProcessRunner


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_values_and_errors_arrive_as_from_our_own_pool(executor: ProcessPoolExecutor) -> None:
    async def main() -> None:
        runner = ExecutorProcessRunner(executor)
        await runner.start()
        assert runner.slots == 1
        assert await runner.run(FunctionCall(tasks.add, (1,), {"right": 4})) == 5
        assert await runner.run(FunctionCall(tasks.pid)) != os.getpid()
        with pytest.raises(tasks.Picky, match="7: no"):
            await runner.run(FunctionCall(tasks.raise_picky))
        with pytest.raises(TaskExitError):
            await runner.run(FunctionCall(tasks.leave, (1,)))
        with pytest.raises(PayloadError):
            await runner.run(FunctionCall(tasks.give_unreadable))
        assert await runner.run(FunctionCall(tasks.tell_all, ([1, 2],))) == 0
        await runner.stop()

    asyncio.run(main())
    asyncio.run(main())
    assert executor.submit(len, "ab").result() == 2


async def test_an_interrupted_call_keeps_its_slot_until_the_function_ends(
    executor: ProcessPoolExecutor, tmp_path: Path
) -> None:
    runner = ExecutorProcessRunner(executor)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    call = FunctionCall(tasks.wait_for, (str(pipe),))
    running = asyncio.create_task(runner.run(call))
    writer = await asyncio.to_thread(open, pipe, "w")  # returns when the function reads
    running.cancel()
    await asyncio.wait([running])
    assert call.is_running
    writer.close()
    await call.ended()
    assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_an_executor_that_broke_is_named_and_stays_broken(executor: ProcessPoolExecutor) -> None:
    runner = ExecutorProcessRunner(executor)
    for _ in range(2):
        call = FunctionCall(tasks.vanish, (1,))
        with pytest.raises(ProcessDiedError, match="processpool_executor died, and with it the whole executor"):
            await runner.run(call)
        assert not call.is_running


async def test_an_executor_that_the_user_shut_down_is_named(executor: ProcessPoolExecutor) -> None:
    executor.shutdown()
    with pytest.raises(ApplicationStateError, match="after shutdown"):
        await ExecutorProcessRunner(executor).run(FunctionCall(tasks.pid))


async def test_it_does_not_start_in_a_child_that_imports_a_script(executor: ProcessPoolExecutor) -> None:
    with child.importing(), pytest.raises(ApplicationStateError, match="__main__"):
        await ExecutorProcessRunner(executor).start()
