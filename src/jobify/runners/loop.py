"""Runs coroutines in the task that awaits them, without a step in between."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from jobify.runners.base import Call

__all__ = ("LoopRunner",)


class LoopRunner:
    """Awaits the function on the running event loop. An interruption is the ``CancelledError`` inside it.

    ``slots`` bounds nothing here; it is what the engine may have in flight. Owning nothing, it has nothing to start.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def unfinished(self) -> Mapping[Call, Future[Any]]:
        return {}

    def extend(self, count: int) -> None:
        """Coroutines need no slots."""

    async def run(self, call: Call) -> Any:
        value = call.func(*call.args, **call.kwargs)
        return await value if inspect.isawaitable(value) else value
