"""The signals that stop a process: SIGTERM, SIGINT (Ctrl-C) and SIGHUP, the end of a terminal.

A worker and a supervisor drain at the first one and hurry at a second. A wish to stop may arrive as several signals:
``timeout`` signals its child and then the process group, a service manager signals every process of a unit. So signals
within a second of the first one are the same wish. SIGHUP that is ignored at the start (``nohup``) stays ignored.

While an app waits (:class:`SignalCatcher`), signals are remembered; the app shuts down in order, then they are
delivered.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from jobify.runtime.fork import install_handler

__all__ = ("SignalCatcher", "StopSignals", "stop_signals")

_BURST: Final = 1.0
"""Seconds after the first signal in which any other one means the same wish."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop this process. To be asked before their handlers are set."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return (signal.SIGTERM, signal.SIGINT)
    return (signal.SIGTERM, signal.SIGINT, hangup)


class StopSignals:
    """Tells a second wish to stop from the signals that belong to the first one."""

    def __init__(self) -> None:
        self._first_at: float | None = None

    def is_repeated(self, at: float) -> bool:
        """Whether the signal that arrived ``at`` (monotonic) is an impatient one."""
        if self._first_at is None:
            self._first_at = at
        return at - self._first_at >= _BURST


class SignalCatcher:
    """Holds back signals. Only the main thread can; elsewhere it does nothing."""

    def __init__(self) -> None:
        self._caught: list[int] = []

    @contextmanager
    def catching(self, notify: Callable[[], object]) -> Iterator[None]:
        """Keep signals that arrive inside the block, and call ``notify`` (from a signal handler) for each."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def keep(number: int, frame: FrameType | None) -> None:
            self._caught.append(number)
            notify()

        restores = [install_handler(number, keep) for number in stop_signals()]
        try:
            yield
        finally:
            for restore in restores:
                restore()

    def deliver(self) -> bool:
        """Raise what was caught, the last first, with the handlers that were there before; whether there was any."""
        caught, self._caught = self._caught, []
        for number in reversed(caught):
            signal.raise_signal(number)
        return bool(caught)
