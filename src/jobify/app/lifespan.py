"""Lifespans of apps and routers, the cleanup stack of a started app, and the lock of starts and stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.router import Router
from jobify.runtime.logs import get_logger

__all__ = ("CleanupStack", "LifecycleLock", "enter_lifespans")

log = get_logger("jobify")

_Cleanup: TypeAlias = Callable[[], Awaitable[object]]


class CleanupStack:
    """The cleanup steps of a started app, run in reverse order.

    Unlike with an ``AsyncExitStack``, a failing step does not affect the others: the code after the ``yield`` of a
    lifespan runs even if the lifespan inside it failed.
    """

    def __init__(self) -> None:
        self._steps: list[_Cleanup] = []

    def push(self, step: _Cleanup) -> None:
        """Add a step, which runs before those that were added earlier."""
        self._steps.append(step)

    async def run(self) -> None:
        """Run all steps in the calling task, then raise the first error. A cancellation goes before other errors."""
        errors: list[BaseException] = []
        while self._steps:
            try:
                await self._steps.pop()()
            except BaseException as error:
                errors.append(error)
        errors.sort(key=lambda error: not isinstance(error, asyncio.CancelledError))
        for later in errors[1:]:
            if not isinstance(later, asyncio.CancelledError):  # the caller that cancelled knows
                log.error("Another error while the app was stopping: %r", later, exc_info=later)
        if errors:
            raise errors[0]


class LifecycleLock:
    """Serializes the starts and stops of one app, in any event loop."""

    def __init__(self) -> None:
        self._released: asyncio.Future[None] | None = None
        self._holder: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Acquire the lock; reentrant for the task that holds it.

        A start or stop that is under way in another event loop is not waited for: its caller is refused later, by its
        own loop check.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._holder is task:
            yield
            return
        while self._released is not None and not self._released.done() and self._released.get_loop() is loop:
            await asyncio.shield(self._released)
        released = self._released = loop.create_future()
        self._holder = task
        try:
            yield
        finally:
            self._holder = None
            released.set_result(None)


async def enter_lifespans(router: Router, cleanup: CleanupStack) -> None:
    """Enter the lifespan of ``router``, then those of its sub-routers, and push their exits to ``cleanup``.

    Each lifespan is called with its router (that of the app with the app). A mapping that it yields is merged into
    that router's state.
    """
    if router.lifespan is not None:
        lifespan = router.lifespan(router)
        yielded: Any = await lifespan.__aenter__()
        cleanup.push(partial(lifespan.__aexit__, None, None, None))
        if yielded is not None and not isinstance(yielded, Mapping):
            raise ConfigurationError(f"The lifespan of {router!r} gave {yielded!r}; yield a mapping, or nothing.")
        router.state.update(yielded or {})
    for below in router.sub_routers:
        await enter_lifespans(below, cleanup)
