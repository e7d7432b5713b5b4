"""The indexer's own memory: one JSON line for every attempt that starts and for how it ends.

Lines are appended and never changed, so the file survives a kill at any moment, and reading it again gives everything
that has happened in all lives of the program.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Event = Literal["pushed", "started", "failed", "recognised", "finished"]
Facts = dict[str, Any]


@dataclass(slots=True)
class History:
    """What the journal knows about one job."""

    task: str
    pushes: int = 0
    starts: list[tuple[int, float]] = field(default_factory=list)
    """The process and the time (seconds since 1970) of every attempt."""
    failures: int = 0
    recognised: int = 0
    """How often the job came back after it had finished: its process died before Jobify could store the end."""
    facts: Facts | None = None
    """What the job found out; None as long as it has not finished."""

    @property
    def lost(self) -> int:
        """Attempts that began and never ended: their process died."""
        return len(self.starts) - self.failures - (self.facts is not None)

    def add(self, event: Event, line: Mapping[str, Any]) -> None:
        """Take in one line of the journal."""
        match event:
            case "pushed":
                self.pushes += 1
            case "started":
                self.starts.append((line["pid"], line["at"]))
            case "failed":
                self.failures += 1
            case "recognised":
                self.recognised += 1
            case _:
                self.facts = line["facts"]


class Journal:
    """The file, and the history of every job that it tells."""

    def __init__(self, path: Path) -> None:
        self.jobs: dict[str, History] = {}
        for line in _read(path):
            self._take_in(line)
        # Line buffered: a line is with the kernel when write() returns, so killing the process cannot take it back.
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, event: Event, job_id: str, task: str, **more: Any) -> None:
        """Append what just happened to a job."""
        line = {"event": event, "job": job_id, "task": task, "pid": os.getpid(), "at": time.time(), **more}
        self._file.write(json.dumps(line) + "\n")
        self._take_in(line)

    def facts(self, job_id: str) -> Facts | None:
        """What a job found out, in this life or an earlier one; None if it has not finished."""
        history = self.jobs.get(job_id)
        return history.facts if history else None

    def failures(self, job_id: str) -> int:
        """How often a job has failed so far."""
        history = self.jobs.get(job_id)
        return history.failures if history else 0

    def close(self) -> None:
        self._file.close()

    def _take_in(self, line: Mapping[str, Any]) -> None:
        history = self.jobs.setdefault(line["job"], History(line["task"]))
        history.add(line["event"], line)


def _read(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
