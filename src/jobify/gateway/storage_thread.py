"""The thread of a storage, which no error ends silently.

Whatever is raised in the thread (MemoryError, a defect, SystemExit of a user's storage) goes to those whose calls were
being made, and the thread goes on. If it fails again and again without one round that succeeds, it cannot go on: it
ends, and says so, so that nothing waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from jobify.model.transient import as_unavailable
from jobify.runtime.failure_log import FailureLog
from jobify.runtime.logs import get_logger

__all__ = ("StorageThread",)

log = get_logger("jobify.storage")

_FATAL: Final = 8
"""Failures in a row after which the thread ends; with the pauses between them, two seconds and a half."""
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0


class StorageThread:
    """Calls ``serve`` in a thread of its own after each signal, and again while it returns True.

    ``on_error`` is called in the thread with what ``serve`` raised, ``on_end`` with what the thread ends of.
    """

    def __init__(
        self,
        serve: Callable[[], bool],
        *,
        on_error: Callable[[BaseException], None],
        on_end: Callable[[BaseException], None],
    ) -> None:
        self._serve = serve
        self._on_error = on_error
        self._on_end = on_end
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._is_ending = False
        self._failures = 0
        self._log = FailureLog(log, "The storage's thread works again")
        self.is_idle = False
        self.is_woken = False
        self._thread = threading.Thread(target=self._run, name="jobify-storage", daemon=True)

    def start(self) -> None:
        """Begin. StorageUnavailableError if the system has no thread."""
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:
            raise as_unavailable(error, "The thread of the storage cannot start") or error from None

    def wake(self) -> None:
        """There is something to serve."""
        # The thread lowers the flag before it serves: what is there when the flag is found raised is still served.
        if not self.is_woken:
            self.is_woken = True
            self._wakeups.put(None)

    def end(self, *, wait: bool) -> None:
        """End when everything is served; ``wait`` for it."""
        self._is_ending = True
        self._wakeups.put(None)
        if wait:
            self._thread.join()

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        while self._failures < _FATAL:
            try:
                if failure is not None:
                    self._recover(failure)
                self._work()
                return
            except BaseException as error:  # nothing else is done here: whatever is done may fail, too
                failure = error
                self._failures += 1
        assert failure is not None
        self.is_idle = False
        self._on_end(failure)

    def _work(self) -> None:
        self.is_idle = True
        while True:
            self._wakeups.get()
            self.is_idle = self.is_woken = False  # in this order: one of them says that there is work
            while self._serve():
                pass
            if self._failures:
                self._failures = 0
                self._log.succeeded(self)
            if self._is_ending:
                return
            self.is_idle = True

    def _recover(self, error: BaseException) -> None:
        """Hand ``error`` to those whose calls were being made, and go on after a pause."""
        self.is_idle = False
        self._wakeups.put(None)  # the one that was taken may not be served
        self._log.failed(self, "The storage's thread failed, and goes on: %r", error, error=error)
        self._on_error(error)
        time.sleep(min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE))
