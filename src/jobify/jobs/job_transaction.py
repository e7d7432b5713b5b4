"""A transaction that ends the job it is part of: ``current_job.transaction(engine)``.

What a job does in a database and the end of the job are two writes, and a process may die between them: then the job
runs again, and does it twice. In one transaction there is no between. The end of the job is written on the connection
of the user, as the last statement before the commit, if the claim of this attempt still holds; else nothing is
committed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from jobify.exceptions import ApplicationStateError, ConfigurationError
from jobify.storage.transactions import Statements
from jobify.transactions import UserConnection, connect
from jobify.transactions.blocks import Block

__all__ = ("Complete", "Completion", "JobTransaction")

T = TypeVar("T")


class Completion(Protocol):
    """The success of the attempt that is under way, to be stored in a transaction."""

    def store(self, statements: Statements) -> None:
        """Write it. TaskCancelledError if the claim does not hold any more."""
        ...

    def committed(self) -> None:
        """It is stored: whatever comes after it does not change the end of the attempt."""
        ...


Complete: TypeAlias = Callable[[Any], Completion | None]
"""Makes the completion with a value; PayloadError if that cannot be stored. None: there is no job."""


class JobTransaction:
    """A transaction, for ``with`` or ``async with``, as the engine or the connection wants it. Attributes are those of
    the connection, so ``tx.execute(...)`` runs a statement in it.

    It is committed at the end of the block, and rolled back if the block raises. With :meth:`complete` the commit also
    ends the job.
    """

    def __init__(self, block: Block, complete: Complete) -> None:
        self._block = block
        self._complete = complete
        self._completion: Completion | None = None
        self._is_completed = False
        self._connection: Any = None

    @property
    def connection(self) -> Any:
        """The connection (or the session) of the block."""
        if self._connection is None:
            raise ApplicationStateError(
                operation="use the transaction of the job",
                reason="It has not begun, or is over.",
                solution="Use it inside its block: async with current_job.transaction(engine) as tx.",
            )
        return self._connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def complete(self, value: T) -> T:
        """End the job with this value when the block is left, and return the value. ::

            return tx.complete("paid")

        The job is complete once the transaction is committed, whatever the task does after that. PayloadError if the
        value cannot be stored.
        """
        if self._is_completed:
            raise ApplicationStateError(
                operation="complete the job", reason="It was completed in this block.", solution="Call it once."
            )
        self.connection  # noqa: B018  # the block is open
        self._completion = self._complete(value)
        self._is_completed = True
        return value

    # -- with ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if not isinstance(self._block, AbstractContextManager):
            raise ConfigurationError("This engine is for async code. Write: async with current_job.transaction(...)")
        self._connection = self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert isinstance(self._block, AbstractContextManager)
        try:
            if error is None and self._completion is not None:
                self._driver().run(self._completion.store)
        except BaseException as refused:
            self._block.__exit__(type(refused), refused, refused.__traceback__)
            raise
        else:
            self._block.__exit__(kind, error, trace)
        finally:
            self._connection = None
        if error is None and self._completion is not None:
            self._completion.committed()

    # -- async with ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        block = self._block
        self._connection = (
            await block.__aenter__() if isinstance(block, AbstractAsyncContextManager) else block.__enter__()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(self._block, AbstractAsyncContextManager):
            self.__exit__(kind, error, trace)
            return
        try:
            if error is None and self._completion is not None:
                await self._driver().arun(self._completion.store)
        except BaseException as refused:
            await self._block.__aexit__(type(refused), refused, refused.__traceback__)
            raise
        else:
            await self._block.__aexit__(kind, error, trace)
        finally:
            self._connection = None
        if error is None and self._completion is not None:
            self._completion.committed()

    def _driver(self) -> UserConnection:
        return connect(self._connection)
