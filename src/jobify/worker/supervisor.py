"""Several worker processes, kept alive by one that does nothing else.

It imports no app and runs no event loop: whatever a task does to a process must not happen to this one. Each worker is
a program (``worker``) in a session of its own, with a line to here (``control_socket``) that tells it
what to do and that it is not alone. If this process dies, however it dies, the workers stop.

The first worker is started alone. If it ends before it is at work, all would: its error is there once, and the
supervisor ends with the same exit code. Later, a worker that died is started again: at once, and after longer pauses if
it dies again and again. It must find the database that the first one has used: a file that was deleted is not made
again, because an operator may be about to restore it. Until it is there, starts are tried with pauses of at most five
seconds.
"""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from jobify.model.transient import refusal_of
from jobify.runtime.cgroups import OutOfMemory
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.runtime.signals import StopSignals, stop_signals
from jobify.worker.control_socket import DRAIN, NONBLOCKING, READY, STOP, TRIAL_BEGINS
from jobify.worker.exit_codes import ExitCode, describe_exit

__all__ = ("Supervisor", "WorkerSlot")

log = get_logger("jobify.supervisor")
_failures = FailureLog(log, "Workers can be started again")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_REFUSED_PAUSE: Final = 1.0
"""Seconds until a worker is started again that the system has refused."""
_LONGEST_WITHOUT_DATABASE: Final = 5.0
_STEADY: Final = 60.0
"""Seconds at work after which a death is the first one again."""
_KILL_AFTER: Final = 20.0
"""Seconds beyond the grace period after which a worker that is still there is killed."""
_UNKNOWN_GRACE: Final = 30.0
"""Seconds, of a worker that has not said how long it may take: it has not begun to work."""

_MESSAGES: Final = re.compile(rb"[A-Z]|r[^A-Z]+")
"""What a worker says, one after the other."""


class WorkerSlot:
    """One slot for a worker: the process in it, and when the next one may start."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.socket: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_at: float | None = None
        self.grace = 0.0
        """Seconds that the worker here gives its jobs, as it has said."""
        self.start_at = 0.0
        self._deaths = 0
        self._received = b""
        self._is_on_trial = False

    def start(self, *options: str) -> None:
        """Start a worker here, with its end of a line of its own."""
        self.socket, remote = socket.socketpair()
        self.socket.setblocking(False)
        self.ready_at = None
        self._received, self._is_on_trial = b"", False
        try:
            with remote:
                self.process = subprocess.Popen(
                    [*self._command, *options, "--control-fd", str(remote.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(remote.fileno(),),
                    start_new_session=True,  # so that a Ctrl-C is the supervisor's alone
                )
        except BaseException:
            self.socket.close()
            self.socket = None
            raise

    def restart(self, now: float, *options: str) -> None:
        """:meth:`start`; where the system refuses a process, again a second later."""
        try:
            self.start(*options)
        except (OSError, RuntimeError, MemoryError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            self.start_at = now + _REFUSED_PAUSE
            _failures.failed(self, "A worker cannot be started, and is tried again: %s", refusal)
        else:
            _failures.succeeded(self)

    def send(self, message: bytes) -> None:
        """Tell the worker; one that is gone hears nothing."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.send(message)

    def receive(self, now: float) -> None:
        """Take note of what the worker has said."""
        if self.socket is None:
            return
        with suppress(OSError):
            while some := self.socket.recv(4096, NONBLOCKING):
                self._received += some
        messages, self._received = _MESSAGES.findall(self._received), b""
        for message in messages:
            if message.startswith(READY):
                self.ready_at, self.grace = now, float(message.removeprefix(READY))
            else:
                self._is_on_trial = message == TRIAL_BEGINS

    def has_ended(self) -> bool:
        """Whether a worker was here and is gone."""
        return self.process is not None and self.process.poll() is not None

    def on_exit(self, now: float) -> float:
        """After a death: make room; the seconds until the next start. A death during a trial was to be expected."""
        assert self.socket is not None
        self.receive(now)
        assert self.process is not None
        longest = _LONGEST_WITHOUT_DATABASE if self.process.returncode == ExitCode.REPLACED else _LONGEST_PAUSE
        is_expected = self._is_on_trial and self.process.returncode != ExitCode.REPLACED
        self.socket.close()
        self.socket = self.process = None
        if is_expected:
            self.start_at = now
            return 0.0
        is_steady = self.ready_at is not None and now - self.ready_at >= _STEADY
        self._deaths = 1 if is_steady else self._deaths + 1
        pause = min(_FIRST_PAUSE * 2 ** (self._deaths - 2), longest) if self._deaths > 1 else 0.0
        self.start_at = now + pause
        return pause

    def kill(self) -> None:
        """End the worker; its children end with it."""
        if self.process is not None:
            self.process.kill()


