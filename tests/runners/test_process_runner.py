"""Calls in child processes: each can be killed alone, and none takes another with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import runner_tasks as tasks

from jobify.exceptions import (
    ApplicationStateError,
    ConfigurationError,
    PayloadError,
    ProcessDiedError,
    ProcessStartError,
    TaskExitError,
)
from jobify.model.tracebacks import RemoteTraceback
from jobify.runners import child, childprocess, pool
from jobify.runners.base import FunctionCall
from jobify.runners.function_address import Address
from jobify.runners.process import ProcessRunner
from jobify.runners.queued_call import QueuedCall
from jobify.runtime.machine import available_cpus
from probes import children_of, pool_of
from support import eventually, gone, stopped


@asynccontextmanager
async def started(slots: int = 2) -> AsyncIterator[ProcessRunner]:
    runner = ProcessRunner(slots=slots)
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


class Heard:
    """The messages of a call, as they come."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self, message: Any) -> None:
        self._messages.put_nowait(message)

    async def next(self) -> Any:
        return await asyncio.wait_for(self._messages.get(), 60)


async def under_way(runner: ProcessRunner, func: Any, *args: Any) -> tuple[FunctionCall, asyncio.Task[Any], Any]:
    """A call that has begun: it, the task that awaits it, and the first thing that it said."""
    heard = Heard()
    call = FunctionCall(func, args, on_message=heard)
    running = asyncio.create_task(runner.run(call))
    return call, running, await heard.next()


async def test_values_and_children_are_reused() -> None:
    async with started(slots=3) as runner:
        assert await runner.run(FunctionCall(tasks.add, (1,), {"right": 2})) == 3
        pids = {await runner.run(FunctionCall(tasks.pid)) for _ in range(20)}
        assert len(pids) == 1
        assert os.getpid() not in pids
        assert await runner.run(FunctionCall(tasks.add, (1,), address=Address("runner_tasks", "wrapped"))) == 2


async def test_no_more_children_than_slots() -> None:
    async with started(slots=2) as runner:
        pids = await asyncio.gather(*(runner.run(FunctionCall(tasks.pid)) for _ in range(60)))
        assert 1 <= len(set(pids)) <= 2


async def test_calls_wait_in_order() -> None:
    """For one child: of two, each may begin its next call before the other one does."""
    async with started(slots=1) as runner:
        begun: list[FunctionCall] = []
        calls = [FunctionCall(tasks.pid) for _ in range(60)]
        for call in calls:
            call.on_begin = begun.append
        await asyncio.gather(*map(runner.run, calls))
        assert begun == calls


