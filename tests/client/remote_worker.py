"""A worker in another process, driven by the test, and threads that wait for its jobs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobify import Jobify, JobResult
from jobify.model.records import (
    Claim,
    ClaimRequest,
    MessageKind,
    OwnerProfile,
    OwnerRole,
    Report,
    Settlement,
    TaskSlots,
)
from support import durable, until

NEVER = 1000.0
"""Seconds between two polls: longer than any test waits."""


def declare(app: Jobify) -> None:
    """The tasks of all tests here."""

    @app.task(name="add")
    async def add(x: int) -> int:
        return x + 1


class RemoteWorker:
    """Claims and ends jobs as the test says, as a worker in another process would."""

    def __init__(self, directory: Path) -> None:
        self.storage = durable(directory)
        self.storage.open()
        profile = OwnerProfile(OwnerRole.WORKER, None, ("add",), 1)
        self.owner = self.storage.register(profile, now=1)

    def claim(self) -> Claim:
        """The next job."""
        now = 2**60
        claimed = self.storage.claim(ClaimRequest(self.owner, (TaskSlots(("add",), 1),)), now=now)
        return claimed.claims[0]

    def publish(self, claim: Claim, values: Sequence[int]) -> None:
        """Report values, and a line between each two."""
        reports = []
        for value in values:
            reports.append(self._report(claim, MessageKind.VALUE, str(value).encode()))
            reports.append(self._report(claim, MessageKind.LOG, f"said {value}", "info"))
        self.storage.report(reports)
        self.notify_clients()

    def _report(self, claim: Claim, kind: MessageKind, data: Any, level: str | None = None) -> Report:
        return Report(claim.id, self.owner, claim.fence, kind, 1_000_000, data, level)

    def progress(self, claim: Claim, percent: float) -> None:
        """Report how far it is."""
        self.storage.report([self._report(claim, MessageKind.PROGRESS, percent)])

    def succeed(self, claim: Claim, result: bytes = b"1", *, is_notified: bool = True) -> None:
        """End it."""
        ended = Settlement(
            "success",
            False,
            claim.due_at,
            None,
            1,
            0,
            0,
            result,
            None,
            5,
            None,
            False,
            False,
            claim.id,
            self.owner,
            claim.fence,
        )
        assert all(self.storage.settle([ended]))
        if is_notified:
            self.notify_clients()

    def notify_clients(self) -> None:
        """Notify clients."""
        assert self.storage.notifier is not None
        self.storage.notifier.notify(workers=False, clients=True)

    def close(self) -> None:
        self.storage.deregister(self.owner)
        self.storage.close()


class Place:
    """An app that enqueues to a file, and a worker that serves it."""

    def __init__(self, directory: Path) -> None:
        self.app = Jobify(storage=durable(directory))
        declare(self.app)
        self.worker = RemoteWorker(directory)

    def await_client(self) -> None:
        """Return once this process waits and can be notified."""
        until(self.clients)
        self.worker.storage.recover(now=1, max_crashes=3, delete_at=None)  # which reads the addresses of all processes

    def clients(self) -> int:
        """How many processes are registered because they wait."""
        return sum(owner.profile.role is OwnerRole.CLIENT for owner in self.worker.storage.owners())


def has_waited(job: JobResult[Any]) -> bool:
    """Wait for a job that does not end; True."""
    with pytest.raises(TimeoutError):
        job.result(timeout=0.001)
    return True


class Waits(threading.Thread):
    """Waits for a job, and keeps what it got."""

    def __init__(self, job: JobResult[Any], **options: Any) -> None:
        super().__init__()
        self._job, self._options = job, options
        self.found: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.found = self._job.result(**self._options)
        except Exception as error:
            self.found = error

    def end(self) -> Any:
        """What it got."""
        self.join(20)
        assert not self.is_alive()
        return self.found
