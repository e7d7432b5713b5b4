"""Child processes and their parents, killed at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jobify.exceptions import ProcessDiedError
from jobify.runners.base import FunctionCall
from jobify.runners.function_address import Address
from jobify.runners.process import ProcessRunner
from probes import children_of
from support import eventually, finished

HEADER = """
    import asyncio, os, subprocess, sys, time
    from jobify.runners.base import FunctionCall
    from jobify.runners.child import send
    from jobify.runners.process import ProcessRunner

    def pid():
        return os.getpid()

    def nap():
        send(os.getpid())
        time.sleep(1000)

    def hold_the_interpreter():
        send(os.getpid())
        sum(range(10**15))

    def start_subprocess():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        send(os.getpid())
        send(process.pid)
        hold_the_interpreter()

    def shout(message):
        print(message, flush=True)

    async def hang(*functions):
        runner = ProcessRunner(slots=len(functions))
        await runner.start()
        await asyncio.gather(*(runner.run(FunctionCall(function, on_message=shout)) for function in functions))
"""


def write(path: Path, code: str) -> Path:
    path.write_text(textwrap.dedent(HEADER) + textwrap.dedent(code))
    return path


class Orphans:
    """Runs a script until it has named ``count`` processes, kills it, and sees those end."""

    def __init__(self, script: Path, count: int) -> None:
        self.parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        assert self.parent.stdout is not None
        self.pids = [int(self.parent.stdout.readline()) for _ in range(count)]
        self.handles = [os.pidfd_open(pid) for pid in self.pids]

    def end_with_their_parent(self) -> None:
        for handle in self.handles:
            assert not select.select([handle], [], [], 0)[0]
        self.parent.kill()
        self.parent.communicate()
        for handle in self.handles:
            assert select.select([handle], [], [], 60)[0], "an orphan lives on"
            os.close(handle)


@pytest.mark.parametrize("function", ["nap", "hold_the_interpreter"])
def test_a_busy_child_dies_with_its_parent(function: str, tmp_path: Path) -> None:
    code = f"""
        if __name__ == "__main__":
            asyncio.run(hang({function}, {function}))
    """
    Orphans(write(tmp_path / "script.py", code), 2).end_with_their_parent()


def test_an_idle_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = """
        async def main():
            runner = ProcessRunner(slots=1)
            await runner.start()
            print(await runner.run(FunctionCall(pid)), flush=True)
            await asyncio.Event().wait()

        if __name__ == "__main__":
            asyncio.run(main())
    """
    Orphans(write(tmp_path / "script.py", code), 1).end_with_their_parent()


def test_the_subprocesses_of_a_task_die_with_its_parent(tmp_path: Path) -> None:
    code = """
        if __name__ == "__main__":
            asyncio.run(hang(start_subprocess))
    """
    Orphans(write(tmp_path / "script.py", code), 2).end_with_their_parent()


def test_a_fork_that_holds_the_connections_open_keeps_no_orphan_alive(tmp_path: Path) -> None:
    code = """
        def shout(child):
            fork = os.fork()
            if fork == 0:
                os.close(1)
                time.sleep(1000)
            print(child, fork, sep="\\n", flush=True)

        if __name__ == "__main__":
            asyncio.run(hang(nap))
    """
    orphans = Orphans(write(tmp_path / "script.py", code), 2)
    fork = orphans.pids.pop()
    os.close(orphans.handles.pop())
    try:
        orphans.end_with_their_parent()
    finally:
        os.kill(fork, signal.SIGKILL)


def test_functions_of_the_main_script_are_found(tmp_path: Path) -> None:
    code = """
        class Special(Exception):
            pass

        def fail(error):
            raise Special(str(error), __name__)

        async def main():
            runner = ProcessRunner(slots=1)
            await runner.start()
            try:
                await runner.run(FunctionCall(fail, (Special("in"),)))
            except Special as error:
                print("caught", *error.args)
            await runner.stop()

        if __name__ == "__main__":
            asyncio.run(main())
    """
    write(tmp_path / "script.py", code)
    for arguments in (["script.py"], ["-m", "script"]):
        done = finished(*arguments, cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("caught in __mp_main__\n", "")


def test_where_there_is_no_script_other_modules_are_found(tmp_path: Path) -> None:
    write(tmp_path / "script.py", "")
    code = """
