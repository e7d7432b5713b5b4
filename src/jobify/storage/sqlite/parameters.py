"""The parameters of statements that write many rows at once: see the head of ``queries.sql`` for what stands for NULL.

Two statements take what nearly every job is, with half as many values to bind: a job that its owner runs at once, and a
success. Their parameters are None for a batch that is anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from jobify.model.records import AttemptRecord, NewJob, Settlement
from jobify.model.status import JobStatus
from jobify.storage.sqlite.statements import Rows, Values, padded
from jobify.storage.sqlite.values import LARGE

__all__ = (
    "STARTED_WIDTH",
    "SUCCESS_WIDTH",
    "attempt_values",
    "job_values",
    "settlement_values",
    "started_values",
    "success_values",
)

STARTED_WIDTH: Final = 7
"""Values for each row of ``insert_started``."""
SUCCESS_WIDTH: Final = 8
"""Values for each row of ``settle_success``."""

_RUNNING, _SUCCESS = JobStatus.RUNNING.value, JobStatus.SUCCESS.value


def job_values(jobs: Sequence[NewJob]) -> tuple[Rows, Values]:
    """Rows and parameters of ``insert``."""
    values: Values = []
    for (
        id,
        task,
        queue,
        priority,
        status,
        ready,
        due_at,
        created_at,
        payload,
        rule,
        offset_at,
        options,
        origin,
        owner,
        fence,
        attempt,
        started_at,
        unique_key,
        expires_at,
        _,
    ) in jobs:
        values += (
            id,
            task,
            queue,
            priority,
            status,
            1 if ready else 0,
            due_at,
            created_at,
            bytearray(payload),
            0 if rule is None else rule,
            "" if offset_at is None else offset_at,
            0 if options is None else options,
            "" if origin is None else origin,
            "" if owner is None else owner,
            fence,
            attempt,
            "" if started_at is None else started_at,
            0 if unique_key is None else unique_key,
            "" if expires_at is None else expires_at,
        )
    return padded(values, len(jobs), 19)


def started_values(jobs: Sequence[NewJob]) -> Values | None:
    """Parameters of ``insert_started``; None if that does not fit all of them."""
    owner = jobs[0].owner
    values: Values = []
    for job in jobs:
        id, task, queue, priority, status, ready, due_at, created_at, payload, *others = job
        if (
            others != [None, None, None, owner, owner, 1, 1, created_at, None, None, ()]
            or status != _RUNNING
            or ready
            or len(payload) > LARGE
        ):
            return None
        values += (id, task, queue, priority, due_at, created_at, bytearray(payload))
    return values


def settlement_values(settlements: Sequence[Settlement]) -> tuple[Rows, Values]:
    """Rows and parameters of ``settle``."""
    values: Values = []
    for (
        status,
        ready,
        due_at,
        offset_at,
        attempt,
        run_count,
        failure_count,
        result,
        error,
        finished_at,
        delete_at,
        is_dead,
        is_lost,
        id,
        owner,
        fence,
        *_,
    ) in settlements:
        values += (
            status,
            1 if ready else 0,
            due_at,
            "" if offset_at is None else offset_at,
            attempt,
            run_count,
            failure_count,
            "" if result is None else bytearray(result),
            0 if error is None else error,
            "" if finished_at is None else finished_at,
            "" if delete_at is None else delete_at,
            1 if is_dead else 0,
            1 if is_lost else 0,
            id,
            owner,
            fence,
        )
    return padded(values, len(settlements), 16)


def success_values(settlements: Sequence[Settlement]) -> Values | None:
    """Parameters of ``settle_success``; None if that does not fit all of them."""
    values: Values = []
    for settlement in settlements:
        _, _, due_at, _, attempt, _, _, result, _, finished_at, delete_at, _, _, id, owner, fence, _, _, limits = (
            settlement
        )
        if (
            settlement
            != (
                _SUCCESS, False, due_at, None, attempt, 0, 0, result, None, finished_at, delete_at, False,
                False, id, owner, fence, (), None, limits,
            )
            or not attempt
            or result is None
            or len(result) > LARGE
        ):  # fmt: skip
            return None
        values += (
            due_at,
            attempt,
            bytearray(result),
            finished_at,
            "" if delete_at is None else delete_at,
            id,
            owner,
            fence,
        )
    return values


def attempt_values(attempts: Sequence[AttemptRecord]) -> tuple[Rows, Values]:
    """Rows and parameters of ``add_history``."""
    rows = [
        (
            line.job_id,
            line.attempt,
            line.due_at,
            line.outcome,
            0 if line.error is None else line.error,
            0 if line.traceback is None else line.traceback,
            "" if line.started_at is None else line.started_at,
            line.finished_at,
            "" if line.owner is None else line.owner,
            0 if line.code is None else line.code,
        )
        for line in attempts
    ]
    return padded(list(chain.from_iterable(rows)), len(rows), 10)
