"""The attempts that are in the hands of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from jobify.engine.attempt import Attempt

__all__ = ("Roster",)


class Roster:
    """Who runs here: kept by the executor and the completer, asked by everybody."""

    def __init__(self) -> None:
        self.running: dict[str, Attempt] = {}
        """By job id, from their launch to their end."""
        self.overruns: dict[asyncio.Task[None], Attempt | None] = {}
        """Those that are over while their thread goes on, by who waits for that; None if the job has been given
        away."""

    def __iter__(self) -> Iterator[Attempt]:
        yield from list(self.running.values())
        yield from [attempt for attempt in self.overruns.values() if attempt is not None]

    def find(self, job_id: str) -> Attempt | None:
        """The attempt of a job that is in the hands of this process: running, or over while its thread goes on."""
        running = self.running.get(job_id)
        if running is not None or not self.overruns:
            return running
        return next((over for over in self.overruns.values() if over is not None and over.id == job_id), None)
