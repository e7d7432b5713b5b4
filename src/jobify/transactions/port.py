"""What a driver has to do for jobs in a user's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from jobify.storage.transactions import Statements

__all__ = ("BlockingConnection", "Find", "Notify", "Stored", "UserConnection", "Work")

T = TypeVar("T")

Work: TypeAlias = Callable[[Statements], T]
"""What to do on the connection: plain blocking code."""
Notify: TypeAlias = Callable[[], object]
"""Notifies the workers. Never fails, and may be called from any thread, also for nothing."""
Find: TypeAlias = Callable[[Sequence[str]], Collection[str]]
"""Which of these jobs other connections see. May be called from any thread."""


class Stored(NamedTuple):
    """Jobs that a transaction has stored."""

    job_id: str
    """One of them."""
    notify: Notify
    find: Find


class UserConnection(Protocol):
    """A user's connection. Nothing here commits, closes or changes it."""

    tells_commits: bool
    """Whether the driver says when a transaction is committed."""

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

    def after_commit(self, stored: Stored) -> None:
        """Notify the workers after the commit of the transaction, once for all calls with an equal ``notify``.

        Where the driver does not say when that is, a thread of this process looks whether the job is there
        (:mod:`jobify.transactions.commits`), or on SQLite the workers do, once a second. A rollback may notify for
        nothing.
        """
        ...


class BlockingConnection:
    """The base of those whose statements block the thread that runs them."""

    def require_blocking(self) -> None:
        """See :class:`UserConnection`."""

    def run(self, work: Work[T]) -> T:
        """See :class:`UserConnection`."""
        raise NotImplementedError

    async def arun(self, work: Work[T]) -> T:
        """See :class:`UserConnection`."""
        return self.run(work)
