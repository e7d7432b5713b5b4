"""A job that was pushed and has ended before it had a row: what its row will be, if it is needed."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from jobify.engine.execution.settlement import success_of_first_attempt
from jobify.jobs.row_builder import claimed_row
from jobify.model.records import NewJob, Settlement
from jobify.router.registry import Endpoint
from jobify.types import Microseconds

__all__ = ("UnwrittenJob",)


class UnwrittenJob(Struct, eq=False, gc=False):
    """See :class:`~jobify.gateway.gateway.UnwrittenEnd`.

    It holds no handle and no context, so that thousands of them are out of the garbage collector's sight. (For
    ``gc=False`` see :class:`~jobify.jobs.schedule_builder.PushRequest`.)
    """

    id: str
    endpoint: Endpoint
    owner: int
    created_at: Microseconds
    due_at: Microseconds
    payload: Any
    result: Any
    finished_at: Microseconds
    delete_at: Microseconds | None
    end: Settlement | None = None
    """The end, if it is another one than a success."""

    def row(self) -> NewJob:
        """The row of the insert: claimed by this process."""
        return claimed_row(self.endpoint, self.id, self.owner, self.payload, due_at=self.due_at, now=self.created_at)

    def settlement(self) -> Settlement:
        """The end of its only attempt."""
        if self.end is not None:
            return self.end
        return success_of_first_attempt(self.id, self.owner, self.due_at, self.result, self.finished_at, self.delete_at)
