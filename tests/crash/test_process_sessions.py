"""Processes that a job starts in sessions of their own end with it; those of jobs that are over stay."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from jobify.exceptions import ProcessDiedError
from jobify.runners.base import FunctionCall
from jobify.runners.function_address import Address
from jobify.runners.process import ProcessRunner
from support import gone, is_alive

pytestmark = pytest.mark.promise("f55")

TASKS = """
import multiprocessing, os, signal, subprocess, sys, time
from jobify.runners.child import send

SLEEP = "import time; time.sleep(1000)"
START_ANOTHER = '''
import subprocess, sys
command = [sys.executable, "-S", "-c", sys.argv[1]]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen(command, start_new_session=True, **quiet).pid, flush=True)
'''

def in_session(**options):
    return subprocess.Popen([sys.executable, "-S", "-c", SLEEP], start_new_session=True, **options).pid

def without_environment():
    return in_session(env={})

def orphan():
    '''A daemon: what has started it is gone.'''
    command = [sys.executable, "-S", "-c", START_ANOTHER, SLEEP]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True).stdout)

def fork_twice():
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.setsid()
        fork = os.fork()
        if fork == 0:
            while True:
                signal.pause()
        os.write(theirs, str(fork).encode())
        os._exit(0)
    os.wait()
    return int(os.read(ours, 20))

def spawned():
    '''A process of multiprocessing, which Python starts without an audit event.'''
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_session, args=(theirs,))
    process.start()
    process.join()
    return ours.recv()

def tell_session(connection):
    connection.send(in_session())

def leave_behind(name):
    return globals()[name]()

def hang(name):
    send((globals()[name](), os.getpid()))
    time.sleep(1000)

def end(name, number):
    send((globals()[name](), os.getpid()))
    if number:
        os.kill(os.getpid(), number)
    os._exit(0)

def parent():
    return os.getppid()

def add(number):
    return number + 1
"""
STARTERS = ["in_session", "without_environment", "orphan", "fork_twice", "spawned"]


@pytest.fixture(autouse=True)
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "session_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)


def task(name: str, *args: Any, on_message: Any = None) -> FunctionCall:
    return FunctionCall(len, args, address=Address("session_tasks", name), on_message=on_message)


async def begun(runner: ProcessRunner, name: str, *args: Any) -> tuple[FunctionCall, asyncio.Task[Any], int, int]:
    """A call that has started a process: it, the task that awaits it, the process, the child."""
    told: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    call = task(name, *args, on_message=told.put_nowait)
    running = asyncio.create_task(runner.run(call))
    started, child = await asyncio.wait_for(told.get(), 60)
    assert name == "end" or is_alive(started)  # a child that ends at once may have taken it along by now
    return call, running, started, child


@pytest.mark.parametrize("starter", STARTERS)
async def test_an_interrupted_job_takes_its_sessions_along(starter: str) -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    call, running, started, _ = await begun(runner, "hang", starter)
    running.cancel()
    await asyncio.wait([running])
    await call.ended()
    assert not is_alive(started)  # when the slot is free, all of the job is gone
    assert await runner.run(task("add", 1)) == 2
    await runner.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 0])
@pytest.mark.parametrize("starter", STARTERS)
async def test_a_child_that_dies_takes_the_sessions_of_its_job_along(starter: str, number: int) -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    call, running, started, _ = await begun(runner, "end", starter, number)
    with pytest.raises(ProcessDiedError) as caught:
        await running
    assert caught.value.exit_code == -number
    await call.ended()
    assert not is_alive(started)
    await runner.stop()


async def test_a_child_is_a_child_of_the_app() -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    assert await runner.run(task("parent")) == os.getpid()
    await runner.stop()


@pytest.mark.parametrize("starter", STARTERS)
async def test_what_a_job_leaves_running_on_purpose_is_spared(starter: str) -> None:
    runner = ProcessRunner(slots=1)
    await runner.start()
    left = await runner.run(task("leave_behind", starter))
    try:
        await asyncio.sleep(0.05)  # processes know when they began to a hundredth of a second
        _, running, started, _ = await begun(runner, "hang", starter)
        running.cancel()
        await asyncio.wait([running])
        await gone(started)
        assert is_alive(left)
        await runner.stop()
        assert is_alive(left)
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize("starter", STARTERS)
def test_the_sessions_of_a_job_end_with_a_worker_that_is_killed(starter: str, is_stopped: bool, tmp_path: Path) -> None:
    code = f"""
        import asyncio, session_tasks
        from jobify.runners.base import FunctionCall
        from jobify.runners.process import ProcessRunner

        def show(message):
            print(*message, flush=True)

        async def main():
            runner = ProcessRunner(slots=1)
            await runner.start()
            await runner.run(FunctionCall(session_tasks.hang, ({starter!r},), on_message=show))

        if __name__ == "__main__":
            asyncio.run(main())
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(code))
    with subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        if is_stopped:
            os.kill(pids[1], signal.SIGSTOP)
        parent.kill()
        for pid in pids:
            asyncio.run(gone(pid))


async def test_orphans_of_the_apps_own_process_are_not_taken_away() -> None:
    """The library reaps its own children alone; a child of the program is left to the program."""

    runner = ProcessRunner(slots=1)
    await runner.start()
    with await asyncio.to_thread(subprocess.Popen, [sys.executable, "-S", "-c", "raise SystemExit(5)"]) as process:
        _, running, started, _ = await begun(runner, "hang", "orphan")
        running.cancel()
        await asyncio.wait([running])
        await gone(started)
        assert process.wait() == 5
    await runner.stop()
