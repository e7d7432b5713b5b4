"""Lifespans: code around the life of an app or a router; and the order in which everything that was begun is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from jobify.exceptions import ConfigurationError
from jobify.router import Router
from jobify.runtime.logs import get_logger

__all__ = ("Exits", "Turns", "enter_lifespans")

log = get_logger("jobify")

Exit: TypeAlias = Callable[[], Awaitable[object]]


class Exits:
    """How to end what was begun, in reverse order.

    Unlike an ``AsyncExitStack``, an exit that fails concerns no other: the code after the ``yield`` of a lifespan runs,
    whatever happened to the one inside it.
    """

    def __init__(self) -> None:
        self._exits: list[Exit] = []

    def push(self, leave: Exit) -> None:
        """Remember how to end something."""
        self._exits.append(leave)

    async def leave(self) -> None:
        """End everything, in the task that calls. The first error is raised at the end, or rather a cancel."""
        errors: list[BaseException] = []
        while self._exits:
            try:
                await self._exits.pop()()
            except BaseException as error:
                errors.append(error)
        errors.sort(key=lambda error: not isinstance(error, asyncio.CancelledError))
        for later in errors[1:]:
            if not isinstance(later, asyncio.CancelledError):  # whoever was in a hurry knows
                log.error("Another error while the app was stopping: %r", later, exc_info=later)
        if errors:
            raise errors[0]


class Turns:
    """The starts and stops of one app, one after the other, in whichever event loop."""

    def __init__(self) -> None:
        self._over: asyncio.Future[None] | None = None
        self._holder: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn before. What is called within a turn by its own task belongs to it."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._holder is task:
            yield
            return
        while self._over is not None and not self._over.done() and self._over.get_loop() is loop:
            await asyncio.shield(self._over)
        over = self._over = loop.create_future()
        self._holder = task
        try:
            yield
        finally:
            self._holder = None
            over.set_result(None)


async def enter_lifespans(router: Router, exits: Exits) -> None:
    """Enter the lifespan of ``router`` and then those below it; ``exits`` leaves them.

    Each gets its own router (the app's gets the app). A mapping that it yields is merged into that router's state.
    """
    if router.lifespan is not None:
        lifespan = router.lifespan(router)
        yielded: Any = await lifespan.__aenter__()
        exits.push(partial(lifespan.__aexit__, None, None, None))
        if yielded is not None and not isinstance(yielded, Mapping):
            raise ConfigurationError(f"The lifespan of {router!r} gave {yielded!r}; yield a mapping, or nothing.")
        router.state.update(yielded or {})
    for below in router.sub_routers:
        await enter_lifespans(below, exits)
