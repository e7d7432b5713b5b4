"""Lifespans: code around the life of an app or a router."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from jobify.exceptions import ConfigurationError
from jobify.router import Router

__all__ = ("enter_lifespans",)


async def enter_lifespans(router: Router, stack: AsyncExitStack) -> None:
    """Enter the lifespan of ``router`` and then those below it; ``stack`` leaves them in reverse order.

    Each gets its own router (the app's gets the app). A mapping that it yields is merged into that router's state.
    """
    if router.lifespan is not None:
        yielded: Any = await stack.enter_async_context(router.lifespan(router))
        if yielded is not None and not isinstance(yielded, Mapping):
            raise ConfigurationError(f"The lifespan of {router!r} gave {yielded!r}; yield a mapping, or nothing.")
        router.state.update(yielded or {})
    for below in router.sub_routers:
        await enter_lifespans(below, stack)
