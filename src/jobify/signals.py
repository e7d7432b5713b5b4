"""SIGINT and SIGTERM while an app waits: remember them, let the app shut down in order, then deliver them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ("SignalCatcher",)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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

        before = {number: signal.signal(number, keep) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def deliver(self) -> bool:
        """Raise what was caught, the last first, with the handlers that were there before; whether there was any."""
        caught, self._caught = self._caught, []
        for number in reversed(caught):
            signal.raise_signal(number)
        return bool(caught)
