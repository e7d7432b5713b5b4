"""Processes that use a storage, as engine, client and storage exchange them; see :mod:`jobify.model.records`."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from jobify.types import Microseconds

__all__ = ("OwnerProfile", "OwnerRecord", "OwnerRole")


class OwnerRole(StrEnum):
    """Why a process is in the list of owners."""

    WORKER = "worker"
    """It claims jobs: a worker, or an app that is started."""
    CLIENT = "client"
    """It waits for the ends of jobs, and claims none."""


class OwnerProfile(NamedTuple):
    """What an owner says of itself when it enters."""

    role: OwnerRole
    queues: tuple[str, ...] | None
    """The queues that it serves; None: every queue."""
    tasks: tuple[str, ...]
    concurrency: int


class OwnerRecord(NamedTuple):
    """A process that claims, or only waits."""

    id: int
    host: str
    pid: int
    started_at: Microseconds
    seen_at: Microseconds
    """Its last heartbeat. For people: whether it lives is ``is_alive``."""
    profile: OwnerProfile
    is_alive: bool
