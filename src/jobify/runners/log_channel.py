"""How log records and levels travel between a child process and its parent.

Each child has a socket of its own for records, apart from the one for calls and replies: a record is read at once, also
while the child is idle or imports modules, and a flood of records delays no reply.

The socket keeps the boundaries of messages, so that a record arrives whole or not at all. The sender needs no lock: a
signal handler that logs in the middle of a send cannot deadlock, a fork of the child can use the same socket, and a
child that is killed leaves no half record. What was sent before the child died can still be read.

A record is formatted by the parent, so it keeps its template and its arguments if these are plain values. Any other
value is replaced by its text in the child: reading a record runs no code of the user's classes, except to rebuild the
exception that the record is about (:mod:`jobify.runners.remote_errors`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import pickle
import socket
import threading
import warnings
from contextlib import suppress
from typing import Any, Final, NamedTuple

from jobify.runners.function_address import Address
from jobify.runners.protocol import Request, encode_request
from jobify.runners.remote_errors import Failure, describe, rebuild
from jobify.runtime.errortools import shown
from jobify.runtime.logs import get_logger

__all__ = (
    "BARRIER",
    "LARGEST",
    "Levels",
    "RecordReceiver",
    "current_levels",
    "decode_record",
    "encode_record",
    "levels_request",
    "make_record",
    "open_channel",
)


BARRIER: Final = b"="
"""A message that is no record: all records that were sent before it have been handled when it is read."""

LARGEST: Final = 64 * 1024
"""Bytes of the largest record. One that is larger is sent with its texts cut off."""

_BUFFER: Final = 1024 * 1024
"""Bytes of records that may wait in the socket, if the system allows as many."""

_PLAIN: Final = (str, int, float, bool, bytes, type(None))
_DEEPEST: Final = 8
_SHORT: Final = 4_000
"""Characters of each text of a record that is too large."""

_formatter: Final = logging.Formatter()


class Levels(NamedTuple):
    """The part of a logging configuration that decides which records are made at all."""

    root: int
    loggers: dict[str, int]
    """The loggers that have a level of their own."""
    disabled: int
    """Records up to this level are dropped (:func:`logging.disable`)."""
    has_captured_warnings: bool
    """Whether :func:`logging.captureWarnings` is on."""


def open_channel() -> tuple[socket.socket, socket.socket]:
    """The end that reads messages, and the end that sends them; each message arrives whole or not at all. OSError if
    the system refuses."""
    try:
        reader, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        if not _is_unsupported(error):
            raise
        reader, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with suppress(OSError):  # more than the system allows
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return reader, sender


def _is_unsupported(error: OSError) -> bool:
    """Whether the system has no such sockets: macOS."""
    return error.errno in (errno.EPROTONOSUPPORT, errno.EPROTOTYPE, errno.ESOCKTNOSUPPORT)


def encode_record(record: logging.LogRecord, fields: dict[str, Any], limit: int = LARGEST) -> bytes:
    """``record`` as at most ``limit`` bytes. It gets those of ``fields`` that it does not have.

    Raises whatever formatting the message raises.
    """
    values = {**fields, **vars(record)}
    error = values.pop("exc_info")
    if not (_is_plain(record.msg) and _is_plain(record.args)):
        values["msg"], values["args"] = record.getMessage(), None
    if error and error[1] is not None:
        values["exc_text"] = record.exc_text or _text_of(error)
        values["failure"] = tuple(describe(error[1]))
    values = {name: value if _is_plain(value) else shown(value) for name, value in values.items()}
    payload = _packed(values)
    return payload if payload is not None and len(payload) <= limit else _cut(record, values, limit)


def _cut(record: logging.LogRecord, values: dict[str, Any], limit: int) -> bytes:
    """A record that is too large, without what cannot be cut off: its exception and large attributes."""
    values.pop("failure", None)
    short = {name: value for name, value in values.items() if len(repr(value)) <= _SHORT // 10}
    short.update(msg=shown(record.getMessage(), _SHORT), args=None)
    for name in ("exc_text", "stack_info"):
        if values.get(name):
            short[name] = shown(values[name], _SHORT)
    payload = _packed(short)
    if payload is None or len(payload) > limit:
        needed = {name: short[name] for name in ("name", "levelno", "created") if name in short}
        payload = pickle.dumps({**needed, "msg": shown(record.getMessage(), limit // 8), "args": None})
    return payload


def decode_record(payload: bytes) -> dict[str, Any]:
    """The values of a record, among them ``name`` and ``levelno``, for :func:`make_record`."""
    values: dict[str, Any] = pickle.loads(payload)
    return values


def make_record(values: dict[str, Any]) -> logging.LogRecord:
    """The record of these values, with its exception rebuilt."""
    if failure := values.pop("failure", None):
        error = rebuild(Failure(*failure))
        values["exc_info"] = (type(error), error, error.__traceback__)
    name = logging.getLevelName(values["levelno"])
    if not name.startswith("Level "):  # a level that has a name here
        values["levelname"] = name
    return logging.makeLogRecord(values)


def _packed(values: dict[str, Any]) -> bytes | None:
    try:
        return pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return None


def _text_of(error: Any) -> str:
    try:
        return _formatter.formatException(error)
    except Exception:  # of the user's exception
        return "<the traceback cannot be shown>"


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether pickle reads ``value`` without running code of any class."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth >= _DEEPEST:
        return False
    if kind in (tuple, list):
        return all(_is_plain(each, depth + 1) for each in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(_is_plain(part, depth + 1) for item in value.items() for part in item)  # type: ignore[attr-defined]
    return False


# -- log receiving -----------------------------------------------------------------------------------------------------
# In the parent: handle the log records of one child process by the configuration of this process.
#
# A thread reads and handles them, because handlers may be slow and the event loop must not be. It holds one record at a
# time; what it has not read yet waits in the socket, which is of limited size, and then in the child.
#
# Order. What a job has logged is handled before its outcome is known here: at the end of a call that has logged, the
# child sends a barrier behind its records, and the parent waits until the thread has read it. The wait is short
# (:data:`BARRIER_TIMEOUT`), because a slow handler is no reason to hold up a job.
#
# Filters and levels are those of the logger of the same name. A logger that only the child has is not made here,
# because its name may contain the id of a job, and loggers stay for ever: the nearest logger above it handles the
# record.

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