async def test_a_child_is_this_interpreter_and_inherits_nothing_else(tmp_path: Path) -> None:
    """T11, and no descriptor of the parent: its locks and databases are its own."""

    with open(tmp_path / "lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        async with started() as runner:
            found = await runner.run(FunctionCall(tasks.environment))
            descriptors = await runner.run(FunctionCall(tasks.descriptors))
        assert found["executable"] == sys.executable
        assert found["argv"] == sys.argv
        assert found["path"] == [entry or os.getcwd() for entry in sys.path]
        assert (found["cwd"], found["stdin"], found["is_leader"]) == (os.getcwd(), "", True)
        assert not any(str(tmp_path) in name for name in descriptors)


async def test_errors_arrive_with_the_childs_traceback() -> None:
    async with started(slots=1) as runner:
        with pytest.raises(tasks.Picky) as caught:
            await runner.run(FunctionCall(tasks.raise_picky))
        assert (caught.value.code, caught.value.detail) == (7, "no")
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "raise_picky" in caught.value.__cause__.text
        with pytest.raises(Exception, match="Hidden: inside"):
            await runner.run(FunctionCall(tasks.raise_local))
        with pytest.raises(TaskExitError, match=r"SystemExit\(3\)"):
            await runner.run(FunctionCall(tasks.leave, (3,)))
        with pytest.raises(TaskExitError, match="KeyboardInterrupt"):
            await runner.run(FunctionCall(tasks.raise_, (KeyboardInterrupt(),)))
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_what_cannot_be_sent_is_an_error_and_costs_no_child() -> None:
    async with started(slots=1) as runner:
        before = await runner.run(FunctionCall(tasks.pid))
        with pytest.raises(PayloadError, match="arguments of runner_tasks:add"):
            await runner.run(FunctionCall(tasks.add, (threading.Lock(),)))
        with pytest.raises(PayloadError, match="returned a function"):
            await runner.run(FunctionCall(tasks.give_local))
        with pytest.raises(PayloadError, match="cannot be read here"):
            await runner.run(FunctionCall(tasks.give_unreadable))
        with pytest.raises(RuntimeError, match="not here"):
            await runner.run(FunctionCall(tasks.add, (tasks.Unreadable(),)))
        assert await runner.run(FunctionCall(tasks.pid)) == before


async def test_big_arguments_and_results_pass_both_ways() -> None:
    size = 5_000_000
    async with started() as runner:
        assert await runner.run(FunctionCall(tasks.give_big, (size,))) == bytes(size)
        assert await runner.run(FunctionCall(tasks.add, (bytes(size),), {"right": b"1"})) == bytes(size) + b"1"


async def test_messages_come_while_the_task_runs(caplog: pytest.LogCaptureFixture) -> None:
    async with started() as runner:
        heard: list[Any] = []
        assert await runner.run(FunctionCall(tasks.tell_all, (["a", 2, None],), on_message=heard.append)) == 3
        assert heard == ["a", 2, None]
        assert await runner.run(FunctionCall(tasks.tell_all, (["a"],))) == 1
        assert await runner.run(FunctionCall(tasks.tell_unreadable, on_message=heard.append)) == "sent"
        assert heard == ["a", 2, None]
    assert "message from a child process was lost" in caplog.text


@pytest.mark.parametrize(
    ("func", "argument", "code", "manner"),
    [
        (tasks.vanish, 0, 0, "exit code 0"),
        (tasks.vanish, 5, 5, "exit code 5"),
        (tasks.shoot, signal.SIGKILL, -9, "SIGKILL (probably out of memory)"),
        (tasks.shoot, signal.SIGABRT, -6, "SIGABRT"),
        (tasks.shoot, signal.SIGRTMIN + 3, -(signal.SIGRTMIN + 3), f"signal {signal.SIGRTMIN + 3}"),
    ],
)
async def test_a_child_that_dies_costs_its_own_call_and_no_other(
    func: Any, argument: int, code: int, manner: str
) -> None:
    """B31, T2."""

    async with started(slots=2) as runner:
        _, neighbour, _ = await under_way(runner, tasks.tell_and_hang)
        call = FunctionCall(func, (argument,))
        with pytest.raises(ProcessDiedError) as caught:
            await runner.run(call)
        assert caught.value.exit_code == code
        assert str(caught.value) == f"The child process that ran the task died: {manner}."
        await call.ended()
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2
        assert not neighbour.done()
        neighbour.cancel()
        await asyncio.wait([neighbour])


async def test_an_interrupted_call_is_killed_alone() -> None:
    """B21, T3."""

    async with started(slots=2) as runner:
        _, neighbour, _ = await under_way(runner, tasks.tell_and_hang)
        call, running, pid = await under_way(runner, tasks.tell_and_hang)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        await call.ended()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert await runner.run(FunctionCall(tasks.pid)) != pid
        assert not neighbour.done()
        neighbour.cancel()
        await asyncio.wait([neighbour])


async def test_a_task_that_never_lets_go_of_the_interpreter_is_killed() -> None:
    async with started(slots=1) as runner:
        call, running, _ = await under_way(runner, tasks.tell_and_keep_the_interpreter)
        running.cancel()
        await asyncio.wait([running])
        await call.ended()
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_the_subprocesses_of_an_interrupted_task_go_with_it() -> None:
    async with started() as runner:
        _, running, (_, grandchild) = await under_way(runner, tasks.hang_with_subprocess)
        running.cancel()
        await gone(grandchild)


async def test_the_subprocesses_of_a_child_that_died_go_with_it() -> None:
    async with started() as runner:
        _, running, grandchild = await under_way(runner, tasks.die_with_subprocess)
        with pytest.raises(ProcessDiedError):
            await running
        await gone(grandchild)


async def test_a_child_that_hangs_up_on_us_is_no_use() -> None:
    async with started() as runner:
        with pytest.raises(ProcessDiedError, match="SIGKILL"):
            await runner.run(FunctionCall(tasks.hang_up_and_hang))
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_a_call_that_waits_for_a_child_can_be_interrupted() -> None:
    async with started(slots=1) as runner:
        _, neighbour, _ = await under_way(runner, tasks.tell_and_hang)
        calls = [FunctionCall(tasks.add, (number,)) for number in range(3)]
        waiting = [asyncio.create_task(runner.run(call)) for call in calls]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        assert not calls[0].is_running
        neighbour.cancel()
        assert await asyncio.gather(*waiting[1:]) == [2, 3]


async def test_a_start_is_not_wasted_when_its_call_is_interrupted() -> None:
    """A module that takes longer to import than the timeout of its task is imported all the same."""

    async with started(slots=1) as runner:
        running = asyncio.create_task(runner.run(FunctionCall(tasks.pid)))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        pids = [await runner.run(FunctionCall(tasks.pid)) for _ in range(2)]
        assert next(pool_of(runner)._names) == "jobify-process-2"
        assert pids[0] == pids[1]


async def test_a_child_that_has_not_begun_an_interrupted_call_is_kept() -> None:
    async with started(slots=1) as runner:
        pid = await runner.run(FunctionCall(tasks.pid))
        with stopped(pid):
            call = FunctionCall(tasks.pid)
            running = asyncio.create_task(runner.run(call))
            await asyncio.sleep(0)
            assert call.is_running
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
            assert not call.is_running
        assert await runner.run(FunctionCall(tasks.pid)) == pid


async def test_a_child_goes_to_the_next_who_still_waits() -> None:
    async with started(slots=1) as runner:
        with stopped(await runner.run(FunctionCall(tasks.pid))):
            waiting = [asyncio.create_task(runner.run(FunctionCall(tasks.add, (n,)))) for n in range(3)]
            await asyncio.sleep(0)
            waiting[1].cancel()
        assert [await waiting[0], await waiting[2]] == [1, 3]
        assert waiting[1].cancelled()


async def test_a_failed_start_that_nobody_waits_for_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(slots=1) as runner:
        with monkeypatch.context() as patched:
            patched.setattr(childprocess, "_BOOT", "raise SystemExit(9)")
            running = asyncio.create_task(runner.run(FunctionCall(tasks.pid)))
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])
            await asyncio.wait(pool_of(runner)._starts)
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_an_idle_child_that_dies_is_replaced() -> None:
    async with started(slots=1) as runner:
        pid = await runner.run(FunctionCall(tasks.pid))
        (idle,) = children_of(runner)
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(asyncio.shield(idle.dead), 60) == -9
        pool_of(runner)._release(idle)
        assert await runner.run(FunctionCall(tasks.pid)) != pid


