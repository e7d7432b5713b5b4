"""Tasks of the library's own, which no task factory of the program can refuse, delay or run eagerly.

A task factory belongs to whoever runs the event loop: one with an old signature, or one that raises, must not decide
whether an outcome is stored or an app shuts down. The tasks of jobs are made through the factory
(:mod:`jobify.engine.executor`); all others are made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ("spawn",)

T = TypeVar("T")


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
    """Run ``coroutine`` as a task of the running event loop, past its task factory."""
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name)
