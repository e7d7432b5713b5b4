"""The success of an attempt that is stored in the transaction of its task: see :mod:`jobify.jobs.job_transaction`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jobify.exceptions import TaskCancelledError
from jobify.model.records import Report, Settled, Settlement
from jobify.storage.transactions import Statements, join

if TYPE_CHECKING:
    from jobify.engine.execution.attempt import Attempt

__all__ = ("Committed", "JobCompletion")


class Committed(NamedTuple):
    """The end of an attempt that is stored."""

    value: Any
    settlement: Settlement
    settled: Settled


class JobCompletion:
    """See :class:`~jobify.jobs.job_transaction.Completion`."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._value: Any = None
        self._settlement: Settlement | None = None
        self._settled = Settled.REFUSED
        backend = attempt.backend
        self._stream = attempt.reports or backend.reporter.stream_of(attempt, backend.owner, attempt.fence)
        self._reports: list[Report] = []

    def begin(self) -> None:
        self._stream.hold(self._attempt)

    async def abegin(self) -> None:
        await self._stream.ahold()

    def complete(self, value: Any) -> None:
        self._settlement = self._attempt.backend.success_of(self._attempt, value)
        self._value = value

    @property
    def is_complete(self) -> bool:
        return self._settlement is not None

    def store(self, statements: Statements) -> None:
        attempt, settlement = self._attempt, self._settlement
        assert settlement is not None
        joined = join(attempt.backend.storage, statements)
        self._reports = self._stream.take_held()
        joined.report(self._reports)
        (self._settled,) = joined.settle((settlement,))
        if not self._settled:
            raise TaskCancelledError(attempt.id, "it was taken from this process; its transaction is rolled back")

    def end(self, *, is_committed: bool) -> None:
        attempt, settlement = self._attempt, self._settlement
        if is_committed and settlement is not None:
            attempt.committed = Committed(self._value, settlement, self._settled)
        self._stream.resume([] if is_committed else self._reports)
