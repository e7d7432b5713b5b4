"""Notice what other processes have written to the same database.

A process notifies the others after it has committed something that concerns them: work that any process may claim, the
end of a job that another process has pushed, a cancel. A notification may be lost, and not every platform has them. So
each process also checks from time to time whether another one has committed, which reads no table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobify.engine.service import Periodic
from jobify.engine.services.looks import Looks
from jobify.gateway.backend import Backend
from jobify.runtime.backoff import Backoff

__all__ = ("ChangeListener",)

_POLL_WITH_NOTIFIER = 1.0
_POLL_WITHOUT_NOTIFIER = 0.1
"""Seconds between two checks whether another process has committed."""
_PAUSES = (0.01, 0.5)
"""Seconds for which a flooded notifier is not read, first and at most; they double as long as the flood goes on."""


class ChangeListener(Periodic):
    """Calls ``on_change`` when another process may have changed something."""

    def __init__(self, backend: Backend, on_change: Callable[[], None]) -> None:
        super().__init__(_POLL_WITHOUT_NOTIFIER)
        self._backend = backend
        self._on_change = on_change
        self._looks = Looks(backend.storage)
        self._fileno = -1
        self._backoff = Backoff(*_PAUSES)
        self._paused: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        notifier = self._backend.storage.notifier
        if notifier is not None and notifier.fileno() >= 0:
            try:
                asyncio.get_running_loop().add_reader(notifier.fileno(), self._on_readable)
            except NotImplementedError:  # a loop that cannot watch descriptors (Windows' proactor)
                pass
            else:
                self._fileno, self._interval = notifier.fileno(), _POLL_WITH_NOTIFIER
        if self._looks.cost_queries:
            self._interval = _POLL_WITH_NOTIFIER
        await super().start()

    async def stop(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self._fileno >= 0:
            asyncio.get_running_loop().remove_reader(self._fileno)
            self._fileno, self._interval = -1, _POLL_WITHOUT_NOTIFIER
        await super().stop()

    def _on_readable(self) -> None:
        notifier = self._backend.storage.notifier
        if notifier is None:
            return
        if notifier.drain():
            self._notify()
        if notifier.is_flooded:
            self._pause_listening()
        else:
            self._backoff.reset()

    def _pause_listening(self) -> None:
        """Keep the event loop free from a sender that never stops. Changes are noticed all the same, a little later."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fileno)
        self._paused = loop.call_later(self._backoff.next(), self._resume_listening)

    def _resume_listening(self) -> None:
        self._paused = None
        if self._fileno >= 0:
            asyncio.get_running_loop().add_reader(self._fileno, self._on_readable)
            self._notify()

    async def step(self) -> None:
        if self._looks.is_too_soon():
            return
        if await self._backend.gate.call(self._backend.storage.has_external_changes, flush=False):
            self._notify()

    def _notify(self) -> None:
        self._on_change()
        self._backend.gate.notify_local()
