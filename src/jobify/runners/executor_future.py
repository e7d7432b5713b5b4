"""Awaiting a call that an executor of :mod:`concurrent.futures` carries, where nothing can be stopped from outside."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from jobify.exceptions import ApplicationStateError
from jobify.runners.base import Call, contained

__all__ = ("await_future",)

ReturnT = TypeVar("ReturnT")


async def await_future(future: Future[ReturnT], call: Call) -> ReturnT:
    """What ``future`` gives, or its error, contained. ``call`` runs until ``future`` is done, however this ends.

    Cancelled, it takes the call back if no worker has begun it, tells it to stop if one has, and does not wait.
    """
    loop = asyncio.get_running_loop()
    landed: asyncio.Future[None] = loop.create_future()

    def land() -> None:
        call.end()
        if not landed.done():
            landed.set_result(None)

    def on_done(_: Future[ReturnT]) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(land)

    call.begin()
    future.add_done_callback(on_done)
    try:
        await landed
    finally:
        if not future.done():
            call.stop.set()
            future.cancel()
    return _result_of(future)


def _result_of(future: Future[ReturnT]) -> ReturnT:
    if future.cancelled():
        raise ApplicationStateError(
            operation="run the call", reason="its executor was shut down first.", solution="Start the app again."
        )
    error = future.exception()
    if error is not None:
        raise contained(error)
    return future.result()
