"""A thread for looks at a storage, which wait for no write.

The storage's own thread writes, and a write may wait: for the disk, for a file that another process has locked, for the
hundreds of jobs before it in the group. What only reads is called here. The thread starts with the first call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ("ReadThread",)

T = TypeVar("T")


class ReadThread:
    """Calls functions that read from a storage, one after the other."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[[], T], otherwise: Callable[[Callable[[], T]], Awaitable[T]]) -> T:
        """What ``function`` gives; called by ``otherwise`` where the system has no thread left."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="jobify-reads")
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._executor, function)
        except RuntimeError:
            return await otherwise(function)
        return await reading

    def close(self) -> None:
        """End the thread. A call that is under way ends first; the closed storage interrupts it."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)
