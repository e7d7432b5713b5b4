"""Rows as JSON documents: the keys that scripts may rely on. Times are ISO 8601 in UTC, durations seconds."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from jobify.cli.wait_reasons import queue_note
from jobify.client.job_view import row_to_dict
from jobify.model.clock import iso
from jobify.model.cron import is_paused, is_stopped, rule_as_written
from jobify.model.job_options import metadata_of
from jobify.model.public_status import public_status
from jobify.storage.end_reasons import is_snoozed

if TYPE_CHECKING:
    from jobify.cli.wait_reasons import ClusterState
    from jobify.client.views import QueueView, WorkerView
    from jobify.model.records import AttemptRecord, JobRecord

__all__ = ("attempt_document", "job_document", "queue_document", "schedule_document", "worker_document")


def job_document(job: JobRecord, cluster: ClusterState) -> dict[str, Any]:
    """What there is to know about a job from its row, in the words of ``JobResult.to_dict()``."""
    return {**row_to_dict(job, metadata=metadata_of(job.options)), "note": cluster.note(job)}


def attempt_document(attempt: AttemptRecord) -> dict[str, Any]:
    """A line of a job's history."""
    return {
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "due_at": iso(attempt.due_at),
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "error": attempt.error,
        "traceback": attempt.traceback,
    }


def schedule_document(job: JobRecord, cluster: ClusterState) -> dict[str, Any]:
    """What there is to know about a schedule."""
    rule = rule_as_written(job.rule)
    return {
        "id": job.id,
        "task_name": job.task,
        "queue_name": job.queue,
        "cron": rule.get("expression"),
        "zone": rule.get("zone"),
        "status": public_status(job.status, job.is_dead),
        "is_paused": is_paused(job),
        "next_at": iso(job.due_at) if job.finished_at is None else None,
        "run_count": job.run_count,
        "failure_count": job.failure_count,
        "stopped_at": iso(job.finished_at) if is_stopped(job) else None,
        "error": None if is_snoozed(job.error) else job.error,
        "note": cluster.note(job),
    }


def queue_document(queue: QueueView) -> dict[str, Any]:
    """What there is to know about a queue: what is in it, by word; what keeps it from being served."""
    return {
        "name": queue.name,
        **queue.counts,
        "workers": queue.workers,
        "is_paused": queue.is_paused,
        "note": queue_note(queue),
    }


def worker_document(worker: WorkerView) -> dict[str, Any]:
    """What there is to know about a process."""
    return {
        "id": worker.id,
        "role": worker.role,
        "host": worker.host,
        "pid": worker.pid,
        "is_alive": worker.is_alive,
        "queues": None if worker.queues is None else list(worker.queues),
        "tasks": list(worker.tasks),
        "concurrency": worker.concurrency,
        "jobs": list(worker.jobs),
        "started_at": worker.started_at.astimezone(UTC).isoformat(),
        "seen_at": worker.seen_at.astimezone(UTC).isoformat(),
    }
