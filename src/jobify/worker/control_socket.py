"""The socket between a supervisor and a worker: its messages, and how a worker notices that the supervisor has died.

Signals would not do. Ctrl-C reaches every process of the terminal, and a service manager signals every process of a
unit. A supervisor that passed such a signal on would send the second one, which means *stop without delay*. So the
supervisor sends its requests over a socket, and a worker with a supervisor treats all signals as one request to drain.

When the supervisor dies, even by SIGKILL, the kernel closes its end of the socket. The worker then stops without delay
and releases its jobs; if it cannot, because its event loop is blocked, its process is ended.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from jobify.worker.exit_codes import ExitCode

__all__ = ("DISCONNECTED", "DRAIN", "NONBLOCKING", "READY", "STOP", "TRIAL_BEGINS", "TRIAL_ENDS", "ControlSocket")

READY: Final = b"r"
"""From the worker: it is ready. Its grace period in seconds follows as text."""
TRIAL_BEGINS: Final = b"T"
"""From the worker: it runs suspect jobs in a trial, and one may end it. It should then be replaced at once."""
TRIAL_ENDS: Final = b"E"
"""From the worker: the trial has ended."""
DRAIN: Final = b"d"
"""From the supervisor: let running jobs finish within the grace period, then stop."""
STOP: Final = b"l"
"""From the supervisor: stop without delay."""
DISCONNECTED: Final = b""
"""The end of the stream: the supervisor has died. Stop without delay."""

NONBLOCKING: Final = getattr(socket, "MSG_DONTWAIT", 0)
"""A flag for one ``send`` or ``recv``, which then fails instead of waiting, also on a blocking socket."""

_RELEASE_TIMEOUT: Final = 5.0
"""Seconds that a worker has to release its jobs after the supervisor has died."""


class ControlSocket:
    """The worker's end. A thread reads it, so that a blocked event loop does not delay a stop."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lock = threading.Lock()
        self._unhandled: list[bytes] = []
        self._listener: Callable[[bytes], object] | None = None
        threading.Thread(target=self._read, name="jobify-control", daemon=True).start()

    def send_ready(self, grace: float) -> None:
        """Send the supervisor that this worker is ready, with its grace period in seconds."""
        with suppress(OSError):
            self._socket.sendall(READY + str(grace).encode())

    def send_trial(self, is_on: bool) -> None:
        """Send the supervisor whether a trial runs. Never waits."""
        with suppress(OSError):
            self._socket.send(TRIAL_BEGINS if is_on else TRIAL_ENDS, NONBLOCKING)

    def listen(self, listener: Callable[[bytes], object]) -> None:
        """Call ``listener`` in a thread with each message of the supervisor, including earlier ones."""
        with self._lock:
            self._listener = listener
            for message in self._unhandled:
                listener(message)

    def _read(self) -> None:
        message = DRAIN
        while message == DRAIN:
            try:
                message = self._socket.recv(1)
            except OSError:
                message = DISCONNECTED
            with self._lock:
                if self._listener is None:
                    self._unhandled.append(message)
                else:
                    self._listener(message)
        time.sleep(_RELEASE_TIMEOUT)
        os._exit(ExitCode.FAILED)
