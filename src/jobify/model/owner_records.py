"""Records of the processes that use a storage; see :mod:`jobify.model.records`."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from jobify.types import Microseconds

__all__ = ("OwnerProfile", "OwnerRecord", "OwnerRole")


class OwnerRole(StrEnum):
    """What a process does with the storage."""

    WORKER = "worker"
    """It claims jobs: a worker, or an app that is started."""
    CLIENT = "client"
    """It waits for the ends of jobs, and claims none."""


class OwnerProfile(NamedTuple):
    """What an owner registers about itself."""

    role: OwnerRole
    queues: tuple[str, ...] | None
    """The queues that it serves. None means every queue."""
    tasks: tuple[str, ...]
    concurrency: int


class OwnerRecord(NamedTuple):
    """A process that is registered as an owner."""

    id: int
    host: str
    pid: int
    started_at: Microseconds
    seen_at: Microseconds
    """Its last heartbeat, for display. ``is_alive`` says whether the process lives."""
    profile: OwnerProfile
    is_alive: bool
    is_disconnected: bool = False
    """It has lost its connection to the server, and may come back: it is not alive, and nothing proves that it died."""
