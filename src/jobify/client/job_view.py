"""Stored jobs as plain values: arguments, errors, and the JSON document of a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from jobify.exceptions import (
    MaxRetriesExceededError,
    ResultNotStoredError,
    TaskCancelledError,
    TaskFailedError,
)
from jobify.jobs.collected_calls import collected_payloads
from jobify.model.clock import iso
from jobify.model.cron import rule_as_written
from jobify.model.job_options import calls_of
from jobify.model.public_status import public_status
from jobify.model.records import AttemptRecord, JobRecord, MessageRecord, Parking, Relations
from jobify.model.status import Event, JobStatus, known_status
from jobify.serializers.codec import Codec, ObjectCodec, ParameterTypes
from jobify.serializers.tagging.encoder import untagged
from jobify.storage.base import Storage
from jobify.storage.end_reasons import is_snoozed
from jobify.storage.weight import NO_ARGUMENTS

__all__ = (
    "PlainCall",
    "ValueCodec",
    "cancel_reason",
    "error_of",
    "errors_of",
    "failure_of",
    "job_to_dict",
    "log_lines",
    "plain_call",
    "plain_call_of",
    "plain_value",
    "row_error",
    "row_to_dict",
)


# -- values ------------------------------------------------------------------------------------------------------------
# Values in rows: encoded, or in memory the objects themselves.

_OBJECTS = ObjectCodec()


class ValueCodec:
    """Encodes and decodes arguments, results and published values, as the engine of the same app does.

    In memory, values never leave the process, and stay the objects they are.
    """

    def __init__(self, codec: Codec, current: Callable[[], Storage], result_type: Callable[[str], Any]) -> None:
        self._codec = codec
        self._current = current
        self._result_type = result_type

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing is encoded."""
        return self._current().is_in_memory

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: ParameterTypes) -> Any:
        """The payload of a call; PayloadError if it could not be decoded again."""
        return (_OBJECTS if self.is_in_memory else self._codec).encode_call(args, kwargs, types)

    def plain_call(self, record: JobRecord) -> PlainCall:
        """The arguments in a row as JSON values; PayloadError if they cannot be read here."""
        return _plain(record, self._plain_call)

    def _plain_call(self, stored: Any) -> PlainCall:
        args, kwargs = (_OBJECTS if self.is_in_memory else self._codec).decode_call(stored)
        return PlainCall(json_safe(list(args)), json_safe(kwargs))

    def result(self, task: str, stored: Any) -> Any:
        """The result of ``task``; PayloadError if it cannot be decoded."""
        return (_OBJECTS if self.is_in_memory else self._codec).decode_result(stored, self._result_type(task))

    def published(self, stored: Any) -> Any:
        """A value that a task has published; PayloadError if it cannot be decoded."""
        return stored if self.is_in_memory else self._codec.decode_result(stored)


def json_safe(value: Any) -> Any:
    """``value`` as JSON can write it; anything else as its repr."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except Exception:  # of a user's object, which is shown all the same
        return repr(value)


# -- job view ----------------------------------------------------------------------------------------------------------

_FAILED: Final = frozenset({Event.RETRY.value, Event.FAILED.value, Event.TIMED_OUT.value, Event.LOST.value})
"""The outcomes of attempts that failed."""
_NO_ERROR: Final = frozenset({JobStatus.SUCCESS.value, JobStatus.CANCELLED.value})
_NO_REASON: Final = "no reason was recorded"
_KINDS: Final = {
    "failed": TaskFailedError,
    "dead": MaxRetriesExceededError,
    "cancelled": TaskCancelledError,
}
"""The error for an end without a value."""


class PlainCall(NamedTuple):
    """Arguments as JSON values. None: they are not stored, or not as JSON."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None


def plain_call(payload: Any) -> PlainCall:
    """The arguments in a row. No code of the app is run: bytes that are not JSON are not read.

    >>> plain_call(b'[[1,{"$":"tuple","v":[2]}],{"to":"ann"}]')
    PlainCall(args=[1, [2]], kwargs={'to': 'ann'})
    >>> plain_call(b"pickled")
    PlainCall(args=None, kwargs=None)
    """
    if payload is NO_ARGUMENTS:  # they were deleted when the job ended
        return PlainCall()
    if isinstance(payload, tuple):  # in memory
        return PlainCall(json_safe(list(payload[0])), json_safe(dict(payload[1])))
    match plain_value(payload):
        case [list(args), dict(kwargs)]:
            return PlainCall(args, kwargs)
        case _:
            return PlainCall()


