"""The processes that the job of a child has started: known by a mark, and killed when the job is interrupted.

A job may start a subprocess in a session of its own (``start_new_session=True``, ``setsid``, a daemon). It is not in
the process group of the child, so no signal to the group reaches it, and when the child is dead it has another parent.
Each child therefore carries a mark that all its descendants inherit: a random number as its soft limit
``RLIMIT_LOCKS``. Linux has ignored that limit since version 2.4, but keeps it through fork(2), execve(2) and the death
of parents, and shows it in ``/proc/<pid>/limits``. Unlike an environment variable it stays when a program clears its
environment, and no program reads it.

A process is killed if it has the mark and is no older than the job. What an earlier job has left running on purpose is
older and is spared. The parent kills them when the child is dead. When the parent itself is killed, the kernel kills
the group of the child, and what is outside of it is left to a *sweeper*: this file, run as a program of its own, which
waits for the end of the parent. A parent starts it when a child first reports that it starts a process.
Where there is no such limit, no process has a mark, and only the process group ends.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

__all__ = (
    "MULTIPROCESSING_MODULE",
    "START_EVENTS",
    "Sweeper",
    "apply_mark",
    "boot_time_ns",
    "end_descendants",
    "new_mark",
)

START_EVENTS: Final = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
"""Audit events that come before a process starts."""
MULTIPROCESSING_MODULE: Final = "multiprocessing.popen_fork"
"""A module that is imported before the first process of :mod:`multiprocessing`, which has no event of its own."""

_RLIMIT_LOCKS: Final = 10
"""The same number on all architectures; the module ``resource`` has no name for it."""
_NAME_OF_LIMIT: Final = b"Max file locks"

_KILL_TIMEOUT: Final = 3.0
"""Seconds in which the processes of a job must be gone; the kernel keeps one that waits for a broken disk."""
_PAUSE: Final = 0.002

_ENTRY: Final = struct.Struct("<QQ")
"""An entry for the sweeper: a mark, and when its job began; 0 means that no job runs."""


def new_mark() -> int:
    """A number for one child, which no other process has."""
    return int.from_bytes(os.urandom(7), "little") | 1 << 60


def boot_time_ns() -> int:
    """Nanoseconds since the start of the system, the same in all processes. On Linux it is the clock in which the start
    of a process is measured."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic_ns()


def apply_mark(mark: int) -> None:
    """In a child: set the mark, which all its descendants inherit."""
    if sys.platform == "linux":
        import resource

        with suppress(OSError, ValueError):  # the hard limit is lower; not in every sandbox
            resource.setrlimit(_RLIMIT_LOCKS, (mark, resource.getrlimit(_RLIMIT_LOCKS)[1]))


def end_descendants(mark: int, since: int) -> None:
    """Kill all processes with this mark that have started since, and those that they start meanwhile."""
    if sys.platform != "linux":
        return
    deadline = time.monotonic() + _KILL_TIMEOUT
    untouchable = {os.getpid()}
    while time.monotonic() < deadline:
        left = [pid for pid in _marked(mark, since) if pid not in untouchable]
        if not left:
            return
        for pid in left:
            try:
                _kill(pid, mark)
            except PermissionError:  # it has become another user
                untouchable.add(pid)
        time.sleep(_PAUSE)


def _marked(mark: int, since: int) -> Iterator[int]:
    """The living processes with this mark that are no older."""
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                fields = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
                is_alive = fields[0] not in b"ZX"
                if is_alive and (int(fields[19]) + 1) * tick > since and _mark_of(name) == mark:
                    yield int(name)


def _mark_of(pid: int | str) -> int:
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith(_NAME_OF_LIMIT):
            soft = line[len(_NAME_OF_LIMIT) :].split()[0]
            return int(soft) if soft.isdigit() else 0
    return 0


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _kill(pid: int, mark: int) -> None:
    """SIGKILL to a process, unless another one has its number by now."""
    with suppress(FileNotFoundError, ProcessLookupError):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except (OSError, AttributeError):  # an old kernel, or no descriptor left
            if _mark_of(pid) == mark:
                os.kill(pid, signal.SIGKILL)
            return
        try:
            if _mark_of(pid) == mark:
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


class Sweeper:
    """In a parent: the program that ends what jobs have started when this process has been killed."""

    def __init__(self, executable: str) -> None:
        """Start it, detached from this process. OSError if the system refuses."""
        self._parent = os.getpid()
        theirs, self._pipe = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            command = [executable, "-I", "-S", os.path.abspath(__file__), str(self._parent)]
            quiet = subprocess.DEVNULL
            starter = subprocess.Popen(command, stdin=theirs, stdout=quiet, stderr=quiet, cwd="/")
        except BaseException:
            self.close()
            raise
        finally:
            os.close(theirs)
        with suppress(RuntimeError):  # no thread left: then it is reaped with the next process
            threading.Thread(target=starter.wait, name="jobify-sweeper", daemon=True).start()

    def update(self, mark: int, began: int) -> bool:
        """Report that the child with this mark runs a job, or none (0); False if the sweeper has ended."""
        if self._parent != os.getpid():
            return False
        try:
            os.write(self._pipe, _ENTRY.pack(mark, began))
        except BlockingIOError:  # it is stopped
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the pipe, so that the sweeper ends."""
        os.close(self._pipe)


def _sweep_after(parent: int) -> None:
    """The sweeper: wait for the end of the parent, then kill what its jobs have started."""
    if os.fork():
        os._exit(0)  # no child of the app, because the app may wait for any child
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    with suppress(OSError, AttributeError):
        poll.register(os.pidfd_open(parent), select.POLLIN)
    os.set_blocking(0, False)
    jobs: dict[int, int] = {}
    while _read_entries(jobs) and all(descriptor == 0 for descriptor, _ in poll.poll()):
        pass
    _read_entries(jobs)
    for mark, began in jobs.items():
        end_descendants(mark, began)


def _read_entries(jobs: dict[int, int]) -> bool:
    """Read the entries of the parent; False at the end of the pipe."""
    with suppress(BlockingIOError):
        while note := os.read(0, _ENTRY.size):
            mark, began = _ENTRY.unpack(note)
            jobs.pop(mark, None)
            if began:
                jobs[mark] = began
        return False
    return True


if __name__ == "__main__":
    _sweep_after(int(sys.argv[1]))
