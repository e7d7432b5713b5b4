"""The same work in several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobify.storage import PostgresStorage, SQLiteStorage

__all__ = ("in_processes", "opened")

SPAWN = multiprocessing.get_context("spawn")


def in_processes(count: int, work: Callable[..., Any], path: str | Path) -> list[Any]:
    """What ``work(path, number)`` returns in each of ``count`` processes that start at the same moment."""
    start = SPAWN.Barrier(count)
    answers = SPAWN.Queue()
    arguments = [(work, str(path), number, start, answers) for number in range(count)]
    processes = [SPAWN.Process(target=_call, args=some) for some in arguments]
    for process in processes:
        process.start()
    found = [answers.get(timeout=100) for _ in processes]
    for process in processes:
        process.join()
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return found


def _call(work: Callable[..., Any], path: str, number: int, start: Any, answers: Any) -> None:
    try:
        start.wait()
        answers.put(work(path, number))
    except BaseException as error:
        answers.put(error)


@contextmanager
def opened(place: str | Path, **options: Any) -> Iterator[Any]:
    """The storage at a path, or at the URL of a PostgreSQL database."""
    storage: SQLiteStorage | PostgresStorage
    if str(place).startswith("postgresql:"):
        storage = PostgresStorage(str(place))
    else:
        storage = SQLiteStorage(place, **{"synchronous": "normal", **options})
    storage.open()
    try:
        yield storage
    finally:
        storage.close()
