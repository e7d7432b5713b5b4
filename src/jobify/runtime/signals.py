"""The signals that stop a process: SIGTERM, SIGINT (Ctrl-C) and SIGHUP, the end of a terminal.

A worker and a supervisor drain at the first signal and stop without delay at a second. One stop request may arrive as
several signals: ``timeout`` signals its child and then the process group, a service manager signals every process of a
unit. So signals within a second of the first one belong to the same request. A SIGHUP that is ignored at the start
(``nohup``) stays ignored.

While an app waits (:class:`SignalCatcher`), signals are held back; the app shuts down in order, then they are
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

__all__ = ("SignalCatcher", "StopSignals", "describe_exit", "stop_signals")

_BURST: Final = 1.0
"""Seconds after the first signal in which others belong to the same stop request."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop this process. Call it before their handlers are set."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return (signal.SIGTERM, signal.SIGINT)
    return (signal.SIGTERM, signal.SIGINT, hangup)


class StopSignals:
    """Distinguishes a second stop request from signals that belong to the first one."""

    def __init__(self) -> None:
        self._first_at: float | None = None

    def is_repeated(self, at: float) -> bool:
        """Whether the signal that arrived ``at`` (monotonic) is a second request."""
        if self._first_at is None:
            self._first_at = at
        return at - self._first_at >= _BURST


class SignalCatcher:
    """Holds back signals. It works in the main thread only and does nothing elsewhere."""

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
        """Raise the held signals, the last first, with the previous handlers; returns whether there were any."""
        caught, self._caught = self._caught, []
        for number in reversed(caught):
            signal.raise_signal(number)
        return bool(caught)


def describe_exit(code: int | None, *, kill_cause: str | None = None) -> str:
    """How a process ended, in words. ``code`` is as in :mod:`subprocess`: negative for a signal.

    ``kill_cause`` is the likely cause of a SIGKILL.
    """
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name} ({kill_cause})" if kill_cause and code == -signal.SIGKILL else name
