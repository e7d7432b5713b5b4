"""The success of an attempt that is stored in the transaction of its task: see :mod:`jobify.jobs.job_transaction`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jobify.exceptions import TaskCancelledError
from jobify.model.records import Settled, Settlement
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

    def __init__(self, attempt: Attempt, value: Any, settlement: Settlement) -> None:
        self._attempt = attempt
        self._value = value
        self._settlement = settlement
        self._settled = Settled.REFUSED

    def store(self, statements: Statements) -> None:
        """Settle the job, on the connection of the task."""
        attempt = self._attempt
        (self._settled,) = join(attempt.backend.storage, statements).settle((self._settlement,))
        if not self._settled:
            raise TaskCancelledError(attempt.id, "it was taken from this process; its transaction is rolled back")

    def committed(self) -> None:
        """From now on the attempt ends like this."""
        self._attempt.committed = Committed(self._value, self._settlement, self._settled)
