"""The line between a supervisor and one of its workers: what each says, and how the worker notices that the other is
gone.

Why not signals. A Ctrl-C reaches every process of the terminal, and a service manager signals every process of a unit;
a supervisor that passed such a signal on would make it the second one, which means *stop at once*. So the supervisor
says over a socket what is meant, and a worker takes a signal of its own for the same wish, however often it comes.

A socket also has an end: when the supervisor dies, even by SIGKILL, the kernel closes it. A worker that is left alone
stops at once and gives its jobs back; one that cannot (its event loop is blocked) is ended.
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
"""The worker: it is at work. Its grace period follows, in seconds, as text."""
TRIAL_BEGINS: Final = b"T"
"""The worker: jobs run apart of which one may end it. It should then be replaced at once."""
TRIAL_ENDS: Final = b"E"
"""The worker: they have ended."""
DRAIN: Final = b"d"
"""The supervisor: let what runs finish, within the grace period."""
STOP: Final = b"l"
"""The supervisor: stop at once."""
DISCONNECTED: Final = b""
"""The end of the line: the supervisor is dead. Stop at once."""

NONBLOCKING: Final = getattr(socket, "MSG_DONTWAIT", 0)
"""A flag of one call of ``send`` or ``recv``: it fails instead of waiting, whether or not the socket is blocking."""

_RELEASE_TIMEOUT: Final = 5.0
"""Seconds that an abandoned worker has to give its jobs back."""


class ControlSocket:
    """The worker's end. A thread reads it, so that a blocked event loop cannot keep the end of the line a secret."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lock = threading.Lock()
        self._unhandled: list[bytes] = []
        self._listener: Callable[[bytes], object] | None = None
        threading.Thread(target=self._read, name="jobify-control", daemon=True).start()

    def send_ready(self, grace: float) -> None:
        """Tell the supervisor that this worker is at work, and how many seconds it takes to stop."""
        with suppress(OSError):
            self._socket.sendall(READY + str(grace).encode())

    def send_trial(self, is_on: bool) -> None:
        """Tell the supervisor whether jobs run apart. Never waits."""
        with suppress(OSError):
            self._socket.send(TRIAL_BEGINS if is_on else TRIAL_ENDS, NONBLOCKING)

    def listen(self, listener: Callable[[bytes], object]) -> None:
        """Call ``listener``, in a thread, with what the supervisor says; first with what it said before."""
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
