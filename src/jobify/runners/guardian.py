"""The guardian of a child: a small process between parent and child, which ends what a job leaves behind.

A job may start a subprocess in a session of its own (``start_new_session=True``, ``setsid``, a daemon). It is in no
group with the child, so no signal to the child reaches it, and when the child is dead nothing tells whose it was. Linux
knows one relation that cannot be left: the descendants of a *subreaper* (prctl(2), ``PR_SET_CHILD_SUBREAPER``) stay its
descendants, whatever dies between. The app's own process must not be one, because it would get orphans that others
wait for. So each child has a guardian, which is one, and which reaps what it inherits.

::

    parent ── lifeline ──▶ guardian (subreaper) ──▶ child ──▶ subprocesses of the job, in any session
              └───────────────────────────────────▶

The guardian waits for two things: the death of the child, and a word or the end of the lifeline, which means that the
child is to be killed or that the parent is gone. In the middle of a job it then kills all processes that the job has
started, and ends as the child has ended, with the same exit code or signal. What an earlier job left running on purpose
is older than this job, and is spared. Where there is no subreaper the child has no guardian, and processes that leave
its group outlive it.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple, NoReturn

__all__ = ("mark_job", "start")

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36

_PATIENCE: Final = 3.0
"""Seconds in which the processes of a job must be gone; the kernel keeps one that waits for a broken disk."""
_PAUSE: Final = 0.002

_job: mmap.mmap | None = None
"""Shared by guardian and child: when the job began that the child runs, in nanoseconds since the system's start."""


def start(connection: int, lifeline: int, parent: int) -> tuple[int, int, int]:
    """Put a guardian above this process, which goes on as the child: its two descriptors, and its new parent."""
    global _job
    prctl = _prctl()
    if prctl is None or prctl(_PR_SET_CHILD_SUBREAPER, 1) != 0:
        return connection, lifeline, parent
    _job = mmap.mmap(-1, 8)
    guardian = os.getpid()
    try:
        child = os.fork()
    except OSError:  # no process left: then without
        prctl(_PR_SET_CHILD_SUBREAPER, 0)
        _job = None
        return connection, lifeline, parent
    if child == 0:
        prctl(_PR_SET_CHILD_SUBREAPER, 0)
        os.setsid()
        return connection, lifeline, guardian
    os.close(connection)
    prctl(_PR_SET_NAME, b"jobify-guardian")
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    return _Guardian(child, lifeline, parent, _job).run()


def mark_job(is_running: bool) -> None:
    """In a child: a job begins here, or has ended."""
    if _job is not None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME) if is_running else 0
        _job[:] = now.to_bytes(8, "little")


class _Guardian:
    """Watches over one child."""

    def __init__(self, child: int, lifeline: int, parent: int, job: mmap.mmap) -> None:
        self._child = child
        self._lifeline = lifeline
        self._parent = parent
        self._job = job

    def run(self) -> NoReturn:
        """Wait for the end, tidy up, end."""
        poll, wakeups = self._poll()
        is_called_off = os.getppid() != self._parent
        while not self._is_child_dead():
            if is_called_off:
                self._kill_child()
            ready = [descriptor for descriptor, _ in poll.poll()]
            with suppress(BlockingIOError):
                os.read(wakeups, 4096)
            if self._lifeline in ready:
                poll.unregister(self._lifeline)
            is_called_off = is_called_off or self._lifeline in ready or os.getppid() != self._parent
        began_at = int.from_bytes(self._job[:], "little")
        status = self._end_of_child(is_crash=is_called_off or began_at > 0)
        if began_at:
            self._sweep(began_at)
        _end_as(status)

    def _poll(self) -> tuple[Any, int]:
        """What ends a wait: a signal, or the lifeline; and the descriptor by which signals do so."""
        readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        poll = select.poll()
        poll.register(readable, select.POLLIN)
        poll.register(self._lifeline, select.POLLIN)
        return poll, readable

    def _is_child_dead(self) -> bool:
        """Whether the child waits to be reaped; reaps the orphans that have ended."""
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == self._child:
                return ended is not None
            os.waitpid(ended.si_pid, 0)

    def _end_of_child(self, *, is_crash: bool) -> int:
        """Its wait status. What is left in its group goes with it, unless it has ended by itself and in peace."""
        ended = os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOWAIT)
        if is_crash or ended is None or ended.si_status != 0:
            self._kill_child()  # before it is reaped, so that no stranger has its number
        return os.waitpid(self._child, 0)[1]

    def _kill_child(self) -> None:
        """The child, and what is in its group."""
        os.kill(self._child, signal.SIGKILL)  # also before it leads a group
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, signal.SIGKILL)

    def _sweep(self, began_at: int) -> None:
        """Kill all descendants that are no older than the job, and those that they start meanwhile."""
        deadline = time.monotonic() + _PATIENCE
        untouchable: set[int] = set()
        while time.monotonic() < deadline:
            left = [pid for pid in _descendants(os.getpid(), began_at) if pid not in untouchable]
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except PermissionError:  # it has become another user
                    untouchable.add(pid)
                except ProcessLookupError:
                    continue
            time.sleep(_PAUSE)
            _reap_all()


class _Process(NamedTuple):
    pid: int
    state: str
    parent: int
    started_at: int


def _descendants(ancestor: int, began_at: int) -> Iterator[int]:
    """The living descendants of a process that have started since; below an older one none is looked for."""
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    children: dict[int, list[_Process]] = {}
    for process in _processes():
        children.setdefault(process.parent, []).append(process)
    left = [ancestor]
    while left:
        for process in children.get(left.pop(), ()):
            if process.state not in "ZX" and (process.started_at + 1) * tick > began_at:
                left.append(process.pid)
                yield process.pid


def _processes() -> Iterator[_Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                yield _Process(int(name), fields[0].decode(), int(fields[1]), int(fields[19]))


def _reap_all() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_as(status: int) -> NoReturn:
    """End as the process of this wait status has ended."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # there is one already, if there is to be one
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _prctl() -> Any:
    """prctl(2), where there is one."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