async def test_stopping_ends_idle_children_kills_busy_ones_and_refuses_waiting_calls() -> None:
    runner = ProcessRunner(slots=2)
    await runner.start()
    _, running, pid = await under_way(runner, tasks.tell_and_hang)
    idle = await runner.run(FunctionCall(tasks.pid))
    await runner.stop()
    with pytest.raises(ProcessDiedError, match="its runner was stopped"):
        await running
    for number in (pid, idle):
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
    await runner.stop()
    with pytest.raises(ApplicationStateError, match="not started"):
        await runner.run(FunctionCall(tasks.pid))


@pytest.mark.parametrize("ticks", range(1, 7))
async def test_stopping_refuses_what_waits_and_gives_up_what_starts(ticks: int) -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    waiting = [asyncio.create_task(runner.run(FunctionCall(tasks.pid))) for _ in range(3)]
    for _ in range(ticks):
        await asyncio.sleep(0)
    pool_ = pool_of(runner)
    assert pool_ is not None
    await runner.stop()
    for task in waiting:
        with pytest.raises(ApplicationStateError, match="stopped"):
            await task
    late: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    pool_.submit(QueuedCall(FunctionCall(tasks.pid), lambda _call, _value, error: late.set_result(error)))
    assert "stopped" in str(await late)
    assert not pool_._children


