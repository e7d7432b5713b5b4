"""Rows as JSON documents, with the keys that scripts may rely on. Times are ISO 8601 in UTC, durations seconds."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from jobify.client.job_view import row_to_dict
from jobify.client.views import UnservedReason
from jobify.client.wait_reasons import UNSERVED_NOTES
from jobify.model.clock import iso
from jobify.model.cron import is_paused, is_stopped, rule_as_written
from jobify.model.job_options import metadata_of
from jobify.model.public_status import public_status
from jobify.storage.end_reasons import is_snoozed

if TYPE_CHECKING:
    from jobify.client.views import QueueView, WorkerView
    from jobify.client.wait_reasons import ClusterState
    from jobify.model.records import AttemptRecord, JobRecord

__all__ = ("attempt_document", "job_document", "queue_document", "queue_note", "schedule_document", "worker_document")


def job_document(job: JobRecord, cluster: ClusterState) -> dict[str, Any]:
    """The document of a job, from its row. The keys are those of ``JobResult.to_dict()``."""
    row = row_to_dict(job, metadata=metadata_of(job.options))
    return {**row, "note": cluster.note(job), "waits_for": cluster.waits_for(job)}


def attempt_document(attempt: AttemptRecord) -> dict[str, Any]:
    """The document of one attempt."""
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
    """The document of a schedule."""
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
    """The document of a queue: jobs by status, workers, and why it is not served."""
    return {
        "name": queue.name,
        **queue.counts,
        "workers": queue.workers,
        "is_paused": queue.is_paused,
        "note": queue_note(queue),
    }


def queue_note(queue: QueueView) -> str:
    """Why the jobs of a queue wait, in a few words; empty if nothing keeps them from being served."""
    if queue.is_paused:
        return "paused"
    if queue.problem:
        return UNSERVED_NOTES[UnservedReason.QUEUE_UNSERVED]
    return f"no worker knows {', '.join(queue.unknown_tasks)}" if queue.unknown_tasks and queue.workers else ""


def worker_document(worker: WorkerView) -> dict[str, Any]:
    """The document of a process."""
    return {
        "id": worker.id,
        "role": worker.role,
        "host": worker.host,
        "pid": worker.pid,
        "is_alive": worker.is_alive,
        "is_disconnected": worker.is_disconnected,
        "queues": None if worker.queues is None else list(worker.queues),
        "tasks": list(worker.tasks),
        "concurrency": worker.concurrency,
        "jobs": list(worker.jobs),
        "started_at": worker.started_at.astimezone(UTC).isoformat(),
        "seen_at": worker.seen_at.astimezone(UTC).isoformat(),
    }
