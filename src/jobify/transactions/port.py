"""What a driver has to do for jobs in a user's transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from jobify.storage.transactions import Statements

__all__ = ("IsVisible", "Notify", "UserConnection", "Work")

T = TypeVar("T")

Work: TypeAlias = Callable[[Statements], T]
"""What to do on the connection: plain blocking code."""
Notify: TypeAlias = Callable[[], object]
"""Notifies the workers. Never fails, and may be called from any thread, also for nothing."""
IsVisible: TypeAlias = Callable[[], bool]
"""Whether other connections see what was stored. May be called from any thread."""


class UserConnection(Protocol):
    """A user's connection. Nothing here commits, closes or changes it."""

    def require_blocking(self) -> None:
        """ConfigurationError if the statements are awaited, so that :meth:`run` cannot be called."""
        ...

    def run(self, work: Work[T]) -> T:
        """Do the work in the calling thread, and in no event loop."""
        ...

    async def arun(self, work: Work[T]) -> T:
        """Do the work and await its statements. On a connection that blocks, :meth:`run`.

        A caller that is cancelled is cancelled when the work has ended, whose statement is cancelled, too.
        """
        ...

    def after_commit(self, notify: Notify, is_visible: IsVisible) -> None:
        """Call ``notify`` after the commit of the transaction, once for all calls with an equal one.

        A driver that says when it is about to commit waits for ``is_visible``. One that says nothing of its commits
        does nothing here: workers look at the database once a second. A rollback may notify for nothing.
        """
        ...
