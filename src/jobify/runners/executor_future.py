"""Await a call in an executor of :mod:`concurrent.futures`, which cannot be stopped from outside."""

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
    """The result of ``future``, or its contained error. ``call`` runs until ``future`` is done, however this ends.

    A cancellation removes a call that has not begun, requests a running one to stop, and does not wait.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def on_end() -> None:
        call.end()
        if not done.done():
            done.set_result(None)

    def on_done(_: Future[ReturnT]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(on_end)

    call.begin()
    future.add_done_callback(on_done)
    try:
        await done
    finally:
        if not future.done():
            call.is_stop_requested = True
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
