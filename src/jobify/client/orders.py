"""Orders for queues, schedules and ended jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from jobify.client.access import Access
from jobify.client.asking import Filters
from jobify.client.board import Board
from jobify.clock import Clock
from jobify.exceptions import ConfigurationError, JobNotFoundError
from jobify.identifiers import check_text, text_ids
from jobify.records import JobRecord, NewJob
from jobify.status import JobStatus
from jobify.types import Microseconds, UUIDGenerator

__all__ = ("Orders",)

_BATCH = 500


class Orders:
    """Writes in the caller's thread."""

    def __init__(
        self,
        access: Access,
        board: Board,
        clock: Clock,
        new_id: UUIDGenerator,
        delete_at: Callable[[Microseconds], Microseconds | None],
    ) -> None:
        self._access = access
        self._board = board
        self._clock = clock
        self._new_id = text_ids(new_id)
        self._delete_at = delete_at

    def pause_queue(self, queue: str) -> None:
        """Let nobody take jobs of this queue."""
        name = check_text(queue, what="queue")
        with self._access as storage:
            storage.pause_queue(name)
        self._access.ring(workers=True)

    def resume_queue(self, queue: str) -> None:
        """Undo :meth:`pause_queue`."""
        name = check_text(queue, what="queue")
        with self._access as storage:
            storage.resume_queue(name)
        self._access.ring(workers=True)

    def pause_schedule(self, job_id: str) -> bool:
        """Let it rest; whether it is a schedule that has not ended."""
        with self._access as storage:
            (is_done,) = storage.pause((job_id,))
        self._access.ring(workers=True)
        return is_done

    def resume_schedule(self, job_id: str) -> bool:
        """Undo :meth:`pause_schedule`; whether it was paused."""
        with self._access as storage:
            (is_done,) = storage.resume((job_id,), now=self._clock.now())
        self._access.ring(workers=True)
        return is_done

    def run_now(self, job_id: str) -> str:
        """Enqueue one job like those of a schedule, at once; its id. The rule goes on as it would have."""
        with self._access as storage:
            record = next(iter(storage.get((job_id,))), None)
            if record is None:
                raise JobNotFoundError(job_id)
            if record.rule is None:
                raise ConfigurationError(f"Job {job_id!r} is no schedule. For a job that has failed there is retry().")
            row = self._like(record)
            storage.insert((row,))
        self._access.ring(workers=True)
        return row.id

    def _like(self, record: JobRecord) -> NewJob:
        now = self._clock.now()
        return NewJob(
            id=self._new_id(),
            task=record.task,
            queue=record.queue,
            priority=record.priority,
            status=JobStatus.SCHEDULED.value,
            ready=True,
            due_at=now,
            created_at=now,
            payload=record.payload,
            options=record.options,
        )

    def delete(self, ids: Sequence[str]) -> int:
        """Remove jobs that are not running, with all that belongs to them; how many. What depends on one that had not
        ended is cancelled."""
        deleted = 0
        for start in range(0, len(ids), _BATCH):
            with self._access as storage:
                now = self._clock.now()
                deleted += storage.delete(ids[start : start + _BATCH], now=now, delete_at=self._delete_at(now))
        self._access.ring(workers=True, clients=True)
        return deleted

    def purge(self, filters: Filters) -> int:
        """Delete the ended jobs that match, a bounded number at a time; how many."""
        deleted, ids = 0, (record.id for record in self._board.all_ended(filters))
        while batch := list(islice(ids, _BATCH)):
            deleted += self.delete(batch)
        return deleted

    def purge_due(self) -> int:
        """Delete what retention no longer keeps, a bounded number at a time; how many."""
        total = 0
        while deleted := self._purge_some():
            total += deleted
        return total

    def _purge_some(self) -> int:
        with self._access as storage:
            return storage.purge(now=self._clock.now(), limit=_BATCH)
