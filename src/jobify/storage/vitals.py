"""The vital signs of a database, as a probe reads them: which processes live, what waits for too long, which schedules
have stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jobify.model.records import OwnerRecord
from jobify.storage.parking import parking_of
from jobify.types import Microseconds

__all__ = ("ParkedCall", "StoppedSchedule", "Vitals", "WaitingJob", "parked_call")


class WaitingJob(NamedTuple):
    """A job that could run."""

    id: str
    task: str
    queue: str
    due_at: Microseconds


class StoppedSchedule(NamedTuple):
    """A schedule that has failed too often, and does not run any more."""

    id: str
    task: str
    error: str | None
    finished_at: Microseconds


class ParkedCall(NamedTuple):
    """A job whose stored call does not fit the code that has tried it."""

    id: str
    task: str
    queue: str
    reason: str
    at: Microseconds


class Vitals(NamedTuple):
    """The vital signs that were read."""

    read_at: Microseconds
    """By the clock that decides what is due."""
    owners: list[OwnerRecord]
    oldest: WaitingJob | None
    """The job that has been due for the longest time, in a queue that is not paused."""
    stopped: list[StoppedSchedule]
    paused: list[str]
    """Queues."""
    parked: Sequence[ParkedCall] = ()


def parked_call(id: str, task: str, queue: str, text: str | None) -> ParkedCall:
    """A parked job; ``text`` is what its row says of the parking."""
    parking = parking_of(text or "")
    return ParkedCall(id, task, queue, parking.reason, parking.at)
