"""Triggers: when a job runs. Outer middleware gets one in ``context.trigger``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from jobify.model.cron import Cron

__all__ = ("At", "CronTrigger", "Push", "Triggers")


@dataclass(frozen=True, slots=True)
class Push:
    """Now."""

    job_id: str


@dataclass(frozen=True, slots=True)
class At:
    """At a point in time, or after a delay."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Repeatedly, by a cron rule."""

    job_id: str
    cron: Cron
    offset: datetime
    """The next run is the first one after this time."""
    run_count: int


Triggers: TypeAlias = Push | At | CronTrigger
"""The type of ``context.trigger``."""
