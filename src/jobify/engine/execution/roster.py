"""The attempts that are in the hands of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from jobify.engine.execution.attempt import Attempt
from jobify.storage.ownership import BegunJobs

__all__ = ("RunningAttempts",)


class RunningAttempts:
    """Who runs here: kept by the executor and the completer, asked by everybody."""

    def __init__(self) -> None:
        self.running: dict[str, Attempt] = {}
        """By job id, from their launch to their end: of the attempts of one job, the latest."""
        self.superseded: dict[Attempt, Attempt] = {}
        """Those whose job was taken from this process and came back to it, each with the attempt that waits for its
        end: two attempts of one job do not overlap."""
        self.lingering: dict[asyncio.Task[None], Attempt | None] = {}
        """Those that are over while their thread goes on, by who waits for that; None if the job has been given
        away."""
        self.begun: BegunJobs | None = None
        """Where attempts are noted that have begun, from their begin until their end is stored."""

    def __iter__(self) -> Iterator[Attempt]:
        yield from list(self.running.values())
        yield from list(self.superseded)
        yield from [attempt for attempt in self.lingering.values() if attempt is not None]

    def lingering_of(self, job_id: str) -> asyncio.Task[None] | None:
        """What waits for the thread of an attempt of this job that is over."""
        return next((task for task, over in self.lingering.items() if over is not None and over.id == job_id), None)

    def release_begun(self, attempt: Attempt) -> None:
        """Note that an attempt is over which had begun: its end is stored, and its thread does not go on."""
        begun, slot = self.begun, attempt.slot
        if begun is not None and slot is not None:
            attempt.slot = None
            begun.leave(slot)

    def is_busy(self) -> bool:
        """Whether the function of any job is still at work here."""
        return bool(self.running or self.superseded or self.lingering)

    def find(self, job_id: str) -> Attempt | None:
        """The attempt of a job that is in the hands of this process: running, or over while its thread goes on."""
        running = self.running.get(job_id)
        if running is not None or not self.lingering:
            return running
        return next((over for over in self.lingering.values() if over is not None and over.id == job_id), None)
