"""Rows as JSON documents: the keys that scripts may rely on. Times are ISO 8601 in UTC, durations seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobify.clock import to_datetime
from jobify.joboptions import read_options
from jobify.words import word_of

if TYPE_CHECKING:
    from jobify.cli.notes import Scene
    from jobify.records import AttemptRecord, JobRecord, OwnerRecord
    from jobify.types import Microseconds

__all__ = ("attempt_document", "iso", "job_document", "metadata_of", "rule_of", "schedule_document", "worker_document")


def iso(at: Microseconds | None) -> str | None:
    """A time for a program."""
    return None if at is None else to_datetime(at).isoformat()


def metadata_of(job: JobRecord) -> dict[str, Any]:
    """The job's own metadata; empty if its options cannot be read."""
    try:
        return read_options(job.options).metadata or {}
    except ValueError:
        return {}


def job_document(job: JobRecord, scene: Scene) -> dict[str, Any]:
    """What there is to know about a job from its row."""
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "status": word_of(job.status, job.is_dead),
        "priority": job.priority,
        "attempt": job.attempt,
        "crashes": job.crashes,
        "progress": job.progress,
        "error": job.error,
        "note": scene.note(job),
        "metadata": metadata_of(job),
        "unique_key": job.unique_key,
        "created_at": iso(job.created_at),
        "due_at": iso(job.due_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "expires_at": iso(job.expires_at),
        "deleted_at": iso(job.delete_at),
        "is_schedule": job.rule is not None,
    }


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


def rule_of(job: JobRecord) -> dict[str, Any]:
    """A schedule's rule as it is stored; empty if it cannot be read."""
    try:
        rule = json.loads(job.rule or "{}")
    except ValueError:
        return {}
    return rule if isinstance(rule, dict) else {}


def schedule_document(job: JobRecord, scene: Scene) -> dict[str, Any]:
    """What there is to know about a schedule."""
    rule = rule_of(job)
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "cron": rule.get("expression"),
        "zone": rule.get("zone"),
        "status": word_of(job.status, job.is_dead),
        "is_paused": bool(job.blockers),
        "next_due_at": iso(job.due_at) if job.finished_at is None else None,
        "run_count": job.run_count,
        "failure_count": job.failure_count,
        "error": job.error,
        "note": scene.note(job),
    }


def worker_document(owner: OwnerRecord, running: int) -> dict[str, Any]:
    """What there is to know about a process."""
    return {
        "id": owner.id,
        "role": owner.profile.role.value,
        "host": owner.host,
        "pid": owner.pid,
        "is_alive": owner.is_alive,
        "queues": None if owner.profile.queues is None else list(owner.profile.queues),
        "tasks": list(owner.profile.tasks),
        "concurrency": owner.profile.concurrency,
        "running": running,
        "started_at": iso(owner.started_at),
        "seen_at": iso(owner.seen_at),
    }
