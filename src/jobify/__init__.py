"""A durable job scheduler and task queue: one decorator, one SQLite file, no broker.

>>> from jobify import Jobify
>>> app = Jobify(storage=False)
>>> @app.task(name="add")
... def add(x: int, y: int) -> int:
...     return x + y
"""

from jobify.app import Jobify
from jobify.context import JobContext, OuterContext, Runnable
from jobify.cron import Cron, CronContext
from jobify.job import Job
from jobify.misfire import GracePolicy, MisfirePolicy
from jobify.options import RouteOptions, RunMode
from jobify.plugins import Plugin
from jobify.retry import SmartRetry
from jobify.router import JobRouter
from jobify.schedule import ScheduleBuilder
from jobify.settings import JobifyConfiguration
from jobify.state import RequestState, State
from jobify.status import JobStatus
from jobify.types import INJECT

__version__ = "0.1.0"

Jobber = Jobify
"""The older name of :class:`Jobify`."""

__all__ = (
    "INJECT",
    "Cron",
    "CronContext",
    "GracePolicy",
    "Job",
    "JobContext",
    "JobRouter",
    "JobStatus",
    "Jobber",
    "Jobify",
    "JobifyConfiguration",
    "MisfirePolicy",
    "OuterContext",
    "Plugin",
    "RequestState",
    "RouteOptions",
    "RunMode",
    "Runnable",
    "ScheduleBuilder",
    "SmartRetry",
    "State",
    "__version__",
)
