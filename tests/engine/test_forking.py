"""Tasks that fork: what their forks inherit, and that no fork acts for a job."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from support import Program

MODULE = """
    import os, signal, sys, time, warnings

    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads, from Python 3.12 on

    def wait(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def handled_in_fork():
        '''What a fork finds: its handlers of SIGTERM and SIGINT, and whether there is a wake-up descriptor.'''
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            found = (
                signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
                signal.getsignal(signal.SIGINT) is signal.default_int_handler,
                signal.set_wakeup_fd(-1) == -1,
                not signal.pthread_sigmask(signal.SIG_BLOCK, []),
            )
            os.write(theirs, repr(found).encode())
            os._exit(0)
        os.close(theirs)
        wait(pid)
        with open(ours) as pipe:
            return pipe.read()

    def terminated_at_once(count, number=signal.SIGTERM):
        '''How forks end that get a signal in their first moment.'''
        codes = set()
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                while True:
                    signal.pause()
            os.kill(pid, number)
            codes.add(wait(pid))
        return codes

    def in_subprocess():
        import subprocess
        process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], preexec_fn=int)
        process.terminate()
        return process.wait()

    def with_pool():
        import multiprocessing
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            total = sum(pool.map(abs, [-1, -2, -3]))
        process = context.Process(target=time.sleep, args=(1000,))
        process.start()
        process.terminate()
        process.join()
        return total, process.exitcode

    def own_handler_in_fork():
        '''Whether a fork keeps a handler that the user has set.'''
        def own(number, frame):
            os._exit(77)
        before = signal.signal(signal.SIGUSR1, own)
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        os.kill(pid, signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)
        return wait(pid)

    def leave(manner):
        '''Fork; the fork leaves in some manner, and so its exit code is what this returns.'''
        pid = os.fork()
        if pid == 0:
            if manner == "exit":
                sys.exit(3)
            if manner == "message":
                sys.exit("a message")
            if manner == "raise":
                raise ValueError("in the fork")
            if manner == "interrupt":
                raise KeyboardInterrupt
            return "the fork came back"
        return wait(pid)

    async def leave_async(manner):
        if manner != "await":
            return leave(manner)
        import asyncio
        future = asyncio.get_running_loop().create_future()
        pid = os.fork()
        if pid == 0:
            await future
        return wait(pid)

    def leave_while_it_works():
        '''The job goes on while the fork has ended.'''
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        wait(pid)
        time.sleep(0.2)
        return os.getpid()

    def stay_behind(path):
        '''Leave a fork that ends when the pipe is opened, long after the process that forked.'''
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.write(theirs, b"!")
            open(path).read()
            return "too late"
        os.read(ours, 1)
        return pid

    def pid():
        return os.getpid()

    MANNERS = {"return": 0, "exit": 3, "message": 1, "raise": 1, "interrupt": -signal.SIGINT}
"""

HEADER = """
    import asyncio, os, signal, sys
    from pathlib import Path
    import forking_tasks as tasks
    from jobify import Jobify, RunMode
    from jobify.storage import SQLiteStorage

    app = Jobify(storage=SQLiteStorage("jobs.db"))
