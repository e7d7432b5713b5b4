"""In a child process: send each log record to the parent, which handles it by its own configuration.

The child's root logger has one handler, :class:`Forwarder`. Modules that configure logging when they are imported do so
in the parent as well, where their handlers belong: in the child these are removed after the import, because two
processes that write to one file damage it, and because the line would appear twice. A handler that a task adds while it
runs works as in any program, until the next call.

Levels come from the parent: when the child starts, and with the next call after a change. They only save the effort
for records that are not wanted; the parent decides by its own levels.

A record is sent by the code that logs it, so that it has left the process when the call that logs returns: what a task
has logged before a crash is known. If the parent reads too slowly, the call waits, at most :data:`SEND_TIMEOUT` seconds
in all until the parent reads again. Then records are counted and dropped, and the count is logged when there is room.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from jobify.jobs.current_job import CURRENT
from jobify.runners.job_info import JobInfo
from jobify.runners.log_channel import BARRIER, LARGEST, Levels, encode_record

__all__ = ("SEND_TIMEOUT", "Forwarder", "apply_levels")

SEND_TIMEOUT: Final = 1.0
"""Seconds that a call to a logger waits for a parent that does not read."""

_FLAGS: Final = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


class Forwarder(logging.Handler):
    """The only handler of a child process. It has no lock: see :mod:`jobify.runners.log_channel`."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._limit = min(LARGEST, connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4)
        self._job_info: JobInfo | None = None
        """The job of the call that is under way."""
        self._older_threads: Sequence[threading.Thread] = ()
        """Threads that are older than the call: what they log belongs to no job, unless they carry one themselves."""
        self._has_sent = False
        self._is_stuck = False
        self._lost = 0
        self._modules = -1
        self._levels: Levels | None = None

    def install(self) -> None:
        """Become the handler of this process and of its forks."""
        global _installed
        _installed = self
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)
        self._take_over()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def begin_call(self, job_info: JobInfo | None) -> None:
        """Records are about this job from now on."""
        self._job_info = job_info
        self._older_threads = threading.enumerate()

    def check_handlers(self) -> None:
        """To be called after user modules were imported: remove the handlers that these have added."""
        if len(sys.modules) != self._modules or self not in logging.getLogger().handlers:
            self._take_over()

    def end_call(self) -> bool:
        """The call has ended; returns whether the parent must wait for a barrier before it reports the end."""
        self._job_info = None
        if not self._has_sent:
            return False
        self._has_sent = False
        return self._send(BARRIER)

    def _after_fork(self) -> None:
        self._older_threads = ()  # all that a fork does, it does for the call that has forked

    def _take_over(self) -> None:
        self._modules = len(sys.modules)
        root = logging.getLogger()
        known = [each for each in list(root.manager.loggerDict.values()) if isinstance(each, logging.Logger)]
        for logger in (root, *known):
            for handler in list(logger.handlers):
                if handler is not self and not isinstance(handler, logging.NullHandler):
                    logger.removeHandler(handler)
            if logger is root or not logger.propagate:
                logger.addHandler(self)  # once: a logger does not take the same handler twice
        if self._levels is not None:
            self.apply(self._levels)

    def apply(self, levels: Levels) -> None:
        """Set the levels of the parent."""
        before = {} if self._levels is None else self._levels.loggers
        self._levels = levels
        logging.getLogger().setLevel(levels.root)
        for name in before.keys() - levels.loggers.keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in levels.loggers.items():
            logging.getLogger(name).setLevel(level)
        logging.disable(levels.disabled)
        logging.captureWarnings(levels.has_captured_warnings)

    # -- records -------------------------------------------------------------------------------------------------------

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Send ``record``. An error is reported as the standard library reports those of its handlers."""
        try:
            passed = self.filter(record)
            if isinstance(passed, logging.LogRecord):  # a filter has replaced it
                record = passed
            if passed:
                self._send(encode_record(record, self._fields(record), self._limit))
        except Exception:
            self.handleError(record)
            return False
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        self.handle(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        running = CURRENT.get()
        job_info = self._job_info if running is None and self._is_of_call(record) else running
        if job_info is None:
            return {}
        return {
            "job_id": job_info.id,
            "task": job_info.task_name,
            "queue": job_info.queue_name,
            "attempt": job_info.number,
        }

    def _is_of_call(self, record: logging.LogRecord) -> bool:
        """Whether it was logged by a thread that the call has started, or by the one that makes the calls (while it
        imports the module of the task)."""
        if record.thread == threading.main_thread().ident:
            return True
        return not any(thread.ident == record.thread and thread.is_alive() for thread in self._older_threads)

    def _send(self, payload: bytes) -> bool:
        """Send ``payload``, now or within the time that there is to wait; whether it is sent."""
        is_sent = self._try_to_send(payload) or (not self._is_stuck and self._wait_to_send(payload))
        self._is_stuck = not is_sent
        if not is_sent:
            self._lost += payload is not BARRIER
        else:
            self._has_sent = self._has_sent or payload is not BARRIER
            if self._lost:
                self._report_losses()
        return is_sent

    def _try_to_send(self, payload: bytes) -> bool:
        try:
            self._connection.send(payload, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            return error.errno != errno.ENOBUFS  # on macOS the buffer is full; else the parent has gone
        return True

    def _wait_to_send(self, payload: bytes) -> bool:
        with suppress(OSError, ValueError):
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._connection, select.POLLOUT)
                poll.poll(SEND_TIMEOUT * 1000)
            else:
                select.select([], [self._connection], [], SEND_TIMEOUT)
        return self._try_to_send(payload)

    def _report_losses(self) -> None:
        lost, self._lost = self._lost, 0
        message = "%d log records of this process are lost: its parent did not read them for more than %g s."
        record = logging.LogRecord("jobify.runners", logging.WARNING, __file__, 0, message, (lost, SEND_TIMEOUT), None)
        if not self._try_to_send(encode_record(record, self._fields(record), self._limit)):
            self._lost += lost


_installed: Forwarder | None = None


def apply_levels(levels: Levels) -> None:
    """A call for the child itself: levels have changed in the parent."""
    if _installed is not None:
        _installed.apply(Levels(*levels))
