"""Functions for the runners' tests, importable in a child process."""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jobify import current_job
from jobify.runners.child import send


class Wrapper:
    """Stands for a registered task: a callable that keeps the original function as ``func``."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *args: Any) -> Any:
        raise AssertionError("the wrapper was called in place of the function")


class Picky(Exception):
    """Its ``__init__`` does not take its ``args`` back, as that of many real exceptions."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Wistful(Exception):
    """Refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


class Unreadable:
    """Can be pickled, and not read back."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not here")


class Tools:
    @staticmethod
    def double(value: int) -> int:
        return 2 * value

    def method(self) -> None: ...


@Wrapper
def wrapped(value: int) -> int:
    return value + 1


rewrapped = Wrapper(wrapped)
partial = functools.partial(Tools.double, 2)
number = 7


def add(left: Any, right: Any = 1) -> Any:
    return left + right


def pid() -> int:
    return os.getpid()


def environment() -> dict[str, Any]:
    return {
        "executable": sys.executable,
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "path": sys.path,
        "stdin": sys.stdin.read(),
        "is_leader": os.getpgrp() == os.getpid(),
    }


def raise_(error: BaseException) -> None:
    raise error


def raise_picky() -> None:
    raise Picky(7, detail="no")


def raise_wistful() -> None:
    raise Wistful("for ever")


def raise_local() -> None:
    class Hidden(Exception):
        pass

    raise Hidden("inside")


def raise_chained() -> None:
    try:
        raise KeyError("deep")
    except KeyError as error:
        raise ValueError("shallow") from error


def leave(code: int) -> None:
    sys.exit(code)


def vanish(code: int) -> None:
    os._exit(code)


def shoot(number: int) -> None:
    os.kill(os.getpid(), number)


def give_local() -> Any:
    return lambda: None


def give_unreadable() -> Unreadable:
    return Unreadable()


def give_big(size: int) -> bytes:
    return bytes(size)


def tell_and_hang() -> None:
    """Say who is there, and never return."""
    send(os.getpid())
    time.sleep(1000)


def tell_all(values: list[Any]) -> int:
    return sum(send(value) for value in values)


def tell_unreadable() -> str:
    send(Unreadable())
    return "sent"


def tell_and_keep_the_interpreter() -> None:
    """Never let another thread of this process run."""
    send(os.getpid())
    sum(range(10**15))


def hang_with_subprocess() -> None:
    """Report the ids of this process and of its child, and never return."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as process:
        send((os.getpid(), process.pid))
        time.sleep(1000)


def die_with_subprocess() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    send(process.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def hang_up_and_hang() -> None:
    """End every connection, the one to the parent too, and go on."""
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") and stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
            socket.socket(fileno=os.dup(int(name))).shutdown(socket.SHUT_RDWR)
    time.sleep(1000)


def wait_for(path: str) -> str:
    """Block until the named pipe is written to, and return the data."""
    with open(path) as pipe:
        return pipe.read()


def ignore_and_wait(path: str) -> str:
    """Send this process what a service manager and a Ctrl-C would, and go on."""
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return wait_for(path)


def signals_of_subprocess() -> list[bool]:
    """Whether SIGINT and SIGTERM are as they should be in a subprocess, and in a fork, of a task."""
    code = "import signal; print(signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15) == 0)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    ours, theirs = os.pipe()
    fork = os.fork()
    if fork == 0:
        os.write(theirs, b"!")
        signal.pause()
    os.read(ours, 1)
    os.kill(fork, signal.SIGTERM)
    _, status = os.waitpid(fork, 0)
    return [done.stdout.split() == ["True", "True"], os.waitstatus_to_exitcode(status) == -signal.SIGTERM]


def descriptors() -> list[str]:
    """What the open descriptors of this process lead to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


class Unsendable:
    """Cannot be pickled; a serializer all the same."""

    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")

    def dumpb(self, data: Any) -> bytes:
        return repr(data).encode()

    def loadb(self, data: bytes) -> Any:
        return data.decode()


class Unopenable(Unsendable):
    """Can be pickled, and not restored in a child."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def describe_job() -> tuple[Any, ...]:
    job = current_job
    return job.id, job.task_name, job.queue_name, job.attempt, job.retry_count, job.metadata


def is_in_job() -> bool:
    return repr(current_job) != "<current_job (none)>"


def report_all() -> None:
    current_job.update_progress(12.5)
    current_job.publish({1, 2})
    current_job.log("half way", level="warning")


def publish(value: Any) -> None:
    current_job.publish(value)


def publish_many(count: int, size: int) -> int:
    for number in range(count):
        current_job.publish((number, "x" * size))
    return count


def check_job() -> None:
    current_job.check_cancelled()
    current_job.check_timeout()


def publish_from_thread_and_fork() -> bool:
    """What a thread with the context of the task says is heard; a fork is not the job."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(current_job.publish, "from a thread"))
    thread.start()
    thread.join()
    fork = os.fork()
    if fork == 0:
        os._exit(1 if is_in_job() else 0)
    return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 0


def leave_thread_behind(path: str) -> str:
    """Leave a thread that reports when the pipe is opened, long after the call."""
    context = contextvars.copy_context()

    def talk() -> None:
        wait_for(path)
        context.run(current_job.publish, "from the grave")

    _left.append(threading.Thread(target=talk))
    _left[0].start()
    return "left"


def join_thread_and_publish(value: Any) -> None:
    _left[0].join()
    current_job.publish(value)


_left: list[threading.Thread] = []


def publish_unpicklable() -> None:
    current_job.publish(threading.Lock())


def check_time() -> None:
    current_job.check_timeout()


def grow() -> int:
    """Take 128 MiB and keep it."""
    _kept.append(b"x" * (128 * 1024 * 1024))
    return os.getpid()


_kept: list[bytes] = []


def act(path: str, number: int, deed: str = "", argument: Any = None) -> int:
    """Write down the number, and do what is asked for. Mostly nothing, so that calls are known to be short."""
    if deed == "exit":
        os._exit(argument)
    elif deed == "signal":
        os.kill(os.getpid(), argument)
    elif deed == "hang":
        send(os.getpid())
        time.sleep(1000)
    elif deed == "wait":
        send(os.getpid())
        wait_for(argument)
    elif deed == "fork" and os.fork() == 0:
        wait_for(argument)
        os._exit(0)
    elif deed == "spawn":
        process = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True, stdout=subprocess.DEVNULL
        )
        send(process.pid)
    elif deed == "grow":
        _kept.append(b"x" * argument)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d:%d\n" % (number, os.getpid()))
    os.close(descriptor)
    return number


def level_of(name: str) -> int:
    return logging.getLogger(name).level
