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

__all__ = ("DO_NOT_WAIT", "DRAIN", "GONE", "LEAVE", "READY", "TRIAL_BEGINS", "TRIAL_ENDS", "Leash")

READY: Final = b"r"
"""The worker: it is at work. Its grace period follows, in seconds, as text."""
TRIAL_BEGINS: Final = b"T"
"""The worker: jobs run apart of which one may end it. It should then be replaced at once."""
TRIAL_ENDS: Final = b"E"
"""The worker: they have ended."""
DRAIN: Final = b"d"
"""The supervisor: let what runs finish, within the grace period."""
LEAVE: Final = b"l"
"""The supervisor: stop at once."""
GONE: Final = b""
"""The end of the line: the supervisor is dead. Stop at once."""

DO_NOT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
"""A flag of one call of ``send`` or ``recv``: it fails instead of waiting, whether or not the socket is blocking."""

_PATIENCE: Final = 5.0
"""Seconds that an abandoned worker has to give its jobs back."""


class Leash:
    """The worker's end. A thread reads it, so that a blocked event loop cannot keep the end of the line a secret."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lock = threading.Lock()
        self._early: list[bytes] = []
        self._listener: Callable[[bytes], object] | None = None
        threading.Thread(target=self._read, name="jobify-leash", daemon=True).start()

    def say_ready(self, grace: float) -> None:
        """Tell the supervisor that this worker is at work, and how many seconds it takes to stop."""
        with suppress(OSError):
            self._socket.sendall(READY + str(grace).encode())

    def say_trial(self, is_on: bool) -> None:
        """Tell the supervisor whether jobs run apart. Never waits."""
        with suppress(OSError):
            self._socket.send(TRIAL_BEGINS if is_on else TRIAL_ENDS, DO_NOT_WAIT)

    def listen(self, listener: Callable[[bytes], object]) -> None:
        """Call ``listener``, in a thread, with what the supervisor says; first with what it said before."""
        with self._lock:
            self._listener = listener
            for word in self._early:
                listener(word)

    def _read(self) -> None:
        word = DRAIN
        while word == DRAIN:
            try:
                word = self._socket.recv(1)
            except OSError:
                word = GONE
            with self._lock:
                if self._listener is None:
                    self._early.append(word)
                else:
                    self._listener(word)
        time.sleep(_PATIENCE)
        os._exit(ExitCode.FAILED)
