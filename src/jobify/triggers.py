"""An address of the published interface: those names of :mod:`jobify.jobs.context`."""

from jobify.jobs.context import At, CronTrigger, Push, Triggers

__all__ = ("At", "CronTrigger", "Push", "Triggers")
