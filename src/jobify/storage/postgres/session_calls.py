"""What other threads give the thread of a session: calls that they wait for, and notifications to send."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from jobify.exceptions import StorageUnavailableError
from jobify.runtime.logs import get_logger
from jobify.storage.postgres.connection import Connection
from jobify.storage.postgres.errors import explain

__all__ = ("Command", "Outbox", "Wake")

log = get_logger("jobify.storage")

_SPACING: Final = 0.002
"""Seconds between two notifications: who is awake already need not be woken more often."""
_NOTIFY: Final = "SELECT pg_notify(channel, word) FROM unnest($1::text[], $2::text[]) AS sent (channel, word)"


class Command:
    """What the thread is to do with the connection, for a thread that waits for it."""

    def __init__(self, run: Callable[[Connection], object]) -> None:
        self._run = run
        self._done = threading.Event()
        self._error: Exception | None = None

    def run(self, connection: Connection) -> None:
        try:
            self._run(connection)
        except Exception as error:
            self._error = error
        self._done.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._done.set()

    def result(self, where: str, patience: float) -> None:
        if not self._done.wait(patience):
            raise StorageUnavailableError(f"The database {where} is not available: it does not answer.")
        if isinstance(self._error, psycopg.Error):
            raise explain(self._error, where) from self._error
        if self._error is not None:
            raise self._error


class Outbox:
    """The notifications that are to be sent: on each channel a word. What is put there while one is under way is sent
    together."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._guard = threading.Lock()
        self._words: dict[str, str] = {}
        self._sent_at = 0.0
        self.sent = 0
        """How many were sent."""

    def __bool__(self) -> bool:
        return bool(self._words)

    def put(self, words: dict[str, str]) -> None:
        """Add to what is to be sent."""
        with self._guard:
            self._words |= words

    def clear(self) -> None:
        """Send nothing of it."""
        with self._guard:
            self._words = {}

    def send(self, connection: Connection, *, is_last: bool) -> float | None:
        """Send all, but not more often than is of use; in how many milliseconds there is something to send.

        ``is_last``: at once. An error means that the connection is lost.
        """
        left = self._sent_at + _SPACING - time.monotonic()
        if left > 0 and not is_last:
            return left * 1000 if self._words else None
        with self._guard:
            words, self._words = self._words, {}
        if words:
            try:
                connection.execute(_NOTIFY, (list(words), list(words.values())))
                self.sent += 1
            except psycopg.Error as error:
                if connection.closed:
                    raise
                log.debug("Other processes of %s were not notified: %s", self._where, error)
            self._sent_at = time.monotonic()
        return None


class Wake:
    """Wakes a thread that waits for a descriptor. Does nothing until :meth:`open`."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def open(self) -> None:
        """Get the descriptor."""
        here, there = self._ends = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)

    def fileno(self) -> int:
        """-1 means that it is closed."""
        ends = self._ends
        return -1 if ends is None else ends[0].fileno()

    def send(self) -> None:
        """Wake the thread."""
        if self._ends is not None:
            with suppress(OSError):  # full: it is going to wake
                self._ends[1].send(b".")

    def take(self) -> None:
        """Go to sleep again, once that is waited for."""
        if self._ends is not None:
            with suppress(OSError):
                self._ends[0].recv(4096)

    def wait(self, seconds: float | None) -> None:
        """Wait until another thread wants something, at most for so long."""
        if self._ends is not None:
            select.select([self._ends[0]], [], [], seconds)
            self.take()

    def close(self) -> None:
        """Wake no more."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()
