"""A transaction that ends the job it is part of: ``current_job.transaction(engine)``.

What a job does in a database and the end of the job are two writes, and a process may die between them: then the job
runs again, and does it twice. In one transaction there is no between. The end of the job is written on the connection
of the user, as the last statement before the commit, if the claim of this attempt still holds; else nothing is
committed.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from jobify.exceptions import ApplicationStateError, ConfigurationError
from jobify.storage.transactions import Statements
from jobify.transactions import connect
from jobify.transactions.blocks import Block

__all__ = ("Completion", "JobTransaction")

T = TypeVar("T")


class Completion(Protocol):
    """The part of an attempt in a transaction: what it reports, and its success."""

    def begin(self) -> None:
        """Before the transaction: wait until what was reported is stored, and hold back what is reported from now on,
        because it is stored in the transaction. On an event loop nothing is waited for."""
        ...

    async def abegin(self) -> None:
        """:meth:`begin`, without blocking the event loop."""
        ...

    def complete(self, value: Any) -> None:
        """The attempt is to end with this value; PayloadError if that cannot be stored."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether :meth:`complete` was called."""
        ...

    def store(self, statements: Statements) -> None:
        """Write the reports and the end. TaskCancelledError if the claim does not hold any more."""
        ...

    def end(self, *, is_committed: bool) -> None:
        """The transaction is over. If the end of the attempt is committed, nothing that follows changes it."""
        ...


class JobTransaction:
    """A transaction, for ``with`` or ``async with``, as the engine or the connection wants it. Attributes are those of
    the connection, so ``tx.execute(...)`` runs a statement in it.

    It is committed at the end of the block, and rolled back if the block raises. With :meth:`complete` the commit also
    ends the job.
    """

    def __init__(self, block: Block, completion: Completion | None) -> None:
        self._block = block
        self._completion = completion
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
        if self._completion is not None and self._completion.is_complete:
            raise ApplicationStateError(
                operation="complete the job", reason="It was completed in this block.", solution="Call it once."
            )
        self.connection  # noqa: B018  # the block is open
        if self._completion is not None:
            self._completion.complete(value)
        return value

    # -- with ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        block, part = self._block, self._completion
        if not isinstance(block, AbstractContextManager):
            raise ConfigurationError("This engine is for async code. Write: async with current_job.transaction(...)")
        if part is not None:
            part.begin()
        try:
            self._connection = block.__enter__()
        except BaseException:
            self._end(is_committed=False)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, part, is_committed = self._block, self._completion, False
        assert isinstance(block, AbstractContextManager)
        try:
            if error is None and part is not None and part.is_complete:
                try:
                    connect(self._connection).run(part.store)
                except BaseException as refused:
                    block.__exit__(type(refused), refused, refused.__traceback__)
                    raise
            block.__exit__(kind, error, trace)
            is_committed = error is None
        finally:
            self._end(is_committed=is_committed)

    async def __aenter__(self) -> Self:
        block, part = self._block, self._completion
        if part is not None:
            await part.abegin()
        try:
            if isinstance(block, AbstractAsyncContextManager):
                self._connection = await block.__aenter__()
            else:
                self._connection = block.__enter__()
        except BaseException:
            self._end(is_committed=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, part, is_committed = self._block, self._completion, False
        if not isinstance(block, AbstractAsyncContextManager):
            self.__exit__(kind, error, trace)
            return
        try:
            if error is None and part is not None and part.is_complete:
                try:
                    await connect(self._connection).arun(part.store)
                except BaseException as refused:
                    await block.__aexit__(type(refused), refused, refused.__traceback__)
                    raise
            await block.__aexit__(kind, error, trace)
            is_committed = error is None
        finally:
            self._end(is_committed=is_committed)

    def _end(self, *, is_committed: bool) -> None:
        self._connection = None
        if self._completion is not None:
            self._completion.end(is_committed=is_committed)
