"""A durable job scheduler and task queue: one decorator, one SQLite file, no broker.

Everything of daily use is here, and so are the types that annotations need. The rest has one address each:
:mod:`jobify.router` (``Route`` and its kin), :mod:`jobify.middleware`, :mod:`jobify.exceptions`, :mod:`jobify.storage`,
:mod:`jobify.serializers`, :mod:`jobify.typeadapter`, :mod:`jobify.crontab`, :mod:`jobify.testing`.

>>> from jobify import Jobify
>>> app = Jobify(storage=False)
>>> @app.task(name="add")
... def add(x: int, y: int) -> int:
...     return x + y
"""

from jobify.app import Jobify
from jobify.context import JobContext, OuterContext, Runnable, RunStrategy
from jobify.cron import Cron, CronContext
from jobify.crontab import CronFactory, CronParser
from jobify.job import Job
from jobify.misfire import GracePolicy, MisfirePolicy
from jobify.options import RouteOptions, RunMode
from jobify.plugins import Plugin
from jobify.retry import SmartRetry
from jobify.router import JobRouter
from jobify.schedule import ScheduleBuilder, TaskTracker
from jobify.settings import JobifyConfiguration
from jobify.signature import FuncSpec
from jobify.state import RequestState, State
from jobify.status import JobStatus
from jobify.triggers import Triggers
from jobify.types import INJECT, ExceptionHandler, Lifespan, LoopFactory, MappingExceptionHandlers, UUIDGenerator

__version__ = "0.15.0"

Jobber = Jobify
"""The older name of :class:`Jobify`."""

__all__ = (
    "INJECT",
    "Cron",
    "CronContext",
    "CronFactory",
    "CronParser",
    "ExceptionHandler",
    "FuncSpec",
    "GracePolicy",
    "Job",
    "JobContext",
    "JobRouter",
    "JobStatus",
    "Jobber",
    "Jobify",
    "JobifyConfiguration",
    "Lifespan",
    "LoopFactory",
    "MappingExceptionHandlers",
    "MisfirePolicy",
    "OuterContext",
    "Plugin",
    "RequestState",
    "RouteOptions",
    "RunMode",
    "RunStrategy",
    "Runnable",
    "ScheduleBuilder",
    "SmartRetry",
    "State",
    "TaskTracker",
    "Triggers",
    "UUIDGenerator",
    "__version__",
)
