"""When a job is to run. An outer middleware finds one of these in ``context.trigger``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from jobify.model.cron import Cron

__all__ = ("At", "CronTrigger", "Push", "Triggers")


@dataclass(frozen=True, slots=True)
class Push:
    """At once."""

    job_id: str


@dataclass(frozen=True, slots=True)
class At:
    """At a point in time; ``delay`` is one, too."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Again and again, by a rule."""

    job_id: str
    cron: Cron
    offset: datetime
    """The run after this time is the next one."""
    run_count: int


Triggers: TypeAlias = Push | At | CronTrigger
"""When a job is to run, as outer middleware sees it: ``context.trigger``."""
