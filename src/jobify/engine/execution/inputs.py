"""Results of other jobs that become arguments: fetched when the attempt begins, by every attempt anew.

The parents have succeeded, or the job would not have been claimed. The job is bound to their rows, not to their ids,
and these rows are kept as long as it may run, also when it is tried again. So what is missing here was never stored, or
was deleted by an earlier release: no later attempt would find it either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from jobify.engine.execution.attempt import Attempt
from jobify.exceptions import PayloadError, ResultNotStoredError, StorageUnavailableError
from jobify.model.job_options import ParentResults
from jobify.model.records import JobRecord
from jobify.model.status import JobStatus
from jobify.router.registry import Registry
from jobify.runtime.logs import get_logger
from jobify.serializers.offload import LARGE_BYTES, off_loop

__all__ = ("fetch_parent_results",)

log = get_logger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


Found: TypeAlias = tuple[str, JobRecord | None]
"""The id by which a job was asked for, and its row."""


async def fetch_parent_results(attempt: Attempt, inputs: ParentResults, registry: Registry) -> Any:
    """The value that becomes the first argument. ResultNotStoredError if one of the results cannot be had."""
    found = _wanted(inputs, await _parents(attempt)) if inputs.count or inputs.parents else ()
    decode = partial(_values, attempt, found, registry)
    size = sum(len(record.result) for _, record in found if record and isinstance(record.result, bytes))
    values = await off_loop(decode) if size > LARGE_BYTES else decode()
    return values if inputs.is_list else values[0]


async def _parents(attempt: Attempt) -> Sequence[Found]:
    """The jobs that this one is bound to; while the storage is away, it waits: it is not its fault."""
    storage, pause = attempt.backend.storage, _FIRST_PAUSE
    while True:
        try:
            return await attempt.backend.gate.call(lambda: storage.parents(attempt.id))
        except StorageUnavailableError as error:
            message = "Job %s waits for the results that it was promised: %s"
            attempt.backend.failures.warn("inputs", message, attempt.id, error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _wanted(inputs: ParentResults, parents: Sequence[Found]) -> Sequence[Found]:
    """Those of the parents whose results are wanted."""
    if not inputs.parents:
        return parents[: inputs.count]
    by_id = dict(parents)
    return [(id, by_id.get(id)) for id in inputs.parents]


def _value(attempt: Attempt, parent: str, record: JobRecord | None, registry: Registry) -> Any:
    if record is None:
        raise ResultNotStoredError(parent, f"job {attempt.id!r} needs it, and its row was deleted.")
    if record.status != JobStatus.SUCCESS or record.result is None:
        why = record.error or f"the job is {record.status}."
        raise ResultNotStoredError(parent, f"job {attempt.id!r} needs it. {why}")
    try:
        return attempt.backend.decode_result(registry.get(record.task), record.result)
    except PayloadError as error:
        raise ResultNotStoredError(parent, f"job {attempt.id!r} cannot read it: {error}") from error


def _values(attempt: Attempt, parents: Sequence[Found], registry: Registry) -> list[Any]:
    return [_value(attempt, id, record, registry) for id, record in parents]
