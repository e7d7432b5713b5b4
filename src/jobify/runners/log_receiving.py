"""In the parent: handle the log records of one child process by the configuration of this process.

A thread reads and handles them, because handlers may be slow and the event loop must not be. It holds one record at a
time; what it has not read yet waits in the socket, which is of limited size, and then in the child.

Order. What a job has logged is handled before its outcome is known here: at the end of a call that has logged, the
child sends a barrier behind its records, and the parent waits until the thread has read it. The wait is short
(:data:`BARRIER_TIMEOUT`), because a slow handler is no reason to hold up a job.

Filters and levels are those of the logger of the same name. A logger that only the child has is not made here, because
its name may contain the id of a job, and loggers stay for ever: the nearest logger above it handles the record.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import warnings
from contextlib import suppress
from typing import Final

from jobify.runners.function_address import Address
from jobify.runners.log_channel import BARRIER, LARGEST, Levels, decode_record, make_record
from jobify.runners.protocol import Request, encode_request
from jobify.runtime.logs import get_logger

__all__ = ("BARRIER_TIMEOUT", "RecordReceiver", "current_levels", "levels_request")

log: Final = get_logger("jobify.runners")

BARRIER_TIMEOUT: Final = 0.25
"""Seconds that the end of a call waits for the records of the call."""

_JOIN_TIMEOUT: Final = 1.0
"""Seconds that the end of a child waits for its last records."""

_APPLY: Final = Address("jobify.runners.log_sending", "apply_levels")


class RecordReceiver:
    """Handles what one child logs, from the start of the child to its end."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._receive, name=f"{name}-log", daemon=True)
        self._barriers = 0
        self._expected = 0
        self._waiter: asyncio.Future[None] | None = None

    def start(self) -> None:
        """RuntimeError or MemoryError if the system has no thread left."""
        self._thread.start()

    def stop(self) -> None:
        """Read what is there, and nothing after it. Returns at once."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)
        if self._thread.ident is None:
            self._connection.close()

    def finish(self) -> None:
        """:meth:`stop`, and return when all is handled; or after a second, if a handler takes longer. To be called in
        another thread than the event loop's."""
        self.stop()
        self._thread.join(_JOIN_TIMEOUT)

    def expect_barrier(self) -> bool:
        """Expect another barrier; whether the thread has read it already."""
        self._expected += 1
        return self._barriers >= self._expected

    async def wait_for_barrier(self) -> None:
        """Return when the thread has read the barrier that is expected, or after :data:`BARRIER_TIMEOUT` seconds."""
        self._waiter = self._loop.create_future()
        try:
            if self._barriers < self._expected:  # checked after the waiter is set, because the thread reads it
                await asyncio.wait([self._waiter], timeout=BARRIER_TIMEOUT)
        finally:
            self._waiter = None

    def _receive(self) -> None:
        """In its own thread."""
        with self._connection, suppress(OSError):
            while payload := self._connection.recv(2 * LARGEST):
                if payload == BARRIER:
                    self._barriers += 1
                    if self._waiter is not None:
                        with suppress(RuntimeError):  # the loop is closed
                            self._loop.call_soon_threadsafe(self._wake)
                else:
                    handle_record(payload)

    def _wake(self) -> None:
        if self._waiter is not None and self._barriers >= self._expected and not self._waiter.done():
            self._waiter.set_result(None)


def handle_record(payload: bytes) -> None:
    """Handle a record of a child as if it were logged here. Never fails; what a handler raises is reported as the
    standard library reports it."""
    record = logging.makeLogRecord({})
    try:
        values = decode_record(payload)
        name, level = values["name"], values["levelno"]
        logger = _nearest_logger(name)
        if logger.name == name:
            if logger.isEnabledFor(level):
                record = make_record(values)
                logger.handle(record)
        elif logger.manager.disable < level >= logger.getEffectiveLevel():
            record = make_record(values)
            logger.callHandlers(record)  # the filters of a logger are not for the loggers below it
    except BaseException:  # sys.exit() in a handler must not end the thread
        with suppress(BaseException):
            logging.Handler().handleError(record)


def _nearest_logger(name: str) -> logging.Logger:
    root = logging.getLogger()
    while name and name != root.name:
        found = root.manager.loggerDict.get(name)
        if isinstance(found, logging.Logger):
            return found
        name = name.rpartition(".")[0]
    return root


# -- levels ------------------------------------------------------------------------------------------------------------

_MARKER: Final = get_logger("jobify.runners.levels")
"""Whatever changes the level of any logger makes all loggers forget which levels are enabled. So as long as this one
remembers, nothing has changed, and a call does not need to check all loggers."""

_REMEMBERED: Final[dict[int, bool]] = getattr(_MARKER, "_cache", {})
_known: Levels | None = None
_shows_warnings: object = None


def current_levels() -> Levels:
    """The levels of this process; the same object as long as they are the same."""
    global _known, _shows_warnings
    if _known is not None and _REMEMBERED and warnings.showwarning is _shows_warnings:
        return _known
    _MARKER.isEnabledFor(logging.CRITICAL)  # from here on it remembers
    _shows_warnings = warnings.showwarning
    root = logging.getLogger()
    loggers = {
        name: logger.level
        for name, logger in list(root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    has_captured_warnings = getattr(_shows_warnings, "__module__", None) == "logging"
    levels = Levels(root.level, loggers, root.manager.disable, has_captured_warnings)
    if _known is None or levels != _known:
        _known = levels
    return _known


def levels_request(levels: Levels) -> bytes:
    """The call that gives ``levels`` to a child."""
    return encode_request(Request(_APPLY, (tuple(levels),), {}))
