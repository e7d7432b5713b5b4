"""The arguments of an attempt: decoded from the row, with results of other jobs in front.

Results of other jobs are fetched by each attempt when it begins. The parents have succeeded, or the job would not have
been claimed. The job is bound to their rows, not to their ids, and these rows are kept as long as it may run, also when
it is tried again. So a missing result was never stored, or was deleted by an earlier release: no later attempt would
find it either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from jobify.engine.execution.attempt import Attempt
from jobify.exceptions import PayloadError, ResultNotStoredError, StorageUnavailableError
from jobify.jobs.collected_calls import collected_payloads
from jobify.model.job_options import ParentResults
from jobify.model.records import JobRecord
from jobify.model.status import JobStatus
from jobify.router.registry import Registry
from jobify.runtime.backoff import Backoff
from jobify.runtime.logs import get_logger
from jobify.serializers.offload import LARGE_BYTES, off_loop

__all__ = ("decode_arguments", "decode_calls", "fetch_parent_results")

log = get_logger("jobify.engine")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0

Found: TypeAlias = tuple[str, JobRecord | None]
"""The id of a parent, and its row."""


def decode_arguments(attempt: Attempt, *inputs: Any, payload: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``inputs`` and the stored arguments; PayloadError if they cannot be read, or do not fit the task.

    ``payload``: those of one of the calls that are collected. Without it, these are one argument, a list; what its
    element type raises passes.
    """
    if payload is None:
        if attempt.endpoint.collected is not None or (attempt.options is not None and attempt.is_collected):
            return _collected_arguments(attempt, inputs)
        payload = attempt.payload
    args, kwargs = attempt.backend.codec.decode_call(payload, attempt.endpoint.types.after(len(inputs)))
    args = (*inputs, *args)
    try:
        attempt.endpoint.spec.check(*args, **kwargs)
    except TypeError as error:
        raise PayloadError(
            f"The stored arguments of job {attempt.id!r} do not fit task {attempt.endpoint.name!r} as it is now: "
            f"{error}"
        ) from error
    return args, kwargs


def _collected_arguments(attempt: Attempt, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    calls, element = decode_calls(attempt, *inputs), attempt.endpoint.collected
    if element is None:  # the task collects none any more
        return calls[-1]
    return ([element.build(*call, id=attempt.id, attempt=attempt.number) for call in calls],), {}


def decode_calls(attempt: Attempt, *inputs: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of each call that the job stands for, one for nearly every job; as :func:`decode_arguments`."""
    payloads = collected_payloads(attempt.payload) if attempt.is_collected else (attempt.payload,)
    return [decode_arguments(attempt, *inputs, payload=payload) for payload in payloads]


async def fetch_parent_results(attempt: Attempt, inputs: ParentResults, registry: Registry) -> Any:
    """The value that becomes the first argument; ResultNotStoredError if a result is missing or cannot be read."""
    found = _wanted(inputs, await _parents(attempt)) if inputs.count or inputs.parents else ()
    decode = partial(_values, attempt, found, registry)
    size = sum(len(record.result) for _, record in found if record and isinstance(record.result, bytes))
    values = await off_loop(decode) if size > LARGE_BYTES else decode()
    return values if inputs.is_list else values[0]


async def _parents(attempt: Attempt) -> Sequence[Found]:
    """The parents of the job. Waits while the storage is unavailable, because the job is not at fault."""
    storage, backoff = attempt.backend.storage, Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while True:
        try:
            return await attempt.backend.gate.call(lambda: storage.parents(attempt.id))
        except StorageUnavailableError as error:
            message = "Job %s waits for the results of its parents: %s"
            attempt.backend.failures.warn("inputs", message, attempt.id, error)
        await asyncio.sleep(backoff.next())


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