def plain_call_of(record: JobRecord) -> PlainCall:
    """:func:`plain_call` of a row. Calls that were collected are one list; each is a list or a dict of arguments."""
    return _plain(record, plain_call)


def _plain(record: JobRecord, read: Callable[[Any], PlainCall]) -> PlainCall:
    if record.payload is NO_ARGUMENTS or not calls_of(record.options):
        return read(record.payload)
    calls = [read(payload) for payload in collected_payloads(record.payload)]
    if any(call.args is None for call in calls):
        return PlainCall()
    return PlainCall([[_as_written(call.args or [], call.kwargs or {}) for call in calls]], {})


def _as_written(args: list[Any], kwargs: dict[str, Any]) -> Any:
    return [*args, kwargs] if args and kwargs else kwargs or args


def plain_value(data: bytes) -> Any:
    """A stored value as a JSON value; None for bytes that are not JSON."""
    try:
        return untagged(json.loads(data))
    except (ValueError, TypeError, RecursionError):
        return None


def _failed(attempts: Iterable[AttemptRecord]) -> list[AttemptRecord]:
    return [attempt for attempt in attempts if attempt.outcome in _FAILED]


def errors_of(attempts: Sequence[AttemptRecord]) -> list[dict[str, Any]]:
    """One dict for each failed attempt, the oldest first."""
    return [_error(number, line) for number, line in enumerate(attempts, 1) if line.outcome in _FAILED]


def _error(number: int, line: AttemptRecord) -> dict[str, Any]:
    return {
        "id": f"{line.job_id}:{number}",
        "job_id": line.job_id,
        "attempt": line.attempt,
        "error": (line.traceback or line.error or _NO_REASON).rstrip(),
        "message": line.error or _NO_REASON,
        "outcome": line.outcome,
        "started_at": iso(line.started_at),
        "failed_at": iso(line.finished_at),
    }


def row_error(record: JobRecord) -> str | None:
    """The error in a row; None if it has none, or only the reason why the job was cancelled or postponed."""
    if record.status in _NO_ERROR or is_snoozed(record.error):
        return None
    return record.error


def error_of(record: JobRecord, attempts: Sequence[AttemptRecord]) -> str | None:
    """``Type: message`` of the last failure; None if the job has not failed, or has succeeded in the end.

    ``attempts`` is the history; it matters where the row has no error: the error of a cancelled, retried or postponed
    job is that of its last failed attempt. The row of a schedule has the error of its last run.
    """
    has_row_error = record.rule is not None and record.status != JobStatus.CANCELLED
    if record.status == JobStatus.SUCCESS or has_row_error or row_error(record) is not None:
        return row_error(record)
    failed = _failed(attempts)
    return failed[-1].error if failed else None


def cancel_reason(record: JobRecord) -> str | None:
    """Why a job was cancelled (``cancelled``, ``expired``, ``dependency <id> failed``), None if it was not."""
    return (record.error or "cancelled") if record.status == JobStatus.CANCELLED else None


def failure_of(record: JobRecord, attempts: Sequence[AttemptRecord]) -> Exception | None:
    """The error that ``result()`` raises for an ended job; None if it succeeded and its value is stored."""
    word = public_status(record.status, record.is_dead)
    if word in _KINDS:
        error = error_of(record, attempts)
        reason = cancel_reason(record) or error or _NO_REASON
        failed = _failed(attempts)
        error_type = None if error is None else error.partition(":")[0]
        traceback = failed[-1].traceback if failed else None
        return _KINDS[word](record.id, reason, error_type=error_type, traceback=traceback)
    if record.error is not None:
        return ResultNotStoredError(record.id, record.error.removeprefix(f"{ResultNotStoredError.__name__}: "))
    return None


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
    """The full JSON document of a job."""
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
    """The part of the document that the row holds. ``call``: the arguments, if they are not JSON in the row."""
    call = plain_call_of(record) if call is None else call
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
