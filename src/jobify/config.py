"""What an app was built with, as tasks and middleware see it: ``context.jobify_config``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from jobify.crontab import CronFactory
from jobify.exceptions import ConfigurationError
from jobify.model.hooks import Hooks
from jobify.model.retention import Retention
from jobify.serializers import Serializer
from jobify.storage.base import Storage
from jobify.typeadapter import Dumper, Loader
from jobify.types import LoopFactory, UUIDGenerator

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor  # at run time it would bring multiprocessing along

__all__ = ("JobifyConfiguration", "Limits", "WorkerPools")


@dataclass(slots=True)
class WorkerPools:
    """The user's own pools; None where the app makes one."""

    threadpool: ThreadPoolExecutor | None = None
    processpool: ProcessPoolExecutor | None = None

    def __post_init__(self) -> None:
        _check_pool("threadpool_executor", self.threadpool, "ThreadPoolExecutor", other="ProcessPoolExecutor")
        _check_pool("processpool_executor", self.processpool, "ProcessPoolExecutor", other="ThreadPoolExecutor")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of an app, all with working defaults."""

    concurrency: int = 1000
    """Async jobs that run at once in this process."""
    grace: float | None = None
    """Seconds that a shutdown lets running jobs finish before it cancels them. None: 0, and 30 in a worker."""
    retention: Retention = field(default_factory=Retention)
    """How long ended jobs are kept."""
    max_crashes: int = 3
    """Processes that a job may take down before it ends FAILED."""
    threads: int | None = None
    """Threads of the app's own pool; None: as many as suit the machine."""
    processes: int | None = None
    """Child processes of the app's own pool; None: as many as there are processors for this process."""
    max_tasks_per_child: int | None = None
    """Tasks that a child process runs before it is replaced; None: any number."""
    max_memory_per_child: int | None = None
    """Bytes of resident memory above which a child process is replaced after a task; None: any."""
    are_children_checked: bool = False
    """A start fails, before anything is claimed, if no child process can be started or one does not find its tasks."""
    on_trial: Callable[[bool], None] | None = None
    """Told when jobs begin to run apart, and when they have ended: one of them may end the process."""
    on_starting: Callable[[Any], None] | None = None
    """Called with a ``StartReport`` in the place of the line of log that says it."""
    queues: tuple[str, ...] | None = None
    """The queues that this process serves; None: every queue. Jobs in memory are of no use to others, and are served
    whatever their queue."""


def _never(_: str) -> bool:
    return False


@dataclass(slots=True, kw_only=True)
class JobifyConfiguration:
    """The parts of an app."""

    app: Any
    tz: tzinfo
    dumper: Dumper
    loader: Loader
    storage: Storage
    getloop: LoopFactory
    serializer: Serializer
    worker_pools: WorkerPools
    cron_factory: CronFactory
    uuid_generator: UUIDGenerator
    limits: Limits
    hooks: Hooks = field(default_factory=Hooks)
    renamed_types: Mapping[str, type] = field(default_factory=dict)
    is_awaited: Callable[[str], bool] = _never
    """Whether a ``JobResult`` of this process waits for the job with this id. From any thread."""
    app_started: bool = False

    def __post_init__(self) -> None:
        _check_function("cron_factory", self.cron_factory, "a function (expression) that gives a CronParser")
        _check_function("loop_factory", self.getloop, "a function () that gives an event loop")
        _check_function("uuid_generator", self.uuid_generator, "a function () that gives an id, such as uuid.uuid4")


def _check_pool(option: str, pool: Any, kind: str, *, other: str) -> None:
    """The kinds are told apart by name: to import the class of processes would bring multiprocessing along."""
    kinds = {base.__name__ for base in type(pool).__mro__}
    if pool is not None and (not isinstance(pool, Executor) or other in kinds):
        raise ConfigurationError(
            f"{option} is {pool!r}; it must be a {kind}. Leave it out for a pool of the app's own."
        )


def _check_function(option: str, value: Any, what: str) -> None:
    if not callable(value):
        raise ConfigurationError(f"{option} is {value!r}; it must be {what}.")
