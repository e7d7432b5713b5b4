"""The supervisor: a process that keeps several worker processes running and does nothing else.

It imports no app and runs no event loop, so that no task can harm it. Each worker is a program in a session of its own,
with a socket to the supervisor (:mod:`.control_socket`). If the supervisor dies, however it dies, the workers stop.

The first worker is started alone. If it ends before it is ready, every worker would: its error is logged once, and the
supervisor ends with the same exit code. Later, a worker that died is restarted: at once, and after longer pauses if it
dies repeatedly. A restarted worker requires the database that the first one has used. It does not create a deleted file
again, because an operator may be about to restore it; restarts are then tried with pauses of at most five seconds.
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
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger
from jobify.runtime.machine import OutOfMemory
from jobify.runtime.signals import StopSignals, describe_exit, stop_signals
from jobify.worker.control_socket import DRAIN, NONBLOCKING, READY, STOP, TRIAL_BEGINS
from jobify.worker.exit_codes import ExitCode

__all__ = ("Supervisor", "WorkerSlot")

log = get_logger("jobify.supervisor")
_failures = FailureLog(log, "Workers can be started again")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_REFUSED_PAUSE: Final = 1.0
"""Seconds until the next try when the system has refused to start a worker."""
_LONGEST_WITHOUT_DATABASE: Final = 5.0
_STEADY: Final = 60.0
"""Seconds of work after which a death counts as the first one."""
_KILL_AFTER: Final = 20.0
"""Seconds beyond the grace period after which a worker that still runs is killed."""
_OUT_OF_MEMORY: Final = "out of memory: the kernel has killed a process of this control group"
_UNKNOWN_GRACE: Final = 30.0
"""The grace period in seconds of a worker that has not sent its own, because it is not ready yet."""

_MESSAGES: Final = re.compile(rb"[A-Z]|r[^A-Z]+")
"""Splits what a worker has sent into messages."""


class WorkerSlot:
    """One of the workers: its process, and when the next one may start after its death."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.socket: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_at: float | None = None
        self.grace = 0.0
        """The grace period of the worker in seconds, as it has sent it."""
        self.start_at = 0.0
        self._deaths = 0
        self._received = b""
        self._is_on_trial = False

    def start(self, *options: str) -> None:
        """Start a worker with a control socket."""
        self.socket, remote = socket.socketpair()
        self.socket.setblocking(False)
        self.ready_at = None
        self._received, self._is_on_trial = b"", False
        try:
            with remote:
                self.process = subprocess.Popen(
                    [*self._command, *options, f"--control-fd={remote.fileno()}"],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(remote.fileno(),),
                    start_new_session=True,  # so that Ctrl-C reaches the supervisor only
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
        """Send a message to the worker, if it still runs."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.send(message)

    def receive(self, now: float) -> None:
        """Handle the messages that the worker has sent."""
        if self.socket is None:
            return
        with suppress(OSError):
            while data := self.socket.recv(4096, NONBLOCKING):
                self._received += data
        messages, self._received = _MESSAGES.findall(self._received), b""
        for message in messages:
            if message.startswith(READY):
                self.ready_at, self.grace = now, float(message.removeprefix(READY))
            else:
                self._is_on_trial = message == TRIAL_BEGINS

    def has_ended(self) -> bool:
        """Whether the worker has ended."""
        return self.process is not None and self.process.poll() is not None

    def on_exit(self, now: float) -> float:
        """After the end of the worker: returns the seconds until the next start, 0 for an expected end in a trial."""
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
        """Kill the worker; its children end with it."""
        if self.process is not None:
            self.process.kill()


class Supervisor:
    """Keeps ``count`` processes of ``command`` running. At a stop they have ``grace`` seconds to drain.

    None means the longest grace period of the workers themselves.
    """

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
        """Run until a stop is requested and all workers have ended; returns the exit code. Call it once."""
        with self._wake, self._woken, self._handling_signals():
            self._slots[0].start()
            while any(slot.process for slot in self._slots) or not self._stop_requested:
                self._sleep()
                self._step(time.monotonic())
        return self._code

    def _step(self, now: float) -> None:
        """Handle messages, ended workers, restarts that are due, and workers that exceed their time."""
        for slot in self._slots:
            slot.receive(now)
            if self._stop_requested and self._code == ExitCode.DONE and self._kill_at != float("inf"):
                self._kill_at = self._stop_requested_at + self._stop_timeout()  # a grace period may have just come
            self._has_worked = self._has_worked or slot.ready_at is not None
            if slot.has_ended():
                self._on_worker_exit(slot, now)
            if self._has_worked and not self._stop_requested and slot.process is None and now >= slot.start_at:
                slot.restart(now, *self._restart_options)
        if now >= self._kill_at:
            log.error("Workers still run after the time to stop; they are killed.")
            self._for_each_worker(WorkerSlot.kill)
            self._kill_at = float("inf")

    def _on_worker_exit(self, slot: WorkerSlot, now: float) -> None:
        """Log that a worker has ended, and when the next one starts."""
        assert slot.process is not None
        pid, code = slot.process.pid, slot.process.returncode
        end = describe_exit(code, kill_cause=_OUT_OF_MEMORY if self._memory.has_killed() else None)
        pause = slot.on_exit(now)
        if self._stop_requested:
            return
        if not self._has_worked:
            log.error("No worker can start: the first one ended with %s before it was ready.", end)
            self._stop_requested, self._code = True, code if code > 0 else ExitCode.FAILED
            return
        log.warning("Worker %d ended with %s; another one starts %s.", pid, end, _when(pause))

    # -- stopping ------------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return
        now = time.monotonic()
        is_second = self._stop_signals.is_repeated(now)
        if not self._stop_requested:
            log.info("Stop requested; the workers drain.")
            self._stop_requested, self._stop_requested_at = True, now
            self._kill_at = now + self._stop_timeout()
            self._for_each_worker(lambda slot: slot.send(DRAIN))
        elif is_second:
            self._code = 128 + number
            self._kill_at = now + _KILL_AFTER
            self._for_each_worker(lambda slot: slot.send(STOP))

    def _stop_timeout(self) -> float:
        """Seconds from a stop request until workers that still run are killed."""
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
        """Receive signals as bytes that end a sleep. The handlers do nothing, so that none interrupts a system call."""
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
        """The monotonic time of the next restart or kill; without messages there is nothing to do before."""
        waiting = [slot.start_at for slot in self._slots if slot.process is None and self._has_worked]
        return self._kill_at if self._stop_requested else min(waiting, default=float("inf"))

    def _sleep(self) -> None:
        """Wait for a signal, a message of a worker that is not ready yet, or the next event."""
        until = self._next_event()
        timeout = None if until == float("inf") else max(0.0, until - time.monotonic())
        sockets = [slot.socket for slot in self._slots if slot.socket is not None and slot.ready_at is None]
        readable, _, _ = select.select([self._woken, *sockets], [], [], timeout)
        if self._woken in readable:
            for number in self._woken.recv(4096):
                self._on_signal(number)


def _when(pause: float) -> str:
    return f"in {pause:g} seconds" if pause else "at once"
