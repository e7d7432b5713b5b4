"""Other processes on the same database: hearing them.

A process rings the bells of the others after it has committed something that concerns them: work that anyone may
take, the end of a job that another process asked for, a cancel. Whoever hears a bell looks. Because a ring may be
lost (and does not exist on every platform), everybody also asks now and then whether somebody else has committed,
which reads no table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobify.engine.service import Periodic
from jobify.gateway.backend import Backend

__all__ = ("ChangeListener",)

_POLL_WITH_BELL = 1.0
_POLL_WITHOUT_BELL = 0.1
"""Seconds between two questions whether another process has committed."""
_FIRST_REST, _LONGEST_REST = 0.01, 0.5
"""Seconds for which a bell that is rung without end is not listened to; they double as long as that goes on."""


class ChangeListener(Periodic):
    """Calls ``look`` when another process may have changed something."""

    def __init__(self, backend: Backend, look: Callable[[], None]) -> None:
        super().__init__(_POLL_WITHOUT_BELL)
        self._backend = backend
        self._on_change = look
        self._fileno = -1
        self._rest = 0.0
        self._resting: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        notifier = self._backend.storage.notifier
        if notifier is not None and notifier.fileno() >= 0:
            try:
                asyncio.get_running_loop().add_reader(notifier.fileno(), self._on_readable)
            except NotImplementedError:  # a loop that cannot watch descriptors (Windows' proactor)
                pass
            else:
                self._fileno, self._interval = notifier.fileno(), _POLL_WITH_BELL
        await super().start()

    async def stop(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._fileno >= 0:
            asyncio.get_running_loop().remove_reader(self._fileno)
            self._fileno, self._interval = -1, _POLL_WITHOUT_BELL
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
            self._rest = 0.0

    def _pause_listening(self) -> None:
        """Keep the event loop free from a sender that never stops; what there is to do is looked for all the same."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fileno)
        self._rest = min(max(self._rest * 2, _FIRST_REST), _LONGEST_REST)
        self._resting = loop.call_later(self._rest, self._resume_listening)

    def _resume_listening(self) -> None:
        self._resting = None
        if self._fileno >= 0:
            asyncio.get_running_loop().add_reader(self._fileno, self._on_readable)
            self._notify()

    async def step(self) -> None:
        if await self._backend.gate.call(self._backend.storage.has_external_changes, flush=False):
            self._notify()

    def _notify(self) -> None:
        self._on_change()
        self._backend.gate.notify_local()