async def test_a_call_that_ends_after_the_stop_gives_its_child_no_further_work(tmp_path: Path) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    runner = ProcessRunner(slots=1)
    await runner.start()
    call = FunctionCall(tasks.wait_for, (path,))
    running = asyncio.create_task(runner.run(call))
    await eventually(lambda: call.is_running)
    pool_of(runner)._is_open = False
    (worker,) = children_of(runner)
    await asyncio.to_thread(Path(path).write_text, "go on")
    assert await running == "go on"
    assert await asyncio.wait_for(asyncio.shield(worker.dead), 60) in (0, -9)
    await runner.stop()


async def test_an_impatient_stop_kills(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    await runner.run(FunctionCall(tasks.pid))
    (idle,) = children_of(runner)
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    await asyncio.wait_for(asyncio.shield(idle.dead), 60)


async def test_a_child_that_survives_its_kill_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one in uninterruptible sleep does."""

    async with started(slots=1) as runner:
        _, running, _ = await under_way(runner, tasks.tell_and_hang)
        (worker,) = children_of(runner)
        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR, logger="jobify.runners"):
            patched.setattr(pool, "EXIT_TIMEOUT", 0.01)
            patched.setattr(pool, "KILL_TIMEOUT", 0.01)
            patched.setattr(worker, "kill", lambda: None)
            await runner.stop()
        assert "still there: jobify-process-1" in caplog.text
        worker.kill()
        with pytest.raises(ProcessDiedError):
            await running


def test_it_starts_again_in_another_loop_even_without_a_stop() -> None:
    runner = ProcessRunner(slots=1)

    async def once(*, is_stopping: bool) -> None:
        await runner.start()
        await runner.start()
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2
        if is_stopping:
            await runner.stop()

    async def abandon() -> None:
        await runner.start()
        before = pool_of(runner)
        await once(is_stopping=False)
        assert pool_of(runner) is before
        assert before is not None
        await before.close()  # the loop ends, the runner does not know

    asyncio.run(once(is_stopping=True))
    asyncio.run(abandon())
    asyncio.run(once(is_stopping=True))


def test_the_default_is_a_child_per_processor() -> None:
    assert ProcessRunner().slots == available_cpus()


async def test_a_frozen_program_is_told() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(ConfigurationError, match="frozen"):
            await ProcessRunner().start()


async def test_it_does_not_start_in_a_child_that_imports_a_script() -> None:
    with child.importing(), pytest.raises(ApplicationStateError, match="__main__"):
        await ProcessRunner().start()


async def test_checking_finds_the_functions_in_a_child() -> None:
    async with started() as runner:
        found = (Address("runner_tasks", "add"), Address("runner_tasks", "wrapped"))
        await runner.run(FunctionCall(child.check, (found,)))
        with pytest.raises(ConfigurationError, match="gone"):
            await runner.run(FunctionCall(child.check, ((Address("runner_tasks", "gone"),),)))


async def test_a_system_that_starts_no_process_fails_each_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(11, "Resource temporarily unavailable")

    async with started(slots=2) as runner:
        with monkeypatch.context() as patched:
            patched.setattr(childprocess, "_launch", refuse)
            for _ in range(2):
                with pytest.raises(ProcessStartError, match="temporarily unavailable"):
                    await runner.run(FunctionCall(tasks.pid))
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_a_system_without_threads_fails_each_call_and_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[subprocess.Popen[bytes]] = []
    launch = childprocess._launch

    def record(*descriptors: int) -> subprocess.Popen[bytes]:
        launched.append(launch(*descriptors))
        return launched[-1]

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with started(slots=1) as runner:
        with monkeypatch.context() as patched:
            patched.setattr(childprocess, "_launch", record)
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ProcessStartError, match="can't start new thread"):
                await runner.run(FunctionCall(tasks.pid))
        assert launched[0].returncode == -signal.SIGKILL
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_an_interpreter_that_ends_at_once_fails_each_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No loop of starts: as many as there were calls."""

    async with started(slots=2) as runner:
        with monkeypatch.context() as patched:
            patched.setattr(childprocess, "_BOOT", "raise SystemExit(9)")
            calls = [runner.run(FunctionCall(tasks.pid)) for _ in range(5)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, ProcessStartError) for error in errors)
        assert all(error.exit_code == 9 for error in errors if isinstance(error, ProcessStartError))
        assert "before it was ready to run tasks: exit code 9. Its standard error" in str(errors[0])
        assert next(pool_of(runner)._names) == "jobify-process-6"
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_signals_to_a_child_are_the_parents_to_answer(tmp_path: Path) -> None:
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    async with started() as runner:
        running = asyncio.create_task(runner.run(FunctionCall(tasks.ignore_and_wait, (path,))))
        await asyncio.to_thread(Path(path).write_text, "go on")
        assert await running == "go on"
        assert await runner.run(FunctionCall(tasks.signals_of_subprocess)) == [True, True]


