"""What a start needs: imported when an app is made, because a start runs on the event loop, which would wait for it.

A program that only looks at the jobs of an app, such as a command, leaves it out and is ready sooner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ("client_only", "preload")

_is_client_only: Final = ContextVar("_is_client_only", default=False)


def preload() -> None:
    """Import the engine, the runners that every app has, and the storage in memory, which an app has beside its own."""
    if not _is_client_only.get():
        import jobify.engine.engine
        import jobify.runners.loop
        import jobify.runners.thread
        import jobify.storage.memory  # noqa: F401


@contextmanager
def client_only() -> Iterator[None]:
    """The apps that are made meanwhile are expected never to start. (One that does imports what it needs then.)"""
    token = _is_client_only.set(True)
    try:
        yield
    finally:
        _is_client_only.reset(token)
