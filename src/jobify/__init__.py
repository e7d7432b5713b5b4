"""A durable job scheduler and task queue: one decorator, one SQLite file, no broker.

All public classes are here: the app and its handles, options, errors, storages, middleware, serializers and
converters, and the types that annotations need. Each is imported when it is first used. A few more have addresses of
their own: :mod:`jobify.router` (``Route`` and its subclasses), :mod:`jobify.crontab`, :mod:`jobify.testing`.

>>> from jobify import Jobify
>>> app = Jobify(storage=False)
>>> @app.task(name="add")
... def add(x: int, y: int) -> int:
...     return x + y
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobify.app.application import Jobify
    from jobify.app.lifecycle import Plugin
    from jobify.canvas import chain, chord, chunks, group, starmap
    from jobify.config import JobifyConfiguration
    from jobify.crontab import CronFactory, CronParser
    from jobify.exceptions import (
        ApplicationStateError,
        AppStoppedError,
        BaseJobifyError,
        BatchResultError,
        ConfigurationError,
        DuplicateJobError,
        InvalidCronError,
        JobCancelledError,
        JobFailedError,
        JobLostError,
        JobNotCompletedError,
        JobNotFoundError,
        JobPermanentlyFailedError,
        JobTimedOutError,
        JobTimeoutError,
        JobUnsuccessfulError,
        LimitExceededError,
        MaxRetriesExceededError,
        NoResultError,
        NoRetriesLeftError,
        PayloadError,
        ProcessDiedError,
        ProcessStartError,
        RemoteError,
        ResultNotStoredError,
        RouteAlreadyRegisteredError,
        RouterError,
        StorageCorruptError,
        StorageEndedError,
        StorageError,
        StorageLostError,
        StorageReplacedError,
        StorageUnavailableError,
        StorageVersionError,
        TaskCancelledError,
        TaskExitError,
        TaskFailedError,
        TaskNotAttachedError,
        UnknownDependencyError,
        UnknownOptionError,
        WaitTimeoutError,
    )
    from jobify.jobs.context import JobContext, OuterContext, Runnable, RunStrategy, Triggers
    from jobify.jobs.current_job import CurrentJob, current_job
    from jobify.jobs.job import Job
    from jobify.jobs.job_fields import JobFields
    from jobify.jobs.job_result import JobResult
    from jobify.jobs.schedule_builder import ScheduleBuilder, TaskTracker
    from jobify.middleware import (
        BaseMiddleware,
        BaseOuterMiddleware,
        CallNext,
        CallNextOuter,
        JobifyQueue,
        QueueMiddleware,
    )
    from jobify.model.batch import Batch
    from jobify.model.control_flow import RateLimited, Retry, Snooze
    from jobify.model.cron import Cron, CronContext
    from jobify.model.debounce import Debounce
    from jobify.model.element_signature import Call
    from jobify.model.hooks import JobFailure
    from jobify.model.limits import Concurrency, Fair, Rate
    from jobify.model.misfire import GracePolicy, MisfirePolicy
    from jobify.model.public_status import PublicStatus
    from jobify.model.retention import Retention
    from jobify.model.retry import SmartRetry
    from jobify.model.signature import FuncSpec
    from jobify.model.state import RequestState, State
    from jobify.model.status import JobStatus
    from jobify.model.task_options import RouteOptions, RunMode
    from jobify.model.unique import Unique
    from jobify.router import JobRouter
    from jobify.serializers import (
        CBORSerializer,
        ExtendedJSONSerializer,
        JSONSerializer,
        MsgpackSerializer,
        OrjsonSerializer,
        Serializer,
        UnsafePickleSerializer,
        UnsafePickleWarning,
    )
    from jobify.storage import PostgresStorage, SQLiteStorage, Storage
    from jobify.typeadapter import (
        Dumper,
        Loader,
        NativeConverter,
        PydanticConverter,
    )
    from jobify.types import INJECT, ExceptionHandler, Lifespan, LoopFactory, MappingExceptionHandlers, UUIDGenerator

    Jobber = Jobify
    """The older name of :class:`Jobify`."""

__version__ = "0.15.0"

_HOMES: Final = {
    "Jobify": "jobify.app.application",
    "chain": "jobify.canvas",
    "chord": "jobify.canvas",
    "chunks": "jobify.canvas",
    "group": "jobify.canvas",
    "starmap": "jobify.canvas",
    "JobContext": "jobify.jobs.context",
    "OuterContext": "jobify.jobs.context",
    "RunStrategy": "jobify.jobs.context",
    "Runnable": "jobify.jobs.context",
    "Batch": "jobify.model.batch",
    "Call": "jobify.model.element_signature",
    "Concurrency": "jobify.model.limits",
    "Debounce": "jobify.model.debounce",
    "Fair": "jobify.model.limits",
    "Rate": "jobify.model.limits",
    "RateLimited": "jobify.model.control_flow",
    "Unique": "jobify.model.unique",
    "Retry": "jobify.model.control_flow",
    "Snooze": "jobify.model.control_flow",
    "Cron": "jobify.model.cron",
    "CronContext": "jobify.model.cron",
    "CronFactory": "jobify.crontab",
    "CronParser": "jobify.crontab",
    "CurrentJob": "jobify.jobs.current_job",
    "current_job": "jobify.jobs.current_job",
    "AppStoppedError": "jobify.exceptions",
    "ApplicationStateError": "jobify.exceptions",
    "BaseJobifyError": "jobify.exceptions",
    "BatchResultError": "jobify.exceptions",
    "ConfigurationError": "jobify.exceptions",
    "DuplicateJobError": "jobify.exceptions",
    "InvalidCronError": "jobify.exceptions",
    "JobCancelledError": "jobify.exceptions",
    "JobFailedError": "jobify.exceptions",
    "JobLostError": "jobify.exceptions",
    "JobNotCompletedError": "jobify.exceptions",
    "JobNotFoundError": "jobify.exceptions",
    "JobPermanentlyFailedError": "jobify.exceptions",
    "JobTimedOutError": "jobify.exceptions",
    "JobTimeoutError": "jobify.exceptions",
    "JobUnsuccessfulError": "jobify.exceptions",
    "LimitExceededError": "jobify.exceptions",
    "MaxRetriesExceededError": "jobify.exceptions",
    "NoResultError": "jobify.exceptions",
    "NoRetriesLeftError": "jobify.exceptions",
    "PayloadError": "jobify.exceptions",
    "ProcessDiedError": "jobify.exceptions",
    "ProcessStartError": "jobify.exceptions",
    "RemoteError": "jobify.exceptions",
    "ResultNotStoredError": "jobify.exceptions",
    "RouteAlreadyRegisteredError": "jobify.exceptions",
    "RouterError": "jobify.exceptions",
    "StorageCorruptError": "jobify.exceptions",
    "StorageEndedError": "jobify.exceptions",
    "StorageError": "jobify.exceptions",
    "StorageLostError": "jobify.exceptions",
    "StorageReplacedError": "jobify.exceptions",
    "StorageUnavailableError": "jobify.exceptions",
    "StorageVersionError": "jobify.exceptions",
    "TaskCancelledError": "jobify.exceptions",
    "TaskExitError": "jobify.exceptions",
    "TaskFailedError": "jobify.exceptions",
    "TaskNotAttachedError": "jobify.exceptions",
    "UnknownDependencyError": "jobify.exceptions",
    "UnknownOptionError": "jobify.exceptions",
    "WaitTimeoutError": "jobify.exceptions",
    "BaseMiddleware": "jobify.middleware",
    "BaseOuterMiddleware": "jobify.middleware",
    "CallNext": "jobify.middleware",
    "CallNextOuter": "jobify.middleware",
    "JobifyQueue": "jobify.middleware",
    "QueueMiddleware": "jobify.middleware",
    "CBORSerializer": "jobify.serializers",
    "ExtendedJSONSerializer": "jobify.serializers",
    "JSONSerializer": "jobify.serializers",
    "MsgpackSerializer": "jobify.serializers",
    "OrjsonSerializer": "jobify.serializers",
    "Serializer": "jobify.serializers",
    "UnsafePickleSerializer": "jobify.serializers",
    "UnsafePickleWarning": "jobify.serializers",
    "Dumper": "jobify.typeadapter",
    "Loader": "jobify.typeadapter",
    "NativeConverter": "jobify.typeadapter",
    "PydanticConverter": "jobify.typeadapter",
    "Job": "jobify.jobs.job",
    "GracePolicy": "jobify.model.misfire",
    "MisfirePolicy": "jobify.model.misfire",
    "RouteOptions": "jobify.model.task_options",
    "RunMode": "jobify.model.task_options",
    "Plugin": "jobify.app.lifecycle",
    "PublicStatus": "jobify.model.public_status",
    "JobResult": "jobify.jobs.job_result",
    "JobFailure": "jobify.model.hooks",
    "JobFields": "jobify.jobs.job_fields",
    "Retention": "jobify.model.retention",
    "SmartRetry": "jobify.model.retry",
    "JobRouter": "jobify.router",
    "ScheduleBuilder": "jobify.jobs.schedule_builder",
    "TaskTracker": "jobify.jobs.schedule_builder",
    "JobifyConfiguration": "jobify.config",
    "FuncSpec": "jobify.model.signature",
    "RequestState": "jobify.model.state",
    "State": "jobify.model.state",
    "JobStatus": "jobify.model.status",
    "PostgresStorage": "jobify.storage",
    "SQLiteStorage": "jobify.storage",
    "Storage": "jobify.storage",
    "Triggers": "jobify.jobs.context",
    "ExceptionHandler": "jobify.types",
    "INJECT": "jobify.types",
    "Lifespan": "jobify.types",
    "LoopFactory": "jobify.types",
    "MappingExceptionHandlers": "jobify.types",
    "UUIDGenerator": "jobify.types",
    "Jobber": "jobify.app.application",
}
"""The module of each name. It is imported at the first use, so that code that needs little of this package (such as the
help of the command line) does not wait for the rest."""

__all__ = (
    "INJECT",
    "AppStoppedError",
    "ApplicationStateError",
    "BaseJobifyError",
    "BaseMiddleware",
    "BaseOuterMiddleware",
    "Batch",
    "BatchResultError",
    "CBORSerializer",
    "Call",
    "CallNext",
    "CallNextOuter",
    "Concurrency",
    "ConfigurationError",
    "Cron",
    "CronContext",
    "CronFactory",
    "CronParser",
    "CurrentJob",
    "Debounce",
    "Dumper",
    "DuplicateJobError",
    "ExceptionHandler",
    "ExtendedJSONSerializer",
    "Fair",
    "FuncSpec",
    "GracePolicy",
    "InvalidCronError",
    "JSONSerializer",
    "Job",
    "JobCancelledError",
    "JobContext",
    "JobFailedError",
    "JobFailure",
    "JobFields",
    "JobLostError",
    "JobNotCompletedError",
    "JobNotFoundError",
    "JobPermanentlyFailedError",
    "JobResult",
    "JobRouter",
    "JobStatus",
    "JobTimedOutError",
    "JobTimeoutError",
    "JobUnsuccessfulError",
    "Jobber",
    "Jobify",
    "JobifyConfiguration",
    "JobifyQueue",
    "Lifespan",
    "LimitExceededError",
    "Loader",
    "LoopFactory",
    "MappingExceptionHandlers",
    "MaxRetriesExceededError",
    "MisfirePolicy",
    "MsgpackSerializer",
    "NativeConverter",
    "NoResultError",
    "NoRetriesLeftError",
    "OrjsonSerializer",
    "OuterContext",
    "PayloadError",
    "Plugin",
    "PostgresStorage",
    "ProcessDiedError",
    "ProcessStartError",
    "PublicStatus",
    "PydanticConverter",
    "QueueMiddleware",
    "Rate",
    "RateLimited",
    "RemoteError",
    "RequestState",
    "ResultNotStoredError",
    "Retention",
    "Retry",
    "RouteAlreadyRegisteredError",
    "RouteOptions",
    "RouterError",
    "RunMode",
    "RunStrategy",
    "Runnable",
    "SQLiteStorage",
    "ScheduleBuilder",
    "Serializer",
    "SmartRetry",
    "Snooze",
    "State",
    "Storage",
    "StorageCorruptError",
    "StorageEndedError",
    "StorageError",
    "StorageLostError",
    "StorageReplacedError",
    "StorageUnavailableError",
    "StorageVersionError",
    "TaskCancelledError",
    "TaskExitError",
    "TaskFailedError",
    "TaskNotAttachedError",
    "TaskTracker",
    "Triggers",
    "UUIDGenerator",
    "Unique",
    "UnknownDependencyError",
    "UnknownOptionError",
    "UnsafePickleSerializer",
    "UnsafePickleWarning",
    "WaitTimeoutError",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_job",
    "group",
    "starmap",
)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(home), "Jobify" if name == "Jobber" else name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        value = _module(name)
    globals()[name] = value
    return value


def _module(name: str) -> Any:
    """Submodules such as ``jobify.storage``, also after only ``import jobify``."""
    from importlib import import_module

    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