async def test_a_process_that_the_program_reaps_itself_is_not_waited_for_in_vain() -> None:
    """A SIGCHLD handler that collects every child takes the exit code with it."""

    def reap(pid: int) -> None:
        """On the event loop's thread, so that the runner hears of the death when the code is gone."""
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    async with started(slots=1) as runner:
        await runner.run(FunctionCall(tasks.pid))
        (worker,) = children_of(runner)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(worker._process, "poll", lambda: None)
            reap(worker._process.pid)
            await asyncio.wait_for(asyncio.shield(worker.dead), 60)
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_deaths_are_noticed_without_waitid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "waitid")

    async with started(slots=1) as runner:
        with pytest.raises(ProcessDiedError, match="exit code 4"):
            await runner.run(FunctionCall(tasks.vanish, (4,)))
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2


async def test_a_death_after_the_loop_is_nobodys_business() -> None:
    async with started(slots=1) as runner:
        await runner.run(FunctionCall(tasks.pid))
        (worker,) = children_of(runner)
        loop = worker._loop
        worker._loop = asyncio.new_event_loop()
        worker._loop.close()
        (watch,) = [thread for thread in threading.enumerate() if thread.name.endswith("-watch")]
        worker.kill()
        await asyncio.to_thread(watch.join, 60)
        worker._loop = loop
        worker._on_death()
        assert not watch.is_alive()


async def test_interruptions_at_any_moment_leave_every_slot_free() -> None:
    async def one(runner: ProcessRunner, number: int) -> None:
        call = FunctionCall(tasks.add, (number,))
        running = asyncio.create_task(runner.run(call))
        for _ in range(number % 9):
            await asyncio.sleep(0)
        if number % 2:
            running.cancel()
        await asyncio.wait([running])
        await call.ended()
        assert running.cancelled() or running.result() == number + 1

    async with started(slots=2) as runner:
        await asyncio.gather(*(one(runner, number) for number in range(60)))
        assert await asyncio.gather(*(runner.run(FunctionCall(tasks.add, (n,))) for n in range(4))) == [1, 2, 3, 4]


async def test_the_event_loop_keeps_no_socket_of_a_child(recwarn: pytest.WarningsRecorder) -> None:
    def sockets() -> int:
        return sum(os.readlink(f"/proc/self/fd/{name}").startswith(("socket:", "pipe:")) for name in _descriptors())

    async with started(slots=2) as runner:
        await runner.run(FunctionCall(tasks.pid))
        gc.collect()  # of what other tests have left behind
        before = sockets()
        for _ in range(5):
            with pytest.raises(ProcessDiedError):
                await runner.run(FunctionCall(tasks.vanish, (1,)))
        await runner.run(FunctionCall(tasks.pid))
        await asyncio.sleep(0)
        assert sockets() <= before  # fewer, if something of another test was closed meanwhile
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


def _descriptors() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]


async def test_a_broken_connection_while_starting_is_a_start_error() -> None:
    async with started(slots=1) as runner:
        running = asyncio.create_task(runner.run(FunctionCall(tasks.pid)))
        await asyncio.sleep(0)
        (worker,) = children_of(runner)
        worker._connection._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ProcessStartError):
            await running
        assert await runner.run(FunctionCall(tasks.add, (1,))) == 2