class Supervisor:
    """Keeps ``count`` processes of ``command`` at work. When told to stop, it gives them ``grace`` seconds to drain;
    None: as many as they say themselves."""

    def __init__(self, command: Sequence[str], count: int, *, grace: float | None) -> None:
        self._slots = [WorkerSlot(command) for _ in range(count)]
        self._grace = grace
        self._wake, self._woken = socket.socketpair()
        self._has_worked = False
        self._stop_requested = False
        self._restart_options: tuple[str, ...] = ("--existing", "--brief")  # the first one has opened the database
        self._stop_signals = StopSignals()
        self._stop_requested_at = 0.0
        self._code: int = ExitCode.DONE
        self._kill_at = float("inf")
        self._memory = OutOfMemory()

    def run(self) -> int:
        """Work until told to stop and all workers are gone; the exit code. To be called once."""
        with self._wake, self._woken, self._handling_signals():
            self._slots[0].start()
            while any(slot.process for slot in self._slots) or not self._stop_requested:
                self._sleep()
                self._step(time.monotonic())
        return self._code

    def _step(self, now: float) -> None:
        """Do what is to be done now."""
        for slot in self._slots:
            slot.receive(now)
            if self._stop_requested and self._code == ExitCode.DONE and self._kill_at != float("inf"):
                self._kill_at = (
                    self._stop_requested_at + self._stop_timeout()
                )  # one may have said only now how long it takes
            self._has_worked = self._has_worked or slot.ready_at is not None
            if slot.has_ended():
                self._on_worker_exit(slot, now)
            if self._has_worked and not self._stop_requested and slot.process is None and now >= slot.start_at:
                slot.restart(now, *self._restart_options)
        if now >= self._kill_at:
            log.error("Workers that were told to stop are still there; they are killed.")
            self._for_each_worker(WorkerSlot.kill)
            self._kill_at = float("inf")

    def _on_worker_exit(self, slot: WorkerSlot, now: float) -> None:
        """A worker has ended: say so, and when another one starts."""
        assert slot.process is not None
        pid, end = (
            slot.process.pid,
            describe_exit(slot.process.returncode, is_out_of_memory=self._memory.has_killed()),
        )
        code = slot.process.returncode
        pause = slot.on_exit(now)
        if self._stop_requested:
            return
        if not self._has_worked:
            log.error("No worker can start: the first one ended with %s before it was at work.", end)
            self._stop_requested, self._code = True, code if code > 0 else ExitCode.FAILED
            return
        log.warning("Worker %d ended with %s; another one starts %s.", pid, end, _when(pause))

    # -- what it is told -----------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return
        now = time.monotonic()
        is_second = self._stop_signals.is_repeated(now)
        if not self._stop_requested:
            log.info("Told to stop; the workers drain.")
            self._stop_requested, self._stop_requested_at = True, now
            self._kill_at = now + self._stop_timeout()
            self._for_each_worker(lambda slot: slot.send(DRAIN))
        elif is_second:
            self._code = 128 + number
            self._kill_at = now + _KILL_AFTER
            self._for_each_worker(lambda slot: slot.send(STOP))

    def _stop_timeout(self) -> float:
        """Seconds that the workers have to end."""
        grace = self._grace
        if grace is None:
            known = [slot.grace if slot.ready_at is not None else _UNKNOWN_GRACE for slot in self._slots]
            grace = max(known)
        return grace + _KILL_AFTER

    def _for_each_worker(self, act: Callable[[WorkerSlot], object]) -> None:
        for slot in self._slots:
            if slot.process is not None:
                act(slot)

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Signals as bytes that end a sleep; handlers that do nothing, so that no system call is cut short by one."""
        self._wake.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in (*stop_signals(), signal.SIGCHLD)}
        descriptor = signal.set_wakeup_fd(self._wake.fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _next_event(self) -> float:
        """The time, by the monotonic clock, until which there is nothing to do unless something comes."""
        waiting = [slot.start_at for slot in self._slots if slot.process is None and self._has_worked]
        return self._kill_at if self._stop_requested else min(waiting, default=float("inf"))

    def _sleep(self) -> None:
        """Until a signal comes, a worker says something, or the next one is to be started or killed."""
        until = self._next_event()
        timeout = None if until == float("inf") else max(0.0, until - time.monotonic())
        sockets = [slot.socket for slot in self._slots if slot.socket is not None and slot.ready_at is None]
        readable, _, _ = select.select([self._woken, *sockets], [], [], timeout)
        if self._woken in readable:
            for number in self._woken.recv(4096):
                self._on_signal(number)


def _when(pause: float) -> str:
    return f"in {pause:g} seconds" if pause else "at once"