"""


def program(folder: Path, code: str) -> Program:
    (folder / "forking_tasks.py").write_text(textwrap.dedent(MODULE))
    return Program(folder, textwrap.dedent(HEADER) + textwrap.dedent(code), is_measured=False)


@pytest.mark.slow
@pytest.mark.promise("f16")
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_forks_of_a_task_have_default_signal_handling(mode: str, tmp_path: Path) -> None:
    code = f"""
        names = ("handled_in_fork", "terminated_at_once", "in_subprocess", "with_pool", "own_handler_in_fork")
        here = {{name: app.task(getattr(tasks, name), name=name, run_mode="{mode}") for name in names}}
        if "{mode}" == "thread":
            del here["own_handler_in_fork"]  # only a main thread sets handlers

        async def main():
            async with app:
                for name, arguments in ((name, (100,) if name == "terminated_at_once" else ()) for name in here):
                    print(name, await (await here[name].push(*arguments)))

        if __name__ == "__main__":
            asyncio.run(main())
    """
    expected = [
        "handled_in_fork (True, True, True, True)",
        "terminated_at_once {-15}",
        "in_subprocess -15",
        "with_pool (6, -15)",
        *(["own_handler_in_fork 77"] if mode == "process" else []),
    ]
    assert program(tmp_path, code).finish().splitlines() == expected


@pytest.mark.slow
@pytest.mark.promise("f16")
def test_forks_under_wait_all_have_default_signal_handling(tmp_path: Path) -> None:
    code = """
        @app.task(name="look")
        def look():
            print(tasks.handled_in_fork())
            print(tasks.terminated_at_once(20))
            print(tasks.terminated_at_once(20, signal.SIGINT))

        async def main():
            async with app:
                await look.push()
                await app.wait_all()

        asyncio.run(main())
    """
    assert program(tmp_path, code).finish().splitlines() == ["(True, True, True, True)", "{-15}", "{-2}"]


@pytest.mark.slow
@pytest.mark.promise("f16")
@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_a_signal_to_a_fork_does_not_reach_the_event_loop_of_its_parent(runner: str, tmp_path: Path) -> None:
    pytest.importorskip(runner)
    code = f"""
        import {runner}

        @app.task(name="look")
        def look():
            return tasks.terminated_at_once(20)

        async def main():
            told = []
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.append, "SIGTERM")
            async with app:
                print(await (await look.push()), told)
            os.kill(os.getpid(), signal.SIGTERM)
            while not told:
                await asyncio.sleep(0)
            print(told)

        {runner}.run(main())
    """
    assert program(tmp_path, code).finish().splitlines() == ["{-15} []", "['SIGTERM']"]


@pytest.mark.slow
@pytest.mark.promise("f16")
def test_handlers_that_the_user_sets_stay_in_forks(tmp_path: Path) -> None:
    code = """
        def own(number, frame):
            os._exit(78)

        signal.signal(signal.SIGTERM, own)

        @app.task(name="look")
        def look():
            return tasks.terminated_at_once(20)

        async def main():
            async with app:
                job = await look.push()
                await app.wait_all()  # its handler is not the user's
                print(await job)

        asyncio.run(main())
        print(signal.getsignal(signal.SIGTERM) is own)
    """
    assert program(tmp_path, code).finish().splitlines() == ["{78}", "True"]


@pytest.mark.slow
@pytest.mark.promise("f17")
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_fork_that_leaves_its_task_is_not_the_job(mode: str, tmp_path: Path) -> None:
    code = f"""
        leave = app.task(tasks.leave, name="leave", run_mode="{mode}")
        works = app.task(tasks.leave_while_it_works, name="works", run_mode="{mode}")
        pid = app.task(tasks.pid, name="pid", run_mode="{mode}")

        async def main():
            async with app:
                before = await (await pid.push())
                for manner, code in tasks.MANNERS.items():
                    assert await (await leave.push(manner)) == code, manner
                assert await (await works.push()) == before
                assert await (await pid.push()) == before
                print("done")

        if __name__ == "__main__":
            asyncio.run(main())
    """
    running = program(tmp_path, code)
    out, err = running.process.communicate(timeout=60)
    assert (out, running.process.returncode) == ("done\n", 0), err
    assert "ValueError: in the fork" in err
    assert "a message" in err


@pytest.mark.slow
@pytest.mark.promise("f17")
@pytest.mark.parametrize("options", ["", "timeout=50, exception_handlers={Exception: handle}"])
def test_a_fork_of_an_async_task_ends_with_it(options: str, tmp_path: Path) -> None:
    code = f"""
        def handle(error, context):
            print("handled", error)

        leave = app.task(tasks.leave_async, name="leave", {options})

        @app.task(name="beside")
        async def beside():
            for _ in range(2000):
                await asyncio.sleep(0)
                os.write(log, b".")

        async def main():
            async with app:
                other = await beside.push()
                for manner, code in (tasks.MANNERS | {{"await": 1}}).items():
                    assert await (await leave.push(manner)) == code, manner
                await other
                print("done", len(Path("log").read_bytes()))

        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        asyncio.run(main())
    """
    running = program(tmp_path, code)
    out, err = running.process.communicate(timeout=60)
    assert (out, running.process.returncode) == ("done 2000\n", 0), err
    assert "cannot await" in err


@pytest.mark.slow
@pytest.mark.promise("f17")
def test_a_fork_that_outlives_its_child_speaks_for_nobody(tmp_path: Path) -> None:
    """Of the sockets of the child it has the one for log records only, which carries no answer to a call."""
    os.mkfifo(tmp_path / "pipe")
    code = """
        from jobify.runners import pool

        pool.EXIT_PATIENCE = 60.0  # a child that ends too slowly is killed with all that it has started
        stay = app.task(tasks.stay_behind, name="stay", run_mode=RunMode.PROCESS)
        pid = app.task(tasks.pid, name="pid", run_mode=RunMode.PROCESS)

        async def main():
            async with app:
                fork = await (await stay.push("pipe"))
                links = [os.readlink(entry) for entry in Path(f"/proc/{fork}/fd").iterdir()]
                print(sum(link.startswith("socket:") for link in links))
                child = await (await pid.push())
            async with app:
                Path("pipe").write_text("go")
                print(await (await pid.push()) != child)

        if __name__ == "__main__":
            asyncio.run(main())
    """
    assert program(tmp_path, code).finish().splitlines() == ["1", "True"]


@pytest.mark.slow
@pytest.mark.promise("f17")
def test_a_fork_in_an_executor_of_the_users_own_returns_nothing(tmp_path: Path) -> None:
    code = """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        async def main():
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                app = Jobify(storage=False, processpool_executor=pool)
                leave = app.task(tasks.leave, name="leave", run_mode=RunMode.PROCESS)
                async with app:
                    for manner, code in tasks.MANNERS.items():
                        assert await (await leave.push(manner)) == code, manner
            print("done")

        if __name__ == "__main__":
            asyncio.run(main())
    """
    assert program(tmp_path, code).finish() == "done\n"
