"""The job of a call, as it is sent to a child process: the content of ``current_job`` there.

Objects of the user (metadata, the serializer) are pickles of their own, which the child loads when the task uses them.
So an object that cannot be sent or loaded fails only the tasks that use it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

from jobify.exceptions import PayloadError
from jobify.jobs.current_job import Running

__all__ = ("JobInfo", "job_info_of")


class JobInfo(NamedTuple):
    """See :class:`jobify.jobs.current_job.Running`."""

    id: str
    number: int
    task_name: str
    queue_name: str
    metadata: bytes
    timeout: float | None
    deadline: float | None
    serializer: bytes
    """The pickled serializer of published values; None if values stay objects; a PayloadError if it cannot be sent."""
    batch: tuple[tuple[str, int], ...] = ()
    """The ids and attempts of the jobs of a shared call."""


def job_info_of(running: Running, serializer: Any) -> JobInfo:
    """The information about ``running`` for a child; ``serializer`` encodes its values. Never fails."""
    return JobInfo(
        running.id,
        running.number,
        running.task_name,
        running.queue_name,
        _metadata(running.metadata),
        running.timeout,
        running.deadline,
        _serializer(serializer),
        tuple((job.id, job.attempt) for job in running.batch),
    )


def _metadata(metadata: Mapping[str, Any]) -> bytes:
    whole = _pickled(metadata)
    if whole is not None:
        return whole
    return pickle.dumps({name: value for name, value in metadata.items() if _pickled(value) is not None})


def _serializer(serializer: Any) -> bytes:
    pickled = _pickled(serializer)
    if pickled is not None:
        return pickled
    return pickle.dumps(
        PayloadError(
            f"The serializer {type(serializer).__qualname__} cannot be sent to a child process, where it would have to "
            "encode what the task publishes. Make it picklable, or choose run_mode='thread'."
        )
    )


def _pickled(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return None