import asyncio, script

async def main():
    runner = script.ProcessRunner(slots=1)
    await runner.start()
    print(await runner.run(script.FunctionCall(script.pid)) > 0)
    await runner.stop()

asyncio.run(main())
"""
    done = finished("-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_script_that_starts_itself_over_again_is_told_what_to_do(tmp_path: Path) -> None:
    code = """
        async def main():
            runner = ProcessRunner(slots=1)
            await runner.start()
            try:
                await runner.run(FunctionCall(pid))
            except Exception as error:
                print(type(error).__name__, error)
            await runner.stop()

        asyncio.run(main())
    """
    done = finished(write(tmp_path / "script.py", code), cwd=tmp_path)
    assert done.stdout.startswith("ProcessStartError A child process could not import the main script:")
    assert 'under `if __name__ == "__main__":`' in done.stdout
    assert done.stderr == ""


def test_a_script_that_fails_in_the_child_fails_each_call(tmp_path: Path) -> None:
    code = """
        if __name__ != "__main__":
            raise ImportError("not here")

        async def main():
            runner = ProcessRunner(slots=1)
            await runner.start()
            for _ in range(2):
                try:
                    await runner.run(FunctionCall(pid))
                except Exception as error:
                    print(type(error).__name__, error)
                    print(error.__cause__.text)
            await runner.stop()

        asyncio.run(main())
    """
    done = finished(write(tmp_path / "script.py", code), cwd=tmp_path)
    assert done.stdout.count("ProcessStartError") == 2
    assert done.stdout.count("ImportError: not here\n") == 4
    assert done.stdout.count("script.py") == 2


def test_what_a_task_prints_is_seen_when_it_ends(tmp_path: Path) -> None:
    code = """
        def speak(word):
            print(word)

        async def main():
            runner = ProcessRunner(slots=1)
            await runner.start()
            await runner.run(FunctionCall(speak, ("spoken",)))
            os._exit(0)

        if __name__ == "__main__":
            asyncio.run(main())
    """
    done = finished(write(tmp_path / "script.py", code), cwd=tmp_path)
    assert done.stdout == "spoken\n"


async def test_children_killed_at_random_cost_only_their_own_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crash_tasks.py").write_text("def double(value):\n    return sum([value] * 2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    chance = random.Random(20)
    double = Address("crash_tasks", "double")
    ended = 0

    async def one(runner: ProcessRunner, number: int) -> bool:
        nonlocal ended
        call = FunctionCall(len, (number,), address=double)
        try:
            assert await runner.run(call) == 2 * number
        except ProcessDiedError as error:
            return error.exit_code != -signal.SIGKILL
        finally:
            await call.ended()
            assert not call.is_running
            ended += 1
        return True

    async def kill_at_random(runner: ProcessRunner, calls: asyncio.Future[list[bool]]) -> None:
        while not calls.done():
            enough = ended + chance.randrange(5)  # a kill ends one call: others are answered, however slow children are
            await eventually(lambda enough=enough: ended >= enough or calls.done())  # type: ignore[misc]
            for _ in range(chance.randrange(200)):
                await asyncio.sleep(0)
            children = sorted(children_of(runner), key=lambda child: child.name)
            if children:
                chance.choice(children).kill()

    runner = ProcessRunner(slots=3)
    await runner.start()
    await one(runner, 0)
    calls = asyncio.ensure_future(asyncio.gather(*(one(runner, number) for number in range(300))))
    killer = asyncio.create_task(kill_at_random(runner, calls))
    results = await calls
    await killer
    assert len(results) == 300
    assert any(results)
    while not await one(runner, 1):  # the last shot may have hit an idle child
        pass
    await runner.stop()
