"""Close a storage without waiting for jobs that still run: the last step of a shutdown that was cancelled twice.

A thread cannot be stopped, and a coroutine may refuse to stop. What still runs then stays with the owner of this
process: its row is marked as leaving, and its lock outlives the storage. The lock is dropped when the last of those
functions has returned, or with the process; then recovery releases the jobs, and counts neither an attempt nor a crash.
So two attempts of one job never overlap, however long the process lives on.

Everything else that is still claimed here (it has not begun, or its child process was killed) is released at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from jobify.engine.execution.attempt import Attempt, Interruption, Phase
from jobify.engine.execution.settlement import build_settlement
from jobify.gateway.backend import Backend
from jobify.gateway.notification import STATE_CHANGED
from jobify.model.clock import Clock
from jobify.model.records import Settlement
from jobify.model.retention import Retention
from jobify.model.status import Cancelled, Released
from jobify.runners.base import CallMaker, FunctionCall
from jobify.types import Microseconds

__all__ = ("abandon", "leave")


def _unstoppable(makers: Iterable[CallMaker]) -> dict[FunctionCall, Future[Any]]:
    """The calls that could not be stopped, each with a future that is done at its end."""
    return {call: future for maker in makers for call, future in maker.unfinished().items()}


def abandon(backends: Iterable[Backend], makers: Iterable[CallMaker]) -> None:
    """Close storages whose event loop was closed without a stop: when the functions that still run have ended."""
    for backend in backends:
        backend.abandon(_unstoppable(makers).values())


async def leave(
    backend: Backend,
    attempts: Iterable[Attempt],
    makers: Iterable[CallMaker],
    retention: Retention,
    clock: Clock,
) -> None:
    """Close a storage: at once, or for the jobs that still run when these have ended."""
    attempts, calls = list(attempts), _unstoppable(makers)
    running = _still_running(attempts, calls)
    try:
        await _release_unfinished(
            backend, [attempt for attempt in attempts if attempt not in running], retention, clock
        )
    finally:
        await backend.stop({*running.values(), *calls.values()})


def _still_running(
    attempts: Iterable[Attempt], calls: Mapping[FunctionCall, Future[Any]]
) -> dict[Attempt, Future[Any]]:
    """The attempts whose code may still run, each with a future that is done at its end. ``calls``: those that no
    runner could stop."""
    running: dict[Attempt, Future[Any]] = {}
    for attempt in attempts:
        if attempt.call is not None:
            future = calls.get(attempt.call.whole or attempt.call)
        else:
            future = _end_of(attempt.task) if attempt.phase is not Phase.LAUNCHED and attempt.task is not None else None
        if future is not None and not future.done():
            running[attempt] = future
    return running


def _end_of(task: asyncio.Task[None]) -> Future[None]:
    ended: Future[None] = Future()
    task.add_done_callback(lambda _: ended.set_result(None))
    return ended


async def _release_unfinished(
    backend: Backend, attempts: Iterable[Attempt], retention: Retention, clock: Clock
) -> None:
    """Release attempts of which nothing runs; a later outcome of theirs is refused."""
    now = clock.now()
    settlements = [_released(attempt, retention, now) for attempt in attempts if attempt.backend is backend]
    if settlements:
        await backend.gate.call(lambda: backend.storage.settle(settlements), audience=STATE_CHANGED)


def _released(attempt: Attempt, retention: Retention, now: Microseconds) -> Settlement:
    outcome = Cancelled() if attempt.interruption is Interruption.CANCEL else Released()
    return build_settlement(attempt, outcome, None, now=now, retention=retention)
