"""A job as plain values, for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobify.client.clauses import PlainCall, plain_call
from jobify.client.endings import cancel_reason, error_of, errors_of
from jobify.client.values import json_safe
from jobify.model.clock import iso
from jobify.model.cron import rule_as_written
from jobify.model.public_status import public_status
from jobify.model.records import AttemptRecord, JobRecord, MessageRecord, Parking, Relations
from jobify.model.status import known_status

__all__ = ("job_to_dict", "log_lines", "row_to_dict")


def job_to_dict(
    record: JobRecord,
    attempts: Sequence[AttemptRecord],
    relations: Relations,
    *,
    metadata: Mapping[str, Any],
    call: PlainCall,
    result: Any,
    note: str,
) -> dict[str, Any]:
    """All that there is to say of a job."""
    return {
        **row_to_dict(record, metadata=metadata, call=call),
        "note": note,
        "error": error_of(record, attempts),
        "errors": errors_of(attempts),
        "result": json_safe(result),
        "dependencies": list(relations.parents),
        "dependents": list(relations.children),
    }


def row_to_dict(record: JobRecord, *, metadata: Mapping[str, Any], call: PlainCall | None = None) -> dict[str, Any]:
    """What a job's row alone says of it. ``call``: its arguments, where the row does not say them in JSON."""
    call = plain_call(record.payload) if call is None else call
    word, expression = public_status(record.status, record.is_dead), rule_as_written(record.rule).get("expression")
    return {
        "id": record.id,
        "task_name": record.task,
        "queue": record.queue,
        "queue_name": record.queue,
        "priority": record.priority,
        "status": word,
        "public_status": word,
        "job_status": known_status(record.status).value,
        "progress": record.progress,
        "error": error_of(record, ()),
        "reason": cancel_reason(record),
        "attempt": record.attempt,
        "retry_count": max(record.attempt - 1, 0),
        "crashes": record.crashes,
        "created_at": iso(record.created_at),
        "eta": iso(record.due_at),
        "exec_at": iso(record.due_at),
        "started_at": iso(record.started_at),
        "finished_at": iso(record.finished_at),
        "expires_at": iso(record.expires_at),
        "delete_at": iso(record.delete_at),
        "args": call.args,
        "kwargs": call.kwargs,
        "unique_key": record.unique_key,
        "metadata": json_safe(dict(metadata)),
        "cron": expression,
        "cron_expression": expression,
        "run_count": record.run_count,
        "failure_count": record.failure_count,
        "is_cancel_requested": record.is_cancel_requested,
        "parked": None if record.parking is None else _parked(record.parking),
    }


def _parked(parking: Parking) -> dict[str, Any]:
    return {"reason": parking.reason, "at": iso(parking.at), "codes": list(parking.codes)}


def log_lines(messages: Sequence[MessageRecord]) -> list[dict[str, Any]]:
    """Lines of a job's log."""
    return [
        {
            "number": message.number,
            "at": iso(message.at),
            "attempt": message.attempt,
            "level": message.level or "info",
            "message": message.data,
        }
        for message in messages
    ]
