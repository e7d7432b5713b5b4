"""Tasks that ask for a later attempt, at the top level of a module for child processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobify import Retry, RunMode, Snooze, current_job


def _note(log: str) -> int:
    """How many attempts there were, with this one; its number is noted."""
    path = Path(log)
    with path.open("a") as file:
        file.write(f"{current_job.attempt}\n")
    return len(path.read_text().split())


def attempts(log: str) -> list[int]:
    """The numbers of all attempts."""
    return [int(word) for word in Path(log).read_text().split()] if Path(log).exists() else []


def retries(log: str, times: int) -> str:
    count = _note(log)
    if count <= times:
        raise Retry(0.01, f"not yet, {count}")
    return f"there after {count}"


async def retries_on_loop(log: str, times: int) -> str:
    return retries(log, times)


def snoozes(log: str, times: int, delay: float = 0.01) -> str:
    count = _note(log)
    if count <= times:
        raise Snooze(delay, f"not yet, {count}")
    return f"there after {count}"


async def snoozes_on_loop(log: str, times: int, delay: float = 0.01) -> str:
    return snoozes(log, times, delay)


def fails(log: str) -> None:
    _note(log)
    try:
        raise ConnectionError("the shop is closed")
    except ConnectionError as error:
        raise Retry(0.01) from error


async def fails_on_loop(log: str) -> None:
    fails(log)


async def in_a_group(log: str, times: int) -> str:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(retries_on_loop(log, times))
    return await running


Modes = dict[str, tuple[Callable[..., Any], RunMode]]

RETRIES: Modes = {
    "loop": (retries_on_loop, RunMode.MAIN),
    "thread": (retries, RunMode.THREAD),
    "process": (retries, RunMode.PROCESS),
}
SNOOZES: Modes = {
    "loop": (snoozes_on_loop, RunMode.MAIN),
    "thread": (snoozes, RunMode.THREAD),
    "process": (snoozes, RunMode.PROCESS),
}
FAILS: Modes = {
    "loop": (fails_on_loop, RunMode.MAIN),
    "thread": (fails, RunMode.THREAD),
    "process": (fails, RunMode.PROCESS),
}
