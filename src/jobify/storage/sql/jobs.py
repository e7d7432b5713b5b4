"""Changes of jobs: reschedule, cancel, expire, retry, pause, delete, trim."""

from __future__ import annotations

from collections.abc import Sequence

from jobify.model.records import CancelResult, Expired, NewJob, Progress
from jobify.model.status import JobStatus
from jobify.storage.end_reasons import EXPIRED
from jobify.storage.sql.dependencies import propagate_deletion, propagate_end
from jobify.storage.sql.needs import without_needed
from jobify.storage.sql.revival import revive
from jobify.storage.sql.statements import Statements
from jobify.types import Microseconds

__all__ = ("JobChanges", "successor_row")


class JobChanges:
    """Writing calls of :class:`jobify.storage.base.Storage` that are not made for every job."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def reschedule(self, id: str, *, due_at: Microseconds, now: Microseconds) -> bool:
        with self._statements.together():
            if self._statements.locks_rows:
                self._statements.rows_for("statuses", [id])  # before it is read whether the job waits at a gate
            return self._statements.run("reschedule", due_at, due_at, now, id) == 1

    # -- cancel --------------------------------------------------------------------------------------------------------

    def cancel(
        self, ids: Sequence[str], *, reason: str, now: Microseconds, delete_at: Microseconds | None
    ) -> list[CancelResult]:
        with self._statements.atomic():
            found = self._statements.rows_for("statuses", ids)
            met = {id: _CANCELS.get(status, CancelResult.ENDED) for id, status in found}
            how = (reason, now, delete_at)
            self._cancel_waiting([id for id, result in met.items() if result is CancelResult.CANCELLED], how)
            self._cancel_running([id for id, result in met.items() if result is CancelResult.REQUESTED], how)
        return [met.get(id, CancelResult.MISSING) for id in ids]

    def _cancel_waiting(self, ids: Sequence[str], how: tuple[str, int, int | None]) -> None:
        if ids:
            self._statements.run_for("cancel_waiting", ids, *how)
            propagate_end(self._statements, ids)

    def _cancel_running(self, ids: Sequence[str], how: tuple[str, int, int | None]) -> None:
        if ids:
            self._statements.run_for("request_cancel", ids, *how)
            self._statements.run_for("mark_cancel", ids)
            self._statements.run("delete_orphaned_successors")

    def expire(self, *, now: Microseconds, limit: int, delete_at: Microseconds | None) -> list[Expired]:
        if not self._expired(now, limit):  # without a lock
            return []
        with self._statements.atomic():
            expired = self._expired(now, limit)
            ids = [job.id for job in expired]
            self._statements.run_for("cancel_waiting", ids, EXPIRED, now, delete_at)
            propagate_end(self._statements, ids)
        return expired

    def _expired(self, now: Microseconds, limit: int) -> list[Expired]:
        return [Expired._make(row) for row in self._statements.rows("expired", now, limit)]

    def retry(self, ids: Sequence[str], *, now: Microseconds, with_dependents: bool) -> list[bool]:
        with self._statements.atomic():
            answers = [self._statements.run("retry", now, id) == 1 for id in ids]
            if with_dependents:
                revive(self._statements, [id for id, is_done in zip(ids, answers, strict=True) if is_done], now=now)
            return [
                is_done or self._statements.run("unpark", now, id) == 1
                for id, is_done in zip(ids, answers, strict=True)
            ]

    # -- pause ---------------------------------------------------------------------------------------------------------

    def pause(self, ids: Sequence[str]) -> list[bool]:
        return self._change_pause(ids, "pausable", "pause")

    def resume(self, ids: Sequence[str], *, now: Microseconds) -> list[bool]:
        return self._change_pause(ids, "paused", "resume", now)

    def _change_pause(self, ids: Sequence[str], which: str, statement: str, *how: int) -> list[bool]:
        """Change those of the jobs for which ``which`` asks; for each job, whether it is one of them."""
        with self._statements.atomic():
            found = set(self._statements.rows_for(which, list(dict.fromkeys(ids))))
            self._statements.run_for(statement, list(found), *how)
        return [id in found for id in ids]

    def pause_queue(self, queue: str) -> None:
        self._statements.run("pause_queue", queue)

    def resume_queue(self, queue: str) -> None:
        self._statements.run("resume_queue", queue)

    # -- delete, trim --------------------------------------------------------------------------------------------------

    def delete(self, ids: Sequence[str], *, now: Microseconds, delete_at: Microseconds | None) -> int:
        with self._statements.atomic():
            unneeded = without_needed(self._statements, ids)
            propagate_deletion(self._statements, unneeded, now=now, delete_at=delete_at)
            return self._statements.run_for("delete", unneeded)

    def trim(self, *, keep: int, limit: int) -> int:
        with self._statements.atomic():
            trimmed = self._statements.run("trim", keep, limit)
            return trimmed + self._statements.run("trim_messages", keep, limit - trimmed)


_CANCELS = {JobStatus.SCHEDULED.value: CancelResult.CANCELLED, JobStatus.RUNNING.value: CancelResult.REQUESTED}


def successor_row(job: NewJob, progress: Progress) -> tuple[object, ...]:
    """The parameters of ``replace`` and ``successor``."""
    return (
        job.id,
        job.task,
        job.queue,
        job.priority,
        job.ready,
        job.due_at,
        job.offset_at,
        job.created_at,
        job.origin,
        progress.run_count,
        progress.failure_count,
        job.expires_at,
        job.rule,
        job.options,
        job.payload,
        job.unique_key,
    )
